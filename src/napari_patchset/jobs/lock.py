"""The lock of a folder: one process works in it, or several jobs of one piece of work."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from napari_patchset.errors import ExportError
from napari_patchset.jobs.own_files import is_litter

LOCK = "napari-patchset.lock"
"""The file that is locked. It is the first file in the folder and the last, so its name, which
nothing else has, marks the folder as ours."""

if sys.platform == "win32":
    import msvcrt

    _MAX_SHARED = 1024

    def _try_lock(fd: int, shared: bool) -> bool:
        """Lock every byte of a range, or any one of them, since Windows' C library shares none."""
        if shared:
            return any(_lock_bytes(fd, first, 1) for first in range(_MAX_SHARED))
        return _lock_bytes(fd, 0, _MAX_SHARED)

    def _lock_bytes(fd: int, first: int, n: int) -> bool:
        os.lseek(fd, first, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, n)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(root: Path, kind: str, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder, which is created if needed, and removed at the end if it is empty.

    Other jobs of the same work may share the lock. Raise ExportError if another one, of the same
    kind, has it. The system releases it when the process ends, however it ends.
    """
    fd = _open_locked(root, kind, shared)
    try:
        yield
    finally:
        if sys.platform == "win32":  # where an open file can't be deleted, not even by another
            os.close(fd)
        try:
            if not shared:  # a folder that holds more than the lock stays, and stays marked
                _remove_if_empty(root)
        finally:
            if sys.platform != "win32":
                os.close(fd)


def _remove_if_empty(root: Path) -> None:
    with suppress(OSError):
        others = [name for name in os.listdir(root) if name != LOCK]
        if all(map(is_litter, others)):
            for name in (*others, LOCK):
                (root / name).unlink()
            root.rmdir()


def is_locked(root: Path) -> bool:
    """Return whether a process works in a folder."""
    try:
        fd = os.open(root / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(fd, shared=False)
    finally:
        os.close(fd)


_MAX_SIGNATURE = 512

_PATIENCE_SECONDS = 0.3
"""How long to wait for a lock: `is_locked` takes it for a moment."""


def _lock_soon(fd: int, shared: bool) -> bool:
    deadline = monotonic() + _PATIENCE_SECONDS
    while not _try_lock(fd, shared):
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def _sign(fd: int, shared: bool) -> None:
    """Write into the lock who has it, or which of several was the last to take it."""
    last = "the last to begin is " if shared else ""
    with suppress(OSError):  # a full disk is told by what needs the space
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, f", {last}process {os.getpid()} on {platform.node()}".encode())


def _signature(fd: int) -> str:
    """Return who has a lock, "" if that is not known, as on Windows, where none can read it."""
    with suppress(OSError):
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, _MAX_SIGNATURE).decode(errors="replace")
    return ""


def owner_of(path: Path) -> str:
    """Return the user that a file belongs to, "" where that is not known."""
    if sys.platform != "win32":
        with suppress(OSError, KeyError):
            return path.owner()
    return ""


def _open_locked(root: Path, kind: str, shared: bool) -> int:
    path = root / LOCK
    while True:
        root.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError as error:
            whose = f"the {kind} of {owner}" if (owner := owner_of(root)) else f"another's {kind}"
            raise ExportError(
                f"{root} is {whose}, which you may not change; ask for the permission, or choose "
                "another name."
            ) from error
        if not _lock_soon(fd, shared):
            who = _signature(fd)
            os.close(fd)
            raise ExportError(
                f"{root}: another {kind} is writing there{who}; wait for it, stop it, or choose "
                "another name."
            )
        with suppress(FileNotFoundError):  # work that has just ended deleted it
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                _sign(fd, shared)
                return fd
        os.close(fd)
