"""The subcommands that make a patch set.

Ctrl-C, wherever it comes.
"""

import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_patchset.cli.inspect import write_preview
from napari_patchset.cli.options import (
    Events,
    Files,
    Memory,
    Out,
    Overwrite,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import show_events
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan_options import PlanOptions, make_plan
from napari_patchset.exporting.run import DEFAULT_WORKERS, iter_export
from napari_patchset.exporting.workdir import PartialExport
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.sample import ensure_sample


def handle_interrupts(events: Generator[Any, None, None]) -> Iterator[Any]:
    """Give the events of an export, until Ctrl-C.

    Python drops a `KeyboardInterrupt` that comes within a destructor or a callback; what was
    dropped is raised at the next event, unless that says that the set is complete.
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


@with_plan_options
def export(
    options: PlanOptions,
    files: Files = None,
    out: Out = None,
    executor: Annotated[
        Literal["threads", "processes"], typer.Option(help="What it runs on here.")
    ] = "threads",
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="How many threads, processes or jobs of a cluster."),
    ] = DEFAULT_WORKERS,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on the dask cluster of this scheduler."),
    ] = None,
    memory: Memory = None,
    overwrite: Overwrite = False,
    as_json: Events = False,
) -> None:
    """Export a patch set.

    One that was stopped goes on when the same command is run again.
    """
    plan, limit = plan_from(options, files, out), memory_from(memory)
    with _executor(executor, workers, scheduler) as pool:
        events = iter_export(plan, pool, workers=workers, memory=limit, overwrite=overwrite)
        try:
            show_events(handle_interrupts(events), as_json)
        except KeyboardInterrupt:
            kept = PartialExport.of(plan).root
            if kept.exists():
                typer.echo(f"Stopped. {kept} keeps what is done; run the same again.", err=True)
            raise


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write.")] = Path(
        "demo"
    ),
) -> None:
    """Export the sample file, and draw its grid."""
    out.mkdir(parents=True, exist_ok=True)
    sample = ensure_sample(report=partial(typer.echo, err=True))
    plan = make_plan(PlanOptions(overlap="16"), [str(sample)], str(out / f"cells{SUFFIX}"))
    show_events(iter_export(plan, overwrite=True), as_json=False)
    first = plan.model_copy(update={"sources": plan.sources[:1]})
    picture = write_preview(first, None, out / "preview.png")
    typer.echo(f"their grid on the first scene: {picture.absolute()}")


@contextmanager
def _executor(kind: str, workers: int, scheduler: str | None) -> Iterator[Executor | None]:
    """Give a cluster or a process pool, never forked: libCZI and threads do not survive a fork."""
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
