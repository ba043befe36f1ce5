"""How far a stitching is: what is done, what is missing, and how to go on."""

from dataclasses import replace
from pathlib import Path

from napari_patchset.errors import ExportError, PatchsetError
from napari_patchset.jobs.status import WorkStatus, work_status
from napari_patchset.stitching.image_writer import ImageWriter
from napari_patchset.stitching.stitch import check_name
from napari_patchset.stitching.stitch_folder import StitchFolder


def stitch_status(out: str | Path) -> WorkStatus:
    """Return how far the stitching of an OME-Zarr is.

    Raises
    ------
    ExportError
        If neither an OME-Zarr that was stitched nor an unfinished stitching has the name.
    """
    folder = StitchFolder.for_image(check_name(out))
    if not folder.root.exists():
        folder.check_free(overwrite=True)
        if not folder.out.exists():
            raise ExportError(
                f"{out}: there is no image, and no unfinished stitching of that name."
            )
    return folder_status(folder)


def folder_status(folder: StitchFolder) -> WorkStatus:
    """Return how far the stitching in a folder is, whose plan may be damaged."""
    folder.check_own()
    status = work_status(folder, folder.out)
    try:
        plan = folder.find_plan()
    except ExportError:  # it can be removed all the same
        plan = None
    if plan is None:
        return status
    if folder.is_in_place:
        stage, shards, missing = "done", 0, 0
    else:
        stage, shards, missing = _stage(folder)
    go_on = plan.command(folder.out) if status.next else ""
    return replace(status, stage=stage, next=go_on, shards=shards, missing_shards=missing)


def _stage(folder: StitchFolder) -> tuple[str, int, int]:
    """Return the stage, the shards of all levels, and those missing; 0 without the patch set."""
    try:
        writer = ImageWriter(folder)
    except (PatchsetError, OSError):
        return "stitch", 0, 0
    shards = [writer.n_shards(level) for level in range(writer.n_levels)]
    missing = [len(folder.missing(level, n)) for level, n in enumerate(shards)]
    return "stitch" if missing[0] else "levels", sum(shards), sum(missing)
