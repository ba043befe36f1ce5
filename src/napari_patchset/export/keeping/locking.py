"""Keep a second export out of the folder of the first, and mark the folder as ours."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_patchset.errors import ExportError

LOCK = "napari-patchset.lock"
"""The file in the folder that is locked. Its name, which nothing else has, marks the folder: it is
the first thing in it and the last, whenever an export ends or is killed."""

if sys.platform == "win32":

    @contextmanager
    def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
        """Mark a folder, but lock nothing: this system has no lock that ends with its process."""
        root.mkdir(parents=True, exist_ok=True)
        (root / LOCK).touch()
        try:
            yield
        finally:
            if not shared:
                _remove_bare(root)

else:
    import fcntl

    @contextmanager
    def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
        """Hold a folder, which is made, and leave none behind that holds nothing.

        The system gives the lock back when the process ends, however it ends.

        Parameters
        ----------
        shared : bool
            Whether other jobs of the same export may hold it too.

        Raises
        ------
        ExportError
            If another export holds it.
        """
        fd = _open_locked(root, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            if not shared:
                _remove_bare(root)
            os.close(fd)

    def _open_locked(root: Path, kind: int) -> int:
        while True:
            root.mkdir(parents=True, exist_ok=True)
            fd = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(root / LOCK)):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise ExportError(
                    f"{root}: another export is writing there; wait for it, stop it, or choose "
                    "another name."
                ) from None
            except FileNotFoundError:  # the one before has just ended and taken its lock along
                pass
            os.close(fd)


def _remove_bare(root: Path) -> None:
    """Remove a folder that holds nothing but the lock; any other stays, and stays marked."""
    with suppress(OSError):
        if os.listdir(root) == [LOCK]:
            (root / LOCK).unlink()
            root.rmdir()
