"""The options that say what a plan is; None is what was not given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel

from napari_patchset.axes import DEPTH_AXES
from napari_patchset.export.plan import Recipe
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import STRATEGIES, Tiled
from napari_patchset.patchset.formats import FORMATS


def _values_of(model: type[BaseModel], field: str) -> str:
    """List the values that a field of a model takes, as the help shows them."""
    values: tuple[Any, ...] = get_args(model.model_fields[field].annotation)
    return "|".join(values)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Each field is an option of the commands that take a plan, and says so in its help."""

    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A saved plan; each option that is given overrides it."),
    ] = None
    scene: Annotated[
        str | None, typer.Option(metavar="ID", help='The id of one scene, or "all" (all).')
    ] = None
    depth_axis: Annotated[
        str | None,
        typer.Option(metavar="|".join(DEPTH_AXES), help="The third axis of a patch (none)."),
    ] = None
    channels: Annotated[
        str | None, typer.Option(metavar="LIST", help="By index or name: 0,2 or DAPI,EGFP (all).")
    ] = None
    select: Annotated[
        str | None,
        typer.Option(
            metavar="RANGES",
            help="Ranges in the file's own numbers, ends left out: Z=5:25,T=:10 (all).",
        ),
    ] = None
    strategy: Annotated[
        str | None,
        typer.Option(metavar="|".join(STRATEGIES), help="How patches are chosen (tiled)."),
    ] = None
    patch_size: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Pixels along Y,X, or Z,Y,X with a depth axis (64,64)."),
    ] = None
    overlap: Annotated[
        str | None, typer.Option(metavar="Y,X", help="Tiled: pixels shared by neighbours (0).")
    ] = None
    edge: Annotated[
        str | None,
        typer.Option(
            metavar=_values_of(Tiled, "edge"),
            help="Tiled: what becomes of a last patch that does not fit (shift).",
        ),
    ] = None
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Random: patches in each sample.")
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of what is drawn, and of the split (0)."),
    ] = None
    region: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where patches may lie: a mask image, or a JSON file such as "
            '{"kind": "rectangle", "x": 0, "y": 0, "w": 9, "h": 9}.',
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Target images, cut at the same places: a file, or a folder with a file of the "
            "same name for each.",
        ),
    ] = None
    labels: Annotated[
        str | None, typer.Option(metavar="PATH", help="Label images, given like --target.")
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Mask images for the filter mask, given like --target (the labels).",
        ),
    ] = None
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help='Keep patches that pass: "std>5", "max[DAPI]>p10", "mean<otsu"; may be repeated.',
        ),
    ] = None
    keep_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the rejected patches kept all the same (0)."),
    ] = None
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of patches set apart for validation (none)."),
    ] = None
    split_by: Annotated[
        str | None,
        typer.Option(
            metavar=_values_of(Split, "by"), help="What goes into one split as a whole (auto)."
        ),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Pixel type to cast to, refused where something is lost (the files' own).",
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(metavar="|".join(FORMATS), help="Format of the set (zarr)."),
    ] = None
    codec: Annotated[
        str | None,
        typer.Option(metavar=_values_of(Recipe, "codec"), help="Compression of a zarr set (none)."),
    ] = None
