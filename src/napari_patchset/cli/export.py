"""`patchset export`: make a patch set, until it is done or Ctrl-C stops it."""

import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from typing import Annotated, Any, Literal

import typer

from napari_patchset.cli.options import (
    RUNNING,
    Files,
    Json,
    Memory,
    Out,
    Overwrite,
    SavedPlan,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import show_events
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.run import DEFAULT_WORKERS, iter_export
from napari_patchset.exporting.workdir import PartialExport


@with_plan_options
def export(
    files: Files = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    executor: Annotated[
        Literal["threads", "processes"],
        typer.Option(
            metavar="threads|processes",
            help="What the export runs on, on this computer.",
            rich_help_panel=RUNNING,
        ),
    ] = "threads",
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of threads, processes, or jobs of a cluster.",
            rich_help_panel=RUNNING,
        ),
    ] = DEFAULT_WORKERS,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on the dask cluster of this scheduler.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    memory: Memory = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Export a patch set.

    An export that was stopped resumes when the same command is run again.

    Example: patchset export *.tif --filter "std>p10" --val 0.1 --out cells.patches.zarr
    """
    chosen, limit = plan_from(files, out, plan, options), memory_from(memory)
    with _executor(executor, workers, scheduler) as pool:
        events = iter_export(chosen, pool, workers=workers, memory=limit, overwrite=overwrite)
        try:
            show_events(handle_interrupts(events), as_json)
        except KeyboardInterrupt:
            partial_folder = PartialExport.of(chosen).root
            if partial_folder.exists():
                typer.echo(
                    f"Stopped. What is done is in {partial_folder}; run the same again to resume.",
                    err=True,
                )
            raise


def handle_interrupts(events: Generator[Any, None, None]) -> Iterator[Any]:
    """Yield the events of an export, until Ctrl-C.

    Python drops a `KeyboardInterrupt` that is raised in a destructor or a callback; it is raised
    again at the next event, unless that event reports that the set is complete.
    """
    is_interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with closing(events):
            for event in events:
                if is_interrupted and event.stage != "done":
                    raise KeyboardInterrupt
                yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _executor(kind: str, workers: int, scheduler: str | None) -> Iterator[Executor | None]:
    """Provide a cluster or a process pool; a pool never forks, which libCZI and threads forbid."""
    if scheduler is not None:
        with _connect(scheduler) as client:
            yield client.get_executor()
    elif kind == "threads":
        yield None
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool


def _connect(scheduler: str) -> Any:
    try:
        import distributed
    except ImportError:
        raise ArgumentError(
            "--scheduler needs dask: pip install 'napari-patchset[distributed]'."
        ) from None
    typer.echo(f"connecting to {scheduler}", err=True)
    try:
        return distributed.Client(scheduler)  # type: ignore[no-untyped-call]  # dask has no types
    except (OSError, ValueError) as error:
        raise ArgumentError(f"No dask scheduler answers at {scheduler}: {error}") from error
