"""The subcommands that look at files.

The subcommand that holds a patch set against its sources.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import imagecodecs
import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from napari_patchset.cli.options import (
    Files,
    Memory,
    Threads,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import bar_on_terminal, show_scenes
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import ExportPlan, choose_scenes
from napari_patchset.exporting.plan_options import PlanOptions
from napari_patchset.exporting.run import DEFAULT_WORKERS
from napari_patchset.exporting.sources import describe_sources, open_source, read_masks
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.preview import render
from napari_patchset.source import split_source
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.verification.subject import Finding
from napari_patchset.verification.verify import verify as find_differences


def info(
    path: Annotated[
        str,
        typer.Argument(metavar="FILE", help='A file or URL; "name.czi@3" is scene 3 of a file.'),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a file.

    Scenes, axes, shape, pixel type, pixel size and channels.
    """
    file, chosen = split_source(path)
    ids = choose_scenes(file, chosen)
    scenes = [scene for scene in list_scenes(file) if scene.id in ids]
    rows = []
    for scene in scenes:
        with open_stack(file, scene.id) as stack:
            source = describe(stack)
        rows.append(asdict(scene) | source.model_dump(mode="json", exclude={"scene"}))
    show_scenes(rows, as_json)


@with_plan_options
def preview(
    options: PlanOptions,
    out: Annotated[Path, typer.Option(metavar="PNG", help="The picture to write.")],
    files: Files = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The sample that is drawn, counted from 0 (the middle one)."
        ),
    ] = None,
) -> None:
    """Draw the patches on an image, as a PNG."""
    plan = plan_from(options, files, f"preview{SUFFIX}")
    if len(plan.sources) > 1:
        first, n = plan.sources[0], len(plan.sources)
        raise ArgumentError(f"There are {n} images, the first is {first}; choose one: --scene.")
    typer.echo(write_preview(plan, sample, out))


def write_preview(plan: ExportPlan, sample: int | None, out: Path) -> Path:
    """Draw the middle plane of the first source, or of a sample of it, with its grid as a PNG."""
    grid = plan.strategy.plan(describe_sources(plan), read_masks(plan.strategy))
    with open_source(plan, plan.sources[0]) as stack:
        n_samples, depth = (
            stack.data_shape[0],
            stack.data_shape[2] if plan.depth_axis != "none" else 1,
        )
        index = n_samples // 2 if sample is None else sample
        picture = render(stack, grid, 0, index, depth // 2)
    out.write_bytes(imagecodecs.png_encode(picture))
    return out


def verify(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The patch set.")],
    sources: Annotated[
        bool, typer.Option(help="Cut every patch again from the sources, and compare.")
    ] = True,
    workers: Threads = DEFAULT_WORKERS,
    memory: Memory = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, one a line.")
    ] = False,
) -> None:
    """Check a set, and compare it with its sources.

    Every digest and count, the split, and each patch cut again. Exit code 1 if anything differs.
    """
    n = 0
    for finding in _shown(name, sources, workers, memory_from(memory)):
        n += 1
        typer.echo(json.dumps(asdict(finding)) if as_json else str(finding))
    if n:
        typer.echo(f"{name}: {n} {'difference' if n == 1 else 'differences'}", err=True)
        raise typer.Exit(1)
    if not as_json:
        what = "itself and its sources" if sources else "itself; the sources were not looked at"
        typer.echo(f"{name}: no difference, held against {what}")


def _shown(name: Path, sources: bool, workers: int, memory: int) -> Iterator[Finding]:
    """Find differences under a bar that says how many patches are read."""
    columns = TextColumn("patches"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with bar_on_terminal(*columns, transient=True) as update:

        def show(done: int, total: int) -> None:
            update(completed=done, total=total)

        yield from find_differences(
            name, sources=sources, workers=workers, memory=memory, progress=show
        )
