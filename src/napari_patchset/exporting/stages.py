"""The steps of an export, for schedulers that start jobs by themselves.

`plan_export` describes the sources, chooses the candidates, and freezes both in NAME.partial. Each
job scores (`score_job`) and writes (`write_job`) its share; `finalize_export` completes the set.
All state is in the folder, so that a step may be run again, and resumes where it stopped, in any
process that has the same files.
"""

import shlex
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import DestinationExistsError, ExportError
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.plans.region_files import read_annotations
from napari_patchset.exporting.reading.failures import Failure, SourcesFailed, may_be_skipped
from napari_patchset.exporting.reading.steps import Step, run_steps
from napari_patchset.exporting.writing.destination import (
    check_apart_from_sources,
    check_destination,
    check_patches_fit,
)
from napari_patchset.exporting.writing.finalize import finalize
from napari_patchset.exporting.writing.freezing import freeze_plan
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.job_array import share
from napari_patchset.exporting.writing.metrics import score_chunks
from napari_patchset.exporting.writing.selection import Selection, select_candidates
from napari_patchset.exporting.writing.shard_writer import write_shards
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patching.filters.measurements import check_filters
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import GeoJsonRegion
from napari_patchset.patching.splits.sheet_columns import check_split_column
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.patchset.manifest import read_attributes
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.table import check_sheet
from napari_patchset.patchset.writers import FORMATS

Stage = Literal["open", "read", "compare", "choose", "plan", "score", "write", "finalize", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """An event of an export.

    Attributes
    ----------
    stage : {"open", "read", "compare", "choose", "plan", "score", "write", "finalize", "done"}
        The step that the export is at: sources are opened; annotations are read; sources that may
        be copies are compared; labels and annotations are looked at to choose candidates; these are
        chosen; they are scored; patches are written; sources are checked again; the set is
        complete.
    done, total : int
        Number of sources, megabytes, percent, candidates or patches that are done, and of all.
    path : Path
        The patch set.
    failures : tuple of Failure
        The sources that were skipped so far.
    """

    stage: Stage
    done: int
    total: int
    path: Path
    failures: tuple[Failure, ...] = ()

    @classmethod
    def of_planning(cls, step: Step, plan: ExportPlan) -> Self:
        """Return the event for a step of planning."""
        return cls(step.stage or "open", step.done, step.total, Path(plan.out))


def plan_export(
    plan: ExportPlan,
    *,
    overwrite: bool = False,
    max_failures: int | None = None,
    progress: Callable[[Progress], object] = lambda event: None,
) -> int:
    """Plan an export for jobs, unless that is done, and return the number of candidates.

    See `export` for the parameters.

    Raises
    ------
    PatchsetError, OSError
        If the plan can't be carried out, or the destination is taken and `overwrite` is not set.
    """
    check_destination(plan, overwrite)
    workdir = WorkDir.for_set(plan.out)
    with workdir.locked():
        workdir.clear_stop()
        steps = prepare(workdir, plan, overwrite, max_failures)
        run_steps(steps, lambda step: progress(Progress.of_planning(step, plan)))
        return workdir.plan().n_candidates


def score_job(
    out: str | Path,
    job: int,
    of: int,
    *,
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Failure, ...]:
    """Score one job's share of the candidates; without filters, do nothing.

    Return the sources that the plan, this job or another one has skipped.

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
    progress : callable or None
        Called with the number of candidates, or of patches, that are done, and of all in the share.

    Raises
    ------
    ExportError
        If there is no plan, or another export of the set is running.
    """
    if is_complete(out):
        return skipped_in(out)
    workdir, frozen = _planned(out)
    first, last = share(frozen, "score", job, of)
    with workdir.locked(shared=True), workdir.noting_job("score", job, of):
        root = str(workdir.root)
        score_chunks(root, first, last, threads=threads, memory=memory, progress=progress)
        return (*frozen.failures, *workdir.failed().values())


def write_job(
    out: str | Path,
    job: int,
    of: int,
    *,
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Failure, ...]:
    """Write one job's share of the shards; see `score_job` for the parameters and the result.

    A source that can't be read is recorded and skipped, if the plan allows that. Other patches are
    then selected: what other jobs wrote before is not in these, so that they have work left.

    Raises
    ------
    ExportError
        If candidates are not scored yet, or another export of the set is running.
    """
    if is_complete(out):
        return skipped_in(out)
    workdir, frozen = _planned(out)
    first, last = share(frozen, "write", job, of)
    with workdir.locked(shared=True), workdir.noting_job("write", job, of):
        root = str(workdir.root)
        while True:
            select(workdir, frozen)
            try:
                write_shards(root, first, last, threads=threads, memory=memory, progress=progress)
                return (*frozen.failures, *workdir.failed().values())
            except SourcesFailed as failed:
                workdir.record(failed)


def finalize_export(
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Failure, ...]:
    """Complete a set when all jobs are done, and return the sources that were skipped.

    A set that is complete already stays as it is, and lacks the same sources. `progress` is called
    with the number of sources that are checked, and of all.

    Raises
    ------
    ExportError
        Naming what is missing.
    SourcesFailed
        If a source has changed or is gone; running `write_job` for every job again skips it.
    """
    if is_complete(out):
        return skipped_in(out)
    workdir, frozen = _planned(out)
    with workdir.locked():
        failures = (*frozen.failures, *workdir.failed().values())
        try:
            if not workdir.is_in_place:
                steps = finalize(workdir, overwrite)
                with workdir.noting_error():
                    run_steps(steps, lambda step: progress(step.done, step.total))
        except SourcesFailed as failed:
            workdir.record(failed)
            select(workdir, frozen)  # without them, so that none of their patches is in the set
            remedy = f". What is named is skipped. {workdir.do_rest()}"
            raise SourcesFailed(failed.failures, remedy) from failed
        workdir.remove()
    return failures


def _planned(out: str | Path) -> tuple[WorkDir, FrozenPlan]:
    """Return a planned export; its folder may have been moved since it was planned."""
    workdir = WorkDir.for_set(out)
    workdir.check_own()
    if not workdir.root.exists() and Path(out).exists():
        raise ExportError(f"{out} is no patch set, and no export of that name is unfinished.")
    frozen = workdir.plan()
    check_apart_from_sources(frozen.plan)
    if remark := workdir.planned_by_another:
        warnings.warn(remark, stacklevel=3)
    return workdir, frozen


def is_complete(out: str | Path) -> bool:
    """Return whether a set is complete, and nothing of its export is left."""
    is_set = read_attributes(Path(out)) is not None
    return is_set and not WorkDir.for_set(out).root.exists()


def skipped_in(out: str | Path) -> tuple[Failure, ...]:
    """Return the sources that a complete set was completed without."""
    _, provenance = read_description(Path(out))
    return tuple(Failure.model_validate(each) for each in provenance.skipped)


def prepare(
    workdir: WorkDir, plan: ExportPlan, overwrite: bool = False, max_failures: int | None = None
) -> Generator[Step, None, bool]:
    """Freeze a plan in its folder, in steps; return whether the same plan was there to be resumed.

    Raise ArgumentError if a filter can't measure the patches, or they can't be split; ExportError
    if no patch fits, something else is at the destination, or the disk lacks the space.
    """
    if not overwrite:
        check_not_taken(workdir, plan)
    before = None
    if is_prepared(workdir, plan, overwrite, max_failures):
        before = workdir.plan()
        if not before.failures or (workdir.has_work and not overwrite):
            yield from _resume(workdir, before, overwrite, max_failures)
            return True
    frozen, grid = yield from freeze_plan(plan, workdir.check_cancelled, max_failures)
    if before and before.has_sources_of(frozen):
        yield from _resume(workdir, before, overwrite, max_failures)
        return True
    check_frozen(frozen, grid, workdir.root)
    workdir.check_cancelled()
    _warn_of_loss(workdir)
    workdir.discard()
    if not overwrite:  # a set that was about to be replaced has its name again
        check_not_taken(workdir, plan)
    workdir.freeze(frozen, grid)
    return False


def _resume(
    workdir: WorkDir, frozen: FrozenPlan, overwrite: bool, max_failures: int | None
) -> Generator[Step, None, None]:
    """Have sources be read again that were skipped: all with `overwrite`, else those that are back.

    What is written of a source that is damaged would be lost each time if that was read again.
    """
    workdir.set_max_failures(max_failures)
    failed = workdir.failed()
    if not failed or workdir.is_in_place:
        return
    if not overwrite:
        others = set(range(len(frozen.plan.sources))) - failed.keys()
        lasting = {i for i, failure in failed.items() if not failure.may_return}
        changed = yield from frozen.find_changed(others | lasting, workdir.check_cancelled)
        failed = {i: failed[i] for i in failed.keys() - lasting - changed.keys()}
    workdir.forget_failed(failed.keys())


def _warn_of_loss(workdir: WorkDir) -> None:
    """Warn if an unfinished export is replaced of which something is scored or written."""
    if workdir.is_in_place or not workdir.has_work:
        return
    try:
        frozen = workdir.plan()
    except ExportError:
        text = "whose plan can't be read"
    else:
        missing = sum(len(frozen.score_chunk(chunk)) for chunk in workdir.scores.missing(frozen))
        n, n_shards = frozen.n_candidates, workdir.n_shards
        parts = (
            [f"{n - missing:,} of {n:,} candidates were scored"] if frozen.n_score_chunks else []
        )
        parts += [f"{n_shards:,} {'shard was' if n_shards == 1 else 'shards were'} written"]
        text = f"of which {' and '.join(parts)}"
    warnings.warn(f"the unfinished export in {workdir.root}, {text}, is replaced.", stacklevel=2)


def check_not_taken(workdir: WorkDir, plan: ExportPlan) -> None:
    """Raise DestinationExistsError if the destination is not the set of this export itself."""
    out = Path(plan.out)
    if out.exists() and not workdir.is_in_place:
        raise DestinationExistsError(f"{out} exists; choose another name or delete it.")


def is_prepared(
    workdir: WorkDir, plan: ExportPlan, overwrite: bool = False, max_failures: int | None = None
) -> bool:
    """Return whether the folder has the same plan; raise an error for another, unless `overwrite`.

    Another plan of which nothing is scored or written is replaced. A plan that skips more sources
    than it now may is made again; with `overwrite`, so is one of whose files one has changed,
    or whose candidates can't be read.
    """
    try:
        frozen = workdir.find_plan()
    except ExportError:
        if overwrite:
            return False
        raise
    if frozen is None:
        return False
    is_same = frozen.requested == plan.resolved().sources and frozen.plan.recipe == plan.recipe
    if not is_same and not overwrite and workdir.has_work:
        raise DestinationExistsError(
            f"{workdir.root} holds an unfinished export of another plan; finish that "
            f"(`patchset status {shlex.quote(plan.out)}` shows how), or delete it."
        )
    if overwrite and (frozen.changed_files() or not workdir.has_candidates(frozen)):
        return False
    return is_same and may_be_skipped(frozen.failures, max_failures)


def check_candidates(frozen: FrozenPlan, grid: PatchGrid) -> None:
    """Raise an error if there is no candidate, or filters, split or samples sheet do not fit."""
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.excluded.items())
        pairs = zip(frozen.plan.sources, frozen.sources, strict=True)
        lacking = [str(ref) for ref, info in pairs if info.missing]
        where = f"; {lacking[0]} lacks planes, {len(lacking)} in all" if lacking else ""
        where += _without_plane(frozen.plan)
        raise ExportError(f"No patch to export ({reasons}{where}).")
    plan = frozen.plan
    check_filters(plan.filters, frozen.sources)
    check_split_column(frozen.sources, plan.split.by if plan.split else None)
    if plan.split is not None:
        plan.split.check_columns(frozen.sources)
    columns = plan.metric_columns(frozen.sources, frozen.class_names)
    check_sheet(frozen.sources, columns, grid)


def _without_plane(plan: ExportPlan) -> str:
    """Return what explains that outlines have no patch in other planes, "" if none is so."""
    paths = [ref.annotations.path for ref in plan.sources if ref.annotations]
    if isinstance(plan.strategy.region, GeoJsonRegion) and plan.strategy.region.path:
        paths.append(plan.strategy.region.path)
    for path in filter(is_geojson, paths):
        if n := read_annotations(path).n_moved:
            return (
                f"; {n} of the outlines in {path} have no plane, and so are of z 0 and t 0, as "
                "others have one"
            )
    return ""


def check_frozen(frozen: FrozenPlan, grid: PatchGrid, root: Path) -> None:
    """Raise errors of later steps early; with filters, the number of patches is not known yet."""
    check_candidates(frozen, grid)
    plan = frozen.plan
    set_format = FORMATS[plan.format]
    set_format.check([layout.in_split(UNSPLIT, 0) for layout in frozen.arrays])
    if plan.measures_pixels:
        return
    if plan.split is not None:
        plan.split.assign(grid, frozen.sources)
    set_format.check(frozen.arrays)
    check_patches_fit(root, ((layout, layout.n) for layout in frozen.arrays))


def select(workdir: WorkDir, frozen: FrozenPlan) -> Selection:
    """Apply filters and split once all candidates are scored, and record the selection.

    Raise ExportError if candidates are not scored yet, ArgumentError if a split has no patch.
    """
    grid, metrics = workdir.candidates(frozen), workdir.scores.read(frozen)
    is_readable = ~np.isin(grid.source_index, list(workdir.failed()))
    selection = select_candidates(frozen.plan, grid, frozen.sources, metrics, is_readable)
    selection.check_not_empty()
    workdir.write_selection(selection)
    return selection
