"""Select: judge every candidate, once all that the verdict depends on is known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.keeping.selection import Selection
from napari_patchset.export.plan import Recipe
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.split import BORDER
from napari_patchset.patching.verdicts import Metrics, Verdicts, judge
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.source import SourceInfo

UNREADABLE = "source can't be read"
_PURPOSES = {UNSPLIT: "", "train": " to train", "val": " to validate"}


def select(partial: PartialExport, frozen: FrozenPlan) -> Selection:
    """Judge the candidates and keep the verdicts in the folder.

    Those of sources that can't be read count neither for a limit nor for the split.

    Raises
    ------
    ExportError
        If candidates are not scored yet.
    ArgumentError
        If a split gets no patch.
    """
    grid, metrics = partial.candidates(frozen), partial.scores.read(frozen)
    readable = ~np.isin(grid.stack, list(partial.failed()))
    selection = judged(frozen.plan, grid, frozen.sources, metrics, readable)
    _check(selection, len(grid))
    partial.write_selection(selection)
    return selection


def judged(
    recipe: Recipe,
    grid: PatchGrid,
    sources: Sequence[SourceInfo],
    metrics: Metrics,
    readable: NDArray[np.bool_],
) -> Selection:
    """Judge candidates by a recipe.

    Parameters
    ----------
    readable : bool array
        Those whose source can be read; the others are rejected.
    """
    chosen = np.flatnonzero(readable)
    verdicts = judge(
        grid[chosen],
        sources,
        filters=recipe.filters,
        keep_fraction=recipe.keep_fraction,
        split=recipe.split,
        metrics={column: values[chosen] for column, values in metrics.items()},
    )
    return Selection.of(_among(verdicts, chosen, len(grid)))


def _among(verdicts: Verdicts, readable: NDArray[np.intp], n: int) -> Verdicts:
    """Give the verdicts on some candidates their places among all; the others are rejected."""
    if len(readable) == n:
        return verdicts
    split, reason = np.full(n, BORDER, np.int8), np.full(n, len(verdicts.reasons), np.int8)
    split[readable], reason[readable] = verdicts.split, verdicts.reason
    metrics = {column: np.full(n, np.nan) for column in verdicts.metrics}
    for column, values in metrics.items():
        values[readable] = verdicts.metrics[column]
    reasons = (*verdicts.reasons, UNREADABLE)
    return replace(verdicts, split=split, reason=reason, reasons=reasons, metrics=metrics)


def _check(selection: Selection, n: int) -> None:
    empty = [split for split, count in selection.counts.items() if not count]
    if empty:
        why = [f"{count} {reason}" for reason, count in selection.rejected.items()]
        raise ArgumentError(
            f"No patch is left{' and'.join(_PURPOSES[split] for split in empty)} of {n} "
            f"({', '.join(why) or 'none rejected'}); change filters or split."
        )
