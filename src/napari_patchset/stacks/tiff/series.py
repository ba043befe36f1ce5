"""The series of a TIFF, or of the set of files that it is in.

`open_series` yields them as tifffile groups the pages, each a `TiffSeries`. A `TiffImage` is what
was read of one: its axes, where its pixels lie at each resolution, and its metadata; it needs no
open file. `SeriesIndex` lists those of a file or set.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage, TiffPageSeries

from napari_patchset.axes import AxisLayout, DepthAxis, check_axes_override
from napari_patchset.errors import ArgumentError, PatchsetError, UnknownAxesError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.metadata import (
    ImageMetadata,
    SceneSummary,
    absent_files,
    default_channels,
)
from napari_patchset.stacks.retrying import is_transient
from napari_patchset.stacks.tiff.acquisition import arrange_series
from napari_patchset.stacks.tiff.metadata import series_metadata
from napari_patchset.stacks.tiff.ome import OmeImage, TiffDescription, describe_file
from napari_patchset.stacks.tiff.pages import PageTable, read_pages
from napari_patchset.stacks.tiff.structure import STATE_AXES, damaged

# Problems in tifffile's log are raised here or become missing planes; add a handler to see it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SLIDE_EXTRAS = frozenset({"thumbnail", "label", "macro", "overview", "map"})

_UNKNOWN_AXES = "IQ"
"""tifffile's letters for dimensions of which it knows only the size."""
_SPARE_LETTERS = "SQPUGWDJKNO"

_MAX_CACHED = 1_000_000
"""Tiles and strips of all files together, 16 bytes each."""


@dataclass(frozen=True, slots=True)
class TiffSeries:
    """A series of an open file, with the OME-XML that describes it."""

    index: int
    name: str
    """"Series N" if the file does not name it."""
    pages: TiffPageSeries
    """tifffile's series, valid while its file is open."""
    ome: OmeImage | None
    is_partial: bool
    """Whether files of its set are absent."""

    @property
    def is_extra(self) -> bool:
        """Whether it is a thumbnail, a mask or a slide's label rather than the image."""
        page = self.pages.keyframe
        is_extra = page.is_reduced or page.is_mask
        return bool(is_extra) or self.pages.name.lower() in _SLIDE_EXTRAS


@contextmanager
def open_series(
    path: Path, *, plain: bool = False
) -> Iterator[tuple[list[TiffSeries], TiffDescription]]:
    """Open a TIFF, or the set of files that it is in, and yield its series and its description.

    With `plain`, pages whose description can't be used are read in file order, without an error.
    """
    try:
        description = describe_file(path, plain=plain)
        with description.open() as file:
            series, order_problem = arrange_series(file.series)
            if not series:
                raise damaged(description.path, "it holds no image")
            if not plain and series[0].kind in ("generic", "uniform"):
                _check_undescribed(file, description)
            unread = _count_undescribed(file, series, description)
            if unread and not description.problem:
                problem = (
                    f"its OME-XML describes {description.n_pages - unread} of its "
                    f"{description.n_pages} pages; the others are ignored"
                )
                description = replace(description, problem=problem)
            if order_problem and not plain:
                problem = "; ".join(filter(None, (description.problem, order_problem)))
                description = replace(description, problem=problem)
            yield list(_described_series(series, description)), description
    except (PatchsetError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    # tifffile parses untrusted bytes with struct, NumPy and XML, and passes their errors on.
    except Exception as error:
        if isinstance(error, MemoryError) or is_transient(error):
            raise
        raise damaged(path, f"tifffile can't read it: {error!r}") from error


def _check_undescribed(file: TiffFile, description: TiffDescription) -> None:
    """Refuse a file whose description tifffile has ignored: what its pages are is lost."""
    path = description.path
    if description.images:
        raise UnknownAxesError(f"{path}: its pages do not fit OME-XML. {STATE_AXES}")
    if not (imagej := file.imagej_metadata):
        return
    described = prod(int(imagej.get(axis, 1)) for axis in ("frames", "slices", "channels"))
    described = max(described, int(imagej.get("images", 1)))
    n_pages, page = len(file.pages), file.pages.first
    if n_pages == 1 < described and page.is_final:  # ImageJ's own way to store a large stack
        stored = (file.filehandle.size - page.dataoffsets[0]) // page.nbytes
        raise damaged(
            path, f"ImageJ's description has {described} planes, but it ends after {stored} of them"
        )
    raise UnknownAxesError(
        f"{path}: its {n_pages} pages do not fit ImageJ's description, which has {described} "
        f"planes. {STATE_AXES}"
    )


def _count_undescribed(
    file: TiffFile, series: list[TiffPageSeries], description: TiffDescription
) -> int:
    """Return the number of pages that no series has, 0 if they are of another size, like a label.

    Of a set of files it is not known.
    """
    if series[0].kind != "ome" or description.is_set or not description.n_pages:
        return 0
    if sum(map(len, series)) >= description.n_pages:  # which is quick
        return 0
    used = {page.index for each in series for page in each if page is not None}
    unused = [index for index in range(description.n_pages) if index not in used]
    sizes = {(each.keyframe.imagelength, each.keyframe.imagewidth) for each in series}
    page = file.pages.get(unused[0], aspage=True) if unused else None
    if not isinstance(page, TiffPage) or (page.imagelength, page.imagewidth) not in sizes:
        return 0
    return len(unused)


def _described_series(
    series: list[TiffPageSeries], description: TiffDescription
) -> Iterator[TiffSeries]:
    """Yield each series with its number and its Image element.

    tifffile leaves out the images without pages; those of a set keep their number in the OME-XML,
    so that it does not depend on which files are there.
    """
    images = description.images if series[0].kind == "ome" else ()
    for index, pages in enumerate(series):
        ome: OmeImage | None
        if images and description.is_set:
            index = int(pages.name)
            ome = images[index]
        elif len(images) == len(series):
            ome = images[index]
        else:
            own = pages.name, (pages.keyframe.imagelength, pages.keyframe.imagewidth)
            ome = next((i for i in images if (i.name, i.plane_shape) == own), None)
        name = (ome.name if ome else pages.name) or f"Series {index}"
        yield TiffSeries(index, name, pages, ome, bool(description.absent))


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
                f"{name}: its pages are {self.axes}, so that its axes can't be {axes}; Y and X "
                "must keep their places."
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

    def __init__(self, path: Path, series: SceneId | None = None, *, plain: bool = False) -> None:
        self._path, self._plain = path, plain
        self._read: dict[int, TiffImage] = {}
        with open_series(path, plain=plain) as (listed, self.description):
            self.names = {each.index: each.name for each in listed}
            self.images = [each.index for each in listed if not each.is_extra] or list(self.names)
            self._read_all(listed, self.images if series is None else [series])

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
            with open_series(self._path, plain=self._plain) as (listed, _):
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
        described = self.description
        if problem := described.problem or absent_files(described.absent, "its set"):
            warnings.warn(f"{self._path.absolute()}: {problem}.", UserWarning, stacklevel=1)

    def _read_all(self, listed: Sequence[TiffSeries], series: Sequence[SceneId]) -> None:
        for each in listed:
            if each.index in series:
                self._read[each.index] = read_image(each, self._path)


_INDEXES: FileCache[SeriesIndex] = FileCache(_MAX_CACHED, SeriesIndex.cache_size)


def plain_index(path: Path, series: SceneId | None = None) -> SeriesIndex:
    """Read a TIFF's pages in file order, whatever its description says of them."""
    return SeriesIndex(path, series, plain=True)


def series_index(path: Path, series: SceneId | None = None) -> SeriesIndex:
    """Read a TIFF's series, or return the cached ones while the file is unchanged."""
    return _INDEXES.get(path, partial(SeriesIndex, series=series))
