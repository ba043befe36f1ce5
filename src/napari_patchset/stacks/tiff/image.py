"""Open a TIFF's series through tifffile, checked, and take down all that reading needs."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile, TiffPageSeries

from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.metadata import ImageMetadata
from napari_patchset.stacks.tiff.axes import PlaneAxes
from napari_patchset.stacks.tiff.check import REMEDY, check_structure
from napari_patchset.stacks.tiff.description import Description, describe_file
from napari_patchset.stacks.tiff.metadata import imagej_metadata, ome_metadata, plain_metadata
from napari_patchset.stacks.tiff.ome import USE_FROM_TIFF, OmeImage, ome_images
from napari_patchset.stacks.tiff.pages import PageTable
from napari_patchset.stacks.tiff.survey import read_pages

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
