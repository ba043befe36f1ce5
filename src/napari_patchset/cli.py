"""The command `patchset`: thin, every subcommand builds a plan and hands it on."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import imagecodecs
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from napari_patchset import __version__, options
from napari_patchset.errors import ArgumentError, PatchsetError
from napari_patchset.export.engine import DEFAULT_WORKERS, run_export
from napari_patchset.export.plan import ExportPlan, user_message
from napari_patchset.export.sources import describe_sources, open_source
from napari_patchset.options import PatchOptions
from napari_patchset.patchset.layout import SUFFIX, partial_path
from napari_patchset.preview import render
from napari_patchset.sample import ensure_sample
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.naming import split_scene
from napari_patchset.stacks.opening import list_scenes, open_stack

app = typer.Typer(
    help="Turn microscope files into patch sets for training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Files = Annotated[list[str], typer.Argument(help='Files; "name.czi@3" is its scene 3.')]
File = Annotated[str, typer.Argument(help='A file; "name.czi@3" is its scene 3.')]
Out = Annotated[str, typer.Option(help=f"What to write, NAME{SUFFIX}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def info(path: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Say what is in a file: scenes, axes, shape, pixel type, pixel size, channels."""
    file, chosen = split_scene(path, None)
    scenes = [s for s in list_scenes(file) if chosen is None or s.id == chosen]
    if not scenes:
        raise ArgumentError(f"{file}: there is no scene {chosen}.")
    rows = []
    for scene in scenes:
        with open_stack(file, scene.id) as stack:
            source = describe(stack)
        rows.append(asdict(scene) | source.model_dump(mode="json", exclude={"scene"}))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _print_scenes(rows)


@app.command()
def export(
    files: Files,
    out: Out,
    scene: options.Scene = "all",
    depth_axis: options.Depth = "none",
    channels: options.Channels = None,
    select: options.Select = None,
    strategy: options.Strategy = "tiled",
    patch_size: options.PatchSize = "64,64",
    overlap: options.Overlap = "0",
    edge: options.EdgeOption = "shift",
    count: options.Count = None,
    seed: options.Seed = 0,
    region: options.Region = None,
    executor: Annotated[Literal["threads", "processes"], typer.Option()] = "threads",
    workers: Annotated[int, typer.Option(min=1)] = DEFAULT_WORKERS,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
) -> None:
    """Export a patch set. Run it again to go on with one that was stopped."""
    plan = _patch_options(locals()).plan(files, out)
    with _executor(executor, workers) as pool:
        events = run_export(plan, pool, workers=workers, overwrite=overwrite)
        try:
            _show_events(events, as_json)
        except KeyboardInterrupt:
            partial = partial_path(Path(out))
            if partial.exists():
                typer.echo(f"Stopped. {partial} keeps what is done; run the same again.", err=True)
            raise


@app.command()
def preview(
    file: File,
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    scene: options.Scene = "all",
    depth_axis: options.Depth = "none",
    channels: options.Channels = None,
    select: options.Select = None,
    strategy: options.Strategy = "tiled",
    patch_size: options.PatchSize = "64,64",
    overlap: options.Overlap = "0",
    edge: options.EdgeOption = "shift",
    count: options.Count = None,
    seed: options.Seed = 0,
    region: options.Region = None,
    sample: Annotated[int | None, typer.Option(help="Which sample; the middle one.")] = None,
) -> None:
    """Draw the grid on the image, as the widget draws it."""
    plan = _patch_options(locals()).plan([file], f"preview{SUFFIX}")
    if len(plan.sources) > 1:
        ids = ", ".join(str(source.scene) for source in plan.sources)
        raise ArgumentError(f"{file} has {len(plan.sources)} scenes ({ids}); choose one: --scene.")
    typer.echo(_write_preview(plan, sample, out))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("demo"),
) -> None:
    """Export the sample file and draw its grid, end to end."""
    out.mkdir(parents=True, exist_ok=True)
    sample = str(ensure_sample())
    patches = str(out / f"cells{SUFFIX}")
    plan = PatchOptions(overlap="16").plan([sample], patches)
    _show_events(run_export(plan, overwrite=True), as_json=False)
    first = plan.model_copy(update={"sources": plan.sources[:1]})
    picture = _write_preview(first, None, out / "preview.png")
    typer.echo(f"patch set: {Path(patches).absolute()}\npreview:   {picture.absolute()}")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; exit code 0, 1 for bad input, 2 for wrong usage, 130 if interrupted."""
    try:
        app()
    except (PatchsetError, ValidationError, OSError) as error:
        typer.echo(f"patchset: {_one_line(error)}", err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return user_message(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _patch_options(arguments: dict[str, Any]) -> PatchOptions:
    """Take, out of a command's arguments, those that say where patches lie."""
    return PatchOptions(**{name: arguments[name] for name in PatchOptions.model_fields})


def _write_preview(plan: ExportPlan, sample: int | None, out: Path) -> Path:
    grid = plan.strategy.plan(describe_sources(plan))
    with open_source(plan, plan.sources[0]) as stack:
        n_samples, depth = (
            stack.data_shape[0],
            stack.data_shape[2] if plan.depth_axis != "none" else 1,
        )
        index = n_samples // 2 if sample is None else sample
        picture = render(stack, grid, 0, index, depth // 2)
    out.write_bytes(imagecodecs.png_encode(picture))
    return out


@contextmanager
def _executor(kind: str, workers: int) -> Iterator[Executor | None]:
    """Give a process pool, never forked: libCZI and threads do not survive a fork."""
    if kind == "threads":
        yield None
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool


def _show_events(events: Iterator[Any], as_json: bool) -> None:
    if as_json:
        for event in events:
            typer.echo(json.dumps(asdict(event), default=str))
        return
    first = next(events)  # what can't be carried out says so before a bar is drawn
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("patches", total=first.total)
        for event in chain([first], events):
            bar.update(task, completed=event.done, total=event.total)
    typer.echo(f"{event.total} patches in {event.path}")


def _print_scenes(rows: list[dict[str, Any]]) -> None:
    table = Table("scene", "name", "axes", "shape", "type", "pixel size (um)", "channels")
    for row in rows:
        size = row["pixel_size"]
        pixel = " x ".join(f"{size[a]:.4g}" for a in "zyx" if size[a]) or "unknown"
        shape = " x ".join(map(str, row["shape"]))
        scene = "" if row["id"] is None else str(row["id"])
        channels = ", ".join(row["channels"])
        table.add_row(scene, row["name"], row["axes"], shape, row["dtype"], pixel, channels)
    Console().print(table)
