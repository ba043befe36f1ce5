"""Space on the disk of an export: checked before it is written, and named when it runs out."""

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ByteSize

from napari_patchset.errors import ExportError
from napari_patchset.patchset.layout import ArrayLayout

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
    """Convert the error of a full disk to an ExportError that says how to continue."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise ExportError(
            f"{root}: the disk is full; what is written stays: make room and run the same again."
        ) from error
