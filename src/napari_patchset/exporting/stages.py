"""Plan: open the sources once, choose the candidates, and freeze both in NAME.partial/.

Score: read every candidate once, in tile order, and keep what the filters look at.

Select: judge every candidate, once all that the verdict depends on is known.

Check that the sources still are what was planned for.
"""

from collections.abc import Callable, Container, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.frozen_plan import FrozenPlan, Selection
from napari_patchset.exporting.metrics import MetricReader, empty_metrics, metric_requests
from napari_patchset.exporting.open_sources import OpenImages, changed, require_stamp
from napari_patchset.exporting.plan import SOURCE_ERRORS, ExportPlan, Failure, Recipe, SourcesFailed
from napari_patchset.exporting.sources import SourceDescriber, read_masks, survey
from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY
from napari_patchset.exporting.workdir import PartialExport, check_space
from napari_patchset.patching.filters import check_filters
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits import NEITHER
from napari_patchset.patching.verdicts import Metrics, Verdicts, judge
from napari_patchset.patchset.layout import IMAGE, UNSPLIT
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo


def prepare(partial: PartialExport, plan: ExportPlan, overwrite: bool = False) -> bool:
    """Plan an export and freeze it in its folder; say whether it was there already.

    Raises
    ------
    ArgumentError
        If a filter can't measure the patches, or they can't be split.
    ExportError
        If no patch fits, something else is at the destination, or the disk lacks the space.
    ExportStopped
        If a stop is requested.
    """
    if not overwrite:
        refuse_taken(partial, plan)
    if _is_there(partial, plan, overwrite):
        return True
    found = survey(plan, partial.check_cancelled)
    grid = plan.strategy.plan(found.images[IMAGE], read_masks(plan.strategy))
    frozen = FrozenPlan.of(found, grid)
    _check(frozen, grid, partial.root)
    partial.check_cancelled()
    partial.discard()
    partial.freeze(frozen, grid)
    return False


def _check(frozen: FrozenPlan, grid: PatchGrid, root: Path) -> None:
    """Refuse what would fail later; what filters leave is not known yet, and checked then."""
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.excluded.items())
        raise ExportError(f"No patch to export ({reasons}).")
    plan, first = frozen.plan, frozen.sources[0]
    check_filters(plan.filters, first.channels, first.dtype)
    if plan.filters:
        return
    if plan.split is not None:
        plan.split.assign(grid, frozen.sources)
    layouts = [kind.layout(UNSPLIT, len(grid)) for kind in frozen.kinds]
    FORMATS[plan.format].check(layouts)
    check_space(root, ((layout, layout.n) for layout in layouts))


def refuse_taken(partial: PartialExport, plan: ExportPlan) -> None:
    """Refuse a destination where something else is.

    Raises
    ------
    ExportError
        If something is there that is not this export itself.
    """
    out = Path(plan.out)
    if out.exists() and not partial.is_in_place:
        raise ExportError(f"{out} exists; choose another name, remove it, or say --overwrite.")


def _is_there(partial: PartialExport, plan: ExportPlan, overwrite: bool) -> bool:
    """Whether the folder holds this very plan; one that holds another is refused or ignored."""
    try:
        found = partial.find_frozen()
    except ExportError:
        if overwrite:
            return False
        raise
    if found is None:
        return False
    same = found.asked == plan.resolved().sources and found.plan.recipe == plan.recipe
    if not same and not overwrite:
        raise ExportError(
            f"{partial.root} holds an unfinished export of another plan; choose another name, "
            "remove it, or say --overwrite."
        )
    return same


def score_job(
    root: str, first: int, last: int, *, memory: int = DEFAULT_MEMORY, threads: int = 1
) -> None:
    """Score the runs of candidates from `first` up to `last`; those already scored stay.

    A source that can't be read is recorded and its candidates stay without a metric.

    Parameters
    ----------
    root : str
        The folder of the partial export.
    memory : int
        Bytes for decoded tiles and the patches that are measured; more where a single patch
        needs it.
    threads : int
        How many decode.

    Raises
    ------
    ExportStopped
        If a stop is requested.
    SourcesFailed
        If it is the last source that could be read.
    """
    export = PartialExport(Path(root))
    runs = [run for run in range(first, last) if not export.scores.has(run)]
    if runs:
        frozen = export.frozen()
        with OpenImages(frozen.plan, stamps=frozen.stamps) as images:
            limits = frozen.scored_at_once, memory, threads
            reader = MetricReader(frozen.images, images, *limits, export.check_cancelled)
            _Scoring(export, frozen, runs).run(reader)


class _Scoring:
    """Runs of candidates, each kept as soon as all of it is measured."""

    def __init__(self, export: PartialExport, frozen: FrozenPlan, runs: Sequence[int]) -> None:
        self._export, self._frozen = export, frozen
        self._grid = export.candidates(frozen)
        every = np.arange(frozen.n_candidates)
        self._candidates = np.concatenate([every[frozen.score_run(run)] for run in runs])
        self._done = np.zeros(len(self._candidates), bool)
        filters, names = frozen.plan.filters, frozen.sources[0].channels
        self._looks = metric_requests(filters, names)
        self._columns = empty_metrics(filters, names, len(self._candidates))

    def run(self, reader: MetricReader) -> None:
        """Score source by source, so that a broken one leaves out no other."""
        stacks = self._grid.source_index[self._candidates]
        for stack in np.unique(stacks).tolist():
            low, high = np.searchsorted(stacks, (stack, stack + 1)).tolist()
            mine = self._candidates[low:high]
            try:
                self._score(reader, mine)
            except SourcesFailed as failed:
                self._export.record(failed)
                self._leave_out(mine)

    def _score(self, reader: MetricReader, mine: NDArray[np.int64]) -> None:
        for look in self._looks:
            with closing(reader.read(look, self._grid, mine)) as read:
                for chosen, columns in read:
                    self._export.check_cancelled()
                    at = np.searchsorted(self._candidates, chosen)
                    for column, values in columns.items():
                        self._columns[column][at] = values
                    if look is self._looks[-1]:
                        self._finish(at)

    def _leave_out(self, mine: NDArray[np.int64]) -> None:
        """Forget what was measured of a source in the runs that are not kept yet."""
        at = np.searchsorted(self._candidates, mine)
        for values in self._columns.values():
            values[at] = np.nan
        self._finish(at)

    def _finish(self, at: NDArray[np.intp]) -> None:
        """Count candidates as done, and keep the runs that are complete with them."""
        self._done[at] = True
        for run in np.unique(self._candidates[at] // self._frozen.scored_at_once).tolist():
            part = self._frozen.score_run(run)
            low, high = np.searchsorted(self._candidates, (part.start, part.stop)).tolist()
            if self._done[low:high].all() and not self._export.scores.has(run):
                columns = {name: values[low:high] for name, values in self._columns.items()}
                self._export.scores.write(run, columns)


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
    readable = ~np.isin(grid.source_index, list(partial.failed()))
    selection = judged(frozen.plan, grid, frozen.sources, metrics, readable)
    _check_selecting(selection, len(grid))
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
    split, reason = np.full(n, NEITHER, np.int8), np.full(n, len(verdicts.reasons), np.int8)
    split[readable], reason[readable] = verdicts.split, verdicts.reason
    metrics = {column: np.full(n, np.nan) for column in verdicts.metrics}
    for column, values in metrics.items():
        values[readable] = verdicts.metrics[column]
    reasons = (*verdicts.reasons, UNREADABLE)
    return replace(verdicts, split=split, reason=reason, reasons=reasons, metrics=metrics)


def _check_selecting(selection: Selection, n: int) -> None:
    empty = [split for split, count in selection.counts.items() if not count]
    if empty:
        why = [f"{count} {reason}" for reason, count in selection.rejected.items()]
        raise ArgumentError(
            f"No patch is left{' and'.join(_PURPOSES[split] for split in empty)} of {n} "
            f"({', '.join(why) or 'none rejected'}); change filters or split."
        )


def find_changed(
    frozen: FrozenPlan, but: Container[int] = (), check_cancelled: Callable[[], None] = lambda: None
) -> dict[int, Failure]:
    """Find the sources that are gone, or differ in size, time or content from what was planned.

    Parameters
    ----------
    but : container of int
        Sources that need no look, by index.
    proceed : callable
        Asked before each source is opened; what it raises ends the search.
    """
    describer = SourceDescriber(frozen.plan)
    found = {}
    for index, ref in enumerate(frozen.plan.sources):
        if index not in but:
            check_cancelled()
            try:
                _require_unchanged(frozen, index, describer)
            except SOURCE_ERRORS as error:
                found[index] = Failure(source=str(ref), message=str(error))
    return found


def _require_unchanged(frozen: FrozenPlan, index: int, describer: SourceDescriber) -> None:
    for role, infos in frozen.images.items():
        ref = frozen.plan.sources[index].images[role]
        require_stamp(ref.path, frozen.stamps)
        if describer.key(ref) != infos[index].key:
            raise changed(ref.path)
