"""The disk that an export is written to: whether there is room, and what a full one raises."""

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ByteSize

from napari_patchset.errors import ExportError
from napari_patchset.patchset.layout import ArrayLayout

_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_space(root: Path, parts: Iterable[tuple[ArrayLayout, int]]) -> None:
    """Refuse to write more than the disk has room for.

    Parameters
    ----------
    parts : iterable of (array, number of its patches)
        Of compressed ones it is not known what they need, so they count nothing.

    Raises
    ------
    ExportError
        Saying how much is needed, and how much is free.
    """
    folder = next(path for path in root.absolute().parents if path.exists())
    needed = sum(n * layout.patch_bytes for layout, n in parts if layout.codec == "none")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"The patch set needs {_said(needed)}, but {folder} has {_said(free)} free; make room, "
            "or export fewer patches."
        )


def _said(n_bytes: int) -> str:
    return ByteSize(n_bytes).human_readable(decimal=True, separator=" ")


@contextmanager
def naming_full_disk(root: Path) -> Iterator[None]:
    """Turn what a full disk raises into one error that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ExportError(
            f"{root}: the disk is full; what is written stays: make room and run the same again."
        ) from error
