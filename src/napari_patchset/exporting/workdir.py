"""NAME.partial: an export that is under way. What lies here says that it is incomplete.

napari-patchset.lock comes first and goes last: its name says that the folder is ours
plan.json            the plan, and its sources as they were when it was made
candidates.parquet   every candidate: stack, sample, start along (Z)YX, valid share
scores/I.parquet     what the filters look at, of a run of candidates
failed/I.json        a source that can't be read
selection.parquet    the verdict on every candidate
set/                 the patch set as it grows
shards/ARRAY/I.json  one sidecar for each shard that is written and synced
stop                 while this is there, jobs stop before the next tile

What the filters look at, run of candidates by run: kept as it is measured, read when all is.

What is kept of a written shard, so that the set is completed without reading it again.

Candidates and verdicts as tables, and back.

What an export under way keeps in NAME.partial/, so that any process can go on with it.

The disk that an export is written to: whether there is room, and what a full one raises.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ByteSize, ConfigDict, ValidationError

from napari_patchset._model import Frozen
from napari_patchset.errors import ExportError
from napari_patchset.exporting.frozen_plan import FrozenPlan, PlannedArray, Selection
from napari_patchset.exporting.ownership import PLAN, remove_own_files
from napari_patchset.exporting.plan import ExportPlan, Failure, SourcesFailed
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Metrics, Verdicts
from napari_patchset.patchset.disk import LOCK, write_durably, write_whole
from napari_patchset.patchset.layout import ArrayLayout, partial_path, write_json
from napari_patchset.patchset.statistics import ChannelSums, channel_sums
from napari_patchset.patchset.table import column, column_values, release_memory, table_bytes
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.patchset.writers.zarr import checksums


class DoneMarker(Frozen):
    """The checksums and sums of a written shard.

    Attributes
    ----------
    stamp : str
        Which candidates lie in it; see `PlannedArray.stamp`.
    packed_checksums : bytes
        The crc32c of each patch, 32-bit little-endian.
    sums : tuple of ChannelSums
        Of each channel.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    stamp: str
    packed_checksums: bytes
    sums: tuple[ChannelSums, ...]

    @classmethod
    def of(cls, stamp: str, patches: NDArray[Any]) -> Self:
        """Sum up the patches of a shard."""
        packed = checksums(patches).astype("<u4").tobytes()
        return cls(stamp=stamp, packed_checksums=packed, sums=tuple(channel_sums(patches)))

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """The crc32c of each patch."""
        return np.frombuffer(self.packed_checksums, "<u4").astype(np.uint32)


_SAID = b"verdicts"


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table whole or not at all."""
    write_durably(path, [table_bytes(table)])


def as_table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Give columns of numbers as a table."""
    return pa.table({name: column(values) for name, values in columns.items()})


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[bytes, bytes]]:
    """Read the columns of a table, and what is said of them."""
    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
        columns = {name: column_values(file.read([name])[name]) for name in names}
    release_memory()
    return columns, metadata


def grid_table(grid: PatchGrid) -> pa.Table:
    """Give the columns of a grid."""
    columns: dict[str, NDArray[Any]] = {"stack": grid.source_index, "sample": grid.sample}
    columns |= {f"start{axis}": grid.start[:, axis] for axis in range(grid.start.shape[1])}
    valid = {} if grid.valid is None else {"valid": grid.valid}
    return as_table({**columns, **valid})


def read_grid(path: Path, size: tuple[int, ...]) -> PatchGrid:
    """Read the grid that `grid_table` gave, of patches of a size."""
    columns, _ = read_columns(path)
    start = np.stack([columns[f"start{axis}"] for axis in range(len(size))], axis=1)
    stack, sample, valid = columns["stack"], columns["sample"], columns.get("valid")
    return PatchGrid(size, stack, sample, start, valid=valid)


def verdicts_table(verdicts: Verdicts) -> pa.Table:
    """Give the verdict on each candidate, and what is said once for all of them."""
    numbers: dict[str, NDArray[Any]] = {"split": verdicts.split, "reason": verdicts.reason}
    said = {"splits": verdicts.splits, "reasons": verdicts.reasons, "limits": verdicts.limits}
    return as_table({**numbers, **verdicts.metrics}).replace_schema_metadata(
        {_SAID: json.dumps(said)}
    )


def read_verdicts(path: Path) -> Verdicts:
    """Read what `verdicts_table` gave."""
    columns, metadata = read_columns(path)
    said = json.loads(metadata[_SAID])
    split, reason = columns.pop("split"), columns.pop("reason")
    splits, reasons = tuple(said["splits"]), tuple(said["reasons"])
    return Verdicts(splits, split, reason, reasons, columns, said["limits"])


class Scores:
    """The folder of an export's scores, a file for each run of candidates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, run: int) -> Path:
        """Give the file that says that a run of candidates is scored."""
        return self._folder / f"{run}.parquet"

    def has(self, run: int) -> bool:
        """Whether a run of candidates is scored."""
        return self.path(run).is_file()

    def write(self, run: int, columns: Metrics) -> None:
        """Keep the metrics of a run of candidates."""
        write_table(self.path(run), as_table(columns))

    def take(self, frozen: FrozenPlan, metrics: Metrics) -> None:
        """Keep the metrics of the runs in which every candidate has all of them."""
        columns = metric_columns(frozen.plan.filters, frozen.sources[0].channels)
        for run in range(frozen.score_runs):
            found = {c: metrics[c][frozen.score_run(run)] for c in columns if c in metrics}
            if len(found) == len(columns) and not any(np.isnan(v).any() for v in found.values()):
                self.write(run, found)

    def read(self, frozen: FrozenPlan) -> dict[str, NDArray[np.float64]]:
        """Read the metrics of all candidates.

        Raises
        ------
        ExportError
            If a run is not scored yet.
        """
        absent = [run for run in range(frozen.score_runs) if not self.has(run)]
        if absent:
            raise ExportError(
                f"{self._folder.parent}: {len(absent)} of the {frozen.score_runs} runs of "
                f"candidates are not scored yet, the first is {absent[0]}; run the same export, or "
                "score, again."
            )
        runs = [read_columns(self.path(run))[0] for run in range(frozen.score_runs)]
        names = runs[0] if runs else ()
        return {name: np.concatenate([run[name] for run in runs]) for name in names}

    def forget_incomplete(self, frozen: FrozenPlan) -> None:
        """Forget the runs in which a candidate has no metric."""
        for run in filter(self.has, range(frozen.score_runs)):
            columns, _ = read_columns(self.path(run))
            if any(np.isnan(values).any() for values in columns.values()):
                self.path(run).unlink()


class ExportStopped(Exception):
    """The job was asked to stop; what it has written stays."""


class PartialExport:
    """The folder of an export that is under way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.set = root / "set"
        self._stop = root / "stop"
        self._plan = root / PLAN
        self._candidates = root / "candidates.parquet"
        self._selection = root / "selection.parquet"
        self.scores = Scores(root / "scores")
        self._failed = root / "failed"

    @classmethod
    def of(cls, plan: ExportPlan) -> "PartialExport":
        """Give the folder that belongs to a plan."""
        return cls.at(plan.out)

    @classmethod
    def at(cls, out: str | Path) -> "PartialExport":
        """Give the folder that belongs to the set of a name."""
        return cls(partial_path(Path(out)))

    def freeze(self, frozen: FrozenPlan, grid: PatchGrid) -> None:
        """Write candidates and plan; the plan last, so that a plan has its candidates."""
        self.set.mkdir(parents=True, exist_ok=True)
        write_table(self._candidates, grid_table(grid))
        write_durably(self._plan, [frozen.model_dump_json(indent=1).encode()])

    def find_frozen(self) -> FrozenPlan | None:
        """Read the plan, None if there is none."""
        try:
            return self._here(FrozenPlan.model_validate_json(self._plan.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise ExportError(
                f"{self.root}: the plan in it can't be read; export with overwrite to begin anew."
            ) from error

    def _here(self, frozen: FrozenPlan) -> FrozenPlan:
        """Give a plan the place where it was found: folders are moved, and files edited."""
        out = Path(os.path.abspath(self.root)).with_name(Path(frozen.plan.out).name)
        if partial_path(out).name != self.root.name:
            raise ExportError(
                f"{self.root}: the plan in it is of {out.name}; export with overwrite to begin "
                "anew."
            )
        plan = frozen.plan.model_copy(update={"out": str(out)})
        return frozen.model_copy(update={"plan": plan})

    def frozen(self) -> FrozenPlan:
        """Read the plan.

        Raises
        ------
        ExportError
            If there is none.
        """
        frozen = self.find_frozen()
        if frozen is None:
            raise ExportError(f"{self.root}: there is no plan in it; plan the export first.")
        return frozen

    @cached_property
    def format(self) -> SetFormat:
        """The format that the set is written in."""
        return FORMATS[self.frozen().plan.format]

    def candidates(self, frozen: FrozenPlan) -> PatchGrid:
        """Read the candidates."""
        return read_grid(self._candidates, frozen.size)

    @property
    def is_in_place(self) -> bool:
        """Whether the set has its name already, and only what is left here has not gone yet."""
        return self._plan.exists() and not self.set.exists()

    def record(self, failed: SourcesFailed) -> None:
        """Keep which sources can't be read.

        Raises
        ------
        SourcesFailed
            If none is left. All are forgotten then: a disk that was away may come back.
        """
        every, frozen = self.failed() | failed.failures, self.frozen()
        if len(every) == len(frozen.plan.sources):
            self._forget_failed(frozen)
            raise SourcesFailed(every) from failed
        for index, failure in failed.failures.items():
            write_json(self._failed / f"{index}.json", failure.model_dump())

    def _forget_failed(self, frozen: FrozenPlan) -> None:
        """Forget which sources can't be read, and the runs that were scored without them."""
        self.scores.forget_incomplete(frozen)
        for path in self._failed.glob("*.json"):
            path.unlink()

    def failed(self) -> dict[int, Failure]:
        """Read which sources can't be read, by index."""
        found = sorted((int(path.stem), path) for path in self._failed.glob("*.json"))
        return {i: Failure.model_validate_json(path.read_bytes()) for i, path in found}

    def write_selection(self, selection: Selection) -> None:
        """Keep the verdicts; array and row follow from them."""
        write_table(self._selection, verdicts_table(selection.verdicts))

    def selection(self) -> Selection:
        """Read the selection.

        Raises
        ------
        ExportError
            If there is none, because nothing was written yet.
        """
        if not self._selection.exists():
            raise ExportError(f"{self.root}: nothing is written yet; run `write` for every job.")
        return Selection.of(read_verdicts(self._selection))

    def done_marker_path(self, array: PlannedArray, shard: int) -> Path:
        """Give the file that says that a shard is written."""
        return self.root / "shards" / array.layout.name / f"{shard}.json"

    def done_marker(self, array: PlannedArray, shard: int) -> DoneMarker | None:
        """Read a shard's sidecar, None if the shard is not written whole with these patches."""
        if not all(p.is_file() for p in self.format.unit_paths(self.set, array.layout, shard)):
            return None
        try:
            data = self.done_marker_path(array, shard).read_bytes()
            done_marker = DoneMarker.model_validate_json(data)
        except (FileNotFoundError, ValidationError):
            return None
        return done_marker if done_marker.stamp == array.stamp(shard) else None

    def write_done_marker(self, array: PlannedArray, shard: int, done_marker: DoneMarker) -> None:
        """Say that a shard is written and synced.

        The sidecar itself is not: one that a power cut takes, or tears, costs the shard's work.
        """
        path = self.done_marker_path(array, shard)
        write_whole(path, [done_marker.model_dump_json().encode()])

    def absent(self, array: PlannedArray) -> list[int]:
        """Find the shards that are to be written, and forget what was there of them."""
        absent = [i for i in range(array.layout.n_shards) if self.done_marker(array, i) is None]
        for shard in absent:
            self.done_marker_path(array, shard).unlink(missing_ok=True)
        return absent

    def request_stop(self) -> None:
        """Ask every job, in whatever process or machine, to stop; none runs without a lock."""
        if (self.root / LOCK).is_file():
            with suppress(FileNotFoundError):  # it has just ended
                self._stop.touch()

    def clear_stop(self) -> None:
        """Let jobs run."""
        self._stop.unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        """Whether jobs are to stop."""
        return self._stop.exists()

    def check_cancelled(self) -> None:
        """Raise ExportStopped if jobs are to stop."""
        if self.stop_requested:
            raise ExportStopped

    def discard(self) -> None:
        """Delete an export that is given up; the plan first, so that none is taken up in parts."""
        self._plan.unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Delete what a complete set leaves, but the lock; the plan last: it says what this is.

        What someone put there in the meantime stays.
        """
        remove_own_files(self.root, spared={PLAN, LOCK}.__contains__)
        self._plan.unlink(missing_ok=True)


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
