"""The position of an image's pixels in its files: a table of pages, taken from tifffile.

Each size that a file declares is checked before anything is allocated for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFrame, TiffPage, TiffPageSeries

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.tiff.structure import USE_FROM_TIFF, damaged

_BAND_BYTES = 2**20
"""Of the rows that are one block where pixels are not in tiles or strips."""


@dataclass(frozen=True, slots=True)
class PageKind:
    """The properties that all pages with one of tifffile's keyframes share.

    A segment is a tile or strip.
    """

    path: Path
    offset: int
    """Of the keyframe's directory in the file."""
    index: tuple[int, ...]
    """Of the keyframe in the tree of pages."""
    shape: tuple[int, int, int, int, int]
    """Separate samples, depth, height, width, contiguous samples."""
    tile: tuple[int, int, int]
    """Depth, height and width of a segment."""
    dtype: np.dtype[np.generic]
    """Of a pixel as stored, with its byte order."""
    is_raw: bool
    """Whether a page is one run of uncompressed pixels."""
    is_jpeg: bool
    """Whether a page may have JPEG tables of its own."""
    is_fragile: bool
    """Whether damaged pixels may crash the process that decodes them."""
    fill: float
    """The value of segments that are not stored."""

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded page."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row across the whole width, with its contiguous samples."""
        return self.shape[3] * self.shape[4] * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Number of segments along separate samples, depth, height and width."""
        deep, high, wide = (ceil(n / t) for n, t in zip(self.shape[1:4], self.tile, strict=True))
        return self.shape[0], deep, high, wide

    @property
    def n_segments(self) -> int:
        """Number of segments of a page."""
        return 1 if self.is_raw else prod(self.grid)

    @property
    def block_shape(self) -> tuple[int, int]:
        """Height and width of the block that is decoded at once."""
        _, _, height, width, _ = self.shape
        if self.is_raw:
            return min(height, max(1, _BAND_BYTES // self.row_nbytes)), width
        return min(self.tile[1], height), min(self.tile[2], width)


class PagePlane(NamedTuple):
    """One plane of a page, with its contiguous samples."""

    page: int
    """Number of the page in its table."""
    sample: int
    depth: int
    """Separate sample, and depth in a volumetric page."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """All pages of an image at one resolution, by number; picklable and small."""

    kinds: tuple[PageKind, ...]
    """One for each file and keyframe."""
    kind_index: NDArray[np.int32]
    """Each page's index into `kinds`, -1 for a page that the file lacks."""
    first_segment: NDArray[np.int64]
    """Index of each page's first segment in `offsets` and `counts`; at the end, their length."""
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    """Offset and number of bytes of each segment; 0 bytes if it is not stored."""
    jpeg_tables: dict[int, bytes] = field(default_factory=dict)
    """By page, for JPEG."""

    @property
    def page_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of every page: separate samples, depth, height, width, contiguous samples."""
        return self.kinds[0].shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a pixel in native byte order."""
        return self.kinds[0].dtype.newbyteorder("=")

    def kind_of(self, page: int) -> PageKind | None:
        """Return the kind of a page, None if the file lacks it."""
        index = self.kind_index[page]
        return None if index < 0 else self.kinds[index]

    def locate(self, plane: int) -> tuple[PagePlane, int]:
        """Return where the image's plane of a number is: plane of a page, contiguous sample."""
        separate, deep, _, _, together = self.page_shape
        rest, contiguous = divmod(plane, together)
        rest, depth = divmod(rest, deep)
        page, sample = divmod(rest, separate)
        return PagePlane(page, sample, depth), contiguous

    def is_missing(self, planes: NDArray[np.int64]) -> NDArray[np.bool]:
        """Return for each plane whether the file lacks its page."""
        separate, deep, _, _, together = self.page_shape
        missing: NDArray[np.bool] = self.kind_index[planes // (separate * deep * together)] < 0
        return missing

    def segment(self, page: int, index: int) -> tuple[int, int]:
        """Return offset and number of bytes of a page's segment."""
        i = int(self.first_segment[page]) + index
        return int(self.offsets[i]), int(self.counts[i])


_JPEG = frozenset({6, 7, 34892, 33007})
_INTEGER_BITS = frozenset((*range(1, 17), 32, 64))
"""Bits of a sample that tifffile decodes; of others, such as 24, it mixes up the bytes."""
_FRAGILE = frozenset({22610, 34934, 34933})
"""JPEG XR, and PNG: each failure of its decoder loses a reference to None."""
_MAX_RATIO = {5: 2048, 8: 1100, 32946: 1100, 50013: 1100, 32773: 64}
"""The highest possible compression ratios of LZW, deflate and PackBits."""
_MAX_SEGMENT_BYTES = 2**32


def read_pages(series: TiffPageSeries, path: Path) -> PageTable:
    """Read where the pages of a series, or of one of its levels, lie, if they can be decoded."""
    n_pages = _page_count(series, path)
    # tifffile compares offsets alone, which in several files can follow each other by chance.
    start = None if series.is_multifile else series.dataoffset
    if start is not None:
        table = _contiguous_pages(_page_kind(series.keyframe, path), start, n_pages)
    else:
        table = _separate_pages(series, n_pages, path)
    _check_bounds(table)
    return table


def _page_count(series: TiffPageSeries, path: Path) -> int:
    """Return the number of pages that make up the image's shape."""
    separate, deep, height, width, together = series.keyframe.shaped
    axes, shape = series.axes, series.shape
    if min(shape, default=0) < 1:
        raise damaged(path, f"it holds no image: its shape is {shape}")
    y, x = axes.find("Y"), axes.find("X")
    fits = 0 <= y == x - 1 and shape[y : x + 1] == (height, width)
    if not fits or prod(shape[x + 1 :]) != together or prod(shape[:y]) % (separate * deep):
        raise UnreadableFileError(
            f"{path}: its axes {axes!r} of shape {shape} do not fit its pages, which are "
            f"{series.keyframe.axes!r} {series.keyframe.shape}. {USE_FROM_TIFF}"
        )
    return prod(shape[:y]) // (separate * deep)


def _contiguous_pages(kind: PageKind, start: int, n_pages: int) -> PageTable:
    size = kind.path.stat().st_size
    # The number of pages may come from a line of text; check it before allocating the table.
    if start + n_pages * kind.nbytes > size:
        raise damaged(
            kind.path,
            f"it declares {n_pages} pages of {kind.nbytes} bytes from byte {start}, "
            f"but the file has {size} bytes",
        )
    return PageTable(
        kinds=(kind,),
        kind_index=np.zeros(n_pages, np.int32),
        first_segment=np.arange(n_pages + 1, dtype=np.int64),
        offsets=start + kind.nbytes * np.arange(n_pages, dtype=np.int64),
        counts=np.full(n_pages, kind.nbytes, np.int64),
    )


def _separate_pages(
    pages: Iterable[TiffPage | TiffFrame | None], n_pages: int, path: Path
) -> PageTable:
    kinds: list[PageKind] = []
    index_of_keyframe: dict[int, int] = {}
    kind_index, lengths, offsets, counts = list[int](), list[int](), list[int](), list[int]()
    jpeg_tables: dict[int, bytes] = {}
    for number, page in enumerate(pages):
        if page is None:
            kind_index.append(-1)
            lengths.append(0)
            continue
        if (keyframe := page.keyframe) is None:
            raise damaged(path, f"{page} can't be understood")
        if id(keyframe) not in index_of_keyframe:
            kinds.append(_page_kind(keyframe, path))
            _check_alike(kinds[-1], kinds[0])
            index_of_keyframe[id(keyframe)] = len(kinds) - 1
        index = index_of_keyframe[id(keyframe)]
        starts, stored = _segments(page, kinds[index], number)
        # A page without a stored segment was declared but never written.
        kind_index.append(index if any(stored) else -1)
        lengths.append(len(starts))
        offsets.extend(starts)
        counts.extend(stored)
        if kinds[index].is_jpeg and page.jpegtables:
            jpeg_tables[number] = page.jpegtables
    if len(lengths) != n_pages:
        raise damaged(path, f"its shape needs {n_pages} pages, but it holds {len(lengths)}")
    if not kinds:
        raise damaged(path, "none of its pages holds pixels")
    return PageTable(
        tuple(kinds),
        np.array(kind_index, np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array(offsets, np.int64),
        np.array(counts, np.int64),
        jpeg_tables,
    )


def _check_alike(kind: PageKind, first: PageKind) -> None:
    if (kind.shape, kind.dtype.char) != (first.shape, first.dtype.char):
        raise UnreadableFileError(
            f"{kind.path}: its pages are {_described(kind)}, but those of {first.path.name} are "
            f"{_described(first)}; planes of one image must be alike."
        )


def _described(kind: PageKind) -> str:
    """Return size and type of a page: "640 x 480 px of uint16", "640 x 480 px of 3 x uint8"."""
    separate, deep, height, width, together = kind.shape
    size = f"{width} x {height} x {deep} px" if deep > 1 else f"{width} x {height} px"
    n_samples = separate * together
    return f"{size} of {f'{n_samples} x ' if n_samples > 1 else ''}{kind.dtype.name}"


def _segments(
    page: TiffPage | TiffFrame, kind: PageKind, number: int
) -> tuple[list[int], list[int]]:
    """Return offset and number of bytes of each segment of a page."""
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    if kind.is_raw and offsets:
        return offsets[:1], [kind.nbytes if offsets[0] else 0]
    if not len(offsets) == len(counts) == kind.n_segments:
        raise damaged(
            kind.path,
            f"page {number} needs {kind.n_segments} tiles or strips, but has "
            f"{len(offsets)} offsets and {len(counts)} byte counts",
        )
    ratio = _MAX_RATIO.get(page.compression)
    if ratio and all(counts) and ratio * sum(counts) < kind.nbytes:
        raise damaged(
            kind.path,
            f"page {number} declares {kind.nbytes} bytes of pixels, which its "
            f"{sum(counts)} compressed bytes can't hold",
        )
    return offsets, [n if start else 0 for start, n in zip(offsets, counts, strict=True)]


def _page_kind(keyframe: TiffPage, path: Path) -> PageKind:
    if min(keyframe.shaped) < 1 or keyframe.dtype is None:
        raise UnreadableFileError(
            f"{path}: pixels of {keyframe.bitspersample} bits and sample format "
            f"{keyframe.sampleformat} in a page of {keyframe.shape} can't be read."
        )
    bits: object = keyframe.bitspersample  # a tuple if samples differ
    if keyframe.dtype.kind in "iu" and isinstance(bits, int) and bits not in _INTEGER_BITS:
        raise UnreadableFileError(
            f"{path}: integers of {bits} bits can't be read; up to 16 bits, 32 "
            "and 64 can. Write it again in one of these."
        )
    if keyframe.is_tiled:
        tile = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
    else:
        tile = (1, keyframe.rowsperstrip, keyframe.imagewidth)
    if min(tile) < 1:
        raise damaged(path, f"its tiles or strips are of size {tile}")
    # tifffile resolves links; errors should show the name that the user gave.
    file_path = Path(keyframe.parent.filehandle.path)
    kind = PageKind(
        path=path if path.samefile(file_path) else file_path,
        offset=keyframe.offset,
        index=keyframe.treeindex,
        shape=keyframe.shaped,
        tile=tile,
        dtype=keyframe.dtype.newbyteorder(keyframe.parent.byteorder),
        is_raw=keyframe.is_final,
        is_jpeg=keyframe.compression in _JPEG,
        is_fragile=keyframe.compression in _FRAGILE,
        fill=keyframe.nodata,
    )
    try:
        # Without data it decodes nothing, but raises if it lacks the codec.
        keyframe.decode(None, 0)
    except (ValueError, NotImplementedError, ImportError) as error:
        raise UnreadableFileError(f"{kind.path}: its pixels can't be decoded: {error}") from error
    nbytes = prod(kind.tile) * kind.shape[4] * kind.dtype.itemsize
    if not kind.is_raw and nbytes > _MAX_SEGMENT_BYTES:
        raise UnreadableFileError(
            f"{kind.path}: a tile or strip of {nbytes} bytes is above the limit of "
            f"{_MAX_SEGMENT_BYTES}. Save it in tiles, e.g. of 512 x 512 px."
        )
    return kind


def _check_bounds(table: PageTable) -> None:
    """Refuse segments that reach out of their file."""
    sizes = np.array([kind.path.stat().st_size for kind in table.kinds], np.int64)
    page = np.repeat(np.arange(len(table.kind_index)), np.diff(table.first_segment))
    # The sum of a 64-bit offset and a length could overflow, this difference can't.
    last = sizes[table.kind_index[page]] - table.counts
    outside = (table.counts > 0) & ((table.offsets < 8) | (table.offsets > last))
    outside |= table.counts < 0
    if outside.any():
        worst = int(np.argmax(outside))
        index = table.kind_index[page[worst]]
        raise damaged(
            table.kinds[index].path,
            f"page {page[worst]} has {table.counts[worst]} bytes of "
            f"pixels at byte {table.offsets[worst]}, but the file has {sizes[index]}",
        )
