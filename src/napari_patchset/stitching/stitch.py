"""Stitch predictions of the patches of a set back into images: `stitch`, and what it checks.

A plan is made of set, predictions and options, and carried out by jobs (see `image_writer`): first
the shards of full resolution, then level by level. The same call resumes what was stopped.
"""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError, PatchsetError
from napari_patchset.jobs.executors import DEFAULT_MEMORY, DEFAULT_WORKERS, run_jobs
from napari_patchset.jobs.folder import check_space
from napari_patchset.jobs.own_files import check_apart
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.source import local_path, path_text
from napari_patchset.stitching import ome_zarr
from napari_patchset.stitching.blending import Blend, check_blend
from napari_patchset.stitching.full_resolution import FullSize, Interpolation
from napari_patchset.stitching.image_writer import ImageWriter, planned_pyramids, stitch_shards
from napari_patchset.stitching.predictions import Predictions, check_alike, open_predictions
from napari_patchset.stitching.stitch_folder import (
    PredictionFile,
    StitchFolder,
    StitchPlan,
)
from napari_patchset.stitching.stitched_image import read_full_sizes, read_records

PredictionPaths = str | Path | Mapping[str, str | Path]
"""Predictions of the only split, or of each split that has some."""


class StitchOptions(Frozen):
    """The options of a stitching, with their help; see `iter_stitch`."""

    blend: Blend = Field(default="crop", description="How overlapping predictions become one.")
    fill: float = Field(default=0.0, description="Value of the pixels that no patch covers.")
    channel_names: tuple[str, ...] | None = Field(
        default=None,
        description='Names of the predicted channels: background,nuclei or "DAPI, em 450",405.',
    )
    argmax: bool = Field(
        default=False,
        description="Also write the channel with the highest prediction as a label image.",
    )
    full_resolution: Interpolation | None = Field(
        default=None,
        description="Write images of a resampled set at the size of their sources, interpolated; "
        "else at that of the set.",
    )
    codec: CodecName = Field(default="none", description="Compression of the OME-Zarr.")

    @classmethod
    def help(cls, field: str) -> str:
        """Return the help of an option."""
        return cls.model_fields[field].description or ""


@dataclass(frozen=True, slots=True)
class StitchProgress:
    """An event of a stitching.

    Attributes
    ----------
    stage : {"stitch", "levels", "done"}
        The step that it is at: full resolution, coarser levels, complete.
    done, total : int
        Number of shards written, and of all.
    path : Path
        The OME-Zarr.
    covered : float or None
        Share of the pixels that a patch covers; known when done.
    nan : float
        Share of the pixels that are not a number, as predictions are.
    """

    stage: Literal["stitch", "levels", "done"]
    done: int
    total: int
    path: Path
    covered: float | None = None
    nan: float = 0


def stitch(
    patch_set: str | Path,
    predictions: PredictionPaths,
    out: str | Path,
    *,
    progress: Callable[[StitchProgress], object] | None = None,
    **options: Any,
) -> StitchProgress:
    """Stitch predictions into an OME-Zarr; see `iter_stitch` for the parameters.

    Returns
    -------
    StitchProgress
        The last event: where the OME-Zarr is, which share of it patches cover, and which is NaN.
    """
    with closing(iter_stitch(patch_set, predictions, out, **options)) as events:
        for event in events:
            if progress is not None:
                progress(event)
    return event


def iter_stitch(
    patch_set: str | Path,
    predictions: PredictionPaths,
    out: str | Path,
    *,
    blend: Blend = "crop",
    fill: float = 0,
    channel_names: Sequence[str] | None = None,
    argmax: bool = False,
    full_resolution: Interpolation | None = None,
    codec: CodecName = "none",
    executor: Executor | None = None,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    overwrite: bool = False,
) -> Generator[StitchProgress, None, None]:
    """Stitch predictions into an OME-Zarr, yielding an event after each shard.

    Nothing happens before the first event is requested. Closing the generator stops cleanly; the
    same call then resumes, and ends with the same bytes.

    Parameters
    ----------
    patch_set : str or Path
        The set whose patches were predicted.
    predictions : str, Path, or dict of str to those
        An array N, C, (Z), Y, X in the order of a split's patches: a zarr array, an .npy or .npz
        file, a folder of TIFFs, or a patch set. Where there is a split, by the split's name. Their
        size along (Z)YX is that of the patches, or a whole multiple of it.
    out : str or Path
        The OME-Zarr to write, NAME.ome.zarr.
    blend : {"crop", "average", "hann"}
        How overlapping predictions become one: see `blend_patches`. Integers, which may be labels,
        are only cropped.
    fill : float
        Value of the pixels that no patch covers.
    channel_names : sequence of str or None
        Names of the predicted channels; by default those of the set, if there are as many.
    argmax : bool
        Also write the channel with the highest prediction as a label image; 0 where no patch is.
    full_resolution : {"nearest", "linear"} or None
        Write images of a resampled set at the size of their sources, which must be there to be
        asked for it. Integers, which may be labels, are only interpolated by nearest. None to write
        them at the pixel size of the set.
    codec : {"none", "zstd", "lz4"}
        Compression of the OME-Zarr. Labels shrink a lot; the last bits of floats are noise.
    executor, workers, memory
        As of `iter_export`.
    overwrite : bool
        Replace an OME-Zarr that was stitched, or an unfinished stitching of another plan.

    Raises
    ------
    PatchsetError, OSError
        At the first event, if predictions and set do not fit, or `out` is taken.
    """
    options = StitchOptions(
        blend=blend,
        fill=fill,
        channel_names=channel_names,
        argmax=argmax,
        full_resolution=full_resolution,
        codec=codec,
    )
    plan = check_stitching(patch_set, predictions, out, options)
    folder = StitchFolder.for_name(out)
    if folder.is_in_place and folder.has_plan(plan):  # it was killed right at its end
        with folder.locked():
            folder.remove()
        made = folder.stitched()
        yield StitchProgress("done", 1, 1, folder.out, made["covered"], made.get("nan", 0))
        return
    folder.check_free(overwrite)
    with folder.locked():
        if not folder.has_plan(plan) or not folder.result.exists():
            if not overwrite:
                folder.check_not_begun(plan)
            folder.discard()
        try:
            yield from run_plan(folder, plan, executor, workers, memory, overwrite)
        except (PatchsetError, OSError):
            if not folder.has_shards:  # nothing to resume, and nothing may have the name
                with suppress(OSError):  # the disk may be gone, and the first error matters
                    folder.discard()
            raise


def check_stitching(
    patch_set: str | Path,
    predictions: PredictionPaths,
    out: str | Path,
    options: StitchOptions,
) -> StitchPlan:
    """Check that set, predictions, destination and options fit together, and plan; write nothing.

    Raises
    ------
    PatchsetError, OSError
        If they do not.
    """
    paths = _by_split(Path(os.path.abspath(patch_set)), predictions)
    with PatchSet(patch_set) as opened:
        folder = StitchFolder.for_name(out)
        check_apart([folder.out, folder.root], [str(opened.path), *map(str, paths.values())])
        return _plan(opened, paths, options)


def run_plan(
    folder: StitchFolder,
    plan: StitchPlan,
    executor: Executor | None,
    workers: int,
    memory: int,
    overwrite: bool,
) -> Generator[StitchProgress, None, None]:
    """Carry out a plan in its locked folder, or resume it there; see `iter_stitch`."""
    folder.clear_stop()
    try:
        if folder.find_plan() is None:
            with PatchSet(local_path(plan.patch_set)) as patch_set:
                pyramids = planned_pyramids(folder, patch_set, plan)
                records = read_records(patch_set)
            _check_space(folder, plan, pyramids)
            ome_zarr.create(folder.result, pyramids, records, labels=plan.argmax)
            folder.write_plan(plan)
        writer = ImageWriter(folder)
        yield from _write_levels(writer, executor, workers, memory)
        covered, nan = writer.complete(overwrite)
        folder.remove()
    finally:
        folder.clear_stop()
    total = writer.n_shards(0)
    yield StitchProgress("done", total, total, folder.out, covered, nan)


def _check_space(
    folder: StitchFolder, plan: StitchPlan, pyramids: Sequence[ome_zarr.Pyramid]
) -> None:
    """Raise ExportError if the image needs more than the free space of its disk.

    If it is compressed, its size is not known in advance.
    """
    if plan.codec == "none":
        labels = [pyramid.labels() for pyramid in pyramids] if plan.argmax else []
        needed = sum(each.nbytes for each in (*pyramids, *labels))
        check_space(folder.root, needed, "The stitched image", "save it elsewhere, or compressed")


def _write_levels(
    writer: ImageWriter, executor: Executor | None, workers: int, memory: int
) -> Iterator[StitchProgress]:
    """Write the shards that are missing, one level after the other."""
    folder = writer.folder
    total = sum(writer.n_shards(level) for level in range(writer.n_levels))
    done = 0
    for level in range(writer.n_levels):
        stage: Literal["stitch", "levels"] = "levels" if level else "stitch"
        n = writer.n_shards(level)
        missing = folder.missing(level, n)
        done += n - len(missing)
        yield StitchProgress(stage, done, total, folder.out)
        files = {folder.done_path(level, shard): 1 for shard in missing}
        options = {"level": level, "memory": memory}
        for n_written in run_jobs(
            folder, stitch_shards, missing, files, executor, workers, **options
        ):
            done += n_written
            yield StitchProgress(stage, done, total, folder.out)


def _by_split(patch_set: Path, predictions: PredictionPaths) -> dict[str, Path]:
    if isinstance(predictions, Mapping):
        named = predictions
    else:
        with PatchSet(patch_set) as opened:
            splits = opened.splits
        path = Path(predictions)
        if len(splits) > 1 and not path.is_dir() and path.suffix != ".npz":
            raise ArgumentError(
                f"{patch_set} has the splits {', '.join(splits)}; name the one that {path} "
                f"predicts, like {splits[0]}={path}."
            )
        named = dict.fromkeys(splits, path)
    if not named:
        raise ArgumentError("Name the predictions of at least one split.")
    return {split: Path(os.path.abspath(path)) for split, path in named.items()}


def _plan(patch_set: PatchSet, paths: Mapping[str, Path], options: StitchOptions) -> StitchPlan:
    size = patch_size(patch_set)
    for split in paths:
        patch_set.named_split(split)  # or raise
    opened = {split: open_predictions(path, split, len(size) + 2) for split, path in paths.items()}
    files = {split: PredictionFile.at(path) for split, path in paths.items()}
    return plan_stitching(patch_set, opened, files, options)


def plan_stitching(
    patch_set: PatchSet,
    predictions: Mapping[str, Predictions],
    files: Mapping[str, PredictionFile],
    options: StitchOptions,
) -> StitchPlan:
    """Check that predictions, set and options fit together, and plan; see `iter_stitch`."""
    check_alike(predictions, patch_set.manifest.counts)
    first = next(iter(predictions.values()))
    check_blend(options.blend, first.dtype)
    size, (n_channels, *predicted) = patch_size(patch_set), first.shape[1:]
    factors = [n // p for n, p in zip(predicted, size, strict=True)]
    if [f * p for f, p in zip(factors, size, strict=True)] != predicted:
        raise ArgumentError(
            f"Predictions have the size {tuple(predicted)}, patches {size}; it must be the same, "
            "or a whole multiple along each axis."
        )
    names = options.channel_names or patch_set.manifest.channels
    if options.channel_names and len(names) != n_channels:
        raise ArgumentError(
            f"There are {len(names)} channel names ({format_channels(names)}), but {n_channels} "
            "predicted channels."
        )
    if len(names) != n_channels:
        names = tuple(f"prediction {i}" for i in range(n_channels))
    if not _holds(first.dtype, options.fill):
        raise ArgumentError(
            f"fill is {options.fill:g}, which {first.dtype} does not hold; choose another."
        )
    full_sizes: tuple[FullSize | None, ...] = ()
    if options.full_resolution is not None:
        _check_interpolation(options.full_resolution, first.dtype, factors)
        full_sizes = tuple(read_full_sizes(patch_set))
    return StitchPlan(
        patch_set=path_text(patch_set.path),
        table_digest=patch_set.manifest.table_digest,
        predictions=dict(files),
        blend=options.blend,
        fill=options.fill,
        channels=tuple(names),
        dtype=first.dtype.name,
        factor=tuple(factors),
        argmax=options.argmax,
        codec=options.codec,
        interpolation=options.full_resolution,
        full_sizes=full_sizes,
    )


def _check_interpolation(kind: Interpolation, dtype: np.dtype[Any], factors: Sequence[int]) -> None:
    """Raise ArgumentError if pixels of that type, or finer ones, can't be interpolated."""
    if kind == "linear" and dtype.kind != "f":
        raise ArgumentError(
            f"Predictions are {dtype}, which may be labels, and nothing lies between labels; use "
            "the full resolution nearest, or save intensities as float32."
        )
    if set(factors) != {1}:
        raise ArgumentError(
            f"Predictions have {factors} pixels for each of a patch; the full resolution is made "
            "of predictions that have the size of the patches."
        )


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of a type can have a value."""
    if dtype.kind == "b":
        return value in (0, 1)
    if dtype.kind == "f":
        return not np.isfinite(value) or abs(value) <= np.finfo(dtype).max
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def patch_size(patch_set: PatchSet) -> tuple[int, ...]:
    """Return the size of the patches along (Z)YX, also of a set without pixels."""
    axes = patch_set.manifest.sources[0].layout.spatial_axes.lower()
    row = next(patch_set.table_parts([f"{axis}_size" for axis in axes])).slice(0, 1)
    return tuple(int(row[f"{axis}_size"][0].as_py()) for axis in axes)
