"""Executors: jobs in threads, in processes or on dask, started, watched and stopped.

Processes and clusters share only the file system with this process, so progress is seen by the
files that the jobs leave, and a stop is requested by a file (see `folder`).
"""

import logging
import os
import signal
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any, Literal

from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.jobs.folder import JobFolder

logger = logging.getLogger(__name__)

DEFAULT_WORKERS = min(4, os.cpu_count() or 1)

DEFAULT_MEMORY = 184 * 2**20
"""Bytes of a job for decoded tiles and open shards."""


@contextmanager
def open_executor(
    kind: Literal["threads", "processes"],
    workers: int,
    scheduler: str | None = None,
    warn: Callable[[str], object] = warnings.warn,
) -> Iterator[Executor | None]:
    """Provide a pool of processes or, by the address of its scheduler, a dask cluster.

    None stands for threads of this process. A pool never forks, which libCZI and threads forbid.
    `warn` is called, in a thread, while a cluster has no worker.
    """
    if scheduler is not None:
        with _connected(scheduler) as client, _watched(client, scheduler, warn):
            yield client.get_executor()
    elif kind == "threads":
        yield None
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _obey_parent)
        try:
            with _without_interrupt():
                for _ in range(workers):
                    pool.submit(os.getpid)  # starts a process, if no other one waits for a job
            yield pool
        finally:
            _end_processes(pool)


def _end_processes(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool whose jobs are done, whatever befell one of them.

    The one that waits for the next job has the lock of their queue. If it is lost, the others never
    learn that there are no more jobs, and `shutdown` alone would wait for them forever. From Python
    3.14 on this is `ProcessPoolExecutor.kill_workers`.
    """
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown()


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Defer Ctrl-C to the end; processes that start within never get it.

    A terminal sends it to all of its processes, but only the first one may decide what stops. Other
    threads that run already would get it, and not defer it.
    """
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_parent() -> None:
    """Leave Ctrl-C to the process that started this one of a pool, and end once that is gone.

    Even by kill -9: otherwise this one would wait for work forever, as it holds the other end of
    its pipe, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise ArgumentError(
            "A dask scheduler needs dask: pip install 'napari-patchset[distributed]'."
        ) from None
    logger.info("connecting to %s", scheduler)
    _log_quietly("distributed", "asyncio", "tornado")
    try:
        client: Any = distributed.Client(scheduler)  # type: ignore[no-untyped-call]  # dask has no types
    except (OSError, ValueError) as error:
        raise ArgumentError(f"No dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


_PATIENCE_SECONDS, _MAX_SILENCE_SECONDS = 5.0, 600.0
"""How long a cluster may be without workers until that is told, and then once more."""


@contextmanager
def _watched(client: Any, scheduler: str, warn: Callable[[str], object]) -> Iterator[None]:
    """Warn while a cluster has no worker: its jobs wait, which looks like an export that hangs."""
    is_ended = Event()

    def watch() -> None:
        pause = _PATIENCE_SECONDS
        while not is_ended.wait(pause):
            try:
                n = len(client.nthreads())
            except Exception as error:  # the scheduler is gone, as the jobs tell
                logger.info("%s does not list its workers: %s", scheduler, error)
                n = 1
            if n == 0 and not is_ended.is_set():
                warn(f"waiting for workers at {scheduler}; 0 are there.")
                pause = min(2 * pause, _MAX_SILENCE_SECONDS)
            else:
                pause = _PATIENCE_SECONDS

    watcher = Thread(target=watch, name="watch workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_ended.set()
        watcher.join(_PATIENCE_SECONDS)


def _log_quietly(*packages: str) -> None:
    """Have packages log like this one, and not to standard error: one line tells what is lost."""
    for name, package_logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in packages and isinstance(package_logger, logging.Logger):
            package_logger.handlers.clear()
            package_logger.propagate = True
    for package in packages:
        logging.getLogger(package).addHandler(logging.NullHandler())


_POLL_SECONDS, _MAX_POLL_SECONDS = 0.05, 0.5
_POLL_RATIO = 10
"""Pause between polls relative to their duration, for many files or a slow disk."""


def run_jobs(
    folder: JobFolder[Any],
    job: Callable[..., None],
    units: Sequence[int],
    done_files: Mapping[Path, int],
    executor: Executor | None,
    workers: int,
    **options: Any,
) -> Iterator[int]:
    """Run jobs on units of work, and yield the amount of work done with each file that appears.

    Closing the generator stops the jobs, and waits for them.

    Parameters
    ----------
    job : callable
        Takes the folder, the first and last (exclusive) of its units, and as keywords `threads`,
        `token` (see `JobFolder`) and `options`.
    units : sequence of int
        Ascending; each job has a range of them.
    done_files : dict of Path to int
        The files that will appear, and the amount of work that each stands for.
    executor, workers
        None for one job of so many threads in this process; otherwise, as many jobs of one thread.
    """
    jobs, threads = (workers, 1) if executor else (1, workers)
    cuts = {units[len(units) * i // jobs] for i in range(jobs)} if units else ()
    ranges = pairwise([*sorted(cuts), *(last + 1 for last in units[-1:])])
    with ExitStack() as stack:
        options |= {"threads": threads, "token": stack.enter_context(folder.running())}
        pool = executor or stack.enter_context(ThreadPoolExecutor(1))
        with _explain_lost_job():
            futures = [pool.submit(job, str(folder.root), *ends, **options) for ends in ranges]
        stack.callback(_stop, folder, futures)
        yield from _watch(folder, done_files, futures)


def _watch(
    folder: JobFolder[Any], done_files: Mapping[Path, int], futures: Sequence[Future[Any]]
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
            with _explain_lost_job():
                future.result()
        if pending:  # jobs that still wait for a worker can't notice a stop
            folder.check_cancelled()


@contextmanager
def _explain_lost_job() -> Iterator[None]:
    """Convert the error of an executor, which is none of the job that it ran, to an ExportError."""
    try:
        yield
    except Exception as error:
        is_of_dask = type(error).__module__.partition(".")[0] == "distributed"
        if not is_of_dask and not isinstance(error, BrokenExecutor | CancelledError):
            raise
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise ExportError(
            f"A job was lost with its process or scheduler ({detail:.200}); run the same command "
            "again to resume."
        ) from error


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


def _stop(folder: JobFolder[Any], futures: Sequence[Future[Any]]) -> None:
    """Stop the jobs that still run, and wait for them."""
    running = [future for future in futures if not future.done()]
    if running:
        folder.request_stop()
        # A job that is cancelled before it began may stay queued for hours: don't wait for it.
        wait([future for future in running if not future.cancel()])
        folder.clear_stop()
