"""The folder of unfinished work, which jobs of any process share: its lock, and how they stop.

napari-patchset.lock   locked by one process, or by several jobs of one piece of work
stop                   while it exists, jobs stop before the next tile
running.TOKEN          while it exists, jobs with this token may write
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from napari_patchset.errors import NO_MEMORY, ExportError
from napari_patchset.jobs.lock import LOCK, locked


class ExportStopped(Exception):
    """A stop was requested, or another process goes on with the export; finished shards stay."""


@contextmanager
def _explain_full_disk(root: Path) -> Iterator[None]:
    """Convert the error of a full disk to an ExportError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ExportError(
            f"{root}: the disk is full; what is written stays: free space and "
            "run the same command again."
        ) from error


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
        with locked(self.root, shared=shared), _explain_full_disk(self.root), _explain_no_memory():
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
