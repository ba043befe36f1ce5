"""Checks of a plan's destination, before anything is written or removed.

The set, and the folder NAME.partial in which it is written, must not touch a source, and must not
take the place of anything that no export wrote; and the disk needs space.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ByteSize

from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.ownership import (
    require_only_own_files,
    require_own_partial,
    require_replaceable,
    require_set,
)
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patchset.layout import ArrayLayout, partial_path
from napari_patchset.source import is_remote


def check_destination(plan: ExportPlan, overwrite: bool) -> None:
    """Refuse a plan whose set, or the folder that it is written in, would replace other files.

    Raises
    ------
    ArgumentError
        If one of them is, holds or lies in a source.
    ExportError
        If something else has the name of one of them, or is in a folder that would be removed.
    """
    check_apart(plan)
    out = Path(plan.out)
    root = partial_path(out)
    require_own_partial(root)
    if root.exists():
        require_only_own_files(root)
    if os.path.lexists(out):
        if overwrite:
            require_replaceable(out)
        else:
            require_set(out)


def check_apart(plan: ExportPlan) -> None:
    """Raise ArgumentError, naming both, if the destination is, holds or lies in an image.

    Links are resolved.
    """
    out = Path(os.path.abspath(plan.out))
    folders = [(folder, real) for folder in (out, partial_path(out)) for real in _locations(folder)]
    for image in dict.fromkeys(_local_images(plan.resolved())):
        real_image = _resolved(image)
        for folder, real in folders:
            if relation := _relation(real, real_image):
                raise ArgumentError(f"{folder} {relation} the source {image}; choose another name.")


def _relation(folder: str, image: str) -> str | None:
    if folder == image:
        return "is"
    if image.startswith(os.path.join(folder, "")):
        return "holds"
    return "lies in" if folder.startswith(os.path.join(image, "")) else None


def _local_images(plan: ExportPlan) -> Iterator[str]:
    """Yield the paths of sources, of their paired images, and of the mask that is the region."""
    paths = [image.path for source in plan.sources for image in (source, *source.pairs.values())]
    region = plan.strategy.region
    if isinstance(region, MaskRegion) and region.path is not None:
        paths.append(region.path)
    return (path for path in paths if not is_remote(path))


def _locations(path: Path) -> set[str]:
    """Return where a name is, and where it leads if it is a link."""
    own = os.path.join(_resolved(path.parent), os.path.normcase(path.name))
    return {own, _resolved(path)}


def _resolved(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_space(root: Path, sizes: Iterable[tuple[ArrayLayout, int]]) -> None:
    """Raise ExportError if patches need more than the free space of the disk of `root`.

    Parameters
    ----------
    sizes : iterable of (array, number of its patches)
        Compressed arrays count nothing, since their size is not known in advance.
    """
    folder = next(path for path in root.absolute().parents if path.exists())
    needed = sum(n * layout.patch_bytes for layout, n in sizes if layout.codec == "none")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"The patch set needs {_readable(needed)}, but {folder} has {_readable(free)} free; "
            "make room, or export fewer patches."
        )


def _readable(n_bytes: int) -> str:
    return ByteSize(n_bytes).human_readable(decimal=True, separator=" ")


@contextmanager
def explain_full_disk(root: Path) -> Iterator[None]:
    """Convert the error of a full disk to an ExportError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise ExportError(
            f"{root}: the disk is full; what is written stays: make room and run the same again."
        ) from error
