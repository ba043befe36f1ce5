"""`patchset stitch`: predictions of patches back into images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.channels import parse_channels
from napari_patchset.cli.parameters import Memory, RunBy, Scheduler, Workers, memory_from
from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import flag, option
from napari_patchset.cli.signals import resumable, until_interrupted
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import ANY_PIXEL
from napari_patchset.jobs.executors import DEFAULT_WORKERS, open_executor
from napari_patchset.patching.axis_ranges import format_ranges
from napari_patchset.patchset.layout import UNSPLIT
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.stitching.blending import Blend
from napari_patchset.stitching.full_resolution import Interpolation
from napari_patchset.stitching.stitch import StitchOptions, StitchProgress, iter_stitch
from napari_patchset.stitching.stitch_folder import SUFFIX, StitchFolder

DEFAULTS = StitchOptions()


def stitch(
    name: Annotated[
        Path, typer.Argument(metavar="NAME", help="The patch set whose patches were predicted.")
    ],
    predictions: Annotated[
        list[str],
        option(
            "Source",
            "[SPLIT=]PATH",
            "Predictions in the order of a split's patches: a zarr array, .npy, .npz, a folder "
            "of TIFFs, or a patch set; more than once for several splits.",
        ),
    ],
    out: Annotated[Path, option("Output", "NAME", f"The OME-Zarr to write: NAME{SUFFIX}.")],
    blend: Annotated[
        Blend, option("Output", "crop|average|hann", StitchOptions.help("blend"))
    ] = DEFAULTS.blend,
    fill: Annotated[float, option("Output", "NUMBER", StitchOptions.help("fill"))] = DEFAULTS.fill,
    channel_names: Annotated[
        str | None, option("Output", "NAMES", StitchOptions.help("channel_names"))
    ] = None,
    argmax: Annotated[
        bool, flag("Output", "--argmax", StitchOptions.help("argmax"))
    ] = DEFAULTS.argmax,
    full_resolution: Annotated[
        Interpolation | None,
        option("Output", "nearest|linear", StitchOptions.help("full_resolution")),
    ] = DEFAULTS.full_resolution,
    codec: Annotated[
        CodecName, option("Output", "none|zstd|lz4", StitchOptions.help("codec"))
    ] = DEFAULTS.codec,
    overwrite: Annotated[
        bool,
        flag(
            "Output", "--overwrite", "Replace a stitched image, or an unfinished one, of that name."
        ),
    ] = False,
    executor: RunBy = "threads",
    workers: Workers = DEFAULT_WORKERS,
    scheduler: Scheduler = None,
    memory: Memory = None,
) -> None:
    """Stitch predictions of patches back into images.

    A stitching that was stopped resumes when the same command is run again.

    Example: patchset stitch cells.patches.zarr --predictions denoised.npy --out cells.ome.zarr
    """
    names = None if channel_names is None else list(map(str, parse_channels(channel_names)))
    with open_executor(executor, workers, scheduler, REPORT.warning) as pool:
        events = iter_stitch(
            name,
            _by_split(predictions),
            out,
            blend=blend,
            fill=fill,
            channel_names=names,
            argmax=argmax,
            full_resolution=full_resolution,
            codec=codec,
            executor=pool,
            workers=workers,
            memory=memory_from(memory),
            overwrite=overwrite,
        )
        with resumable(StitchFolder.for_image(out), out):
            _show(until_interrupted(events), name)


def _by_split(predictions: Sequence[str]) -> str | dict[str, str]:
    """Split "val=PATH" into a split and a path, unless a file has that name."""
    named: dict[str, str] = {}
    for text in predictions:
        split, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            if len(predictions) == 1:
                return text
            split, path = UNSPLIT, text
        if split in named:
            raise ArgumentError(f"--predictions: {split} has two, {named[split]} and {path}.")
        named[split] = path
    return named


def _show(events: Iterator[StitchProgress], patch_set: Path) -> None:
    for event in events:
        REPORT.progress(event.stage, event.done, event.total)
    if event.covered is not None and event.covered < 1:
        with PatchSet(patch_set) as made:
            recipe = made.manifest.recipe
        limits = " and ".join(_limits(recipe["strategy"]))
        cause, without = (f": the set has only {limits}", ", without that") if limits else ("", "")
        if not limits and _covers_all(recipe):
            REPORT.warning("the rest, of which the files have no pixels, has the fill value.")
        else:
            REPORT.warning(
                f"the rest has the fill value{cause}; a set of all pixels that the files have is "
                f"made by patchset export --for-prediction{without}."
            )
    if event.nan:
        REPORT.warning(f"{100 * event.nan:.4g} % of the pixels are NaN, as predictions are.")
    text = f"{event.path}: patches cover {100 * (event.covered or 0):.4g} % of it"
    REPORT.summary(text, path=str(event.path), covered=event.covered, nan=event.nan)


def _covers_all(recipe: Mapping[str, Any]) -> bool:
    """Return whether a set without limits has all pixels, as of --for-prediction."""
    strategy = recipe["strategy"]
    is_complete = strategy["kind"] == "tiled" and strategy.get("edge") != "drop"
    is_complete &= strategy.get("small") == "pad" and strategy["min_covered"] <= ANY_PIXEL
    is_chosen = any(recipe.get(name) for name in ("filters", "split", "dedupe", "overrides"))
    return is_complete and not is_chosen


def _limits(strategy: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that limit where patches of a set lie."""
    if ranges := strategy.get("select"):
        yield f"--select {format_ranges(ranges)}"
    regions = {"region": "--region", "region_classes": "--region-class"}
    yield from (option for field, option in regions.items() if strategy.get(field))
    if strategy.get("exclude_classes"):
        yield "what --exclude-class left"
