"""Write stitched images shard by shard: what a job does, what completes them, how far they are.

One job fills a shard: it reads every patch that touches it in the order of the table, so that all
executors write the same bytes. Each further level is made of the one before when that is complete.
Shards are numbered over all images of a level; a done marker in the folder records each that is
written (see `stitch_folder`).
"""

from bisect import bisect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_patchset.errors import ExportError, PatchsetError
from napari_patchset.jobs.status import WorkStatus, work_status
from napari_patchset.patchset.files import permitted_by
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.source import local_path
from napari_patchset.stacks.cache import SharedCache
from napari_patchset.stitching import ome_zarr
from napari_patchset.stitching.blending import Box, PlacedPatches, blend_patches
from napari_patchset.stitching.full_resolution import interpolate, made_box
from napari_patchset.stitching.predictions import PredictedPatches, Predictions, open_predictions
from napari_patchset.stitching.stitch_folder import (
    ATTRIBUTE,
    StitchedShard,
    StitchFolder,
    StitchPlan,
)
from napari_patchset.stitching.stitched_image import FrameBox, StitchedImage, images_of

_STRIP = 256
"""Rows that are blended at once: sums of this size stay in the processor's cache."""


def planned_pyramids(
    folder: StitchFolder, patch_set: PatchSet, plan: StitchPlan
) -> list[ome_zarr.Pyramid]:
    """Return the pyramids that a plan makes of the sources of its set."""
    sources, sizes = patch_set.manifest.sources, plan.full_sizes
    images = images_of(sources, plan.channels, plan.dtype, plan.factor, sizes)
    return ome_zarr.pyramids(folder.result, list(images), plan.fill, plan.codec)


class ImageWriter:
    """A planned stitching: the set, its predictions, and the images that they become."""

    def __init__(self, folder: StitchFolder) -> None:
        self.folder, self.plan = folder, folder.plan()
        self._set = PatchSet(local_path(self.plan.patch_set))
        if self._set.manifest.table_digest != self.plan.table_digest:
            raise ExportError(
                f"{self.plan.patch_set} is not the set that the stitching was planned with; stitch "
                "with overwrite to start over."
            )
        self._pyramids = planned_pyramids(folder, self._set, self.plan)
        self.n_levels = max(pyramid.image.n_levels for pyramid in self._pyramids)
        self._samples: SharedCache[tuple[int, int], PlacedPatches] = SharedCache(4)

    def n_shards(self, level: int) -> int:
        """Return the number of shards of a level, over all images."""
        return self._ends(level)[-1]

    def write_shard(self, level: int, number: int) -> None:
        """Write a shard, and mark it as done."""
        pyramid, first = self._find_shard(level, number)
        image, shard = pyramid.image, pyramid.image.shard(level, first)
        if level:
            for layer in (pyramid, pyramid.labels()) if self.plan.argmax else (pyramid,):
                _write_levels(layer, level, first, layer.read_halved(level, shard))
            done = StitchedShard(covered=0, low=(), high=())
        else:
            pixels, covered = self._blend(image, shard)
            _write_levels(pyramid, 0, first, pixels)
            if self.plan.argmax:
                classes = np.where(covered, pixels.argmax(axis=0), 0)[np.newaxis]
                labels = pyramid.labels()
                _write_levels(labels, 0, first, classes.astype(labels.dtype))
            low, high = _finite_range(pixels)
            done = StitchedShard(
                covered=int(np.count_nonzero(covered)),
                nan=_count_nan(pixels, covered),
                low=low,
                high=high,
            )
        self.folder.mark_done(level, number, done)

    def _blend(
        self, image: StitchedImage, shard: FrameBox
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Blend the pixels C, (Z), Y, X of a shard; also return which of them a patch covers."""
        box, plan = shard.box, self.plan
        patches = self._patches_of(image.source_index, image.sample(shard.frame))
        pixels = np.full((len(image.channels), *box.shape), plan.fill, plan.dtype)
        covered = np.empty(box.shape, bool)
        for top in range(box.start[-2], box.stop[-2], _STRIP):
            strip = box.rows(top, min(top + _STRIP, box.stop[-2]))
            rows = slice(top - box.start[-2], strip.stop[-2] - box.start[-2])
            out = pixels[..., rows, :]
            if image.full is None:
                part = blend_patches(plan.blend, strip, patches, self._read, out)
            else:
                part = self._blend_made(image, strip, patches, out)
            covered[..., rows, :] = part
        return pixels, covered

    def _blend_made(
        self, image: StitchedImage, box: Box, patches: PlacedPatches, out: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Blend made pixels, and interpolate a box of the source's; see `blend_patches`."""
        ratio, kind = image.source.ratio, self.plan.interpolation
        assert ratio is not None  # only what was resampled has another full size
        assert kind is not None
        made = made_box(box, ratio, image.made_shape)
        pixels = np.zeros((len(out), *made.shape), out.dtype)
        covered = blend_patches(self.plan.blend, made, patches, self._read, pixels)
        return interpolate(pixels, covered, made, box, ratio, image.made_shape, kind, out)

    def complete(self, overwrite: bool) -> tuple[float, float]:
        """Add names and ranges of the channels, and rename the OME-Zarr into place.

        Returns
        -------
        covered, nan : float
            Share of the pixels that a patch covers, and of those that are not a number.
        """
        covered = nan = total = 0
        ends = self._ends(0)
        for index, pyramid in enumerate(self._pyramids):
            image = pyramid.image
            numbers = range(ends[index] - image.n_shards(0), ends[index])
            written = [self.folder.read_done(0, number) for number in numbers]
            covered += sum(shard.covered for shard in written)
            nan += sum(shard.nan for shard in written)
            total += int(np.prod(image.frame_shape + image.spatial_shape(0), dtype=np.int64))
            ranges = [
                (
                    [v for shard in written if (v := shard.low[c]) is not None],
                    [v for shard in written if (v := shard.high[c]) is not None],
                )
                for c in range(len(image.channels))
            ]
            low = [min(values, default=0.0) for values, _ in ranges]
            high = [max(values, default=1.0) for _, values in ranges]
            ome_zarr.add_display(pyramid, low, high)
        share, nan_share = covered / total, nan / total
        root = zarr.open_group(self.folder.result, mode="r+")
        root.attrs[ATTRIBUTE] = {
            "recipe_hash": self._set.manifest.recipe_hash,
            "table_digest": self.plan.table_digest,
            "blend": self.plan.blend,
            "covered": share,
            **({"nan": nan_share} if nan else {}),
        }
        self.folder.check_free(overwrite)
        self.folder.remove_drafts()
        self.folder.rename_into_place(self.folder.out)
        return share, nan_share

    def shard_bytes(self) -> int:
        """Return about the memory that a shard takes while it is written."""
        image_pixel = len(self.plan.channels) * np.dtype(self.plan.dtype).itemsize
        # The pixels, what they are summed up or halved from, and what is covered.
        pixel_bytes = 5 * image_pixel + 2
        if self.plan.interpolation:
            pixel_bytes += 2 * image_pixel + 3 * 8 * len(self.plan.channels)
        boxes = [pyramid.image.shard(0, 0).box for pyramid in self._pyramids]
        return max(prod(box.shape) for box in boxes) * pixel_bytes

    def _ends(self, level: int) -> list[int]:
        """Return the number of shards of a level up to the end of each image."""
        images = [pyramid.image for pyramid in self._pyramids]
        return list(accumulate(i.n_shards(level) if i.levels_from(level) else 0 for i in images))

    def _find_shard(self, level: int, number: int) -> tuple[ome_zarr.Pyramid, int]:
        """Return the pyramid that a shard of a level is of, and its number there."""
        ends = self._ends(level)
        index = int(np.searchsorted(ends, number, side="right"))
        pyramid = self._pyramids[index]
        return pyramid, number - ends[index] + pyramid.image.n_shards(level)

    def _patches_of(self, source_index: int, sample: int) -> PlacedPatches:
        """Return the patches of one sample of a source, in pixels of the image."""
        place = partial(self._place, source_index, sample)
        return self._samples.get((source_index, sample), place)

    def _place(self, source_index: int, sample: int) -> PlacedPatches:
        patches = self._patches
        rows = np.flatnonzero(
            (patches.grid.source_index == source_index) & (patches.grid.sample == sample)
        )
        factor = np.array(self.plan.factor)
        size = tuple(n * f for n, f in zip(patches.grid.size, self.plan.factor, strict=True))
        start = patches.grid.start[rows].astype(np.int64) * factor
        crops = None
        if patches.crops is not None:
            first = patches.crops.stitch_coords[rows]
            crops = first * factor, (first + patches.crops.crop_size[rows]) * factor
        return PlacedPatches(patches.number[rows], start, size, crops)

    def _read(self, first: int, last: int) -> NDArray[Any]:
        """Read the predictions of patches of consecutive numbers."""
        split = bisect(self._patches.offsets, first) - 1
        offset = self._patches.offsets[split]
        return self._predictions[split].read(first - offset, last - offset)

    @cached_property
    def _patches(self) -> "PredictedPatches":
        return PredictedPatches.of(self._set, self.plan, self.folder)

    @cached_property
    def _predictions(self) -> list[Predictions]:
        """The predictions of each split of the plan."""
        ndim = len(self.plan.factor) + 2
        files = self.plan.predictions.items()
        return [open_predictions(Path(local_path(file.path)), split, ndim) for split, file in files]


def stitch_shards(
    root: str,
    first: int,
    last: int,
    *,
    level: int,
    memory: int,
    threads: int = 1,
    token: str | None = None,
) -> None:
    """Write those of the shards first ... last - 1 of a level that are not written yet.

    Parameters
    ----------
    root : str
        The folder of the stitching.
    memory : int
        Bytes for the shards that are written at once.
    token : str or None
        As of `write_shards`.
    """
    folder = StitchFolder(Path(root), token)
    writer = ImageWriter(folder)
    missing = [n for n in folder.missing(level, writer.n_shards(level)) if first <= n < last]
    # One more than threads are to compute: some always wait until the disk has synced their shard.
    at_once = max(1, min(threads + 1, memory // writer.shard_bytes()))

    def write(number: int) -> None:
        folder.check_cancelled()
        with permitted_by(folder.check_token):
            writer.write_shard(level, number)

    with ThreadPoolExecutor(at_once, "stitch") as pool:
        writing = [pool.submit(write, number) for number in missing]
        try:
            for future in writing:
                future.result()
        finally:
            for future in writing:
                future.cancel()


def _write_levels(pyramid: ome_zarr.Pyramid, level: int, number: int, pixels: NDArray[Any]) -> None:
    """Write the pixels of a shard of a level, and halves of them to the levels after it."""
    for each in pyramid.image.levels_from(level):
        if each > level:
            pixels = ome_zarr.halve(pixels)
        pyramid.write_shard(each, pyramid.image.shard(each, number), pixels)


def _count_nan(pixels: NDArray[Any], covered: NDArray[np.bool_]) -> int:
    """Return how many covered pixels are not a number in some channel."""
    if pixels.dtype.kind != "f" or not np.isnan(pixels.min()):
        return 0
    return int(np.count_nonzero(np.isnan(pixels).any(axis=0) & covered))


def _finite_range(
    pixels: NDArray[Any],
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Return the lowest and the highest finite value of each channel."""
    low: list[float | None] = []
    high: list[float | None] = []
    for channel in pixels:
        is_finite = np.isfinite(channel.min()) and np.isfinite(channel.max())
        finite = channel if is_finite else channel[np.isfinite(channel)]
        low.append(float(finite.min()) if finite.size else None)
        high.append(float(finite.max()) if finite.size else None)
    return tuple(low), tuple(high)


def stitch_status(out: str | Path) -> WorkStatus:
    """Return how far the stitching of an OME-Zarr is.

    Raises
    ------
    ExportError
        If neither an OME-Zarr that was stitched nor an unfinished stitching has the name.
    """
    folder = StitchFolder.for_name(out)
    if not folder.root.exists():
        folder.check_free(overwrite=True)
        if not folder.out.exists():
            raise ExportError(
                f"{out}: there is no image, and no unfinished stitching of that name."
            )
    return folder_status(folder)


def folder_status(folder: StitchFolder) -> WorkStatus:
    """Return how far the stitching in a folder is, whose plan may be damaged."""
    folder.check_own()
    status = work_status(folder, folder.out)
    plan = folder.readable_plan()
    if plan is None:
        starts_over = ", with --overwrite" if status.next and folder.has_shards else ""
        return replace(status, next=status.next + starts_over)
    if folder.is_in_place:
        stage, shards, missing = "done", 0, 0
    else:
        stage, shards, missing = _stage(folder)
    go_on = plan.command(folder.out) if status.next else ""
    return replace(status, stage=stage, next=go_on, shards=shards, missing_shards=missing)


def _stage(folder: StitchFolder) -> tuple[str, int, int]:
    """Return the stage, the shards of all levels, and those missing; 0 without the patch set."""
    try:
        writer = ImageWriter(folder)
    except (PatchsetError, OSError):
        return "stitch", 0, 0
    shards = [writer.n_shards(level) for level in range(writer.n_levels)]
    missing = [len(folder.missing(level, n)) for level, n in enumerate(shards)]
    return "stitch" if missing[0] else "levels", sum(shards), sum(missing)
