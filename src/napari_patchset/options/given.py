"""The options that say what a plan is; None is what was not given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel

from napari_patchset.axes import DEPTH_AXES
from napari_patchset.export.plan import Recipe
from napari_patchset.patching.splits import Split
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
        typer.Option(
            metavar="FILE", help="A plan that was saved; any option that is given overrides it."
        ),
    ] = None
    scene: Annotated[
        str | None, typer.Option(metavar="ID", help='The id of a scene, or "all" (all).')
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
            metavar="RANGES", help="Half-open ranges in the file's numbers: Z=5:25,T=:10."
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
            metavar=_values_of(Tiled, "edge"), help="Tiled: where the grid does not fit (shift)."
        ),
    ] = None
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Random: patches in each sample.")
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Another seed, another draw and another split (0)."),
    ] = None
    region: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='A mask, or a JSON file: {"kind": "rectangle", "x": 0, ...}.'
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="What is cut at the same places: a file, or a folder of such."
        ),
    ] = None
    labels: Annotated[str | None, typer.Option(metavar="PATH", help="Labels, in the same way.")] = (
        None
    )
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="What the filter mask looks at, in the same way (labels)."
        ),
    ] = None
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help='Keep patches that pass: "std>5", "max[DAPI]>p10", "mean<otsu".'
        ),
    ] = None
    keep_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of what a filter rejects that is kept (0)."),
    ] = None
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of patches set apart for validation (none)."),
    ] = None
    split_by: Annotated[
        str | None,
        typer.Option(metavar=_values_of(Split, "by"), help="What the split keeps together (auto)."),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="Pixel type to cast to, if nothing is lost (the files')."
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(metavar="|".join(FORMATS), help="What is written (zarr)."),
    ] = None
    codec: Annotated[
        str | None,
        typer.Option(
            metavar=_values_of(Recipe, "codec"), help="Compression of a zarr's patches (none)."
        ),
    ] = None
