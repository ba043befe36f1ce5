"""The subcommands that look at files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import imagecodecs
import typer

from napari_patchset.cli.arguments import Files, plan_from, with_plan_options
from napari_patchset.cli.showing import show_scenes
from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import choose_scenes
from napari_patchset.export.sources.describing import describe_sources, open_source
from napari_patchset.export.sources.masks import read_masks
from napari_patchset.options.given import PlanOptions
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.preview import render
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.naming import split_source
from napari_patchset.stacks.opening import list_scenes, open_stack


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
