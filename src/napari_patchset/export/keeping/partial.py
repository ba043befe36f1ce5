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
"""

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from napari_patchset.errors import ExportError
from napari_patchset.export.failures import Failure, SourcesFailed
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.locking import LOCK
from napari_patchset.export.keeping.ownership import PLAN, remove_own_files
from napari_patchset.export.keeping.scores import Scores
from napari_patchset.export.keeping.selection import PlannedArray, Selection
from napari_patchset.export.keeping.sidecar import ShardSidecar
from napari_patchset.export.keeping.tables import (
    grid_table,
    read_grid,
    read_verdicts,
    verdicts_table,
    write_table,
)
from napari_patchset.export.plan import ExportPlan
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.files import write_durably, write_whole
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.patchset.formats.base import SetFormat
from napari_patchset.patchset.layout import partial_path, write_json


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

    def sidecar_path(self, array: PlannedArray, shard: int) -> Path:
        """Give the file that says that a shard is written."""
        return self.root / "shards" / array.layout.name / f"{shard}.json"

    def sidecar(self, array: PlannedArray, shard: int) -> ShardSidecar | None:
        """Read a shard's sidecar, None if the shard is not written whole with these patches."""
        if not all(p.is_file() for p in self.format.unit_paths(self.set, array.layout, shard)):
            return None
        try:
            data = self.sidecar_path(array, shard).read_bytes()
            sidecar = ShardSidecar.model_validate_json(data)
        except (FileNotFoundError, ValidationError):
            return None
        return sidecar if sidecar.stamp == array.stamp(shard) else None

    def write_sidecar(self, array: PlannedArray, shard: int, sidecar: ShardSidecar) -> None:
        """Say that a shard is written and synced.

        The sidecar itself is not: one that a power cut takes, or tears, costs the shard's work.
        """
        path = self.sidecar_path(array, shard)
        write_whole(path, [sidecar.model_dump_json().encode()])

    def absent(self, array: PlannedArray) -> list[int]:
        """Find the shards that are to be written, and forget what was there of them."""
        absent = [i for i in range(array.layout.n_shards) if self.sidecar(array, i) is None]
        for shard in absent:
            self.sidecar_path(array, shard).unlink(missing_ok=True)
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

    def proceed(self) -> None:
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
