"""Progress and outcome of an export, on a terminal or as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
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

from napari_patchset.exporting.failures import SOURCE_ERRORS, Failure
from napari_patchset.exporting.plan import SourceRef
from napari_patchset.patching.splits import Split
from napari_patchset.patching.strategies.base import MISSING_PLANE
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.patchset.manifest import Provenance
from napari_patchset.patchset.reader import read_description
from napari_patchset.stacks.opening import open_stack

_DOING = {"plan": "planned", "score": "measured", "write": "written", "done": "written"}
"""The bar's verb, by the stage of an export."""


def show_events(events: Iterator[Any], as_json: bool) -> None:
    """Run an export and show its progress; exit with 1 if a source was skipped."""
    if as_json:
        for event in events:
            typer.echo(json.dumps(asdict(event), default=_to_json))
    else:
        first = next(events)  # an export that can't start fails before a bar is drawn
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with bar_on_terminal(*columns, TimeRemainingColumn()) as update:
            for event in chain([first], events):
                update(description=_DOING[event.stage], completed=event.done, total=event.total)
        show_counts(event.path)
    show_failures(event.failures)


def _to_json(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Failure) else str(value)


def show_failures(failures: Sequence[Failure]) -> None:
    """Name the sources that were skipped; exit with 1 if there are any."""
    for failure in failures:
        typer.echo(f"skipped: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


@contextmanager
def bar_on_terminal(
    *columns: ProgressColumn, transient: bool = False
) -> Iterator[Callable[..., None]]:
    """Draw a bar and yield the function that updates it; without a terminal, draw nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        # Older releases of rich write an empty line for a bar that is disabled.
        yield lambda **_: None
        return
    with Progress(*columns, console=console, transient=transient) as bar:
        yield partial(bar.update, bar.add_task("", total=None))


def show_counts(path: Path) -> None:
    """Print how many patches are in each split, and how many candidates are not and why."""
    manifest, provenance = read_description(path)
    total, rejected = sum(manifest.counts.values()), sum(manifest.rejected.values())
    parts = [f"{n} {split}" for split, n in manifest.counts.items() if split != UNSPLIT]
    if rejected:
        parts.append(f"{rejected} rejected")
    for reason, n in manifest.dropped.items():
        where = _lacking_planes(provenance) if reason == MISSING_PLANE else ""
        parts += [f"{n} left out ({reason}{where})"] if n else []
    typer.echo(f"{total} patches in {path}" + (f": {', '.join(parts)}" if parts else ""))
    split = manifest.recipe.get("split")
    if split and (remark := Split.model_validate(split).remark(manifest.counts)):
        typer.echo(remark, err=True)


def _lacking_planes(provenance: Provenance) -> str:
    """Return which sources lack planes: " in a.czi and others"; "" for those of one file."""
    refs = [SourceRef.model_validate(source) for source in provenance.sources]
    if len({ref.path for ref in refs}) == 1:
        return ""
    lacking = list(islice((ref for ref in refs if _lacks_planes(ref)), 2))
    others = " and others" if len(lacking) > 1 else ""
    return f" in {lacking[0]}{others}" if lacking else ""


def _lacks_planes(ref: SourceRef) -> bool:
    with suppress(*SOURCE_ERRORS), open_stack(ref.path, ref.scene, **ref.overrides) as stack:
        return bool(getattr(stack, "missing_planes", ()))
    return False
