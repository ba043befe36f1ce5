"""The steps of an export as jobs of a scheduler: plan, score and write in parts, finalize.

Each may be run again. They share nothing but the file system.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_patchset.errors import ArgumentError
from napari_patchset.export.cutting.holding import DEFAULT_MEMORY
from napari_patchset.export.failures import Failure, SourcesFailed
from napari_patchset.export.finalize import finalize
from napari_patchset.export.keeping.destination import check_apart, check_destination
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.locking import locked
from napari_patchset.export.keeping.ownership import require_own_partial
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.keeping.space import naming_full_disk
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.planning import prepare
from napari_patchset.export.scoring import score_job
from napari_patchset.export.selecting import select
from napari_patchset.export.writing import write_job


def plan_export(plan: ExportPlan, *, overwrite: bool = False) -> int:
    """Freeze a plan for jobs, or find it there; give the number of candidates."""
    check_destination(plan, overwrite)
    partial = PartialExport.of(plan)
    with locked(partial.root), naming_full_disk(partial.root):
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
    with locked(partial.root), naming_full_disk(partial.root):
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
    with locked(partial.root, shared=True), naming_full_disk(partial.root):
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
