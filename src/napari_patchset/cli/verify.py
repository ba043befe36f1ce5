"""`patchset verify`: a patch set, compared with itself and with its sources."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from napari_patchset.cli.options import RUNNING, Memory, Threads, memory_from
from napari_patchset.cli.progress import bar_on_terminal
from napari_patchset.exporting.run import DEFAULT_WORKERS
from napari_patchset.verification.opened_set import Finding
from napari_patchset.verification.verify import verify as find_differences


def verify(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The patch set.")],
    sources: Annotated[
        bool, typer.Option(help="Cut every patch again from the sources, and compare.")
    ] = True,
    workers: Threads = DEFAULT_WORKERS,
    memory: Memory = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the findings as JSON, one a line.", rich_help_panel=RUNNING
        ),
    ] = False,
) -> None:
    """Check a patch set, and compare it with its sources.

    Compares every checksum and count, the split, and each patch with the sources' own pixels. Exit
    code 1 if anything differs.

    Example: patchset verify cells.patches.zarr
    """
    n = 0
    for finding in _with_bar(name, sources, workers, memory_from(memory)):
        n += 1
        typer.echo(json.dumps(asdict(finding)) if as_json else str(finding))
    if n:
        typer.echo(f"{name}: {n} {'difference' if n == 1 else 'differences'}", err=True)
        raise typer.Exit(1)
    if not as_json:
        what = "itself and its sources" if sources else "itself; the sources were not read"
        typer.echo(f"{name}: no difference, compared with {what}")


def _with_bar(name: Path, sources: bool, workers: int, memory: int) -> Iterator[Finding]:
    """Yield the differences under a bar that shows how many patches are read."""
    columns = TextColumn("patches"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with bar_on_terminal(*columns, transient=True) as update:

        def show(done: int, total: int) -> None:
            update(completed=done, total=total)

        yield from find_differences(
            name, sources=sources, workers=workers, memory=memory, progress=show
        )
