"""Plan: open the sources once, choose the candidates, and freeze both in NAME.partial/."""

from pathlib import Path

from napari_patchset.errors import ExportError
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.keeping.space import check_space
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.sources.masks import read_masks
from napari_patchset.export.sources.survey import survey
from napari_patchset.patching.filters import check_filters
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.patchset.layout import IMAGE, UNSPLIT


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
    found = survey(plan, partial.proceed)
    grid = plan.strategy.plan(found.images[IMAGE], read_masks(plan.strategy))
    frozen = FrozenPlan.of(found, grid)
    _check(frozen, grid, partial.root)
    partial.proceed()
    partial.discard()
    partial.freeze(frozen, grid)
    return False


def _check(frozen: FrozenPlan, grid: PatchGrid, root: Path) -> None:
    """Refuse what would fail later; what filters leave is not known yet, and checked then."""
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.dropped.items())
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
