"""Run an export: plan, score, select, write, finalize, on any executor.

The steps are those of `stages`; scores and shards are made by jobs (see `run_jobs`).
"""

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

from napari_patchset.credentials import call_with_credentials, credentials_of
from napari_patchset.errors import ArgumentError, SkippedSourcesWarning
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.reading.steps import Result, Step
from napari_patchset.exporting.stages import Progress, Stage, prepare, select
from napari_patchset.exporting.writing.destination import check_destination, check_patches_fit
from napari_patchset.exporting.writing.finalize import finalize
from napari_patchset.exporting.writing.metrics import score_chunks
from napari_patchset.exporting.writing.selection import Selection
from napari_patchset.exporting.writing.shard_writer import write_shards
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_MEMORY, DEFAULT_WORKERS, run_jobs
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.reader import PatchSet, read_description


def export(
    plan: ExportPlan,
    executor: Executor | None = None,
    *,
    progress: Callable[[Progress], object] | None = None,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    overwrite: bool = False,
    metrics: Metrics | None = None,
    max_failures: int | None = None,
) -> PatchSet:
    """Export a patch set and open it.

    Parameters
    ----------
    plan, executor, workers, memory, overwrite, metrics, max_failures
        See `iter_export`.
    progress : callable or None
        Called with each `Progress`; an exception that it raises stops the export cleanly.

    Raises
    ------
    PatchsetError, OSError
        If the plan can't be carried out, no source can be read, or the disk is full.

    Warns
    -----
    SkippedSourcesWarning
        If some of the sources could not be read; its attribute `failures` lists them with the
        reasons.
    """
    with closing(
        iter_export(
            plan,
            executor,
            workers=workers,
            memory=memory,
            overwrite=overwrite,
            metrics=metrics,
            max_failures=max_failures,
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
    max_failures: int | None = None,
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
    max_failures : int or None
        How many sources may be skipped because they can't be read, 0 for none; None for any number
        of damaged or missing ones, but none whose storage does not answer. Then the export stops
        with SourcesFailed when all else is done, and the same plan resumes with that source.

    Yields
    ------
    Progress
        The last one has the stage "done".

    Raises
    ------
    PatchsetError, OSError
        Before the event of the stage "plan", if the plan can't be carried out; later, if no source
        can be read or the disk is full.
    """
    check_destination(plan, overwrite)
    workdir = WorkDir.for_set(plan.out)
    with workdir.locked():
        workdir.clear_stop()
        try:
            steps = prepare(workdir, plan, overwrite, max_failures)
            is_resumed = yield from _events(steps, lambda step: Progress.of_planning(step, plan))
            export = _Export(workdir, executor, workers, memory)
            if not workdir.is_in_place:
                with workdir.noting_error():
                    yield from export.run(is_resumed, overwrite, metrics)
            yield from export.finished()
        finally:
            workdir.clear_stop()


class _Export:
    """An export whose plan is frozen."""

    def __init__(
        self, workdir: WorkDir, executor: Executor | None, workers: int, memory: int
    ) -> None:
        self._workdir, self._frozen = workdir, workdir.plan()
        self._executor, self._workers, self._memory = executor, workers, memory

    def run(self, is_resumed: bool, overwrite: bool, metrics: Metrics | None) -> Iterator[Progress]:
        yield self._progress("plan", 0, self._frozen.n_candidates)
        workdir = self._workdir
        workdir.jobs.forget_errors()
        if is_resumed:
            checks = self._frozen.find_changed(workdir.failed(), workdir.check_cancelled)
            if failures := (yield from _events(checks, partial(self._event, "open"))):
                workdir.record(SourcesFailed(failures))
        yield from self._score(metrics)
        while True:  # until no further source fails: without it, other patches are selected
            try:
                yield from self._write()
                steps = finalize(workdir, overwrite)
                yield from _events(steps, partial(self._event, "finalize"))
                break
            except SourcesFailed as failed:
                workdir.record(failed)

    def finished(self) -> Iterator[Progress]:
        """Report the complete set, and remove the folder of the unfinished one."""
        manifest, _ = read_description(Path(self._frozen.plan.out))
        total = sum(manifest.counts.values())
        event = self._progress("done", total, total)
        self._workdir.remove()
        yield event

    def _score(self, metrics: Metrics | None) -> Iterator[Progress]:
        workdir, frozen = self._workdir, self._frozen
        if metrics:
            workdir.scores.add_known(frozen, metrics)
        missing = [i for i in range(frozen.n_score_chunks) if not workdir.scores.has(i)]
        sizes = {workdir.scores.path(i): len(frozen.score_chunk(i)) for i in missing}
        done = frozen.n_candidates - sum(sizes.values())
        for scored in self._run(score_chunks, missing, sizes):
            done += scored
            yield self._progress("score", done, frozen.n_candidates)

    def _write(self) -> Iterator[Progress]:
        workdir, selection = self._workdir, self._select()
        arrays = selection.arrays(self._frozen.arrays)
        workdir.format.check([array.layout for array in arrays])
        missing = [shard for array in arrays for shard in workdir.missing_shards(array)]
        sizes = ((shard.layout, len(shard.candidates)) for shard in missing)
        check_patches_fit(workdir.root, sizes)
        done_markers = {
            workdir.done_marker_path(shard): len(shard.candidates)
            for shard in missing
            if shard.layout.role == IMAGE
        }
        first_candidates = sorted(int(shard.candidates[0]) for shard in missing)
        total = sum(selection.counts.values())
        done = total - sum(done_markers.values())
        for written in self._run(write_shards, first_candidates, done_markers):
            done += written
            yield self._progress("write", done, total)

    def _select(self) -> Selection:
        """Select the patches; discard the export if there are none, as it needs another plan.

        Unless a source failed: when that can be read, the same plan may have patches.
        """
        try:
            return select(self._workdir, self._frozen)
        except ArgumentError:
            if not self._workdir.failed():
                self._workdir.discard()
            raise

    def _run(
        self, job: Callable[..., None], units: Sequence[int], done_files: Mapping[Path, int]
    ) -> Iterator[int]:
        """Run jobs that know the credentials of the sources; see `run_jobs`."""
        if self._executor and (credentials := credentials_of(self._frozen.plan.paths)):
            job = partial(call_with_credentials, credentials, job)
        yield from run_jobs(
            self._workdir,
            job,
            units,
            done_files,
            self._executor,
            self._workers,
            memory=self._memory,
        )

    def _event(self, stage: Stage, step: Step) -> Progress:
        return self._progress(stage, step.done, step.total)

    def _progress(self, stage: Stage, done: int, total: int) -> Progress:
        failures = (*self._frozen.failures, *self._workdir.failed().values())
        return Progress(stage, done, total, Path(self._frozen.plan.out), failures)


def _events(
    steps: Generator[Step, None, Result], event: Callable[[Step], Progress]
) -> Generator[Progress, None, Result]:
    """Yield an event for each step, and return what the steps return."""
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return cast("Result", end.value)
            yield event(step)
