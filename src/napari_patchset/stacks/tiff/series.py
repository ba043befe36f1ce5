"""Open a TIFF's series through tifffile, checked, and take down all that reading needs.

The images of a TIFF, taken down once until the file changes.

A TIFF's axes and its planes in the stack's order.

The first series of a TIFF as one array, as `tifffile.imread` gives it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPageSeries

from napari_patchset.axes import AxisLayout, DepthAxis
from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.metadata import ImageMetadata
from napari_patchset.stacks.tiff.metadata import imagej_metadata, ome_metadata, plain_metadata
from napari_patchset.stacks.tiff.ome import (
    USE_FROM_TIFF,
    Description,
    OmeImage,
    describe_file,
    ome_images,
)
from napari_patchset.stacks.tiff.pages import PageTable, read_pages
from napari_patchset.stacks.tiff.structure import REMEDY, check_structure

_UNKNOWN = "IQ"
"""What tifffile calls a dimension of which it knows only the size."""
_SPARE = "SQPUGWDJKNO"


class PlaneAxes:
    """The axes of an image, and a number for each of its planes in the order of the file.

    Parameters
    ----------
    axes, shape : str, tuple of int
        As tifffile has them; "S" are the samples of a pixel, "I" and "Q" unknown dimensions.

    Attributes
    ----------
    axes, shape : str, tuple of int
        Each letter once; samples are channels (next to channels, they multiply: all samples of
        the first channel, then of the second), an unknown dimension is S.
    planes : ndarray of int64
        The number of each plane, along `axes`, with Y and X of size 1.
    """

    def __init__(self, axes: str, shape: tuple[int, ...]) -> None:
        kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
        sizes = [1 if axis in "YX" else size for axis, size in kept]
        planes: NDArray[np.int64] = np.arange(prod(sizes), dtype=np.int64).reshape(sizes)
        letters, self.planes = _samples_to_channels([axis for axis, _ in kept], planes)
        self.axes = _unique(letters)
        plane_size = {axis: size for axis, size in kept if axis in "YX"}
        self.shape = tuple(
            plane_size.get(axis, size)
            for axis, size in zip(self.axes, self.planes.shape, strict=True)
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    def at_size(self, height: int, width: int) -> tuple[str, tuple[int, ...]]:
        """Give axes and shape with planes of another size."""
        sizes = {**self.sizes, "Y": height, "X": width}
        return self.axes, tuple(sizes.values())

    def in_stack_order(self, depth_axis: DepthAxis) -> NDArray[np.int64]:
        """Give the number of each plane along S, C and, if there is one, the depth axis."""
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


def _unique(letters: list[str]) -> str:
    """Name unknown and repeated dimensions by letters that are free."""
    unique: list[str] = []
    for axis in letters:
        if axis in _UNKNOWN or axis in unique:
            axis = next(spare for spare in _SPARE if spare not in unique + letters)
        unique.append(axis)
    return "".join(unique)


# What tifffile logs is raised here, or known as a missing plane; who wants its log adds a handler.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SLIDE_EXTRAS = frozenset({"thumbnail", "label", "macro", "overview", "map"})


@dataclass(frozen=True, slots=True)
class TiffSeries:
    """A series with what the file says of it.

    Attributes
    ----------
    index, name : int, str
        Its place in the file; "Series N" where the file does not name it.
    pages : TiffPageSeries
        As tifffile has it, valid while its file is open.
    ome : OmeImage or None
        Its Image element, if there is one.
    is_alone : bool
        Whether nothing of it is in another file.
    """

    index: int
    name: str
    pages: TiffPageSeries
    ome: OmeImage | None
    is_alone: bool

    @property
    def is_extra(self) -> bool:
        """Whether it is a thumbnail, a mask or a slide's label rather than the image."""
        page = self.pages.keyframe
        is_extra = page.is_reduced or page.is_mask
        return bool(is_extra) or self.pages.name.lower() in _SLIDE_EXTRAS


@dataclass(frozen=True, slots=True)
class TiffImage:
    """What is known of a series without its pixels.

    Attributes
    ----------
    axes : PlaneAxes
        Its axes, shape and planes.
    levels : tuple of PageTable
        Its pages at each resolution, finest first.
    metadata : ImageMetadata
        At the finest resolution.
    rect : Rect
        Position on the stage and size, in pixels.
    translation : dict of str to float
        Position on the stage in micrometres, by axis, as far as the file says it.
    """

    axes: PlaneAxes
    levels: tuple[PageTable, ...]
    metadata: ImageMetadata
    rect: Rect
    translation: Mapping[str, float]


@contextmanager
def open_series(path: Path, *, plain: bool = False) -> Iterator[list[TiffSeries]]:
    """Open a TIFF and give its series.

    Parameters
    ----------
    path : Path
        The file.
    plain : bool
        Give the pages as they come where what describes them can't be used, instead of an error.

    Raises
    ------
    UnreadableFileError
        If the file is no TIFF, is damaged, or lacks the file that describes it.
    """
    check_structure(path)
    try:
        description = describe_file(path, plain=plain)
        with description.open() as file:
            series = list(file.series)
            if not plain:
                _check_described(series, file, description)
            yield _list_series(series, description)
    except (PatchsetError, FileNotFoundError, PermissionError):
        raise
    # tifffile meets bytes from anywhere with struct, numpy and XML, and lets pass what they raise.
    except Exception as error:
        raise UnreadableFileError(f"{path}: tifffile can't read it: {error!r}. {REMEDY}") from error


def image_series(series: list[TiffSeries]) -> list[TiffSeries]:
    """Leave out thumbnails, masks and labels, unless there is nothing else."""
    return [s for s in series if not s.is_extra] or series


def read_image(series: TiffSeries, path: Path) -> TiffImage:
    """Take down where a series' pixels lie and what they mean.

    Raises
    ------
    UnreadableFileError
        If its sizes do not fit what the file holds, or its pixels can't be decoded.
    """
    pages = series.pages
    finest = read_pages(pages, path)
    coarser = (read_pages(level, path) for level in pages.levels[1:])
    axes = PlaneAxes(pages.axes, pages.shape)
    metadata = _metadata(series, axes)
    return TiffImage(
        axes=axes,
        levels=(finest, *(table for table in coarser if _is_level(table, finest))),
        metadata=metadata,
        rect=_rect(series, metadata.pixel_size),
        translation=dict(zip("XY", series.ome.position, strict=True)) if series.ome else {},
    )


def _check_described(
    series: list[TiffPageSeries], file: TiffFile, description: Description
) -> None:
    """Refuse pages of which the meaning is lost, as tifffile did not believe the description."""
    described = "OME-XML" if description.root is not None else "ImageJ's description"
    is_described = description.root is not None or file.is_imagej
    if is_described and series and series[0].kind in ("generic", "uniform"):
        raise UnreadableFileError(
            f"{description.path}: its pages do not fit {described}. {USE_FROM_TIFF}"
        )


def _list_series(series: list[TiffPageSeries], description: Description) -> list[TiffSeries]:
    if not series:
        raise UnreadableFileError(f"{description.path}: it holds no image. {REMEDY}")
    listed = []
    for index, (pages, ome) in enumerate(zip(series, _ome(series, description), strict=True)):
        name = (ome.name if ome else pages.name) or f"Series {index}"
        listed.append(TiffSeries(index, name, pages, ome, description.is_alone))
    return listed


def _ome(series: list[TiffPageSeries], description: Description) -> list[OmeImage | None]:
    """Find each series' Image element; tifffile leaves out those without pages."""
    if description.root is None or not series or series[0].kind != "ome":
        return [None] * len(series)
    images = list(ome_images(description.root))
    if len(images) == len(series):
        return list(images)
    return [
        next((i for i in images if (i.name, i.plane_shape) == (s.name, _plane_shape(s))), None)
        for s in series
    ]


def _plane_shape(series: TiffPageSeries) -> tuple[int, int]:
    return series.keyframe.imagelength, series.keyframe.imagewidth


def _metadata(series: TiffSeries, axes: PlaneAxes) -> ImageMetadata:
    page, found = series.pages.keyframe, None
    n_channels = axes.sizes.get("C", 1)
    if series.ome:
        return ome_metadata(series.ome, page, n_channels)
    if series.pages.kind == "imagej":
        found = page.parent.imagej_metadata
    if found:
        return imagej_metadata(found, page, axes.axes, n_channels)
    return plain_metadata(page, n_channels)


def _rect(series: TiffSeries, pixel_size: PixelSize) -> Rect:
    height, width = _plane_shape(series.pages)
    left, top = series.ome.position if series.ome else (0.0, 0.0)
    x = round(left / pixel_size.x) if pixel_size.x else 0
    y = round(top / pixel_size.y) if pixel_size.y else 0
    return Rect(x, y, width, height)


def _is_level(table: PageTable, finest: PageTable) -> bool:
    """Tell whether pages are the same planes at a lower resolution."""
    separate, deep, height, width, together = table.page_shape
    other = finest.page_shape
    same = (separate, deep, together) == (other[0], other[1], other[4])
    smaller = height <= other[2] and width <= other[3]
    return same and smaller and len(table.kind) == len(finest.kind) and table.dtype == finest.dtype


_MOST_KEPT = 1_000_000
"""Tiles and strips of all files that are kept, 16 bytes each."""


class TiffImages:
    """The series of a file, and what is known of those that were asked for; threads may share it.

    Attributes
    ----------
    names : list of str
        Of all series.
    shown : list of int
        The series that are images, as opposed to thumbnails, masks and labels.

    Parameters
    ----------
    series : int or None
        The one that is read at once, None for all images.
    """

    def __init__(self, path: Path, series: int | None = None) -> None:
        self._path = path
        self._known: dict[int, TiffImage] = {}
        with open_series(path) as found:
            self.names = [each.name for each in found]
            self.shown = [each.index for each in image_series(found)]
            self._is_alone = found[0].is_alone
            self._read(found, self.shown if series is None else [series])

    def take(self, series: Sequence[int]) -> list[TiffImage]:
        """Give some of the series."""
        missing = [index for index in series if index not in self._known]
        if missing:
            with open_series(self._path) as found:
                self._read(found, missing)
        return [self._known[index] for index in series]

    def weigh(self) -> int | None:
        """Count tiles and strips; None if it can't be kept, as other files may change."""
        tables = [table for image in self._known.values() for table in image.levels]
        return sum(len(table.counts) for table in tables) if self._is_alone else None

    def _read(self, found: Sequence[TiffSeries], series: Sequence[int]) -> None:
        for index in series:
            if 0 <= index < len(found):
                self._known[index] = read_image(found[index], self._path)


_KEPT: FileCache[TiffImages] = FileCache(_MOST_KEPT, TiffImages.weigh)


def read_images(path: Path, series: int | None = None) -> TiffImages:
    """Read a TIFF's series, unless that was done and the file is the same.

    Raises
    ------
    UnreadableFileError
        If the file is no TIFF, is damaged, or lacks the file that describes it.
    """
    return _KEPT.get(path, partial(TiffImages, series=series))


def read_tiff(path: Path) -> NDArray[Any]:
    """Read the whole of the first series, in native byte order.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or no TIFF.
    """
    with open_series(Path(path).absolute(), plain=True) as series:
        data: NDArray[Any] = series[0].pages.asarray()
        return data.astype(data.dtype.newbyteorder("="), copy=False)


def describe_tiff(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Give shape and type of what `read_tiff` would read."""
    with open_series(Path(path).absolute(), plain=True) as series:
        pages = series[0].pages
        return pages.shape, pages.dtype.newbyteorder("=")
