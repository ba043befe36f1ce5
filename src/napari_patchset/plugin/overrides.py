"""The user's overrides of files: axes, pixel size and channel names, and files that are one image.

An image in the window is named by a path: that of its file, or `image_path` of several files that
were opened as one image. `source_ref` returns the source that such a path stands for. Overrides are
remembered as long as napari runs, for that image alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.plans.source_files import sequence_source
from napari_patchset.source import SceneId
from napari_patchset.stacks.opening import list_files, open_stack
from napari_patchset.stacks.sequence import SEQUENCE_AXES, SequenceAxis

_IMAGES: dict[Path, SourceRef] = {}
"""The images that have overrides, by path."""


def source_ref(path: str | Path, scene: SceneId | None = None) -> SourceRef:
    """Return the source that a path in the window stands for, with its overrides."""
    ref = _IMAGES.get(Path(path)) or SourceRef(path=str(path))
    return ref.model_copy(update={"scene": scene})


def image_path(ref: ImageRef) -> Path:
    """Return the path that stands for an image: "t0.tif … t9.tif (10 files)" for a sequence."""
    if ref.files is None:
        return Path(ref.path)
    first, last = Path(ref.files[0]), Path(ref.files[-1])
    return first.with_name(f"{first.name} … {last.name} ({len(ref.files)} files)")


def remember(ref: ImageRef) -> None:
    """Remember the overrides of an image, in place of earlier ones."""
    _IMAGES[image_path(ref)] = SourceRef(path=ref.path, **ref.overrides)


def open_sequence(paths: Sequence[str | Path]) -> SourceRef:
    """Return the image that files are, along the first of T, Z and C that they do not have.

    The files of a set are one image by themselves.

    Parameters
    ----------
    paths : sequence of str or Path
        A folder stands for the images in it.

    Raises
    ------
    PatchsetError, OSError
        If they can't be read.
    """
    ref = sequence_source(paths, SEQUENCE_AXES[0])
    members = set(map(os.path.realpath, list_files(ref.path)))
    if members.issuperset(map(os.path.realpath, ref.files or ())):
        return SourceRef(path=ref.path)
    with open_stack(ref.path) as stack:
        taken = stack.original_axes
    free: list[SequenceAxis] = [axis for axis in SEQUENCE_AXES if axis not in taken]
    return ref.model_copy(update={"sequence": free[0]}) if free else ref
