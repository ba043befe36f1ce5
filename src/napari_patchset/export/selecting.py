"""Select: judge every candidate, once all that the verdict depends on is known."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.partial import PartialExport
from napari_patchset.export.selection import Selection
from napari_patchset.patching.verdicts import Verdicts, judge

UNREADABLE = "source can't be read"


def select(partial: PartialExport, frozen: FrozenPlan) -> Selection:
    """Judge the candidates and keep the verdicts in the folder.

    Those of sources that can't be read count neither for a limit nor for a split's patches.

    Raises
    ------
    ExportError
        If candidates are not scored yet, or a split gets no patch.
    """
    plan, grid = frozen.plan, partial.candidates(frozen)
    lost = np.isin(grid.stack, list(partial.failed()))
    metrics = partial.scores(frozen)
    for values in metrics.values():
        values[lost] = np.nan
    verdicts = judge(
        grid,
        frozen.sources,
        filters=plan.filters,
        keep_fraction=plan.keep_fraction,
        split=plan.split,
        metrics=metrics,
    )
    selection = Selection.of(_without(verdicts, lost))
    _check(selection, len(grid))
    partial.write_selection(selection)
    return selection


def _without(verdicts: Verdicts, lost: NDArray[np.bool_]) -> Verdicts:
    """Reject candidates whose source can't be read."""
    if not lost.any():
        return verdicts
    reason = np.where(lost, len(verdicts.reasons), verdicts.reason).astype(np.int8)
    return replace(verdicts, reason=reason, reasons=(*verdicts.reasons, UNREADABLE))


def _check(selection: Selection, n: int) -> None:
    empty = [split for split, count in selection.counts.items() if not count]
    if empty:
        why = [f"{count} {reason}" for reason, count in selection.rejected.items()]
        raise ExportError(
            f"No patch is left for {' and '.join(empty)} ({', '.join(why) or 'none rejected'}, of "
            f"{n}); change filters or split."
        )
