"""Run the jobs of a stage on any executor, and see how far they are by the files they leave."""

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

_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.05, 0.5
_POLL_RATIO = 10
"""A look that takes long, at many files or a slow disk, is followed by a pause so much longer."""

Job = Callable[..., None]
"""Given the folder of the partial export, and the first and the last, exclusive, of its units."""


def run_jobs(
    partial: PartialExport,
    job: Job,
    units: Sequence[int],
    signs: Mapping[Path, int],
    executor: Executor | None,
    workers: int,
    **options: Any,
) -> Iterator[int]:
    """Run a job on every unit that is to be done, yielding how much is done at each new file.

    Closing the generator stops the jobs, and waits for them.

    Parameters
    ----------
    units : sequence of int
        Ascending; cut into one run for each worker.
    signs : dict of Path to int
        The files that will appear, and how much each stands for.
    executor : Executor or None
        Where the jobs run; None for threads of this process.
    **options
        Handed on to each job.
    """
    with ExitStack() as stack:
        pool = executor or stack.enter_context(ThreadPoolExecutor(workers))
        futures = [
            pool.submit(job, str(partial.root), first, last, **options)
            for first, last in _runs(units, workers)
        ]
        stack.callback(_stop, partial, futures)
        yield from _watch(partial, signs, futures)


def _runs(units: Sequence[int], workers: int) -> Iterator[tuple[int, int]]:
    cuts = {units[len(units) * i // workers] for i in range(workers)} if units else ()
    yield from pairwise([*sorted(cuts), *(last + 1 for last in units[-1:])])


def _watch(
    partial: PartialExport, signs: Mapping[Path, int], futures: Sequence[Future[Any]]
) -> Iterator[int]:
    """Yield whenever a file appears: it is the one sign that all executors share."""
    expected, pending, pause = dict(signs), set(futures), _POLL_SECONDS
    while pending:
        finished, pending = wait(pending, timeout=pause)
        began = monotonic()
        appeared = find_there(expected)
        took = _POLL_RATIO * (monotonic() - began)
        pause = min(max(_POLL_SECONDS, took), _LONGEST_POLL_SECONDS)
        for path in appeared:
            yield expected.pop(path)
        for future in finished:
            _require(future)
        if pending:  # those that wait for a worker look at nothing
            partial.check_cancelled()


def find_there(paths: Iterable[Path]) -> list[Path]:
    """Find the files that exist, by one look into each folder: they may be tens of thousands."""
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    found = []
    for folder, members in folders.items():
        with suppress(FileNotFoundError):
            names = set(os.listdir(folder))
            found += [path for path in members if path.name in names]
    return found


def _require(future: Future[Any]) -> None:
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
        # What is cancelled before it began may wait for a worker for hours: it is not waited for.
        wait([future for future in running if not future.cancel()])
        partial.clear_stop()
