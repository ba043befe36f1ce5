"""The pixels of a TIFF's pages: rows read by position, tiles and strips decoded once.

tifffile decodes these segments; codecs that damaged data can crash run in a process of their own. A
JPEG's header is checked first: it decides which decoder runs, and how much memory that allocates.
"""

from base64 import b64encode
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from napari_patchset.source import Rect
from napari_patchset.stacks.cache import OpenFiles, SharedCache, TileCache
from napari_patchset.stacks.isolated import POOL
from napari_patchset.stacks.jpeg import is_plain_jpeg, jpeg_frames
from napari_patchset.stacks.tiff.pages import PageKind, PagePlane, PageTable
from napari_patchset.stacks.tiff.structure import damaged

_MAX_DECODERS = 1000
"""Decoders of about 10 kB each; an image has one for each kind of page."""

_BAND_BYTES = 4 * 2**20
"""Of a window of uncompressed rows that is read at once."""

_WHOLE_ROWS_BYTES = 64 * 2**10
"""Up to this size, one read of whole rows is faster than one read for each row."""


class PageReader:
    """Read pages of one image, by its tables for each resolution; threads may share it."""

    def __init__(self, tables: tuple[PageTable, ...]) -> None:
        self.tables = tables
        self._files = OpenFiles({kind.path for table in tables for kind in table.kinds})
        self._cache = TileCache()
        self._decoders: SharedCache[tuple[int, int], _SegmentDecoder] = SharedCache(_MAX_DECODERS)

    def pieces(
        self, level: int, plane: PagePlane, window: Rect
    ) -> Iterator[tuple[NDArray[Any], tuple[slice, slice]]]:
        """Yield a window of a plane in pieces YXS with all contiguous samples, and where it is.

        Where the file holds no pixels there is no piece. Raises UnreadableFileError, naming page
        and position, if a segment can't be decoded.
        """
        self._files.check_open()
        kind = self._kind(level, plane)
        if kind is None:
            return
        if kind.is_raw:
            n_rows = max(1, _BAND_BYTES // kind.row_nbytes)
            for top in range(0, window.h, n_rows):
                band = Rect(window.x, window.y + top, window.w, min(n_rows, window.h - top))
                pixels = self._read_rows(kind, level, plane, band)[0]
                yield pixels, (slice(top, top + band.h), slice(None))
            return
        for segment, rect, decode, is_stored in self._segments(kind, level, plane, window):
            key = level, plane.page, segment
            pixels = self._cache.get(key, decode) if is_stored else decode()
            inside, outside = rect.overlap_slices(window)
            yield pixels[plane.depth % kind.tile[0]][inside], outside

    def blocks(
        self, level: int, plane: PagePlane, window: Rect
    ) -> Iterator[tuple[Hashable, Rect, Callable[[], NDArray[Any]]]]:
        """Yield each block of a plane that is decoded at once: key, rectangle, and decoder to ZYXS.

        Uncompressed pages have bands of whole rows. Segments that are not stored are left out if
        they are zero.
        """
        kind = self._kind(level, plane)
        if kind is None:
            return
        if kind.is_raw:
            height, width = kind.block_shape
            for y in range(window.y // height * height, window.y + window.h, height):
                band = Rect(0, y, width, min(height, kind.shape[2] - y))
                yield (level, *plane, y), band, partial(self._read_rows, kind, level, plane, band)
            return
        for segment, rect, decode, _ in self._segments(kind, level, plane, window):
            yield (level, plane.page, segment), rect, decode

    def close(self) -> None:
        """Close the files and drop the decoded segments."""
        self._files.close()
        self._cache.clear()

    def _kind(self, level: int, plane: PagePlane) -> PageKind | None:
        """Return the kind of a page, None if the file lacks it."""
        table = self.tables[level]
        index = table.kind_index[plane.page]
        return None if index < 0 else table.kinds[index]

    def _read_rows(self, kind: PageKind, level: int, plane: PagePlane, band: Rect) -> NDArray[Any]:
        """Read a window of an uncompressed plane at once, ZYXS."""
        _, deep, height, width, samples = kind.shape
        row_bytes, pixel_bytes = kind.row_nbytes, kind.row_nbytes // width
        first_row = (plane.sample * deep + plane.depth) * height + band.y
        start = self.tables[level].segment(plane.page, 0)[0] + first_row * row_bytes
        left, right = band.x * pixel_bytes, (band.x + band.w) * pixel_bytes
        read = partial(self._files.read, kind.path)
        if row_bytes <= max(2 * (right - left), _WHOLE_ROWS_BYTES // band.h):
            rows = np.frombuffer(read(start, band.h * row_bytes), np.uint8)
            cropped = rows.reshape(band.h, -1)[:, left:right]
            pixels = np.ascontiguousarray(cropped).view(kind.dtype)
        else:
            starts = (start + row * row_bytes + left for row in range(band.h))
            pixels = np.frombuffer(b"".join(read(i, right - left) for i in starts), kind.dtype)
        return pixels.reshape(1, band.h, -1, samples)

    def _segments(
        self, kind: PageKind, level: int, plane: PagePlane, window: Rect
    ) -> Iterator[tuple[int, Rect, Callable[[], NDArray[Any]], bool]]:
        """Yield the segments that meet a window: index, rectangle, decoder, whether it is stored.

        One that is not stored has the file's fill value; it is left out if that is zero.
        """
        tile_depth, height, width = kind.tile
        _, deep, high, wide = kind.grid
        first = (plane.sample * deep + plane.depth // tile_depth) * high * wide
        for row in range(window.y // height, -(-(window.y + window.h) // height)):
            for column in range(window.x // width, -(-(window.x + window.w) // width)):
                rect = Rect(column * width, row * height, width, height)
                segment = first + row * wide + column
                if self.tables[level].segment(plane.page, segment)[1]:
                    decode = partial(self._decode_segment, kind, level, plane, segment, rect)
                    yield segment, rect, decode, True
                elif kind.fill:
                    shape = (*kind.tile, kind.shape[4])
                    yield segment, rect, partial(np.full, shape, kind.fill, kind.dtype), False

    def _decode_segment(
        self, kind: PageKind, level: int, plane: PagePlane, segment: int, rect: Rect
    ) -> NDArray[Any]:
        """Decode a segment that is stored, ZYXS."""
        table = self.tables[level]
        data = self._files.read(kind.path, *table.segment(plane.page, segment))
        key = level, int(table.kind_index[plane.page])
        where = f"{kind.path}: page {plane.page}, {rect.w} x {rect.h} px at x={rect.x}, y={rect.y}"
        decoder = self._decoders.get(key, partial(_SegmentDecoder, kind))
        try:
            pixels = decoder.decode(data, segment, table.jpeg_tables.get(plane.page))
        except MemoryError:
            raise
        except Exception as error:  # each codec raises errors of its own
            raise damaged(where, f"can't be decoded: {error}") from error
        if pixels.shape[-1] != kind.shape[4]:
            raise damaged(
                where,
                f"decodes to {pixels.shape[-1]} samples a pixel, but the page declares "
                f"{kind.shape[4]}",
            )
        if kind.dtype == np.bool_ and pixels.dtype == np.uint8:  # as fax codecs do
            pixels = pixels != 0
        if pixels.dtype.char != kind.dtype.char:
            raise damaged(
                where, f"decodes to {pixels.dtype}, but the page declares {kind.dtype.name}"
            )
        return pixels


class _SegmentDecoder:
    """Decode the segments of one kind of page; it keeps no file open."""

    def __init__(self, kind: PageKind) -> None:
        self._kind = kind
        with TiffFile(kind.path) as file:
            file.filehandle.seek(kind.offset)
            page = TiffPage(file, kind.index)
            self._decode: Callable[..., tuple[Any, ...]] = page.decode
            self._jpeg_header = page.jpegheader if kind.is_jpeg else None

    def decode(self, data: bytes, segment: int, jpeg_tables: bytes | None) -> NDArray[Any]:
        """Decode a segment to ZYXS; in another process if damaged data could crash this one."""
        kind, options, is_safe = self._kind, {}, not self._kind.is_fragile
        if kind.is_jpeg:
            _, max_height, max_width = (2 * n for n in kind.tile)
            for frame in jpeg_frames(data):  # before memory is allocated for it
                if frame.height > max_height or frame.width > max_width:
                    raise ValueError(f"its JPEG is of {frame.width} x {frame.height} px")
            options = {"jpegtables": jpeg_tables, "jpegheader": self._jpeg_header}
            whole = (self._jpeg_header or b"") + data
            is_safe = is_safe and is_plain_jpeg(whole, jpeg_tables, kind.shape[4])
        if is_safe:
            pixels: NDArray[Any] = self._decode(data, segment, **options)[0]
            return pixels
        return POOL.decode(
            data,
            prod(kind.tile) * kind.shape[4] * kind.dtype.itemsize,
            path=str(kind.path),
            offset=kind.offset,
            index=kind.index,
            segment=segment,
            tables=b64encode(jpeg_tables).decode() if jpeg_tables else None,
        )
