"""The export: plan, write, finalize; each step may be repeated, and goes on where it stopped."""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from napari_patchset.errors import ExportError
from napari_patchset.export.finalize import finalize
from napari_patchset.export.partial import FrozenPlan, PartialExport
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.sources import describe_sources
from napari_patchset.export.writing import write_shards
from napari_patchset.patchset.layout import ArrayLayout

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
    total, out = frozen.n_patches, Path(plan.out)
    yield Progress("plan", 0, total, out)
    for done in _write(partial, frozen.array, executor, workers):
        yield Progress("write", done, total, out)
    yield Progress("done", total, total, finalize(partial, overwrite))


def prepare(plan: ExportPlan, overwrite: bool = False) -> tuple[PartialExport, FrozenPlan]:
    """Plan an export and freeze it in its folder, or find it there and take it up again.

    Raises
    ------
    ExportError
        If no patch fits, something else is at the destination, or the disk lacks the space.
    """
    out = Path(plan.out)
    if out.exists() and not overwrite:
        raise ExportError(f"{out} exists; choose another name, or overwrite it.")
    sources = describe_sources(plan)
    grid = plan.strategy.plan(sources)
    if not len(grid):
        reasons = ", ".join(f"{n} {reason}" for reason, n in grid.dropped.items())
        raise ExportError(f"No patch to export ({reasons}).")
    frozen = FrozenPlan.of(plan.resolved(), sources, grid)
    partial = PartialExport.of(plan)
    if not _takes_up(partial, frozen, overwrite):
        _check_space(partial.root, frozen.array)
        partial.freeze(frozen, grid)
    partial.clear_stop()
    return partial, frozen


def _takes_up(partial: PartialExport, frozen: FrozenPlan, overwrite: bool) -> bool:
    """Whether the folder holds this very plan; one that holds another is refused or removed."""
    try:
        found = partial.frozen()
    except ExportError:
        if not overwrite:
            raise
    else:
        if found is None:
            return False
        if found.model_dump_json() == frozen.model_dump_json():
            return True
        if not overwrite:
            raise ExportError(
                f"{partial.root} holds an unfinished export of another plan, or of sources that "
                "have changed since; choose another name, or overwrite it."
            )
    partial.remove()
    return False


def _check_space(root: Path, array: ArrayLayout) -> None:
    parent = next(folder for folder in root.absolute().parents if folder.exists())
    needed, free = array.n * array.patch_bytes, shutil.disk_usage(parent).free
    if needed > free:
        raise ExportError(
            f"The patch set needs {needed / 1e9:.2f} GB, but {parent} has {free / 1e9:.2f} GB "
            "free; make room, or export fewer patches."
        )


def _write(
    partial: PartialExport, array: ArrayLayout, executor: Executor | None, workers: int
) -> Iterator[int]:
    """Write the shards that are not there yet, yielding the number of patches written."""
    todo = [i for i in range(array.n_shards) if partial.sidecar(array, i) is None]
    with ExitStack() as stack:
        pool = executor or stack.enter_context(ThreadPoolExecutor(workers))
        futures = [
            pool.submit(write_shards, str(partial.root), first, last)
            for first, last in _runs(todo, workers)
        ]
        stack.callback(_stop, partial, futures)
        yield from _watch(partial, array, set(todo), futures)


def _runs(shards: Sequence[int], workers: int) -> Iterator[tuple[int, int]]:
    """Cut the shards into one contiguous run for each worker."""
    cuts = [len(shards) * i // workers for i in range(workers + 1)]
    for a, b in pairwise(cuts):
        if a < b:
            yield shards[a], shards[b - 1] + 1


def _watch(
    partial: PartialExport, array: ArrayLayout, todo: set[int], futures: list[Future[Any]]
) -> Iterator[int]:
    """Yield whenever a sidecar appears: it is the one sign that all executors share."""
    done = array.n - sum(len(array.rows(i)) for i in todo)
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=_POLL_SECONDS)
        for future in finished:
            future.result()
        written = {i for i in todo if partial.sidecar_path(array, i).exists()}
        todo -= written
        for shard in sorted(written):
            done += len(array.rows(shard))
            yield done


def _stop(partial: PartialExport, futures: list[Future[Any]]) -> None:
    """Stop the jobs that still run, and wait for them."""
    running = [future for future in futures if not future.done()]
    if running:
        partial.request_stop()
        for future in running:
            future.cancel()
        wait(running)
    partial.clear_stop()
