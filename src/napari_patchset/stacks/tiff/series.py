"""The images of a TIFF file: its series, as tifffile groups the pages, checked and described.

`open_series` opens a file and yields its series; `read_image` returns a `TiffImage` of one, which
suffices to read its pixels once the file is closed. `series_index` caches these by file.
`read_tiff` reads the first series as one array, as `tifffile.imread` does.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPageSeries

from napari_patchset.axes import AxisLayout, DepthAxis, check_axes_override
from napari_patchset.errors import ArgumentError, PatchsetError, UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.metadata import Channel, ImageMetadata
from napari_patchset.stacks.tiff.metadata import (
    imagej_metadata,
    micromanager_metadata,
    native_metadata,
    ome_metadata,
    plain_metadata,
)
from napari_patchset.stacks.tiff.ome import OmeImage, TiffDescription, describe_file
from napari_patchset.stacks.tiff.pages import PageTable, read_pages
from napari_patchset.stacks.tiff.structure import COPY_AGAIN, USE_FROM_TIFF

# Problems in tifffile's log are raised here or become missing planes; add a handler to see it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SLIDE_EXTRAS = frozenset({"thumbnail", "label", "macro", "overview", "map"})


@dataclass(frozen=True, slots=True)
class TiffSeries:
    """A series of an open file."""

    index: int
    name: str
    """Its index in the file; "Series N" if the file does not name it."""
    pages: TiffPageSeries
    """tifffile's series, valid while its file is open."""
    ome: OmeImage | None
    """The metadata of its Image element, if there is one."""
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

    Parameters
    ----------
    path : Path
        The file.
    plain : bool
        Whether to fall back to the pages in file order, instead of raising an error, if their
        description can't be used.

    Raises
    ------
    UnreadableFileError
        If the file is not a TIFF or is damaged.
    """
    try:
        description = describe_file(path, plain=plain)
        with description.open() as file:
            series = [part for each in file.series for part in split_positions(each)]
            if not plain:
                _check_described(series, file, description)
            yield _list_series(series, description), description
    except (PatchsetError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    # tifffile parses untrusted bytes with struct, NumPy and XML, and passes their errors on.
    except Exception as error:
        raise UnreadableFileError(
            f"{path}: tifffile can't read it: {error!r}. {COPY_AGAIN}"
        ) from error


def split_positions(series: TiffPageSeries) -> list[TiffPageSeries]:
    """Return a series for each position of Micro-Manager, which tifffile has as an axis R."""
    axes, shape = series.axes, series.shape
    if series.kind not in ("mmstack", "ndtiff") or "R" not in axes:
        return [series]
    lead, at = axes.index("Y"), axes.index("R")
    pages = np.empty(prod(shape[:lead]), object)
    pages[:] = list(series)
    pages = np.moveaxis(pages.reshape(shape[:lead]), at, 0)
    return [
        TiffPageSeries(
            part.ravel().tolist(),
            shape[:at] + shape[at + 1 :],
            series.dtype,
            axes[:at] + axes[at + 1 :],
            name=f"Pos{position}",
            kind=series.kind,
            multifile=series.is_multifile,
        )
        for position, part in enumerate(pages)
        if any(page is not None for page in part.flat)
    ]


def _check_described(
    series: list[TiffPageSeries], file: TiffFile, description: TiffDescription
) -> None:
    """Refuse pages whose description tifffile has ignored, as the meaning of the pages is lost."""
    described = "OME-XML" if description.images else "ImageJ's description"
    is_described = description.images or file.is_imagej
    if is_described and series and series[0].kind in ("generic", "uniform"):
        raise UnreadableFileError(
            f"{description.path}: its pages do not fit {described}. {USE_FROM_TIFF}"
        )


def _list_series(series: list[TiffPageSeries], description: TiffDescription) -> list[TiffSeries]:
    if not series:
        raise UnreadableFileError(f"{description.path}: it holds no image. {COPY_AGAIN}")
    is_partial = bool(description.absent)
    return [
        TiffSeries(
            index, (ome.name if ome else pages.name) or f"Series {index}", pages, ome, is_partial
        )
        for index, pages, ome in _numbered(series, description)
    ]


def _numbered(
    series: list[TiffPageSeries], description: TiffDescription
) -> Iterator[tuple[int, TiffPageSeries, OmeImage | None]]:
    """Yield each series with its number and its Image element.

    tifffile leaves out the images without pages; those of a set keep their number in the OME-XML,
    so that it does not depend on which files are there.
    """
    images = description.images if series[0].kind == "ome" else ()
    for index, pages in enumerate(series):
        if images and description.is_set:
            index = int(pages.name)
            yield index, pages, images[index]
        elif len(images) == len(series):
            yield index, pages, images[index]
        else:
            own = (pages.name, _plane_shape(pages))
            yield index, pages, next((i for i in images if (i.name, i.plane_shape) == own), None)


def _plane_shape(series: TiffPageSeries) -> tuple[int, int]:
    return series.keyframe.imagelength, series.keyframe.imagewidth


_UNKNOWN_AXES = "IQ"
"""tifffile's letters for dimensions of which it knows only the size."""
_SPARE_LETTERS = "SQPUGWDJKNO"


class PlaneAxes:
    """The axes of an image, and the number of each of its planes in file order.

    Parameters
    ----------
    axes, shape : str, tuple of int
        tifffile's; "S" are the samples of a pixel, "I" and "Q" unknown dimensions.

    Attributes
    ----------
    axes, shape : str, tuple of int
        Each letter once. Samples are channels; where there are channels too, the two multiply: all
        samples of the first channel, then of the second. An unknown dimension is S.
    planes : ndarray of int64
        The number of each plane, along `axes`, with Y and X of size 1.
    """

    def __init__(self, axes: str, shape: tuple[int, ...]) -> None:
        sizes = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
        planes_shape = [1 if axis in "YX" else size for axis, size in sizes]
        planes = np.arange(prod(planes_shape), dtype=np.int64).reshape(planes_shape)
        letters, self.planes = _samples_to_channels([axis for axis, _ in sizes], planes)
        self.axes = _unique_letters(letters)
        plane_size = {axis: size for axis, size in sizes if axis in "YX"}
        self.shape = tuple(
            plane_size.get(axis, size)
            for axis, size in zip(self.axes, self.planes.shape, strict=True)
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    def renamed(self, axes: str, name: str) -> "PlaneAxes":
        """Return the same planes with the user's axes.

        Raises
        ------
        ArgumentError
            If they do not fit the image called `name`.
        """
        axes = check_axes_override(axes, self.axes, self.shape, name)
        if (axes.index("Y"), axes.index("X")) != (self.axes.index("Y"), self.axes.index("X")):
            raise ArgumentError(
                f"{name}: its pages are {self.axes}, so axes like {axes} can't be; Y and X must "
                "keep their places."
            )
        other = copy(self)
        other.axes = axes
        return other

    def present_channels(self, table: PageTable) -> list[int]:
        """Return the channels of which there is a plane."""
        by_channel = np.moveaxis(self.planes, self.axes.index("C"), 0)
        return [c for c, planes in enumerate(by_channel) if not table.is_missing(planes).all()]

    def select_channels(self, channels: Sequence[int]) -> None:
        """Leave out all other channels."""
        at = self.axes.index("C")
        self.planes = self.planes.take(channels, at)
        self.shape = (*self.shape[:at], len(channels), *self.shape[at + 1 :])

    def layout(self, height: int, width: int, depth_axis: DepthAxis) -> AxisLayout:
        """Return the layout of a resolution whose planes have another size."""
        sizes = {**self.sizes, "Y": height, "X": width}
        return AxisLayout(self.axes, tuple(sizes.values()), depth_axis)

    def planes_of_stack(self, depth_axis: DepthAxis) -> NDArray[np.int64]:
        """Return the number of each plane along S, C and, if there is one, the depth axis."""
        layout = AxisLayout(self.axes, self.planes.shape, depth_axis)
        return layout.to_stack(self.planes)[..., 0, 0]


def _samples_to_channels(
    letters: list[str], planes: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    if "S" not in letters:
        return letters, planes
    samples = letters.index("S")
    if "C" not in letters:
        return ["C" if axis == "S" else axis for axis in letters], planes
    letters = [axis for axis in letters if axis != "S"]
    channels = letters.index("C")
    moved: NDArray[Any] = np.moveaxis(planes, samples, channels + 1)
    shape = list(moved.shape)
    shape[channels : channels + 2] = [shape[channels] * shape[channels + 1]]
    return letters, moved.reshape(shape)


def _unique_letters(letters: list[str]) -> str:
    """Replace unknown and repeated axes by letters that are free."""
    unique: list[str] = []
    for axis in letters:
        if axis in _UNKNOWN_AXES or axis in unique:
            axis = next(spare for spare in _SPARE_LETTERS if spare not in unique + letters)
        unique.append(axis)
    return "".join(unique)


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


def with_axes(image: TiffImage, axes: str, name: str) -> TiffImage:
    """Return an image with the user's axes; names of other channels are dropped."""
    renamed = image.axes.renamed(axes, name)
    metadata, n_channels = image.metadata, renamed.sizes.get("C", 1)
    if len(metadata.channels) != n_channels:
        channels = tuple(Channel(f"Channel {i}") for i in range(n_channels))
        metadata = replace(metadata, channels=channels)
    return replace(image, axes=renamed, metadata=metadata)


def read_image(series: TiffSeries, path: Path) -> TiffImage:
    """Read the position and the meaning of a series' pixels.

    Raises
    ------
    UnreadableFileError
        If its sizes do not fit what the file holds, or its pixels can't be decoded.
    """
    pages = series.pages
    finest = read_pages(pages, path)
    coarser = (read_pages(level, path) for level in pages.levels[1:])
    axes = PlaneAxes(pages.axes, pages.shape)
    metadata = _read_metadata(series, axes)
    if series.is_partial and "C" in axes.axes:
        present = axes.present_channels(finest)
        axes.select_channels(present)
        metadata = replace(metadata, channels=tuple(metadata.channels[c] for c in present))
    return TiffImage(
        axes=axes,
        levels=(finest, *(table for table in coarser if _is_coarser(table, finest))),
        metadata=metadata,
        rect=_rect(series, metadata.pixel_size),
        translation=dict(zip("XY", series.ome.position, strict=True)) if series.ome else {},
    )


def _read_metadata(series: TiffSeries, axes: PlaneAxes) -> ImageMetadata:
    page, n_channels = series.pages.keyframe, axes.sizes.get("C", 1)
    if series.ome:
        metadata = ome_metadata(series.ome, page, n_channels)
        return _completed(metadata, series.pages) if page.parent.is_micromanager else metadata
    if series.pages.kind == "imagej" and (described := page.parent.imagej_metadata):
        return imagej_metadata(described, page, axes.axes, n_channels)
    return native_metadata(series.pages, n_channels) or plain_metadata(page, n_channels)


def _completed(metadata: ImageMetadata, pages: TiffPageSeries) -> ImageMetadata:
    """Complete OME-XML by the metadata that only Micro-Manager's own header has."""
    try:
        own = micromanager_metadata(pages)
    except (LookupError, TypeError, ValueError):
        return metadata
    size, fallback = metadata.pixel_size, own.pixel_size
    sizes = {axis: getattr(size, axis) or getattr(fallback, axis) for axis in "zyx"}
    step = metadata.time_step or own.time_step
    return replace(metadata, pixel_size=PixelSize(**sizes), time_step=step)


def _rect(series: TiffSeries, pixel_size: PixelSize) -> Rect:
    height, width = _plane_shape(series.pages)
    left, top = series.ome.position if series.ome else (0.0, 0.0)
    x = round(left / pixel_size.x) if pixel_size.x else 0
    y = round(top / pixel_size.y) if pixel_size.y else 0
    return Rect(x, y, width, height)


def _is_coarser(table: PageTable, finest: PageTable) -> bool:
    """Return whether pages are the same planes at a lower resolution."""
    separate, deep, height, width, together = table.page_shape
    other = finest.page_shape
    is_smaller = height <= other[2] and width <= other[3]
    has_same_planes = (separate, deep, together) == (other[0], other[1], other[4])
    has_same_pages = len(table.kind_index) == len(finest.kind_index)
    return is_smaller and has_same_planes and has_same_pages and table.dtype == finest.dtype


class SeriesIndex:
    """The series of a file or set: all names, and the images that were read; threads may share it.

    Parameters
    ----------
    path : Path
        The file.
    series : int or None
        The one to read at once; None for all images.

    Attributes
    ----------
    names : dict of int to str
        Of all series, by number.
    images : list of int
        The series that are images: not thumbnails, masks and labels, unless there is nothing else.
    description : TiffDescription
        The files of the set.
    """

    def __init__(self, path: Path, series: int | None = None) -> None:
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
        absent = self.description.absent
        problems = [self.description.problem] if self.description.problem else []
        if absent and not problems:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            problems = [
                f"the file {absent[0]!r} of its set{more} is not in its folder; what is in "
                "it is left out"
            ]
        for problem in problems:
            warnings.warn(f"{self._path.absolute()}: {problem}.", UserWarning, stacklevel=1)

    def _read_all(self, listed: Sequence[TiffSeries], series: Sequence[int]) -> None:
        for each in listed:
            if each.index in series:
                self._read[each.index] = read_image(each, self._path)


_MAX_CACHED = 1_000_000
"""Tiles and strips of all files together, 16 bytes each."""

_INDEXES: FileCache[SeriesIndex] = FileCache(_MAX_CACHED, SeriesIndex.cache_size)


def series_index(path: Path, series: int | None = None) -> SeriesIndex:
    """Read a TIFF's series, or return the cached ones while the file is unchanged.

    Raises
    ------
    UnreadableFileError
        If the file is not a TIFF or is damaged.
    """
    return _INDEXES.get(path, partial(SeriesIndex, series=series))


def read_tiff(path: Path) -> NDArray[Any]:
    """Read the whole of the first series, in native byte order.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or not a TIFF.
    """
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        data: NDArray[Any] = series[0].pages.asarray()
        return data.astype(data.dtype.newbyteorder("="), copy=False)


def describe_tiff(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and type of the result of `read_tiff`."""
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        pages = series[0].pages
        return pages.shape, pages.dtype.newbyteorder("=")
