"""NAME.partial: the folder of an unfinished export, which any process can continue.

plan.json            the plan, and its sources as they were when it was made
candidates.parquet   every candidate: source, sample, start along (Z)YX, valid share, class
scores/I.parquet     metrics of chunk I of the candidates
failed/I.json        why source I can't be read
selection.parquet    the verdict on every candidate
set/                 the patch set as it grows
shards/ARRAY/I.json  done marker of shard I of an array
jobs/                how many jobs there are, and what ended them

Lock, stop and the rest are those of a `JobFolder`. `stages.prepare` resumes the same plan; scores
and shards that are done are not made again.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError

from napari_patchset._model import Frozen
from napari_patchset.errors import ExportError, IncompleteSetError, UnreadableFileError
from napari_patchset.exporting.reading.failures import (
    Failure,
    SourcesFailed,
    may_be_skipped,
)
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.job_array import FILES as JOB_FILES
from napari_patchset.exporting.writing.job_array import (
    JOBS,
    JobRecords,
    JobStep,
    do_rest,
    planned_shards,
)
from napari_patchset.exporting.writing.scores import Scores
from napari_patchset.exporting.writing.selection import ArraySelection, Selection, Shard
from napari_patchset.jobs.folder import REPLACED, JobFolder, files_of_jobs
from napari_patchset.patching.grid import Draws, PatchGrid
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.columns import read_columns, write_columns
from napari_patchset.patchset.files import permitted_by, read_json, write_file, write_json
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    DESCRIPTION,
    PARTIAL_SUFFIX,
    SPLIT_PATTERN,
    TABLE,
    workdir_path,
)
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.statistics import ChannelSums, channel_sums
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.patchset.writers.zarr import checksums


class DoneMarker(Frozen):
    """Marks a shard as written, with its checksums and sums, so that it need not be read again."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    candidates_digest: str  # see `Shard.digest`
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


_SET_FILES = "|".join(
    [
        rf"{re.escape(TABLE)}|{re.escape(DESCRIPTION)}",
        rf"(({ARRAY_PATTERN}|{SPLIT_PATTERN})/)?zarr[.]json",
        *(re.sub("[?]P<[a-z]+>", "", each.shard_pattern.pattern) for each in FORMATS.values()),
    ]
)
"""Regular expression of a file of a set, of any format, complete or not."""

SET_FOLDERS = rf"(.*/)?([.]parts|c|[0-9]+|{SPLIT_PATTERN}|{ARRAY_PATTERN})"
"""Regular expression of a folder of a set."""


class WorkDir(JobFolder[FrozenPlan]):
    """The folder NAME.partial of an unfinished export."""

    KIND, SUFFIX, PLAN, RESULT = "export", PARTIAL_SUFFIX, "plan.json", "set"
    FILES = files_of_jobs(
        "an unfinished export",
        r"lock|plan[.]json|(candidates|selection)[.]parquet"  # earlier versions locked `lock`
        rf"|scores/[0-9]+[.]parquet|failed/[0-9]+[.]json|{JOBS}/({JOB_FILES})"
        rf"|shards/{ARRAY_PATTERN}/[0-9]+[.]json|(set|{REPLACED})/({_SET_FILES})",
        rf"set|scores|failed|shards|{JOBS}|{SET_FOLDERS}",
    )

    def __init__(self, root: Path, token: str | None = None) -> None:
        super().__init__(root, token)
        self.scores = Scores(root / "scores")
        self.jobs = JobRecords(root / JOBS)
        self._failed = root / "failed"
        self._candidates = root / "candidates.parquet"
        self._selection = root / "selection.parquet"

    @classmethod
    def for_set(cls, out: str | Path) -> Self:
        """Return the folder in which the set `out` is written."""
        return cls(workdir_path(Path(out)))

    def freeze(self, frozen: FrozenPlan, grid: PatchGrid) -> None:
        """Write candidates and plan; the plan last, so that a plan has its candidates."""
        self.result.mkdir(parents=True, exist_ok=True)
        columns: dict[str, NDArray[Any]] = {"stack": grid.source_index, "sample": grid.sample}
        columns |= {f"start{axis}": column for axis, column in enumerate(grid.start.T)}
        shared = None
        if grid.draws is not None:
            columns["drawn_for"] = grid.draws.code
            shared = {b"weights": json.dumps(dict(grid.draws.weights))}
        optional = {"outline": grid.outline, "valid": grid.valid}
        columns |= {name: column for name, column in optional.items() if column is not None}
        write_columns(self._candidates, columns, shared)
        self.write_plan(frozen)

    def find_plan(self) -> FrozenPlan | None:
        """Read the plan, None if there is none.

        Its destination is beside this folder, which may have been moved.
        """
        frozen = super().find_plan()
        if frozen is None:
            return None
        out = Path(os.path.abspath(self.root)).with_name(Path(frozen.plan.out).name)
        if workdir_path(out).name != self.root.name:
            raise ExportError(
                f"{self.root}: the plan in it is of {out.name}; export with overwrite to start "
                "over."
            )
        plan = frozen.plan.model_copy(update={"out": str(out)})
        return frozen.model_copy(update={"plan": plan})

    def _parse_plan(self, data: bytes) -> FrozenPlan:
        return FrozenPlan.model_validate_json(data)

    def _name_of(self, result: Path) -> Path | None:
        try:
            manifest, _ = read_description(result)
        except (IncompleteSetError, UnreadableFileError, OSError):
            return None
        return self.root.with_name(self.root.stem + FORMATS[manifest.format].suffix)

    @property
    def is_own(self) -> bool:
        """Whether nothing is there, or a folder of ours, also of a version without our lock."""
        if super().is_own:
            return True
        is_export = read_json(self._plan).keys() >= {"plan", "images", "n_candidates"}
        return is_export and not self.root.is_symlink()

    @cached_property
    def format(self) -> SetFormat:
        """The format of the set."""
        return FORMATS[self.plan().plan.format]

    def candidates(self, frozen: FrozenPlan) -> PatchGrid:
        """Read the candidates; raise ExportError if they can't be read."""
        try:
            columns, shared = read_columns(self._candidates)
        except (UnreadableFileError, FileNotFoundError) as error:
            raise ExportError(
                f"{self._candidates} is missing, damaged or cut short; plan it again with "
                "overwrite, which starts over."
            ) from error
        draws = None
        if b"weights" in shared:
            draws = Draws(json.loads(shared[b"weights"]), columns["drawn_for"])
        return PatchGrid(
            frozen.size,
            columns["stack"],
            columns["sample"],
            np.stack([columns[f"start{axis}"] for axis in range(len(frozen.size))], axis=1),
            valid=columns.get("valid"),
            draws=draws,
            outline=columns.get("outline"),
        )

    def has_candidates(self, frozen: FrozenPlan) -> bool:
        """Return whether the candidates can be read."""
        try:
            return len(self.candidates(frozen)) == frozen.n_candidates
        except ExportError:
            return False

    def open_images(self, threads: int) -> OpenImages:
        """Return the images of the plan; changed ones are refused, and a stop ends reading."""
        frozen = self.plan()
        return OpenImages(
            frozen.plan,
            planned=frozen.planned_files,
            threads=threads,
            check_cancelled=self.check_cancelled,
            classes=frozen.classes,
        )

    def may_skip(self, failures: Mapping[int, Failure]) -> bool:
        """Return whether the set may be completed without further sources; see the plan."""
        frozen = self.plan()
        skipped = {**self.failed(), **failures}.values()
        return may_be_skipped([*frozen.failures, *skipped], frozen.max_failures)

    def needed(self, failures: Mapping[int, Failure]) -> SourcesFailed:
        """Return the error for further sources that the set must not be completed without."""
        frozen = self.plan()
        skipped = [failure for i, failure in self.failed().items() if i not in failures]
        return SourcesFailed.needed(failures, [*frozen.failures, *skipped], frozen.max_failures)

    def refused(self, failures: Mapping[int, Failure]) -> SourcesFailed:
        """Return that error as what ends the job.

        If they are too many, those that were skipped before and may return are read again, too: the
        same again, when all can be read, must not leave any out.
        """
        error = self.needed(failures)
        if self.plan().max_failures is not None:
            self.forget_failed([i for i, each in self.failed().items() if each.may_return])
        return error

    def record(self, failed: SourcesFailed) -> None:
        """Record which sources are skipped; raise SourcesFailed if none is left, or one must stay.

        Nothing is recorded then, as a disk that is away may come back.
        """
        if not self.may_skip(failed.failures):
            raise self.refused(failed.failures) from failed
        recorded, frozen = {path.stem for path in self._failed.glob("*.json")}, self.plan()
        if len(recorded.union(map(str, failed.failures))) == len(frozen.plan.sources):
            failures = self.failed() | failed.failures
            self.forget_failed([*map(int, recorded)])
            raise SourcesFailed(failures) from failed
        for index, failure in failed.failures.items():
            write_json(self._failed / f"{index}.json", failure.model_dump())

    def set_max_failures(self, max_failures: int | None) -> None:
        """Change how many sources may be skipped; if too many were, have them be read again."""
        frozen = self.plan()
        if frozen.max_failures != max_failures:
            self.write_plan(frozen.model_copy(update={"max_failures": max_failures}))
        if self.failed() and not self.may_skip({}):
            self.forget_failed(self.failed())

    def forget_failed(self, sources: Collection[int]) -> None:
        """Forget that some sources could not be read, so that they are read again."""
        if not sources:
            return
        frozen = self.plan()
        is_concerned = np.isin(self.candidates(frozen).source_index, list(sources))
        # Twice: a process that is killed in between must leave no chunk that seems whole, and a job
        # that runs may write one before it sees that the source is not skipped any more.
        self.scores.delete_incomplete(frozen, is_concerned)
        for index in sources:
            (self._failed / f"{index}.json").unlink(missing_ok=True)
        self.scores.delete_incomplete(frozen, is_concerned)
        self._selection.unlink(missing_ok=True)

    def failed(self) -> dict[int, Failure]:
        """Read which sources can't be read, by index."""
        paths = sorted((int(path.stem), path) for path in self._failed.glob("*.json"))
        return {i: Failure.model_validate_json(path.read_bytes()) for i, path in paths}

    def write_selection(self, selection: Selection) -> None:
        """Write the verdicts, from which the selection follows.

        What is common to all candidates is in the metadata of the file's schema.
        """
        verdicts = selection.verdicts
        codes: dict[str, NDArray[Any]] = {"split": verdicts.split, "reason": verdicts.reason}
        codes |= {} if verdicts.fold is None else {"fold": verdicts.fold}
        shared = {"splits": verdicts.splits, "reasons": verdicts.reasons, "limits": verdicts.limits}
        write_columns(
            self._selection, {**codes, **verdicts.metrics}, {b"verdicts": json.dumps(shared)}
        )

    @property
    def has_selection(self) -> bool:
        """Whether filters and split are applied."""
        return self._selection.exists()

    def selection(self) -> Selection:
        """Read the selection; raise ExportError if nothing was written yet."""
        if not self.has_selection:
            frozen = self.plan()
            self.scores.check_complete(frozen)
            rest = do_rest(frozen, "write", planned_shards(frozen), self.jobs.number("write"))
            raise ExportError(f"{self.root}: nothing is written yet. {rest}")
        try:
            columns, metadata = read_columns(self._selection)
        except UnreadableFileError as error:
            self._selection.unlink(missing_ok=True)
            raise ExportError(
                f"{self._selection} was damaged or cut short, and is removed. Run `write` for any "
                "job, or the same export again; what is written stays."
            ) from error
        shared = json.loads(metadata[b"verdicts"])
        split, reason = columns.pop("split"), columns.pop("reason")
        fold = columns.pop("fold", None)
        splits, reasons = tuple(shared["splits"]), tuple(shared["reasons"])
        verdicts = Verdicts(splits, split, reason, reasons, columns, shared["limits"], fold)
        return Selection.from_verdicts(verdicts)

    def done_marker_path(self, shard: Shard) -> Path:
        """Return the file of a shard's done marker."""
        return self.root / "shards" / shard.layout.name / f"{shard.number}.json"

    def done_marker(self, shard: Shard) -> DoneMarker | None:
        """Read a shard's done marker, None if the shard is not written with these candidates."""
        files = self.format.shard_paths(self.result, shard.layout, shard.number)
        if not all(file.is_file() for file in files):
            return None
        try:
            data = self.done_marker_path(shard).read_bytes()
            done_marker = DoneMarker.model_validate_json(data)
        except (FileNotFoundError, ValidationError):
            return None
        return done_marker if done_marker.candidates_digest == shard.digest else None

    def write_shard(self, summing: Executor, shard: Shard, patches: NDArray[Any]) -> None:
        """Write a shard, and mark it as done once it is synced; `summing` sums it up meanwhile.

        The marker itself is not synced: if a power cut destroys it, the shard is written again.
        """
        with permitted_by(self.check_token):
            done_marker = summing.submit(DoneMarker.from_patches, shard.digest, patches)
            self.format.write(self.result, shard.layout, shard.number, patches)
            data = done_marker.result().model_dump_json().encode()
            write_file(self.done_marker_path(shard), [data], sync=False)

    @property
    def has_work(self) -> bool:
        """Whether anything is scored or written, which would be lost if another plan began."""
        return self.scores.has_any or self.n_shards > 0

    @property
    def n_shards(self) -> int:
        """Number of shards that are written, of any selection."""
        return sum(1 for _ in (self.root / "shards").rglob("*.json"))

    def noting_job(self, step: JobStep, job: int, of: int) -> AbstractContextManager[None]:
        """Note how many jobs there are, and keep the error that ends this one."""
        self.jobs.note_number(step, of)
        return self.noting_error(self.jobs.error_path(step, job, of))

    def do_rest(self) -> str:
        """Return a sentence on how to write the shards that are missing."""
        frozen = self.plan()
        shards = (s for array in self.selection().arrays(frozen.arrays) for s in array.shards)
        units = [int(s.candidates[0]) for s in shards if self.done_marker(s) is None]
        return do_rest(frozen, "write", units, self.jobs.number("write"))

    def missing_shards(self, array: ArraySelection) -> list[Shard]:
        """Return the shards that are not written yet, and delete their outdated done markers."""
        missing = [shard for shard in array.shards if self.done_marker(shard) is None]
        for shard in missing:
            self.done_marker_path(shard).unlink(missing_ok=True)
        return missing
