"""`patchset preview`: a picture of the patches on an image."""

import json
from pathlib import Path
from typing import Annotated, Any

import imagecodecs
import typer

from napari_patchset.cli.options import Files, Json, SavedPlan, plan_from, with_plan_options
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.exporting.sources import describe_sources, open_source, read_masks
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.preview.image import render


@with_plan_options
def preview(
    out: Annotated[
        Path,
        typer.Option(metavar="PNG", help="The picture to write.", rich_help_panel="Output"),
    ],
    files: Files = None,
    plan: SavedPlan = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The plane (or volume) to draw, counted from 0 (the middle one).",
            rich_help_panel="Output",
        ),
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Draw the patches on an image, as a PNG.

    Example: patchset preview cells.czi --scene 1 --patch-size 64,64 --overlap 16 --out grid.png
    """
    chosen = plan_from(files, f"preview{SUFFIX}", plan, options)
    if len(chosen.sources) > 1:
        first, n = chosen.sources[0], len(chosen.sources)
        raise ArgumentError(f"There are {n} images, the first is {first}; choose one: --scene.")
    write_preview(chosen, sample, out)
    typer.echo(json.dumps({"path": str(out)}) if as_json else out)


def write_preview(plan: ExportPlan, sample: int | None, out: Path) -> None:
    """Write the patches of a plan's first source as a PNG: on one sample, at its middle depth."""
    grid = plan.strategy.plan(describe_sources(plan), read_masks(plan.strategy))
    with open_source(plan, plan.sources[0]) as stack:
        n_samples, _, *spatial = stack.data_shape
        depth = spatial[0] if plan.depth_axis != "none" else 1
        index = n_samples // 2 if sample is None else sample
        picture = render(stack, grid, 0, index, depth // 2)
    out.write_bytes(imagecodecs.png_encode(picture))
