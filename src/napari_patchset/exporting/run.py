"""The export: plan, score, select, write, finalize; each step goes on where it stopped.

The steps of an export as jobs of a scheduler: plan, score and write in parts, finalize.

Each may be run again. They share nothing but the file system.
"""

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_patchset.errors import ArgumentError, SkippedSourcesWarning
from napari_patchset.exporting.destination import check_apart, check_destination
from napari_patchset.exporting.disk_space import check_space, explain_full_disk
from napari_patchset.exporting.executors import Job, run_jobs
from napari_patchset.exporting.finalize import finalize
from napari_patchset.exporting.folder_lock import locked
from napari_patchset.exporting.frozen_plan import FrozenPlan
from napari_patchset.exporting.metrics import score_job
from napari_patchset.exporting.ownership import require_own_partial
from napari_patchset.exporting.plan import ExportPlan, Failure, SourcesFailed
from napari_patchset.exporting.selection import Selection
from napari_patchset.exporting.shard_writer import write_job
from napari_patchset.exporting.stages import find_changed, prepare, select
from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY
from napari_patchset.exporting.workdir import PartialExport
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.reader import PatchSet, read_description

DEFAULT_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is.

    Attributes
    ----------
    stage : {"plan", "score", "write", "done"}
        What was done last.
    done, total : int
        Candidates scored, else patches written, of how many.
    path : Path
        The set.
    failures : tuple of Failure
        The sources that can't be read; their patches are left out.
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
        What to export, and where to.
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
    """Export a patch set step by step: yield an event at each step and after each shard.

    Nothing happens before the first event is taken; `export` runs to the end by itself.

    Closing the generator stops the export within a patch; the same plan then goes on where it
    stopped, and ends with the same bytes. One source of several that can't be read is reported in
    the events, and its patches are left out.

    Parameters
    ----------
    plan : ExportPlan
        What to export, and where to.
    executor : Executor or None
        Where the jobs run; None for threads of this process. A process pool must not fork.
    workers : int
        Number of jobs that run at once; of threads that decode, without an executor.
    memory : int
        Bytes that each process, or job of the executor, takes for decoded tiles and open shards;
        more only where a single patch, or tile, needs it.
    overwrite : bool
        Replace a set, or an export of another plan, that is in the way; the set only once the
        new one is complete.
    metrics : dict of str to float64 array, or None
        What the filters look at, by column, as far as it is known already: NaN where it is not.

    Raises
    ------
    PatchsetError, OSError
        As soon as the generator is started, if the plan can't be carried out; later, if no source
        can be read or the disk is full.
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
            self._leave_out(
                find_changed(self._frozen, self._partial.failed(), self._partial.check_cancelled)
            )
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
        """Tell of the set that is in its place, and remove what is left."""
        manifest, _ = read_description(Path(self._frozen.plan.out))
        total = sum(manifest.counts.values())
        event = self._progress("done", total, total)
        self._partial.remove()
        yield event

    def _score(self, metrics: Metrics | None) -> Iterator[Progress]:
        partial, frozen = self._partial, self._frozen
        if metrics:
            partial.scores.add_known(frozen, metrics)
        todo = [run for run in range(frozen.score_runs) if not partial.scores.has(run)]
        sizes = {partial.scores.path(run): len(frozen.score_run(run)) for run in todo}
        done = frozen.n_candidates - sum(sizes.values())
        for scored in self._run(score_job, todo, sizes):
            done += scored
            yield self._progress("score", done, frozen.n_candidates)

    def _write(self) -> Iterator[Progress]:
        units, signs, total = self._to_write()
        done = total - sum(signs.values())
        for written in self._run(write_job, units, signs):
            done += written
            yield self._progress("write", done, total)

    def _to_write(self) -> tuple[list[int], dict[Path, int], int]:
        """Select; give the first candidates of absent shards, their signs, and all patches."""
        partial, selection = self._partial, self._select()
        arrays = selection.arrays(self._frozen.arrays)
        partial.format.check([array.layout for array in arrays])
        todo = [(array, shard) for array in arrays for shard in partial.missing_shards(array)]
        check_space(partial.root, ((a.layout, len(a.layout.rows(shard))) for a, shard in todo))
        signs = {
            partial.done_marker_path(array, shard): len(array.layout.rows(shard))
            for array, shard in todo
            if array.layout.role == IMAGE
        }
        units = sorted(int(array.in_shard(shard)[0]) for array, shard in todo)
        return units, signs, sum(selection.counts.values())

    def _select(self) -> Selection:
        """Select; a plan that leaves no patch is given up, as another one is needed.

        Not where a source failed: with that, the same plan may leave some.
        """
        try:
            return select(self._partial, self._frozen)
        except ArgumentError:
            if not self._partial.failed():
                self._partial.discard()
            raise

    def _run(self, job: Job, units: Sequence[int], signs: Mapping[Path, int]) -> Iterator[int]:
        """Run one job of several threads here, or one job for each worker elsewhere."""
        jobs, threads = (self._workers, 1) if self._executor else (1, self._workers)
        options = {"memory": self._memory, "threads": threads}
        return run_jobs(self._partial, job, units, signs, self._executor, jobs, **options)

    def _leave_out(self, failures: dict[int, Failure]) -> None:
        if failures:
            self._partial.record(SourcesFailed(failures))

    def _progress(
        self, stage: Literal["plan", "score", "write", "done"], done: int, total: int
    ) -> Progress:
        failed = self._partial.failed().values()
        return Progress(
            stage, done, total, Path(self._frozen.plan.out), (*self._frozen.failures, *failed)
        )


def plan_export(plan: ExportPlan, *, overwrite: bool = False) -> int:
    """Freeze a plan for jobs, or find it there; give the number of candidates."""
    check_destination(plan, overwrite)
    partial = PartialExport.of(plan)
    with locked(partial.root), explain_full_disk(partial.root):
        partial.clear_stop()
        prepare(partial, plan, overwrite)
        return partial.frozen().n_candidates


def score_part(
    out: str | Path, job: int, of: int, *, threads: int = 1, memory: int = DEFAULT_MEMORY
) -> None:
    """Score the share of one job; nothing to do without filters.

    Parameters
    ----------
    out : str or Path
        The set that the plan names.
    job, of : int
        Which job, counted from 0, of how many.
    threads : int
        How many decode.
    memory : int
        Bytes for decoded tiles, and for patches that are measured or not yet written.

    Raises
    ------
    ExportError
        If there is no plan, or another export runs there.
    """
    with _sharing(out) as partial:
        first, last = _share(partial.frozen().score_runs, job, of)
        score_job(str(partial.root), first, last, threads=threads, memory=memory)


def write_part(
    out: str | Path, job: int, of: int, *, threads: int = 1, memory: int = DEFAULT_MEMORY
) -> None:
    """Write the shards whose first patches are the share of one job.

    Its parameters are those of `score_part`. A source that can't be read is recorded, and its
    patches are left out; where other jobs have written shards before, `finalize_export` says which
    are to be written again.
    """
    with _sharing(out) as partial:
        frozen = partial.frozen()
        first, last = _share(frozen.n_candidates, job, of)
        while True:
            select(partial, frozen)
            try:
                return write_job(str(partial.root), first, last, threads=threads, memory=memory)
            except SourcesFailed as failed:
                partial.record(failed)


def finalize_export(out: str | Path, *, overwrite: bool = False) -> tuple[Failure, ...]:
    """Complete a set whose shards are all written, and give the sources that were left out.

    Raises
    ------
    ExportError
        Naming what is not there yet.
    SourcesFailed
        If a source has changed or is gone; after `write_part` of every job it is left out.
    """
    partial, frozen = _planned(out)
    with locked(partial.root), explain_full_disk(partial.root):
        failures = (*frozen.failures, *partial.failed().values())
        if not partial.is_in_place:
            _finalize(partial, overwrite)
        partial.remove()
    return failures


def _finalize(partial: PartialExport, overwrite: bool) -> None:
    try:
        finalize(partial, overwrite)
    except SourcesFailed as failed:
        partial.record(failed)
        raise


@contextmanager
def _sharing(out: str | Path) -> Iterator[PartialExport]:
    """Hold a planned export together with other jobs of it."""
    partial, _ = _planned(out)
    with locked(partial.root, shared=True), explain_full_disk(partial.root):
        yield partial


def _planned(out: str | Path) -> tuple[PartialExport, FrozenPlan]:
    """Return an export that is planned; its folder may have been moved since."""
    partial = PartialExport.at(out)
    require_own_partial(partial.root)
    frozen = partial.frozen()
    check_apart(frozen.plan)
    return partial, frozen


def _share(n: int, job: int, of: int) -> tuple[int, int]:
    if not 0 <= job < of:
        raise ArgumentError(f"There is no job {job} of {of}; jobs are counted from 0.")
    return n * job // of, n * (job + 1) // of
