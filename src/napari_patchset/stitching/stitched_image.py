"""The images that predictions become: one for each scene, in OME-Zarr's axes T, C, Z, Y, X.

Samples of a stack go back to their T and Z; pages of an unknown axis become Z. Other axes (angles,
blocks, ...) that OME-Zarr does not have make an image for each of their indices. A level of an
image is divided into shards. Where its chunks allow, the shards of the next level are halves of
these, so that one job makes a shard of several levels in memory; this is the unit of work.

What a set does not keep is read from the files of its sources: names, time steps, positions, and
full sizes.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import floor, prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, PatchsetError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.source import PixelSize, Rect, SourceInfo
from napari_patchset.stacks.metadata import SceneSummary, image_metadata
from napari_patchset.stacks.opening import list_scenes
from napari_patchset.stitching.blending import Box
from napari_patchset.stitching.full_resolution import FullSize

logger = logging.getLogger(__name__)

SHARD_BYTES = 8 * 2**20
"""Most bytes of a shard, all its channels, before compression."""

CHUNK = {"Z": 16, "T": 1, "Y": 256, "X": 256}
CHUNK_OF_VOLUME = {"Z": 16, "T": 1, "Y": 128, "X": 128}

LAST_LEVEL = 512
"""A level of at most this height and width needs no coarser one."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class FrameBox:
    """A box of one frame of an image, at one level: what a shard holds."""

    frame: tuple[int, ...]
    """Index along each of `StitchedImage.frame_axes`."""
    box: Box


@dataclass(frozen=True)
class _Division:
    """How a level is divided: the shape of its chunks and shards along (Z)YX."""

    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    first_level: int
    """The first of the levels that are made together."""


@dataclass(frozen=True)
class StitchedImage:
    """An image of stitched predictions.

    Attributes
    ----------
    source_index : int
        The source whose patches it shows.
    source : SourceInfo
        That source.
    fixed : tuple of (str, int)
        Axes of the source that OME-Zarr lacks, and the index along each that the image shows.
    channels : tuple of str
        Names of the predicted channels.
    dtype : str
        Type of its pixels.
    factor : tuple of int
        Pixels along (Z)YX for each pixel of the source.
    full : FullSize or None
        Of a source that was resampled, if the image has its size; None for that of the set.
    """

    source_index: int
    source: SourceInfo
    fixed: tuple[tuple[str, int], ...]
    channels: tuple[str, ...]
    dtype: str
    factor: tuple[int, ...]
    full: FullSize | None = None

    @property
    def suffix(self) -> str:
        """What tells it from other images of its source: "R1"."""
        sizes = self.source.layout.sizes
        return " ".join(f"{axis}{index}" for axis, index in self.fixed if sizes[axis] > 1)

    @cached_property
    def spatial_axes(self) -> str:
        """Axes of a patch after C: "YX", "ZYX" or "TYX"."""
        return self.source.layout.spatial_axes

    @cached_property
    def frame_axes(self) -> str:
        """Those of T and Z that are not axes of a patch."""
        return "".join(
            axis for axis in "TZ" if self.source_axis(axis) in self.source.layout.sample_axes
        )

    @cached_property
    def frame_shape(self) -> tuple[int, ...]:
        """Size along `frame_axes`."""
        sizes = self.source.layout.sizes
        return tuple(sizes[self.source_axis(axis)] for axis in self.frame_axes)

    def source_axis(self, axis: str) -> str:
        """Return the axis of the source that an axis of the image shows.

        Pages whose axis the file does not tell, S, are shown as Z if it has none.
        """
        return "S" if axis == "Z" and has_pages(self.source) else axis

    @cached_property
    def axes(self) -> str:
        """Axes of the array: those of T, C, Z, Y, X that there are."""
        own = {"C", *self.frame_axes, *self.spatial_axes}
        return "".join(axis for axis in "TCZYX" if axis in own)

    @cached_property
    def n_levels(self) -> int:
        """Number of levels, each of half the height and width of the one before."""
        extent = max(self.spatial_shape(0)[-2:])
        return 1 + max(0, (-(-extent // LAST_LEVEL) - 1).bit_length())

    @property
    def made_shape(self) -> tuple[int, ...]:
        """Size along (Z)YX of what the patches make together."""
        return tuple(n * f for n, f in zip(self.source.spatial_shape, self.factor, strict=True))

    @property
    def pixel_size(self) -> PixelSize:
        """In micrometres, of a pixel of the source, or of the set."""
        original = self.source.source_pixel_size
        return self.source.pixel_size if self.full is None or original is None else original

    @property
    def rect(self) -> Rect | None:
        """Position on the stage, in such pixels."""
        return self.source.rect if self.full is None else self.full.rect

    def spatial_shape(self, level: int) -> tuple[int, ...]:
        """Return the size of a level along (Z)YX."""
        shape = self.made_shape
        if self.full is not None:
            shape = (*shape[:-2], *self.full.shape)
        return (*shape[:-2], *(-(-n // 2**level) for n in shape[-2:]))

    def shape(self, level: int) -> tuple[int, ...]:
        """Return the size of a level along `axes`."""
        return self._along_axes(self.frame_shape, len(self.channels), self.spatial_shape(level))

    def chunk_shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of a chunk along `axes`."""
        return self._along_axes((1,) * len(self.frame_axes), 1, self._divisions[level].chunk)

    def shard_shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of a shard along `axes`."""
        return self._along_axes(
            (1,) * len(self.frame_axes), len(self.channels), self._divisions[level].shard
        )

    def levels_from(self, level: int) -> range:
        """Return the levels that are made together: a level, and those whose shards are halves.

        Empty if the level is not the first of such levels, or the image has no such level.
        """
        first = [division.first_level for division in self._divisions]
        return range(level, level + first.count(level))

    def n_shards(self, level: int) -> int:
        """Return the number of shards of a level; it is that of all levels made together."""
        return prod(self.frame_shape) * prod(self._grid(level))

    def shard(self, level: int, number: int) -> FrameBox:
        """Return a shard by its number; shards of one frame follow each other row by row."""
        grid = self._grid(level)
        index = [int(i) for i in np.unravel_index(number, (*self.frame_shape, *grid))]
        frame, place = tuple(index[: len(self.frame_shape)]), index[len(self.frame_shape) :]
        size, shape = self._divisions[level].shard, self.spatial_shape(level)
        start = tuple(i * n for i, n in zip(place, size, strict=True))
        stop = tuple(min(a + n, end) for a, n, end in zip(start, size, shape, strict=True))
        return FrameBox(frame, Box(start, stop))

    def sample(self, frame: Sequence[int]) -> int:
        """Return the sample of the source at an index along `frame_axes`."""
        axes = map(self.source_axis, self.frame_axes)
        return self.source.layout.ravel(dict(self.fixed) | dict(zip(axes, frame, strict=True)))

    def region(self, box: FrameBox) -> tuple[int | slice, ...]:
        """Return the index of a box in the array of its level, along `axes`."""
        return self._along_axes(box.frame, slice(None), map(slice, box.box.start, box.box.stop))

    def shard_index(self, level: int, shard: FrameBox) -> tuple[int, ...]:
        """Return the place of a shard in the grid of shards of its level, along `axes`."""
        sizes = self._divisions[level].shard
        place = [a // n for a, n in zip(shard.box.start, sizes, strict=True)]
        return self._along_axes(shard.frame, 0, place)

    def in_axes(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels C, (Z), Y, X of one frame along `axes`."""
        axes = f"{self.frame_axes}C{self.spatial_axes}"
        data = pixels[(np.newaxis,) * len(self.frame_axes)]
        return data.transpose([axes.index(axis) for axis in self.axes])

    def _along_axes(
        self, frame: Iterable[_Value], channel: _Value, spatial: Iterable[_Value]
    ) -> tuple[_Value, ...]:
        """Return values of the frame's axes, of C and of (Z)YX in the order of `axes`."""
        values = dict(zip(self.frame_axes, frame, strict=True)) | {"C": channel}
        values |= dict(zip(self.spatial_axes, spatial, strict=True))
        return tuple(values[axis] for axis in self.axes)

    @cached_property
    def _divisions(self) -> tuple["_Division", ...]:
        """How each level is divided."""
        divisions: list[_Division] = []
        for level in range(self.n_levels):
            halved = self._halve(divisions[-1], level) if level else None
            divisions.append(halved or self._divide(level))
        return tuple(divisions)

    def _halve(self, finer: "_Division", level: int) -> "_Division | None":
        """Divide a level into halves of the shards of the finer one; None if chunks don't allow."""
        chunk, shard = list(finer.chunk), list(finer.shard)
        for axis, (n, finer_n) in enumerate(
            zip(self.spatial_shape(level), self.spatial_shape(level - 1), strict=True)
        ):
            if axis < len(chunk) - 2:
                continue
            if finer.shard[axis] >= finer_n:
                chunk[axis] = min(chunk[axis], n)
                shard[axis] = -(-n // chunk[axis]) * chunk[axis]
            elif finer.shard[axis] >= 2 * chunk[axis]:
                shard[axis] //= 2
            else:
                return None
        return _Division(tuple(chunk), tuple(shard), finer.first_level)

    def _divide(self, level: int) -> "_Division":
        """Divide a level into boxes of whole chunks, doubled axis by axis up to `SHARD_BYTES`."""
        shape = self.spatial_shape(level)
        limit = CHUNK_OF_VOLUME if self.spatial_axes[0] == "Z" else CHUNK
        chunk = tuple(min(limit[a], n) for a, n in zip(self.spatial_axes, shape, strict=True))
        shard = list(chunk)
        pixel_bytes = len(self.channels) * np.dtype(self.dtype).itemsize
        is_growing = True
        while is_growing:
            is_growing = False
            for axis in range(len(shard) - 1, -1, -1):
                if shard[axis] < shape[axis] and 2 * prod(shard) * pixel_bytes <= SHARD_BYTES:
                    shard[axis] *= 2
                    is_growing = True
        return _Division(chunk, tuple(shard), level)

    def _grid(self, level: int) -> tuple[int, ...]:
        """Return the number of shards along (Z)YX."""
        shape, shard = self.spatial_shape(level), self._divisions[level].shard
        return tuple(-(-n // size) for n, size in zip(shape, shard, strict=True))


def has_pages(source: SourceInfo) -> bool:
    """Whether a source has pages of an unknown axis S, and no Z."""
    return "S" in source.layout.sample_axes and "Z" not in source.axes


def images_of(
    sources: Sequence[SourceInfo],
    channels: Sequence[str],
    dtype: str,
    factor: Sequence[int],
    full_sizes: Sequence[FullSize | None] = (),
) -> Iterator[StitchedImage]:
    """Yield the images that the patches of sources become, in the order of the sources."""
    sizes_of_sources = full_sizes or [None] * len(sources)
    for source_index, source in enumerate(sources):
        sizes = source.layout.sizes
        shown = "TS" if has_pages(source) else "TZ"
        others = [axis for axis in source.layout.sample_axes if axis not in shown]
        for index in product(*(range(sizes[axis]) for axis in others)):
            fixed = tuple((axis, i) for axis, i in zip(others, index, strict=True))
            full = sizes_of_sources[source_index]
            common = tuple(channels), dtype, tuple(factor), full
            yield StitchedImage(source_index, source, fixed, *common)


class SourceRecord(NamedTuple):
    """What the file of a source says, and the set does not keep.

    Attributes
    ----------
    name : str
        Name of the scene, and of the file if the sources are in several.
    time_step : float or None
        Seconds between two time points; None if unknown.
    translation : dict of str to float
        Position of the first pixel along those of Z, Y and X that have one, in micrometres.
    """

    name: str
    time_step: float | None = None
    translation: Mapping[str, float] = MappingProxyType({})


def read_records(patch_set: PatchSet) -> list[SourceRecord]:
    """Read the record of each source; of a file that can't be read any more, only its name."""
    refs = _source_refs(patch_set)
    is_only_file = len({ref.path for ref in refs}) == 1
    scenes: dict[str, list[SceneSummary]] = {}
    records = []
    for ref in refs:
        file = "" if is_only_file else Path(ref.path).name
        scene = "" if ref.scene is None else str(ref.scene)
        record = SourceRecord(f"{file} {scene}".strip())
        try:
            if ref.scene is not None:
                listed = scenes.get(ref.path) or scenes.setdefault(ref.path, list_scenes(ref.path))
                scene = next((each.label for each in listed if each.id == ref.scene), scene)
            with ref.open() as stack:
                step, position = image_metadata(stack).time_step, getattr(stack, "translation", {})
            record = SourceRecord(f"{file} {scene}".strip(), step, position)
        except (PatchsetError, OSError) as error:
            logger.info("time step and position of %s are unknown: %s", ref, error)
        records.append(record)
    return records


def read_full_sizes(patch_set: PatchSet) -> Iterator[FullSize | None]:
    """Yield the size of each source that was resampled, as its file has it, else None.

    Raise ArgumentError if it is not the size that the set was made of.
    """
    for info, ref in zip(patch_set.manifest.sources, _source_refs(patch_set), strict=True):
        ratio = info.ratio
        if ratio is None:
            yield None
            continue
        with ref.open(info.depth_axis) as stack:
            height, width = stack.data_shape[-2:]
            rect = getattr(stack, "rect", None)
        made = tuple(floor(n / r) for n, r in zip((height, width), ratio, strict=True))
        if made != info.spatial_shape[-2:]:
            raise ArgumentError(
                f"{ref.path} has {height} x {width} pixels, which are not those that the set was "
                "made of; put that file back, or stitch without the full resolution."
            )
        yield FullSize(shape=(height, width), rect=rect)


def _source_refs(patch_set: PatchSet) -> list[SourceRef]:
    return [SourceRef.model_validate(fields) for fields in patch_set.provenance.sources]
