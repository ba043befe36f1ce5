"""`patchset export`, and its steps as subcommands for schedulers that start jobs by themselves."""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from napari_patchset.cli.parameters import (
    RUNNING,
    Files,
    Json,
    MaxFailures,
    Memory,
    Out,
    Overwrite,
    RunBy,
    SavedPlan,
    Scheduler,
    Strict,
    Threads,
    Workers,
    max_failures_from,
    memory_from,
    option,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import show_counts, show_events, show_failures
from napari_patchset.cli.signals import deferred, until_interrupted
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.jobs import finalize_export, plan_export, score_part, write_part
from napari_patchset.exporting.run import DEFAULT_WORKERS, iter_export
from napari_patchset.exporting.workdir import WorkDir
from napari_patchset.patchset.reader import read_description


@with_plan_options
def export(
    files: Files = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    executor: RunBy = "threads",
    workers: Workers = DEFAULT_WORKERS,
    scheduler: Scheduler = None,
    memory: Memory = None,
    strict: Strict = False,
    max_failures: MaxFailures = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Export a patch set.

    An export that was stopped resumes when the same command is run again.

    Example: patchset export *.tif --filter "std>p10" --val 0.1 --out cells.patches.zarr
    """
    chosen, limit = plan_from(files, out, plan, options), memory_from(memory)
    with executor_from(executor, workers, scheduler) as pool:
        events = iter_export(
            chosen,
            pool,
            workers=workers,
            memory=limit,
            overwrite=overwrite,
            max_failures=max_failures_from(strict, max_failures),
        )
        try:
            show_events(until_interrupted(events), as_json)
        except KeyboardInterrupt as interrupt:
            folder = WorkDir.for_set(chosen.out).root
            if folder.exists():
                interrupt.args = (
                    f"stopped; the finished part is in {folder}; run the same command again to "
                    "resume.",
                )
            raise


@contextmanager
def executor_from(kind: str, workers: int, scheduler: str | None) -> Iterator[Executor | None]:
    """Provide a cluster or a process pool; a pool never forks, which libCZI and threads forbid."""
    if scheduler is not None:
        with connected(scheduler) as client:
            yield client.get_executor()
    elif kind == "threads":
        yield None
    else:
        context = get_context("spawn")
        with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
            with deferred():
                pool.submit(os.getpid)  # the first job starts all processes
            yield pool


def end_with_parent() -> None:
    """End this process of a pool as soon as the process that started it is gone, even by kill -9.

    Otherwise it would wait for work forever: it holds the other end of its pipe, too.
    """
    parent = parent_process()
    if parent is not None:
        Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """Connect to a dask scheduler."""
    try:
        import distributed
    except ImportError:
        raise ArgumentError(
            "--scheduler needs dask: pip install 'napari-patchset[distributed]'."
        ) from None
    typer.echo(f"connecting to {scheduler}", err=True)
    _log_quietly("distributed", "asyncio", "tornado")
    try:
        client: Any = distributed.Client(scheduler)  # type: ignore[no-untyped-call]  # dask has no types
    except (OSError, ValueError) as error:
        raise ArgumentError(f"No dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


def _log_quietly(*packages: str) -> None:
    """Have packages log like this one, and not to standard error: one line tells what is lost."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in packages and isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    for package in packages:
        logging.getLogger(package).addHandler(logging.NullHandler())


Name = Annotated[str, typer.Argument(metavar="NAME", help="The patch set that the plan names.")]
Job = Annotated[int, option(RUNNING, "I", "Index of the job, counted from 0.", min=0)]
Of = Annotated[int, option(RUNNING, "N", "Number of jobs.", min=1)]


@with_plan_options
def plan(
    files: Files = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
    max_failures: MaxFailures = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Plan an export that is carried out by jobs.

    Each job runs `score` and `write` on its share; `finalize` completes the patch set.

    Example: patchset plan *.czi --patch-size 64,64 --filter "std>p20" --out cells.patches.zarr
    """
    chosen = plan_from(files, out, plan, options)
    limit = max_failures_from(strict, max_failures)
    candidates = plan_export(chosen, overwrite=overwrite, max_failures=limit)
    if as_json:
        _echo("plan", chosen.out, candidates=candidates)
    else:
        typer.echo(f"{candidates} candidates for {chosen.out}")


def score(
    name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None, as_json: Json = False
) -> None:
    """Measure a job's share of the candidates.

    Only filters need it: without them there is nothing to do.

    Example: patchset score cells.patches.zarr --job 0 --of 16
    """
    score_part(name, job, of, threads=workers, memory=memory_from(memory))
    if as_json:
        _echo("score", name, job=job, of=of)


def write(
    name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None, as_json: Json = False
) -> None:
    """Write a job's share of the patches.

    With filters, not before all candidates are scored.

    Example: patchset write cells.patches.zarr --job 0 --of 16
    """
    write_part(name, job, of, threads=workers, memory=memory_from(memory))
    if as_json:
        _echo("write", name, job=job, of=of)


def finalize(name: Name, overwrite: Overwrite = False, as_json: Json = False) -> None:
    """Complete a patch set when all jobs are done.

    Example: patchset finalize cells.patches.zarr
    """
    failures = finalize_export(name, overwrite=overwrite)
    if as_json:
        manifest, _ = read_description(Path(name))
        skipped = [failure.model_dump() for failure in failures]
        _echo("done", name, counts=manifest.counts, failures=skipped)
    else:
        show_counts(Path(name))
    show_failures(failures)


def _echo(stage: str, name: str, **more: Any) -> None:
    """Print the result of a step as JSON, with the names of the events of `export`."""
    typer.echo(json.dumps({"stage": stage, "path": name, **more}))
