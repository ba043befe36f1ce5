"""Events and scenes, on a terminal or as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from napari_patchset.exporting.plan import Failure
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.patchset.reader import read_description

_DOING = {"plan": "planned", "score": "measured", "write": "written", "done": "written"}
"""What the bar says that patches are, by the stage of an export."""

_UNFOLDED = 500
"""Characters in a line of a table that no terminal shows."""


def show_events(events: Iterator[Any], as_json: bool) -> None:
    """Run an export while showing how far it is; exit with 1 if a source could not be read."""
    last = _show_json(events) if as_json else _show_bar(events)
    show_failures(last.failures)


def show_failures(failures: Sequence[Failure]) -> None:
    """Name the sources that were left out; exit with 1 if there are any."""
    for failure in failures:
        typer.echo(f"left out: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _show_json(events: Iterator[Any]) -> Any:
    for event in events:
        typer.echo(json.dumps(asdict(event), default=_jsonable))
    return event


def _jsonable(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Failure) else str(value)


def _show_bar(events: Iterator[Any]) -> Any:
    first = next(events)  # what can't be carried out says so before a bar is drawn
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with bar_on_terminal(*columns, TimeRemainingColumn()) as update:
        for event in chain([first], events):
            update(description=_DOING[event.stage], completed=event.done, total=event.total)
    show_counts(event.path)
    return event


@contextmanager
def bar_on_terminal(
    *columns: ProgressColumn, transient: bool = False
) -> Iterator[Callable[..., None]]:
    """Draw a bar and give what moves it; where no terminal is, nothing is drawn."""
    console = Console(stderr=True)
    if not console.is_terminal:
        # Older releases of rich write an empty line for a bar that is disabled.
        yield lambda **_: None
        return
    with Progress(*columns, console=console, transient=transient) as bar:
        yield partial(bar.update, bar.add_task("", total=None))


def show_counts(path: Path) -> None:
    """Say how many patches a set holds, in each split, and how many it does not, and why."""
    manifest, _ = read_description(path)
    total, rejected = sum(manifest.counts.values()), sum(manifest.rejected.values())
    parts = [f"{n} {split}" for split, n in manifest.counts.items() if split != UNSPLIT]
    if rejected:
        parts.append(f"{rejected} rejected")
    parts += [f"{n} left out ({reason})" for reason, n in manifest.dropped.items() if n]
    typer.echo(f"{total} patches in {path}" + (f": {', '.join(parts)}" if parts else ""))


def show_scenes(scenes: list[dict[str, Any]], as_json: bool) -> None:
    """Print what the scenes of a file are."""
    if as_json:
        typer.echo(json.dumps(scenes, indent=1))
        return
    table = Table()
    for column in ("scene", "name", "size", "type", "pixel size (um)", "channels"):
        table.add_column(column, overflow="fold")  # cut short, it would be of no use
    for row in scenes:
        scene = "" if row["id"] is None else str(row["id"])
        channels = ", ".join(row["channels"])
        table.add_row(scene, row["name"], _size(row), row["dtype"], _pixel(row), channels)
    console = Console() if Console().is_terminal else Console(width=_UNFOLDED)
    console.print(table)


def _size(row: dict[str, Any]) -> str:
    """Write the extent along each axis, but for those of one plane: "T3 C2 Y64 X64"."""
    sizes = zip(row["axes"], row["shape"], strict=True)
    return " ".join(f"{axis}{n}" for axis, n in sizes if n > 1 or axis in "CYX")


def _pixel(row: dict[str, Any]) -> str:
    """Write the edges of a pixel as far as they are known: "0.65, Z 2", or "0.6 x 0.7"."""
    z, y, x = (row["pixel_size"][axis] for axis in "zyx")
    edges = list(dict.fromkeys(f"{n:.4g}" for n in (y, x) if n))
    depth = [f"Z {z:.4g}"] if z else []
    return ", ".join([" x ".join(edges), *depth] if edges else depth) or "unknown"
