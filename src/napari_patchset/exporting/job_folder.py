"""The folder of unfinished work, which jobs of any process share: its lock, and how they stop.

napari-patchset.lock   locked by one process, or by several jobs of one piece of work
stop                   while it exists, jobs stop before the next tile
running.TOKEN          while it exists, jobs with this token may write
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from napari_patchset.errors import NO_MEMORY, ExportError
from napari_patchset.exporting.destination import LOCK, explain_full_disk, is_litter

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
def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder, which is created if needed, and removed at the end if it is empty.

    Other jobs of the same export may share the lock. Raise ExportError if another export has it.
    The system releases it when the process ends, however it ends.
    """
    fd = _open_locked(root, shared)
    try:
        yield
    finally:
        if sys.platform == "win32":  # where an open file can't be deleted, not even by another
            os.close(fd)
        if not shared:  # a folder that holds more than the lock stays, and stays marked
            with suppress(OSError):
                others = [name for name in os.listdir(root) if name != LOCK]
                if all(map(is_litter, others)):
                    for name in (*others, LOCK):
                        (root / name).unlink()
                    root.rmdir()
        if sys.platform != "win32":
            os.close(fd)


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


_PATIENCE_SECONDS = 0.3
"""How long to wait for a lock: `is_locked` takes it for a moment."""


def _lock_soon(fd: int, shared: bool) -> bool:
    deadline = monotonic() + _PATIENCE_SECONDS
    while not _try_lock(fd, shared):
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True


def _open_locked(root: Path, shared: bool) -> int:
    path = root / LOCK
    while True:
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock_soon(fd, shared):
            os.close(fd)
            raise ExportError(
                f"{root}: another export is writing there; wait for it, stop it, or choose "
                "another name."
            )
        with suppress(FileNotFoundError):  # an export that has just ended deleted it
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        os.close(fd)


class ExportStopped(Exception):
    """A stop was requested, or another process goes on with the export; finished shards stay."""


@contextmanager
def _explain_no_memory() -> Iterator[None]:
    """Convert a lack of memory, which blames no file, to an ExportError with the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "start new thread" not in str(error):
            raise
        raise ExportError(
            f"{NO_MEMORY}; then run the same command again: what is written stays ({error})."
        ) from error


class JobFolder:
    """The folder of unfinished work, which jobs of any process share: its lock, and how they stop.

    Attributes
    ----------
    root : Path
        The folder.

    Parameters
    ----------
    token : str or None
        What `running` yielded to the process that started this job; None for one of a scheduler.
    """

    def __init__(self, root: Path, token: str | None = None) -> None:
        self.root, self._token = root, token
        self._stop = root / "stop"

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Lock the folder (see `locked`); a full disk, or memory, is an ExportError."""
        with locked(self.root, shared=shared), explain_full_disk(self.root), _explain_no_memory():
            yield

    def request_stop(self) -> None:
        """Request every job, in any process or machine, to stop."""
        if (self.root / LOCK).is_file():  # without it, no job runs
            with suppress(FileNotFoundError):  # the work has just ended
                self._stop.touch()

    def clear_stop(self) -> None:
        """Withdraw the request to stop."""
        self._stop.unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        """Whether jobs are requested to stop."""
        return self._stop.exists()

    def check_cancelled(self) -> None:
        """Raise ExportStopped if jobs are requested to stop, or the token is no longer valid."""
        if self.stop_requested:
            raise ExportStopped
        self.check_token()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield a token for jobs; jobs with an earlier one, which still live, stop writing.

        A process that is killed leaves its token behind, and on a cluster its jobs.
        """
        for left in self.root.glob("running.*"):
            left.unlink(missing_ok=True)
        token = uuid4().hex
        try:  # a signal may come while the file is created
            self._token_path(token).touch()
            yield token
        finally:
            self._token_path(token).unlink(missing_ok=True)

    def check_token(self) -> None:
        """Raise ExportStopped if the work that this job is part of is over.

        Raise OSError if its folder is gone: then it did not end, and nobody stopped it.
        """
        if self._token is not None and not self._token_path(self._token).exists():
            os.stat(self.root / LOCK)
            raise ExportStopped

    def _token_path(self, token: str) -> Path:
        return self.root / f"running.{token}"
