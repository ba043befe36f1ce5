"""The series of an open TIFF, or of the set of files that it is in, as tifffile groups the pages.

`open_series` yields them with the OME-XML that describes each. `read_tiff` reads the first one as
one array, as `tifffile.imread` does.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage, TiffPageSeries

from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.stacks.retrying import is_transient
from napari_patchset.stacks.tiff.ome import OmeImage, TiffDescription, describe_file
from napari_patchset.stacks.tiff.structure import USE_FROM_TIFF, damaged

# Problems in tifffile's log are raised here or become missing planes; add a handler to see it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SLIDE_EXTRAS = frozenset({"thumbnail", "label", "macro", "overview", "map"})


@dataclass(frozen=True, slots=True)
class TiffSeries:
    """A series of an open file."""

    index: int
    name: str
    """"Series N" if the file does not name it."""
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

    With `plain`, pages whose description can't be used are read in file order, without an error.
    """
    try:
        description = describe_file(path, plain=plain)
        with description.open() as file:
            series = [part for each in file.series for part in split_positions(each)]
            if not series:
                raise damaged(description.path, "it holds no image")
            described = "OME-XML" if description.images else "ImageJ's description"
            is_described = description.images or file.is_imagej
            if is_described and not plain and series[0].kind in ("generic", "uniform"):
                raise UnreadableFileError(  # tifffile has ignored it: what the pages are is lost
                    f"{description.path}: its pages do not fit {described}. {USE_FROM_TIFF}"
                )
            unread = _count_undescribed(file, series, description)
            if unread and not description.problem:
                problem = (
                    f"its OME-XML describes {description.n_pages - unread} of its "
                    f"{description.n_pages} pages; the others are left out"
                )
                description = replace(description, problem=problem)
            yield list(_described_series(series, description)), description
    except (PatchsetError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    # tifffile parses untrusted bytes with struct, NumPy and XML, and passes their errors on.
    except Exception as error:
        if isinstance(error, MemoryError) or is_transient(error):
            raise
        raise damaged(path, f"tifffile can't read it: {error!r}") from error


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


def read_tiff(path: Path) -> NDArray[Any]:
    """Read the whole of the first series, in native byte order."""
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        data: NDArray[Any] = series[0].pages.asarray()
        return data.astype(data.dtype.newbyteorder("="), copy=False)


def describe_tiff(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and type of the result of `read_tiff`."""
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        pages = series[0].pages
        return pages.shape, pages.dtype.newbyteorder("=")
