"""NAME.partial: the folder of unfinished work, which jobs of any process share, and resume.

napari-patchset.lock   locked by one process, or by several jobs of one piece of work
stop                   while it exists, jobs stop before the next tile
running.TOKEN          while it exists, jobs with this token may write
error.txt              what ended the work last
replaced/              what the result replaces, until it has its name

An export and a stitching add their plan, their result as it grows, and files that say which part of
it is done. A folder is known as ours by the name of its lock. A result replaces another one in two
renames; whenever the process is killed, the old one or the new one is there whole.
"""

import errno
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Generic, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from napari_patchset._model import Frozen
from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import NO_MEMORY, ExportError, PatchsetError, describe_os_error
from napari_patchset.jobs.lock import LOCK, locked, owner_of
from napari_patchset.jobs.own_files import OwnFiles, is_litter
from napari_patchset.patchset.files import DRAFT_PATTERN, sync_folder, write_file
from napari_patchset.stacks.cache import FileCache

Plan = TypeVar("Plan", bound=Frozen)

REPLACED = "replaced"
"""What is being replaced, until the new result has its name."""

OTHER_NAME = "choose another name, or move it elsewhere"
"""The remedy where something has the name of a result, or of its folder."""

_DRAFT = re.compile(rf"(?P<folder>^|/){DRAFT_PATTERN}$")


def files_of_jobs(kind: str, files: str, folders: str) -> OwnFiles:
    """Return what is ours in a folder of some kind of work.

    Parameters
    ----------
    kind : str
        "an unfinished export".
    files, folders : str
        Regular expressions of the paths of files and folders that this kind of work adds.
    """
    own = rf"{re.escape(LOCK)}|stop|error[.]txt|running[.][0-9a-f]{{32}}"
    is_file = re.compile(rf"{own}|{files}").fullmatch
    is_folder = re.compile(rf"{REPLACED}|{folders}").fullmatch
    return OwnFiles(kind, lambda name: is_file(_DRAFT.sub(r"\g<folder>\g<name>", name)), is_folder)


def size_text(n_bytes: int) -> str:
    """Return a size on disk as people read it: "197 kB", of 1000 bytes each."""
    value, units = float(n_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"


def check_space(root: Path, needed: int, what: str, remedy: str) -> None:
    """Raise ExportError if the disk of `root`, which need not exist, has too little free space.

    Parameters
    ----------
    needed : int
        Bytes that will be written.
    what, remedy : str
        What needs them, "The patch set", and what else than to make room, "export fewer patches".
    """
    folder = next(path for path in root.absolute().parents if path.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        needs, has = size_text(needed), size_text(free)
        raise ExportError(
            f"{what} needs {needs}, but {folder} has {has} free; make room, or {remedy}."
        )


def read_error(path: Path) -> str:
    """Read the message of an error that was noted, "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


class Stopped(Exception):
    """A stop was requested, or another process goes on with the work; finished shards stay."""


_LACKS = {
    errno.ENOSPC: ("the disk is full", "free space"),
    errno.EDQUOT: ("your share of the disk is full", "free space"),
    errno.EFBIG: (
        "a file may not be as large as is needed, by a limit of the process or of the disk",
        "raise it (`ulimit -f`)",
    ),
    errno.EROFS: ("the disk can only be read", "have it mounted for writing"),
}
"""What a disk lacks, and the remedy, by the number of the error."""


@contextmanager
def _explain_lack(root: Path) -> Iterator[None]:
    """Convert the errors of a disk, and of too little memory, to an ExportError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _LACKS:
            raise
        fault, remedy = _LACKS[error.errno]
        raise ExportError(
            f"{root}: {fault}; what is written stays: {remedy} and run the same again."
        ) from error
    except (MemoryError, RuntimeError) as error:  # which blame no file
        if isinstance(error, RuntimeError) and "start new thread" not in str(error):
            raise
        raise ExportError(
            f"{NO_MEMORY}; then run the same again: what is written stays ({error})."
        ) from error


class JobFolder(ABC, Generic[Plan]):
    """The folder of unfinished work, in which its result grows until it is complete.

    Parameters
    ----------
    root : Path
        The folder.
    token : str or None
        What `running` yielded to the process that started this job; None for one of a scheduler.
    """

    KIND: ClassVar[str]
    """The work that is done there: "export"."""
    SUFFIX: ClassVar[str]
    """Of the folder's name."""
    PLAN: ClassVar[str]
    """Name of the file that holds the plan; it is the first that the work needs, and the last."""
    RESULT: ClassVar[str]
    """Name of the folder that becomes the result."""
    FILES: ClassVar[OwnFiles]

    def __init__(self, root: Path, token: str | None = None) -> None:
        self.root, self._token = root, token
        self.result = root / self.RESULT
        self._stop, self._plan = root / "stop", root / self.PLAN
        self._replaced, self._error = root / REPLACED, root / "error.txt"
        self._plans: FileCache[Plan] = FileCache(1)

    @abstractmethod
    def _parse_plan(self, data: bytes) -> Plan:
        """Parse the file of the plan; raise ValidationError."""

    @abstractmethod
    def _name_of(self, result: Path) -> Path | None:
        """Return the path that a complete result has when the work is done, None if it is none."""

    def find_plan(self) -> Plan | None:
        """Read the plan, None if there is none."""
        try:
            return self._plans.get(self._plan, lambda path: self._parse_plan(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise ExportError(
                f"{self.root}: the plan in it can't be read; start over with overwrite."
            ) from error

    def plan(self) -> Plan:
        """Read the plan; raise ExportError if there is none."""
        plan = self.find_plan()
        if plan is None:
            raise ExportError(f"{self.root} has no plan; plan the {self.KIND} first.")
        return plan

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, when all that it needs is there."""
        write_file(self._plan, [plan.model_dump_json(indent=1).encode()])

    @property
    def is_own(self) -> bool:
        """Whether nothing is there, or a folder of ours."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return not self.root.is_symlink()
        except NotADirectoryError:
            return False
        is_empty = all(map(is_litter, names))  # an empty folder has nothing to lose
        return not self.root.is_symlink() and (LOCK in names or is_empty)

    def check_own(self) -> None:
        """Raise ExportError if there is anything but a folder of ours."""
        parent = next((each for each in self.root.parents if each.exists()), self.root)
        if parent.is_file():
            raise ExportError(
                f"{parent} is a file, so that no folder can be made in it; choose another name."
            )
        if not self.is_own:
            link = (
                f", but a link to {os.path.realpath(self.root)}" if self.root.is_symlink() else ""
            )
            raise ExportError(
                f"{self.root} exists and is not an unfinished {self.KIND} of patchset{link}; "
                f"{OTHER_NAME}."
            )

    def check_only_own_files(self) -> None:
        """Raise ExportError if the folder is not ours, or holds a file that is not."""
        self.check_own()
        self.FILES.check_only(self.root)

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Lock the folder (see `locked`); a full disk, or memory, is an ExportError."""
        with _explain_lack(self.root), locked(self.root, self.KIND, shared=shared):
            yield

    @property
    def is_planned(self) -> bool:
        """Whether there is a plan, by which the work is resumed."""
        return self._plan.exists()

    @property
    def planned_by_another(self) -> str:
        """A sentence that names another user whose plan is there, "" if it is one's own."""
        with suppress(OSError):
            stat = self._plan.stat()
            if hasattr(os, "geteuid") and stat.st_uid != os.geteuid():
                when = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds")
                who = owner_of(self._plan) or f"user {stat.st_uid}"
                return f"{self.root}: the plan there was made by {who}, {when}"
        return ""

    @contextmanager
    def noting_error(self, job_error: Path | None = None) -> Iterator[None]:
        """Keep the message of an error that ends the work, for those who ask how far it is.

        That of a job is in a file of its own, as others may run at once.
        """
        self._error.unlink(missing_ok=True)
        path = job_error or self._error
        path.unlink(missing_ok=True)
        try:
            with _explain_lack(self.root):
                yield
            self._error.unlink(missing_ok=True)  # of a `finalize` that came too early meanwhile
        except (PatchsetError, OSError) as error:
            if self.is_planned:
                with suppress(OSError):  # the disk may be full, and the first error matters
                    text = hide_credentials(describe_os_error(error))
                    write_file(path, [text.encode(errors="surrogateescape")])
            raise

    @property
    def last_error(self) -> str:
        """The message of the error that ended the work last, "" if none did."""
        return read_error(self._error)

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
        """Raise Stopped if jobs are requested to stop, or the token is no longer valid."""
        if self.stop_requested:
            raise Stopped
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
        """Raise Stopped if the work that this job is part of is over.

        Raise OSError if its folder is gone: then it did not end, and nobody stopped it.
        """
        if self._token is not None and not self._token_path(self._token).exists():
            os.stat(self.root / LOCK)
            raise Stopped

    def _token_path(self, token: str) -> Path:
        return self.root / f"running.{token}"

    @property
    def is_in_place(self) -> bool:
        """Whether the result is complete under its name, and only this folder remains."""
        return self._plan.exists() and not self.result.exists()

    def rename_into_place(self, out: Path) -> None:
        """Rename the complete result; what has its name is moved aside, and removed later."""
        if os.path.lexists(out):
            out.rename(self._replaced)
        try:
            self.result.rename(out)
        except OSError:
            self._put_back()
            raise
        sync_folder(out.parent)

    def _put_back(self) -> None:
        """Rename what the result was about to replace back, unless it was replaced."""
        if not self.result.exists() or (out := self._name_of(self._replaced)) is None:
            return
        if os.path.lexists(out):
            raise ExportError(
                f"{self._replaced} is the former {out}, which was about to be replaced; something "
                "else has that name now. Move one of them elsewhere."
            )
        self._replaced.rename(out)
        sync_folder(out.parent)

    def discard(self) -> None:
        """Remove abandoned work; what it was about to replace, when killed, gets its name back.

        The plan goes first, so that no remainder is resumed.
        """
        self._put_back()
        self._plan.unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Remove the remains of complete work; the plan last, so that it is known as that.

        The lock stays, and whatever someone else put there.
        """
        self.FILES.remove(self.root, but=(LOCK, self.PLAN))
        self._plan.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove unfinished work, and its folder; see `discard`.

        Raise ExportError if it runs, or if the folder is not ours, or holds a file that is not.
        """
        self.check_own()
        with self.locked():
            self.check_only_own_files()
            self.discard()
