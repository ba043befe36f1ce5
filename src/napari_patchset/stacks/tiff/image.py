"""The images of a TIFF without their pixels, independent of the open file.

`read_image` reads a series into a `TiffImage`: its axes, where its pixels lie at each resolution,
and its metadata. `series_index` lists the images of a file or set, and caches what was read of them
until the file changes.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis, check_axes_override
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.metadata import (
    ImageMetadata,
    SceneSummary,
    absent_files,
    default_channels,
)
from napari_patchset.stacks.tiff.metadata import series_metadata
from napari_patchset.stacks.tiff.pages import PageTable, read_pages
from napari_patchset.stacks.tiff.series import TiffSeries, open_series

_UNKNOWN_AXES = "IQ"
"""tifffile's letters for dimensions of which it knows only the size."""
_SPARE_LETTERS = "SQPUGWDJKNO"


@dataclass(frozen=True, slots=True)
class PlaneAxes:
    """The axes of an image, each letter once, and the number of each plane in file order."""

    axes: str
    shape: tuple[int, ...]
    planes: NDArray[np.int64]
    """Along `axes`, with Y and X of size 1."""

    @classmethod
    def of(cls, axes: str, shape: tuple[int, ...]) -> "PlaneAxes":
        """Convert tifffile's axes, of which "S" are the samples of a pixel, "I" and "Q" unknown.

        Samples are channels; where there are channels too, the two multiply: all samples of the
        first channel, then of the second. An unknown dimension is S.
        """
        sizes = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
        letters = [axis for axis, _ in sizes]
        planes_shape = [1 if axis in "YX" else size for axis, size in sizes]
        planes = np.arange(prod(planes_shape), dtype=np.int64).reshape(planes_shape)
        if "S" in letters and "C" not in letters:
            letters[letters.index("S")] = "C"
        elif "S" in letters:
            samples = letters.index("S")
            letters.remove("S")
            channels = letters.index("C")
            planes = np.moveaxis(planes, samples, channels + 1)
            planes = planes.reshape(*planes.shape[:channels], -1, *planes.shape[channels + 2 :])
        unique = ""
        for axis in letters:
            if axis in _UNKNOWN_AXES or axis in unique:
                free = (a for a in _SPARE_LETTERS if a not in unique and a not in letters)
                axis = next(free)
            unique += axis
        plane = {axis: size for axis, size in sizes if axis in "YX"}
        sized = zip(unique, planes.shape, strict=True)
        return cls(unique, tuple(plane.get(axis, size) for axis, size in sized), planes)

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    def renamed(self, axes: str, name: str) -> "PlaneAxes":
        """Return the same planes of the image called `name` with the user's axes."""
        axes = check_axes_override(axes, self.axes, self.shape, name)
        if (axes.index("Y"), axes.index("X")) != (self.axes.index("Y"), self.axes.index("X")):
            raise ArgumentError(
                f"{name}: its pages are {self.axes}, so axes like {axes} can't be; Y and X must "
                "keep their places."
            )
        return replace(self, axes=axes)

    def present_channels(self, table: PageTable) -> list[int]:
        """Return the channels of which there is a plane."""
        by_channel = np.moveaxis(self.planes, self.axes.index("C"), 0)
        return [c for c, planes in enumerate(by_channel) if not table.is_missing(planes).all()]

    def with_channels(self, channels: Sequence[int]) -> "PlaneAxes":
        """Return the axes without all other channels."""
        at = self.axes.index("C")
        shape = (*self.shape[:at], len(channels), *self.shape[at + 1 :])
        return replace(self, planes=self.planes.take(channels, at), shape=shape)

    def layout(self, height: int, width: int, depth_axis: DepthAxis) -> AxisLayout:
        """Return the layout of a resolution whose planes have another size."""
        sizes = {**self.sizes, "Y": height, "X": width}
        return AxisLayout(self.axes, tuple(sizes.values()), depth_axis)

    def planes_of_stack(self, depth_axis: DepthAxis) -> NDArray[np.int64]:
        """Return the number of each plane along S, C and, if there is one, the depth axis."""
        layout = AxisLayout(self.axes, self.planes.shape, depth_axis)
        return layout.to_stack(self.planes)[..., 0, 0]


@dataclass(frozen=True, slots=True)
class TiffImage:
    """A series without its pixels, independent of the open file."""

    axes: PlaneAxes
    """Its axes, shape and planes."""
    levels: tuple[PageTable, ...]
    """Its pages at each resolution, finest first."""
    metadata: ImageMetadata
    """At the finest resolution."""
    rect: Rect
    """Position on the stage and size, in pixels."""
    translation: Mapping[str, float]
    """Position on the stage in micrometres by axis, where the file has it."""

    @property
    def files(self) -> list[Path]:
        """The files that its pixels are in."""
        return list(dict.fromkeys(kind.path for table in self.levels for kind in table.kinds))

    def with_axes(self, axes: str, name: str) -> "TiffImage":
        """Return the image with the user's axes; names of other channels are dropped."""
        renamed = self.axes.renamed(axes, name)
        metadata, n_channels = self.metadata, renamed.sizes.get("C", 1)
        if len(metadata.channels) != n_channels:
            metadata = replace(metadata, channels=default_channels(n_channels))
        return replace(self, axes=renamed, metadata=metadata)


def read_image(series: TiffSeries, path: Path) -> TiffImage:
    """Read the position and the meaning of a series' pixels."""
    pages, ome = series.pages, series.ome
    finest = read_pages(pages, path)
    coarser = (read_pages(level, path) for level in pages.levels[1:])
    axes = PlaneAxes.of(pages.axes, pages.shape)
    metadata = series_metadata(pages, ome, axes.axes, axes.sizes.get("C", 1))
    if series.is_partial and "C" in axes.axes:
        present = axes.present_channels(finest)
        axes = axes.with_channels(present)
        metadata = replace(metadata, channels=tuple(metadata.channels[c] for c in present))
    size, (left, top) = metadata.pixel_size, ome.position if ome else (0.0, 0.0)
    x, y = (round(at / um) if um else 0 for at, um in ((left, size.x), (top, size.y)))
    return TiffImage(
        axes=axes,
        levels=(finest, *(table for table in coarser if _is_coarser(table, finest))),
        metadata=metadata,
        rect=Rect(x, y, pages.keyframe.imagewidth, pages.keyframe.imagelength),
        translation=dict(zip("XY", ome.position, strict=True)) if ome else {},
    )


def _is_coarser(table: PageTable, finest: PageTable) -> bool:
    """Return whether pages are the same planes at a lower resolution."""
    *planes, height, width, together = table.page_shape
    *finest_planes, finest_height, finest_width, finest_together = finest.page_shape
    return (
        (height <= finest_height and width <= finest_width)
        and (planes, together) == (finest_planes, finest_together)
        and len(table.kind_index) == len(finest.kind_index)
        and table.dtype == finest.dtype
    )


class SeriesIndex:
    """The series of a file or set: their names, and the images read so far; threads may share it.

    `images` lists the series that are images: not thumbnails, masks and labels, unless there is
    nothing else. They are read at once, or only `series`.
    """

    def __init__(self, path: Path, series: SceneId | None = None) -> None:
        self._path = path
        self._read: dict[int, TiffImage] = {}
        with open_series(path) as (listed, self.description):
            self.names = {each.index: each.name for each in listed}
            self.images = [each.index for each in listed if not each.is_extra]
            self.images = self.images or [each.index for each in listed]
            self._read_all(listed, self.images if series is None else [series])

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of the missing files of the set."""
        return self.description.absent

    def choose(self, series: SceneId | None) -> int:
        """Return a series that the file has, or its only image for None."""
        path, names = self._path, self.names
        if isinstance(series, str):
            raise ArgumentError(
                f"{path}: there is no series {series!r}; a TIFF's series are numbers."
            )
        if series is not None and series not in names:
            raise ArgumentError(
                f"{path}: there is no series {series}; it has {len(names)}, from 0."
            )
        if series is None and len(self.images) > 1:
            listed = ", ".join(f"{number} ({names[number]})" for number in self.images)
            raise ArgumentError(f"{path} has {len(self.images)} series; choose one: {listed}.")
        return self.images[0] if series is None else series

    def summaries(self) -> list[SceneSummary]:
        """Describe the images for a list, those in the file itself first; an only one has no id."""
        images = self.read(self.images)
        self.warn()
        listed = [(n, self.names[n], image) for n, image in zip(self.images, images, strict=True)]
        listed.sort(key=lambda each: self._path not in each[2].files)
        is_only = len(images) == 1
        return [
            SceneSummary(
                id=None if is_only else number,
                name=self._path.stem if is_only else name,
                rect=image.rect,
                axes=image.axes.axes,
                shape=image.axes.shape,
                dtype=image.levels[0].dtype.name,
            )
            for number, name, image in listed
        ]

    def files(self) -> list[Path]:
        """Return the existing files of the set, including those of a series."""
        images = self.read(self.images)
        return list(dict.fromkeys([*self.description.files, *(f for i in images for f in i.files)]))

    def read(self, series: Sequence[int]) -> list[TiffImage]:
        """Return some of the series, opening the file for those that were not read yet."""
        missing = [index for index in series if index not in self._read]
        if missing:
            with open_series(self._path) as (listed, _):
                self._read_all(listed, missing)
        return [self._read[index] for index in series]

    def cache_size(self) -> int | None:
        """Return the number of tiles and strips, None if other files of the set may change."""
        if self.description.is_set or any(len(i.files) > 1 for i in self._read.values()):
            return None
        tables = [table for image in self._read.values() for table in image.levels]
        return sum(len(table.counts) for table in tables)

    def warn(self) -> None:
        """Warn of absent files and of pages whose meaning is a guess."""
        if problem := self.description.problem or absent_files(self.absent, "its set"):
            warnings.warn(f"{self._path.absolute()}: {problem}.", UserWarning, stacklevel=1)

    def _read_all(self, listed: Sequence[TiffSeries], series: Sequence[SceneId]) -> None:
        for each in listed:
            if each.index in series:
                self._read[each.index] = read_image(each, self._path)


_MAX_CACHED = 1_000_000
"""Tiles and strips of all files together, 16 bytes each."""

_INDEXES: FileCache[SeriesIndex] = FileCache(_MAX_CACHED, SeriesIndex.cache_size)


def series_index(path: Path, series: SceneId | None = None) -> SeriesIndex:
    """Read a TIFF's series, or return the cached ones while the file is unchanged."""
    return _INDEXES.get(path, partial(SeriesIndex, series=series))
