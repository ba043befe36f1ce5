"""Run the jobs of an export on any executor.

Threads, processes and clusters share only the file system, so progress is seen by the files that
the jobs leave, and a stop is requested by a file.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

from napari_patchset.errors import ExportError
from napari_patchset.exporting.workdir import PartialExport

_POLL_SECONDS, _MAX_POLL_SECONDS = 0.05, 0.5
_POLL_RATIO = 10
"""Pause between polls relative to their duration, for many files or a slow disk."""

Job = Callable[..., None]
"""Takes the folder of the partial export, and first and last (exclusive) of its units."""


def run_jobs(
    partial: PartialExport,
    job: Job,
    units: Sequence[int],
    done_files: Mapping[Path, int],
    executor: Executor | None,
    workers: int,
    **options: Any,
) -> Iterator[int]:
    """Run a job on units of work, and yield the amount of work done with each file that appears.

    Closing the generator stops the jobs, and waits for them.

    Parameters
    ----------
    units : sequence of int
        Ascending; each worker has a range of them.
    done_files : dict of Path to int
        The files that will appear, and the amount of work that each stands for.
    executor : Executor or None
        Where the jobs run; None for threads of this process.
    **options
        Passed to each job.
    """
    with ExitStack() as stack:
        pool = executor or stack.enter_context(ThreadPoolExecutor(workers))
        futures = [
            pool.submit(job, str(partial.root), first, last, **options)
            for first, last in _ranges(units, workers)
        ]
        stack.callback(_stop, partial, futures)
        yield from _watch(partial, done_files, futures)


def _ranges(units: Sequence[int], workers: int) -> Iterator[tuple[int, int]]:
    cuts = {units[len(units) * i // workers] for i in range(workers)} if units else ()
    yield from pairwise([*sorted(cuts), *(last + 1 for last in units[-1:])])


def _watch(
    partial: PartialExport, done_files: Mapping[Path, int], futures: Sequence[Future[Any]]
) -> Iterator[int]:
    expected, pending, pause = dict(done_files), set(futures), _POLL_SECONDS
    while pending:
        finished, pending = wait(pending, timeout=pause)
        began = monotonic()
        appeared = find_existing(expected)
        duration = monotonic() - began
        pause = min(max(_POLL_SECONDS, _POLL_RATIO * duration), _MAX_POLL_SECONDS)
        for path in appeared:
            yield expected.pop(path)
        for future in finished:
            _raise_failed(future)
        if pending:  # jobs that still wait for a worker can't notice a stop
            partial.check_cancelled()


def find_existing(paths: Iterable[Path]) -> list[Path]:
    """Return the files that exist, listing each folder once: they may be tens of thousands."""
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    existing = []
    for folder, members in folders.items():
        with suppress(FileNotFoundError):
            names = set(os.listdir(folder))
            existing += [path for path in members if path.name in names]
    return existing


def _raise_failed(future: Future[Any]) -> None:
    try:
        future.result()
    except BrokenExecutor as error:
        raise ExportError(
            f"A process that wrote died ({error}); run the same again to go on."
        ) from error


def _stop(partial: PartialExport, futures: Sequence[Future[Any]]) -> None:
    """Stop the jobs that still run, and wait for them."""
    running = [future for future in futures if not future.done()]
    if running:
        partial.request_stop()
        # A job that is cancelled before it began may stay queued for hours: don't wait for it.
        wait([future for future in running if not future.cancel()])
        partial.clear_stop()
