"""Plan: open the sources once, choose the candidates, and freeze both in NAME.partial/."""

import shutil
from pathlib import Path

from napari_patchset.errors import ExportError
from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.masks import read_masks
from napari_patchset.export.partial import PartialExport
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.survey import survey


def prepare(plan: ExportPlan, overwrite: bool = False) -> tuple[PartialExport, FrozenPlan]:
    """Plan an export and freeze it in its folder, or find it there and take it up again.

    Raises
    ------
    ExportError
        If no patch fits, something else is at the destination, or the disk lacks the space.
    """
    out = Path(plan.out)
    if out.exists() and not overwrite:
        raise ExportError(f"{out} exists; choose another name, or overwrite it.")
    found = survey(plan)
    grid = plan.strategy.plan(found.images["image"], read_masks(plan.strategy))
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.dropped.items())
        raise ExportError(f"No patch to export ({reasons}).")
    frozen = FrozenPlan.of(found, grid)
    partial = PartialExport.of(plan)
    if not _takes_up(partial, frozen, overwrite):
        _check_space(partial.root, frozen)
        partial.freeze(frozen, grid)
    partial.clear_stop()
    return partial, frozen


def _takes_up(partial: PartialExport, frozen: FrozenPlan, overwrite: bool) -> bool:
    """Whether the folder holds this very plan; one that holds another is refused or removed."""
    try:
        found = partial.find_frozen()
    except ExportError:
        if not overwrite:
            raise
    else:
        if found is None:
            return False
        if found.model_dump_json() == frozen.model_dump_json():
            return True
        if not overwrite:
            raise ExportError(
                f"{partial.root} holds an unfinished export of another plan, or of sources that "
                "have changed since; choose another name, or overwrite it."
            )
    partial.remove()
    return False


def _check_space(root: Path, frozen: FrozenPlan) -> None:
    parent = next(folder for folder in root.absolute().parents if folder.exists())
    layouts = [kind.layout("all", frozen.n_candidates) for kind in frozen.kinds]
    needed = sum(layout.n * layout.patch_bytes for layout in layouts)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise ExportError(
            f"The patch set needs {needed / 1e9:.2f} GB, but {parent} has {free / 1e9:.2f} GB "
            "free; make room, or export fewer patches."
        )
