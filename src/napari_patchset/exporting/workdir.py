"""NAME.partial: the folder of an unfinished export, by which any process can continue it.

napari-patchset.lock marks the folder as ours, and is locked by one export, or several jobs of one
plan.json            the plan, and its sources as they were when it was made
candidates.parquet   every candidate: source, sample, start along (Z)YX, valid share
scores/I.parquet     metrics of chunk I of the candidates
failed/I.json        why source I can't be read
selection.parquet    the verdict on every candidate
set/                 the patch set as it grows
shards/ARRAY/I.json  done marker of shard I of an array
running.TOKEN        while it exists, jobs with this token may write
stop                 while it exists, jobs stop before the next tile

`jobs.prepare` resumes the same plan; scores and shards that are done are not made again.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError

from napari_patchset._model import Frozen
from napari_patchset.errors import ExportError
from napari_patchset.exporting.candidates import (
    ArraySelection,
    Selection,
    read_columns,
    read_grid,
    read_verdicts,
    write_columns,
    write_grid,
    write_verdicts,
)
from napari_patchset.exporting.destination import (
    LOCK,
    PLAN,
    explain_full_disk,
    is_litter,
    remove_own_files,
)
from napari_patchset.exporting.failures import Failure, SourcesFailed
from napari_patchset.exporting.frozen_plan import FrozenPlan
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.files import write_file, write_json
from napari_patchset.patchset.layout import workdir_path
from napari_patchset.patchset.statistics import ChannelSums, channel_sums
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.stacks.cache import FileCache

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


def _open_locked(root: Path, shared: bool) -> int:
    path = root / LOCK
    while True:
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _try_lock(fd, shared):
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


class DoneMarker(Frozen):
    """Marks a shard as written, with its checksums and sums, so that it need not be read again."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    candidates_digest: str  # see `ArraySelection.shard_digest`
    packed_checksums: bytes  # the crc32c of each patch, 32-bit little-endian
    sums: tuple[ChannelSums, ...]

    @classmethod
    def from_patches(cls, candidates_digest: str, patches: NDArray[Any]) -> Self:
        """Sum up the patches N, C, (Z), Y, X of a shard."""
        return cls(
            candidates_digest=candidates_digest,
            packed_checksums=checksums(patches).astype("<u4").tobytes(),
            sums=tuple(channel_sums(patches)),
        )

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """The crc32c of each patch."""
        return np.frombuffer(self.packed_checksums, "<u4").astype(np.uint32)


class Scores:
    """The metrics of an export's candidates, in a file for each chunk of candidates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, chunk: int) -> Path:
        """Return the metrics file of a chunk."""
        return self._folder / f"{chunk}.parquet"

    def has(self, chunk: int) -> bool:
        """Return whether a chunk is scored."""
        return self.path(chunk).is_file()

    def write(self, chunk: int, metrics: Metrics) -> None:
        """Write the metrics of a chunk."""
        write_columns(self.path(chunk), metrics)

    def add_known(self, frozen: FrozenPlan, metrics: Metrics) -> None:
        """Write those chunks of which every metric is known: `metrics` has NaN where it is not."""
        columns = metric_columns(frozen.plan.filters, frozen.sources)
        for chunk in range(frozen.n_score_chunks):
            of_chunk = frozen.score_chunk(chunk)
            known = {c: metrics[c][of_chunk.start : of_chunk.stop] for c in columns if c in metrics}
            if len(known) == len(columns) and not any(np.isnan(v).any() for v in known.values()):
                self.write(chunk, known)

    def read(self, frozen: FrozenPlan) -> dict[str, NDArray[np.float64]]:
        """Read the metrics of all candidates; raise ExportError if a chunk is not scored yet."""
        missing = [chunk for chunk in range(frozen.n_score_chunks) if not self.has(chunk)]
        if missing:
            raise ExportError(
                f"{self._folder.parent}: scoring is not finished ({len(missing)} of "
                f"{frozen.n_score_chunks} parts are missing). Score every job first, or run the "
                "same export again."
            )
        chunks = [read_columns(self.path(chunk))[0] for chunk in range(frozen.n_score_chunks)]
        names = chunks[0] if chunks else ()
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}

    def delete_incomplete(self, frozen: FrozenPlan) -> None:
        """Delete the chunks in which a candidate has no metric."""
        for chunk in filter(self.has, range(frozen.n_score_chunks)):
            columns, _ = read_columns(self.path(chunk))
            if any(np.isnan(values).any() for values in columns.values()):
                self.path(chunk).unlink()


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
        """Lock the folder (see `locked`); a full disk is an ExportError."""
        with locked(self.root, shared=shared), explain_full_disk(self.root):
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
        self._token_path(token).touch()
        try:
            yield token
        finally:
            self._token_path(token).unlink(missing_ok=True)

    def check_token(self) -> None:
        """Raise ExportStopped if the work that this job is part of is over."""
        if self._token is not None and not self._token_path(self._token).exists():
            raise ExportStopped

    def _token_path(self, token: str) -> Path:
        return self.root / f"running.{token}"


def _read_plan(path: Path) -> FrozenPlan:
    return FrozenPlan.model_validate_json(path.read_bytes())


class WorkDir(JobFolder):
    """The folder NAME.partial of an unfinished export."""

    def __init__(self, root: Path, token: str | None = None) -> None:
        super().__init__(root, token)
        self.set = root / "set"
        self.scores = Scores(root / "scores")
        self._plan, self._failed = root / PLAN, root / "failed"
        self._plans: FileCache[FrozenPlan] = FileCache(1)
        self._candidates = root / "candidates.parquet"
        self._selection = root / "selection.parquet"

    @classmethod
    def for_set(cls, out: str | Path) -> Self:
        """Return the folder in which the set `out` is written."""
        return cls(workdir_path(Path(out)))

    def freeze(self, frozen: FrozenPlan, grid: PatchGrid) -> None:
        """Write candidates and plan; the plan last, so that a plan has its candidates."""
        self.set.mkdir(parents=True, exist_ok=True)
        write_grid(self._candidates, grid)
        write_file(self._plan, [frozen.model_dump_json(indent=1).encode()])

    def find_frozen(self) -> FrozenPlan | None:
        """Read the plan, None if there is none.

        Its destination is where it is now: folders are moved, and files edited.
        """
        try:
            frozen = self._plans.get(self._plan, _read_plan)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise ExportError(
                f"{self.root}: the plan in it can't be read; export with overwrite to start over."
            ) from error
        out = Path(os.path.abspath(self.root)).with_name(Path(frozen.plan.out).name)
        if workdir_path(out).name != self.root.name:
            raise ExportError(
                f"{self.root}: the plan in it is of {out.name}; export with overwrite to start "
                "over."
            )
        plan = frozen.plan.model_copy(update={"out": str(out)})
        return frozen.model_copy(update={"plan": plan})

    def frozen(self) -> FrozenPlan:
        """Read the plan; raise ExportError if there is none."""
        frozen = self.find_frozen()
        if frozen is None:
            raise ExportError(f"{self.root} has no plan; plan the export first.")
        return frozen

    @cached_property
    def format(self) -> SetFormat:
        """The format of the set."""
        return FORMATS[self.frozen().plan.format]

    def candidates(self, frozen: FrozenPlan) -> PatchGrid:
        """Read the candidates."""
        return read_grid(self._candidates, frozen.size)

    @property
    def is_in_place(self) -> bool:
        """Whether the set is complete under its name, and only this folder remains."""
        return self._plan.exists() and not self.set.exists()

    def record(self, failed: SourcesFailed) -> None:
        """Record which sources can't be read; raise SourcesFailed if none is left.

        Nothing is recorded then, as a disk that was away may come back.
        """
        recorded, frozen = {path.stem for path in self._failed.glob("*.json")}, self.frozen()
        if len(recorded.union(map(str, failed.failures))) == len(frozen.plan.sources):
            failures = self.failed() | failed.failures
            self.scores.delete_incomplete(frozen)
            for path in self._failed.glob("*.json"):
                path.unlink()
            raise SourcesFailed(failures) from failed
        for index, failure in failed.failures.items():
            write_json(self._failed / f"{index}.json", failure.model_dump())

    def failed(self) -> dict[int, Failure]:
        """Read which sources can't be read, by index."""
        paths = sorted((int(path.stem), path) for path in self._failed.glob("*.json"))
        return {i: Failure.model_validate_json(path.read_bytes()) for i, path in paths}

    def write_selection(self, selection: Selection) -> None:
        """Write the verdicts, from which the selection follows."""
        write_verdicts(self._selection, selection.verdicts)

    def selection(self) -> Selection:
        """Read the selection; raise ExportError if nothing was written yet."""
        if not self._selection.exists():
            raise ExportError(f"{self.root}: nothing is written yet; run `write` for every job.")
        return Selection.from_verdicts(read_verdicts(self._selection))

    def done_marker_path(self, array: ArraySelection, shard: int) -> Path:
        """Return the file of a shard's done marker."""
        return self.root / "shards" / array.layout.name / f"{shard}.json"

    def done_marker(self, array: ArraySelection, shard: int) -> DoneMarker | None:
        """Read a shard's done marker, None if the shard is not written with these candidates."""
        if not all(p.is_file() for p in self.format.shard_paths(self.set, array.layout, shard)):
            return None
        try:
            data = self.done_marker_path(array, shard).read_bytes()
            done_marker = DoneMarker.model_validate_json(data)
        except (FileNotFoundError, ValidationError):
            return None
        is_current = done_marker.candidates_digest == array.shard_digest(shard)
        return done_marker if is_current else None

    def write_done_marker(self, array: ArraySelection, shard: int, done_marker: DoneMarker) -> None:
        """Mark a shard as done that is written and synced.

        The marker itself is not synced: if a power cut destroys it, the shard is written again.
        """
        path = self.done_marker_path(array, shard)
        write_file(path, [done_marker.model_dump_json().encode()], sync=False)

    def missing_shards(self, array: ArraySelection) -> list[int]:
        """Return the shards that are not written yet, and delete their outdated done markers."""
        missing = [i for i in range(array.layout.n_shards) if self.done_marker(array, i) is None]
        for shard in missing:
            self.done_marker_path(array, shard).unlink(missing_ok=True)
        return missing

    def discard(self) -> None:
        """Delete an abandoned export; the plan first, so that no remainder is resumed."""
        self._plan.unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Delete the remains of a complete export; the plan last, as it marks the folder as ours.

        The lock stays, and whatever someone else put there.
        """
        remove_own_files(self.root)
        self._plan.unlink(missing_ok=True)
