"""What stands in the way of an export, and which set it would meet: found before it is started.

The plan of the form is checked while it is made (see `planning`). Here follow the checks of the
destination and of the format, which the export makes as well.
"""

import os
from pathlib import Path

import numpy as np

from napari_patchset.errors import ExportError
from napari_patchset.exporting.writing.destination import check_destination, check_patches_fit
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patching.verdicts import remedy_of
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.captions import rejections
from napari_patchset.plugin.dialogs import USER_ERRORS, message
from napari_patchset.plugin.plan_preview import PlanPreview


def find_problem(planned: PlanPreview) -> str:
    """Return why a form can't be exported, "" if it can.

    It reads the folder of the destination, so call it in a background thread.
    """
    try:
        plan = planned.state.plan()
        _check_patches(planned)
        FORMATS[plan.format].check(planned.arrays)
        sizes = ((layout, layout.n) for layout in planned.arrays)
        check_patches_fit(WorkDir.for_set(plan.out).root, sizes)
        _check_writable(Path(plan.out))
        check_destination(plan, overwrite=False)
    except USER_ERRORS as error:
        return message(error)
    return ""


def find_set(out: str) -> str:
    """Return the path if a patch set with pixels is there, "" if none is.

    It reads the manifest, so call it in a background thread.
    """
    try:
        with PatchSet(out) as patch_set:
            return out if FORMATS[patch_set.manifest.format].has_pixels else ""
    except USER_ERRORS:
        return ""  # why it can't be exported to is told by `find_problem`


def _check_patches(planned: PlanPreview) -> None:
    verdicts = planned.verdicts
    if not len(planned.grid):
        raise ExportError("There is no patch to export.")
    if planned.is_provisional:
        return
    exported = verdicts.split[verdicts.reason < 0]
    counts = np.bincount(exported[exported >= 0], minlength=len(verdicts.splits))
    if not counts.all():
        purposes = {"train": " for training", "val": " for validation", "test": " for the test"}
        empty = verdicts.splits[int(np.argmin(counts))] if counts.any() else ""
        reasons = [why for why, n in zip(verdicts.reasons, verdicts.n_rejected, strict=True) if n]
        remedy = remedy_of(reasons, len(counts) > 1)
        rejected = f" (rejected: {rejections(planned)})" if reasons else ""
        problem = f"No patch is left{purposes.get(empty, '')}{rejected}. {remedy}"
        raise ExportError(problem.rstrip())


def _check_writable(out: Path) -> None:
    folder = next(path for path in out.absolute().parents if path.exists())
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; choose a folder to save in.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(f"{folder} can't be written; choose another folder to save in.")
