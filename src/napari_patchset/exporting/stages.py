"""What an export does between planning and writing, in the process that runs it.

`prepare` describes the sources, chooses the candidates, and freezes both in NAME.partial;
`select` applies filters and split once all candidates are scored; `find_changed` compares the
sources with those that were planned for. Scoring and writing are jobs: see `metrics` and
`shard_writer`.
"""

from collections.abc import Callable, Container
from pathlib import Path

import numpy as np

from napari_patchset.errors import ArgumentError, DestinationExistsError, ExportError
from napari_patchset.exporting.candidates import Selection, select_candidates
from napari_patchset.exporting.destination import check_space
from napari_patchset.exporting.frozen_plan import FrozenPlan, freeze_plan
from napari_patchset.exporting.open_images import changed_file, require_unchanged
from napari_patchset.exporting.plan import SOURCE_ERRORS, ExportPlan, Failure
from napari_patchset.exporting.sources import SourceDescriber
from napari_patchset.exporting.workdir import PartialExport
from napari_patchset.patching.filters import check_filters
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.patchset.writers import FORMATS


def prepare(partial: PartialExport, plan: ExportPlan, overwrite: bool = False) -> bool:
    """Freeze a plan in its folder, unless the folder has the same plan already.

    Returns
    -------
    bool
        Whether it had, so that the export is resumed.

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
    if _is_prepared(partial, plan, overwrite):
        return True
    frozen, grid = freeze_plan(plan, partial.check_cancelled)
    _check(frozen, grid, partial.root)
    partial.check_cancelled()
    partial.discard()
    partial.freeze(frozen, grid)
    return False


def refuse_taken(partial: PartialExport, plan: ExportPlan) -> None:
    """Raise DestinationExistsError if the destination is not the set of this export itself."""
    out = Path(plan.out)
    if out.exists() and not partial.is_in_place:
        raise DestinationExistsError(f"{out} exists; choose another name or delete it.")


def _is_prepared(partial: PartialExport, plan: ExportPlan, overwrite: bool) -> bool:
    """Return whether the folder has the same plan; another one is refused or ignored."""
    try:
        frozen = partial.find_frozen()
    except ExportError:
        if overwrite:
            return False
        raise
    if frozen is None:
        return False
    is_same = frozen.requested == plan.resolved().sources and frozen.plan.recipe == plan.recipe
    if not is_same and not overwrite:
        raise DestinationExistsError(
            f"{partial.root} holds an unfinished export of another plan; choose another name or "
            "delete it."
        )
    return is_same


def _check(frozen: FrozenPlan, grid: PatchGrid, root: Path) -> None:
    """Refuse what would fail later; with filters, the number of patches is not known yet."""
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.excluded.items())
        raise ExportError(f"No patch to export ({reasons}).")
    plan, first = frozen.plan, frozen.sources[0]
    check_filters(plan.filters, first.channels, first.dtype)
    form = FORMATS[plan.format]
    form.check([layout.in_split(UNSPLIT, 0) for layout in frozen.arrays])
    if plan.filters:
        return
    if plan.split is not None:
        plan.split.assign(grid, frozen.sources)
    form.check(frozen.arrays)
    check_space(root, ((layout, layout.n) for layout in frozen.arrays))


_PURPOSES = {UNSPLIT: "", "train": " for training", "val": " for validation"}


def select(partial: PartialExport, frozen: FrozenPlan) -> Selection:
    """Select the candidates that are written, and record the selection in the folder.

    Raises
    ------
    ExportError
        If candidates are not scored yet.
    ArgumentError
        If a split has no patch.
    """
    grid, metrics = partial.candidates(frozen), partial.scores.read(frozen)
    is_readable = ~np.isin(grid.source_index, list(partial.failed()))
    selection = select_candidates(frozen.plan, grid, frozen.sources, metrics, is_readable)
    if empty := [split for split, count in selection.counts.items() if not count]:
        raise ArgumentError(_explain_empty(empty, selection, len(grid)))
    partial.write_selection(selection)
    return selection


def _explain_empty(splits: list[str], selection: Selection, n: int) -> str:
    """Explain why splits have no patches, and what to do."""
    purposes = " and".join(_PURPOSES[split] for split in splits)
    counts = list(selection.rejected.items())
    if len(counts) == 1 and counts[0][1] == n:
        return f"No patches left{purposes}: {counts[0][0]} rejected all {n:,}. Loosen the filter."
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts) or "none"
    return (
        f"No patches left{purposes} of {n:,}. Rejected are {reasons}. Change the filters or the "
        "split."
    )


def find_changed(
    frozen: FrozenPlan,
    ignored: Container[int] = (),
    check_cancelled: Callable[[], None] = lambda: None,
) -> dict[int, Failure]:
    """Find the sources that are gone, or differ in size, time or content from what was planned.

    Parameters
    ----------
    ignored : container of int
        Indices of sources not to check.
    check_cancelled : callable
        Called before each source is opened; whatever it raises ends the search.
    """
    describer, failures = SourceDescriber(frozen.plan), {}
    for index, ref in enumerate(frozen.plan.sources):
        if index in ignored:
            continue
        check_cancelled()
        try:
            for role, infos in frozen.images.items():
                image = ref.images[role]
                require_unchanged(image.path, frozen.file_stats)
                if describer.key(image) != infos[index].key:
                    raise changed_file(image.path)
        except SOURCE_ERRORS as error:
            failures[index] = Failure(source=str(ref), message=str(error))
    return failures
