"""The export: plan, select, write, finalize; each may be repeated, and goes on where it stopped."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from napari_patchset.export.finalize import finalize
from napari_patchset.export.partial import PartialExport
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.planning import prepare
from napari_patchset.export.selecting import select
from napari_patchset.export.selection import PlannedArray
from napari_patchset.export.writing import write_job
from napari_patchset.patchset.layout import IMAGE

DEFAULT_WORKERS = min(4, os.cpu_count() or 1)
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is: patches done of all, and in the end the path of the set."""

    stage: Literal["plan", "write", "done"]
    done: int
    total: int
    path: Path


def run_export(
    plan: ExportPlan,
    executor: Executor | None = None,
    *,
    workers: int = DEFAULT_WORKERS,
    overwrite: bool = False,
) -> Iterator[Progress]:
    """Export a patch set, yielding an event at each step and after each shard.

    Closing the generator stops the export within a patch; the same plan then goes on where it
    stopped, and ends with the same bytes.

    Parameters
    ----------
    plan : ExportPlan
        What to export, and where to.
    executor : Executor or None
        Where the jobs run; None for threads of this process.
    workers : int
        Number of jobs that run at once.
    overwrite : bool
        Replace a set, or an export of another plan, that is in the way; the set only once the
        new one is complete.

    Raises
    ------
    PatchsetError, OSError
        As soon as the generator is started, if the plan can't be carried out; later, if a source
        can't be read or the disk is full.
    """
    partial, frozen = prepare(plan, overwrite)
    selection = select(partial, frozen)
    total, out = sum(selection.counts.values()), Path(plan.out)
    yield Progress("plan", 0, total, out)
    for done in _write(partial, selection.arrays(frozen.kinds), executor, workers):
        yield Progress("write", done, total, out)
    yield Progress("done", total, total, finalize(partial, overwrite))


def _write(
    partial: PartialExport, arrays: Sequence[PlannedArray], executor: Executor | None, workers: int
) -> Iterator[int]:
    """Write the shards that are not there yet, yielding the number of patches written."""
    todo = {(array, shard) for array in arrays for shard in partial.absent(array)}
    begun = sorted(int(array.candidates(shard)[0]) for array, shard in todo)
    with ExitStack() as stack:
        pool = executor or stack.enter_context(ThreadPoolExecutor(workers))
        futures = [
            pool.submit(write_job, str(partial.root), first, last)
            for first, last in _runs(begun, workers)
        ]
        stack.callback(_stop, partial, futures)
        yield from _watch(partial, arrays, todo, futures)


def _runs(begun: Sequence[int], workers: int) -> Iterator[tuple[int, int]]:
    """Cut the shards, given by their first candidates, into one run for each worker."""
    cuts = {begun[len(begun) * i // workers] for i in range(workers)} if begun else ()
    yield from pairwise([*sorted(cuts), *(last + 1 for last in begun[-1:])])


def _watch(
    partial: PartialExport,
    arrays: Sequence[PlannedArray],
    todo: set[tuple[PlannedArray, int]],
    futures: list[Future[Any]],
) -> Iterator[int]:
    """Yield whenever a sidecar appears: it is the one sign that all executors share."""
    done = sum(array.layout.n for array in arrays if array.layout.role == IMAGE)
    done -= sum(_patches(*shard) for shard in todo)
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=_POLL_SECONDS)
        for future in finished:
            future.result()
        written = [shard for shard in todo if partial.sidecar_path(*shard).exists()]
        todo.difference_update(written)
        for shard in written:
            done += _patches(*shard)
            yield done


def _patches(array: PlannedArray, shard: int) -> int:
    return len(array.layout.rows(shard)) if array.layout.role == IMAGE else 0


def _stop(partial: PartialExport, futures: list[Future[Any]]) -> None:
    """Stop the jobs that still run, and wait for them."""
    running = [future for future in futures if not future.done()]
    if running:
        partial.request_stop()
        for future in running:
            future.cancel()
        wait(running)
    partial.clear_stop()
