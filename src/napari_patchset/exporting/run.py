"""Run an export: plan, score, select, write, finalize.

`export` and `iter_export` carry out every step. For a scheduler that starts jobs by itself the
steps are functions of their own: `plan_export`, `score_part` and `write_part` for each job, and
`finalize_export`. All state is in the folder NAME.partial, so that a step may be run again, and
resumes where it stopped, in any process that has the same files.
"""

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_patchset.errors import ArgumentError, ExportError, SkippedSourcesWarning
from napari_patchset.exporting.candidates import Selection
from napari_patchset.exporting.destination import (
    check_apart,
    check_destination,
    check_space,
    explain_full_disk,
    require_own_partial,
)
from napari_patchset.exporting.executors import Job, run_jobs
from napari_patchset.exporting.finalize import finalize
from napari_patchset.exporting.folder_lock import locked
from napari_patchset.exporting.frozen_plan import FrozenPlan
from napari_patchset.exporting.metrics import score_job
from napari_patchset.exporting.plan import ExportPlan, Failure, SourcesFailed
from napari_patchset.exporting.shard_writer import write_job
from napari_patchset.exporting.stages import find_changed, prepare, select
from napari_patchset.exporting.tiles import DEFAULT_MEMORY
from napari_patchset.exporting.workdir import PartialExport
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.reader import PatchSet, read_description

DEFAULT_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """An event of an export.

    Attributes
    ----------
    stage : {"plan", "score", "write", "done"}
        The step that the export is at.
    done, total : int
        Number of candidates scored, or of patches written, and of all of them.
    path : Path
        The patch set.
    failures : tuple of Failure
        The sources that were skipped so far.
    """

    stage: Literal["plan", "score", "write", "done"]
    done: int
    total: int
    path: Path
    failures: tuple[Failure, ...] = ()


def export(
    plan: ExportPlan,
    executor: Executor | None = None,
    *,
    progress: Callable[[Progress], object] | None = None,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    overwrite: bool = False,
    metrics: Metrics | None = None,
) -> PatchSet:
    """Export a patch set and open it.

    Parameters
    ----------
    plan : ExportPlan
        What to export, and where to write it.
    executor, workers, memory, overwrite, metrics
        See `iter_export`.
    progress : callable or None
        Called with each `Progress`; an exception that it raises stops the export cleanly.

    Returns
    -------
    PatchSet
        The complete set.

    Raises
    ------
    PatchsetError, OSError
        If the plan can't be carried out, no source can be read, or the disk is full.

    Warns
    -----
    SkippedSourcesWarning
        If some of the sources could not be read; its attribute `failures` says which and why.
    """
    with closing(
        iter_export(
            plan, executor, workers=workers, memory=memory, overwrite=overwrite, metrics=metrics
        )
    ) as events:
        for event in events:
            if progress is not None:
                progress(event)
    if event.failures:
        warnings.warn(SkippedSourcesWarning(event.failures), stacklevel=2)
    return PatchSet(event.path)


def iter_export(
    plan: ExportPlan,
    executor: Executor | None = None,
    *,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    overwrite: bool = False,
    metrics: Metrics | None = None,
) -> Generator[Progress, None, None]:
    """Export a patch set, yielding an event at each step and after each shard.

    Nothing happens before the first event is requested; `export` runs to the end by itself. Closing
    the generator stops the export within a patch. The same plan then resumes where it stopped, and
    ends with the same bytes. A source that can't be read is skipped if there are others.

    Parameters
    ----------
    plan : ExportPlan
        What to export, and where to write it.
    executor : Executor or None
        Where the jobs run; None for threads of this process. A process pool must not fork.
    workers : int
        Number of jobs that run at once; without an executor, of threads that decode.
    memory : int
        Bytes for decoded tiles and open shards, of each process or job of the executor; exceeded
        only where a single patch or tile needs more.
    overwrite : bool
        Replace a set, or an unfinished export of another plan, of the same name; the set only when
        the new one is complete.
    metrics : dict of str to float64 array, or None
        Metrics of the candidates that are known already, by column; NaN where unknown.

    Yields
    ------
    Progress
        The last one has the stage "done".

    Raises
    ------
    PatchsetError, OSError
        At the first event, if the plan can't be carried out; later, if no source can be read or the
        disk is full.
    """
    check_destination(plan, overwrite)
    partial = PartialExport.of(plan)
    with locked(partial.root), explain_full_disk(partial.root):
        partial.clear_stop()
        try:
            is_resumed = prepare(partial, plan, overwrite)
            export = _Export(partial, executor, workers, memory, overwrite)
            yield from export.finished() if partial.is_in_place else export.run(is_resumed, metrics)
        finally:
            partial.clear_stop()


class _Export:
    """An export whose plan is frozen."""

    def __init__(
        self,
        partial: PartialExport,
        executor: Executor | None,
        workers: int,
        memory: int,
        overwrite: bool,
    ) -> None:
        self._partial, self._frozen, self._overwrite = partial, partial.frozen(), overwrite
        self._executor, self._workers, self._memory = executor, workers, memory

    def run(self, is_resumed: bool, metrics: Metrics | None) -> Iterator[Progress]:
        yield self._progress("plan", 0, self._frozen.n_candidates)
        if is_resumed:
            failures = find_changed(
                self._frozen, self._partial.failed(), self._partial.check_cancelled
            )
            if failures:
                self._partial.record(SourcesFailed(failures))
        yield from self._score(metrics)
        while True:
            try:
                yield from self._write()
                finalize(self._partial, self._overwrite)
                break
            except SourcesFailed as failed:
                self._partial.record(failed)
        yield from self.finished()

    def finished(self) -> Iterator[Progress]:
        """Report the complete set, and remove the folder of the unfinished one."""
        manifest, _ = read_description(Path(self._frozen.plan.out))
        total = sum(manifest.counts.values())
        event = self._progress("done", total, total)
        self._partial.remove()
        yield event

    def _score(self, metrics: Metrics | None) -> Iterator[Progress]:
        partial, frozen = self._partial, self._frozen
        if metrics:
            partial.scores.add_known(frozen, metrics)
        missing = [run for run in range(frozen.score_runs) if not partial.scores.has(run)]
        sizes = {partial.scores.path(run): len(frozen.score_run(run)) for run in missing}
        done = frozen.n_candidates - sum(sizes.values())
        for scored in self._run(score_job, missing, sizes):
            done += scored
            yield self._progress("score", done, frozen.n_candidates)

    def _write(self) -> Iterator[Progress]:
        units, done_markers, total = self._missing_shards()
        done = total - sum(done_markers.values())
        for written in self._run(write_job, units, done_markers):
            done += written
            yield self._progress("write", done, total)

    def _missing_shards(self) -> tuple[list[int], dict[Path, int], int]:
        """Return the shards to write: first candidates, done markers; and the number of patches."""
        partial, selection = self._partial, self._select()
        arrays = selection.arrays(self._frozen.arrays)
        partial.format.check([array.layout for array in arrays])
        missing = [(array, shard) for array in arrays for shard in partial.missing_shards(array)]
        check_space(partial.root, ((a.layout, len(a.layout.rows(shard))) for a, shard in missing))
        done_markers = {
            partial.done_marker_path(array, shard): len(array.layout.rows(shard))
            for array, shard in missing
            if array.layout.role == IMAGE
        }
        units = sorted(int(array.in_shard(shard)[0]) for array, shard in missing)
        return units, done_markers, sum(selection.counts.values())

    def _select(self) -> Selection:
        """Select the patches; discard the export if there are none, as it needs another plan.

        Unless a source failed: when that can be read, the same plan may have patches.
        """
        try:
            return select(self._partial, self._frozen)
        except ArgumentError:
            if not self._partial.failed():
                self._partial.discard()
            raise

    def _run(self, job: Job, units: Sequence[int], done_files: Mapping[Path, int]) -> Iterator[int]:
        """Run one job of several threads in this process, or one job per worker of an executor."""
        jobs, threads = (self._workers, 1) if self._executor else (1, self._workers)
        options = {"memory": self._memory, "threads": threads}
        return run_jobs(self._partial, job, units, done_files, self._executor, jobs, **options)

    def _progress(
        self, stage: Literal["plan", "score", "write", "done"], done: int, total: int
    ) -> Progress:
        failed = self._partial.failed().values()
        return Progress(
            stage, done, total, Path(self._frozen.plan.out), (*self._frozen.failures, *failed)
        )


def plan_export(plan: ExportPlan, *, overwrite: bool = False) -> int:
    """Plan an export for jobs, unless that is done, and return the number of candidates.

    Raises
    ------
    PatchsetError, OSError
        If the plan can't be carried out, or the destination is taken and `overwrite` is not set.
    """
    check_destination(plan, overwrite)
    partial = PartialExport.of(plan)
    with locked(partial.root), explain_full_disk(partial.root):
        partial.clear_stop()
        prepare(partial, plan, overwrite)
        return partial.frozen().n_candidates


def score_part(
    out: str | Path, job: int, of: int, *, threads: int = 1, memory: int = DEFAULT_MEMORY
) -> None:
    """Score one job's share of the candidates; without filters, do nothing.

    Parameters
    ----------
    out : str or Path
        The patch set that the plan names.
    job, of : int
        Index of the job, counted from 0, and number of jobs.
    threads : int
        Number of threads that decode.
    memory : int
        Bytes for decoded tiles, and for patches that are measured or not yet written.

    Raises
    ------
    ExportError
        If there is no plan, or another export of the set is running.
    """
    with _locked_by_job(out) as partial:
        first, last = _share(partial.frozen().score_runs, job, of)
        score_job(str(partial.root), first, last, threads=threads, memory=memory)


def write_part(
    out: str | Path, job: int, of: int, *, threads: int = 1, memory: int = DEFAULT_MEMORY
) -> None:
    """Write one job's share of the shards; see `score_part` for the parameters.

    A source that can't be read is recorded and skipped; where other jobs wrote shards before,
    `finalize_export` names those to write again.

    Raises
    ------
    ExportError
        If candidates are not scored yet, or another export of the set is running.
    """
    with _locked_by_job(out) as partial:
        frozen = partial.frozen()
        first, last = _share(frozen.n_candidates, job, of)
        while True:
            select(partial, frozen)
            try:
                return write_job(str(partial.root), first, last, threads=threads, memory=memory)
            except SourcesFailed as failed:
                partial.record(failed)


def finalize_export(out: str | Path, *, overwrite: bool = False) -> tuple[Failure, ...]:
    """Complete a set when all jobs are done, and return the sources that were skipped.

    Raises
    ------
    ExportError
        Naming what is missing.
    SourcesFailed
        If a source has changed or is gone; running `write_part` for every job again skips it.
    """
    partial, frozen = _planned(out)
    with locked(partial.root), explain_full_disk(partial.root):
        failures = (*frozen.failures, *partial.failed().values())
        try:
            if not partial.is_in_place:
                finalize(partial, overwrite)
        except SourcesFailed as failed:
            partial.record(failed)
            raise
        partial.remove()
    return failures


@contextmanager
def _locked_by_job(out: str | Path) -> Iterator[PartialExport]:
    """Lock a planned export for one of its jobs, together with the others."""
    partial, _ = _planned(out)
    with locked(partial.root, shared=True), explain_full_disk(partial.root):
        yield partial


def _planned(out: str | Path) -> tuple[PartialExport, FrozenPlan]:
    """Return a planned export; its folder may have been moved since it was planned."""
    partial = PartialExport.at(out)
    require_own_partial(partial.root)
    if not partial.root.exists() and Path(out).exists():
        raise ExportError(f"{out} is complete; there is nothing left to do.")
    frozen = partial.frozen()
    check_apart(frozen.plan)
    return partial, frozen


def _share(n: int, job: int, of: int) -> tuple[int, int]:
    if not 0 <= job < of:
        raise ArgumentError(f"There is no job {job} of {of}; jobs are counted from 0.")
    return n * job // of, n * (job + 1) // of
