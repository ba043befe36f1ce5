"""Decode one tile or strip of a page, in this process or, where that is not safe, in a helper.

Look at a JPEG's header before a decoder does.

Read windows of pages: raw rows by position; segments decoded once, and kept.
"""

import re
import struct
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TILE_BYTES, OpenFiles, SharedCache, TileCache
from napari_patchset.stacks.isolated import POOL
from napari_patchset.stacks.tiff.pages import PageKind, PageTable
from napari_patchset.stacks.tiff.structure import REMEDY

_SOI, _SOF, _DHT, _SOS = 0xD8, range(0xC0, 0xD0), 0xC4, 0xDA
_NO_SOF = (0xC4, 0xC8, 0xCC)
_BASELINE = (0xC0, 0xC1, 0xC2)
_LATER_TABLES = re.compile(rb"\xff[\xc0-\xcf]")
_MOST_CODES = 256


def check_jpeg_size(data: bytes, tile: tuple[int, int]) -> None:
    """Refuse a JPEG much larger than the tile that it is stored as, before memory is taken for it.

    Raises
    ------
    ValueError
        If its header declares more than twice the tile's height or width.
    """
    for marker, body, _ in _segments(data):
        if marker in _SOF and marker not in _NO_SOF and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            if height > 2 * tile[0] or width > 2 * tile[1]:
                raise ValueError(f"its JPEG is of {width} x {height} px")


def is_plain_jpeg(data: bytes, tables: bytes | None, samples: int) -> bool:
    """Tell an ordinary JPEG, which libjpeg decodes, from all that imagecodecs may try ljpeg on.

    libjpeg lives with whatever the pixels hold; ljpeg, for lossless JPEG, does not.

    Parameters
    ----------
    tables : bytes or None
        What the page brings along for all of its tiles.
    samples : int
        How many each pixel should have.
    """
    if tables and not all(_is_sound(*segment[:2], samples) for segment in _segments(tables)):
        return False
    found = list(_segments(data))
    if not all(_is_sound(marker, body, samples) for marker, body, _ in found):
        return False
    n_sizes = sum(marker in _BASELINE for marker, _, _ in found)
    has_pixels = bool(found) and found[-1][0] == _SOS
    return has_pixels and n_sizes == 1 and not _LATER_TABLES.search(data, found[-1][2])


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Give each segment up to the pixels: its marker, what it holds, and where it ends."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length], at + 2 + length
        if marker == _SOS:
            return
        at += 2 + length


def _is_sound(marker: int, body: bytes, samples: int) -> bool:
    if marker == _DHT:
        return _are_sound_codes(body)
    if marker in _SOF:
        return marker in _BASELINE and body[:1] == b"\x08" and body[5:6] == bytes([samples])
    return True


def _are_sound_codes(body: bytes) -> bool:
    """Tell whether every Huffman table of a segment is one: no more codes than there can be."""
    while body:
        counts = body[1:17]
        n = sum(counts)
        room = sum(count << (16 - length) for length, count in enumerate(counts, 1))
        is_dc = body[0] < 16
        symbols = body[17 : 17 + n]
        if len(symbols) < n or n > _MOST_CODES or room > 1 << 16 or body[0] & 0x0F > 3:
            return False
        if body[0] > 0x13 or (is_dc and max(symbols, default=0) > 15):
            return False
        body = body[17 + n :]
    return True


Decode = Callable[..., tuple[Any, ...]]


def load_decoder(kind: PageKind) -> Decode:
    """Make a page's decoder, which keeps no file open, from its directory alone."""
    with TiffFile(kind.path) as file:
        file.filehandle.seek(kind.offset)
        page = TiffPage(file, kind.index)
        header = {"jpegheader": page.jpegheader} if kind.is_jpeg else {}
        return partial(page.decode, **header)


def decode_segment(
    decoder: Decode, data: bytes, index: int, kind: PageKind, where: str, options: dict[str, Any]
) -> NDArray[Any]:
    """Decode a segment, ZYXS; what damaged data may kill does it in a process of its own.

    Raises
    ------
    UnreadableFileError
        If it can't be decoded to pixels of the page's type, saying where.
    """
    try:
        if kind.is_jpeg:
            check_jpeg_size(data, kind.tile[1:])
        pixels: NDArray[Any]
        if kind.is_fragile or (kind.is_jpeg and not _is_plain(decoder, data, kind, options)):
            pixels = _decode_contained(data, index, kind, options)
        else:
            pixels = decoder(data, index, **options)[0]
    # The codecs raise what they like, and each has a class of its own.
    except Exception as error:
        raise UnreadableFileError(f"{where}: can't be decoded: {error}. {REMEDY}") from error
    if pixels.shape[-1] != kind.shape[4]:
        raise UnreadableFileError(
            f"{where}: decodes to {pixels.shape[-1]} samples a pixel, but the page declares "
            f"{kind.shape[4]}. {REMEDY}"
        )
    if pixels.dtype.char != kind.dtype.char:
        raise UnreadableFileError(
            f"{where}: decodes to {pixels.dtype}, but the page declares {kind.dtype.name}. {REMEDY}"
        )
    return pixels


def _is_plain(decoder: Decode, data: bytes, kind: PageKind, options: dict[str, Any]) -> bool:
    header = getattr(decoder, "keywords", {}).get("jpegheader") or b""
    return is_plain_jpeg(header + data, options.get("jpegtables"), kind.shape[4])


def _decode_contained(
    data: bytes, index: int, kind: PageKind, options: dict[str, Any]
) -> NDArray[Any]:
    tables = options.get("jpegtables")
    page = {"path": str(kind.path), "offset": kind.offset, "index": kind.index, "segment": index}
    encoded = b64encode(tables).decode() if tables else None
    n_bytes = prod(kind.tile) * kind.shape[4] * kind.dtype.itemsize
    return POOL.decode(data, n_bytes, tables=encoded, **page)


Piece = tuple[NDArray[Any], tuple[slice, slice]]
"""Pixels YXS, and the rows and columns of the window that they fill."""

_MAX_DECODERS = 1000
"""Decoders of pages, of about 10 kB each; an image has one for each kind of page."""

_BAND = 4 * 2**20
_WHOLE_ROWS = 64 * 2**10
"""Up to so many bytes, one read of whole rows is quicker than one for each row."""


class PageReader:
    """Read pages of one image at all its resolutions; threads may share it.

    Parameters
    ----------
    tables : tuple of PageTable
        One for each resolution.
    limit : int
        Bytes of decoded segments to keep.
    """

    def __init__(self, tables: tuple[PageTable, ...], limit: int = TILE_BYTES) -> None:
        self.tables = tables
        self._files = OpenFiles({kind.path for table in tables for kind in table.kinds})
        self._cache = TileCache(limit)
        self._decoders: SharedCache[tuple[int, int], Decode] = SharedCache(_MAX_DECODERS)

    def pieces(
        self, level: int, page: int, sample: int, depth: int, window: Rect
    ) -> Iterator[Piece]:
        """Give a window of a page piece by piece, with all contiguous samples of a pixel.

        There is no piece where the file holds no pixels.

        Raises
        ------
        UnreadableFileError
            If a segment can't be decoded, naming page and position.
        ValueError
            If the reader was closed.
        """
        self._files.require_open()
        table = self.tables[level]
        if table.kind[page] < 0:
            return
        if table.kinds[table.kind[page]].is_raw:
            yield from self._raw(table, page, (sample, depth), window)
        else:
            yield from self._segments(level, page, (sample, depth), window)

    def blocks(
        self, level: int, page: int, sample: int, depth: int, window: Rect
    ) -> Iterator[tuple[Hashable, Rect, Callable[[], NDArray[Any]]]]:
        """Give what is decoded at once of a page: a name, where it lies, what decodes it to ZYXS.

        Raw pages have bands of whole rows. Segments that are not stored are left out, or stand as
        their value.
        """
        table = self.tables[level]
        if table.kind[page] < 0:
            return
        kind = table.kinds[table.kind[page]]
        if kind.is_raw:
            height, width = kind.block_shape
            top = window.y // height * height
            for y in range(top, window.y + window.h, height):
                band = Rect(0, y, width, min(height, kind.shape[2] - y))
                read = partial(self._raw_rows, table, page, (sample, depth), band)
                yield (level, page, sample, depth, y), band, read
            return
        for tile, index in self._tiles(kind, (sample, depth), window):
            if table.segment(page, index)[1]:
                decode = partial(self._decode_segment, level, page, index, tile)
                yield (level, page, index), tile, decode
            elif kind.fill:
                shape = (kind.tile[0], tile.h, tile.w, kind.shape[4])
                yield (level, page, index), tile, partial(np.full, shape, kind.fill, kind.dtype)

    def close(self) -> None:
        """Give back the files and forget what was decoded."""
        self._files.close()
        self._cache.clear()

    def _raw(
        self, table: PageTable, page: int, layer: tuple[int, int], window: Rect
    ) -> Iterator[Piece]:
        kind = table.kinds[table.kind[page]]
        n_rows = max(1, _BAND // kind.row_nbytes)
        for top in range(0, window.h, n_rows):
            band = Rect(window.x, window.y + top, window.w, min(n_rows, window.h - top))
            pixels = self._raw_rows(table, page, layer, band)[0]
            yield pixels, (slice(top, top + band.h), slice(None))

    def _raw_rows(
        self, table: PageTable, page: int, layer: tuple[int, int], band: Rect
    ) -> NDArray[Any]:
        """Read a window of a raw page at once, ZYXS."""
        kind = table.kinds[table.kind[page]]
        _, deep, height, _, samples = kind.shape
        rows_above = (layer[0] * deep + layer[1]) * height
        start = table.segment(page, 0)[0] + rows_above * kind.row_nbytes
        return self._band(kind, start, band).reshape(1, band.h, -1, samples)

    def _band(self, kind: PageKind, start: int, band: Rect) -> NDArray[Any]:
        """Read a window as rows, whole ones where that costs less than it saves."""
        pixel = kind.row_nbytes // kind.shape[3]
        start += band.y * kind.row_nbytes
        left, right = band.x * pixel, (band.x + band.w) * pixel
        read = partial(self._files.read, kind.path)
        if kind.row_nbytes <= max(2 * (right - left), _WHOLE_ROWS // band.h):
            rows = np.frombuffer(read(start, band.h * kind.row_nbytes), np.uint8)
            chosen = rows.reshape(band.h, -1)[:, left:right]
            return np.ascontiguousarray(chosen).view(kind.dtype)
        starts = (start + row * kind.row_nbytes + left for row in range(band.h))
        return np.frombuffer(b"".join(read(at, right - left) for at in starts), kind.dtype)

    def _segments(
        self, level: int, page: int, layer: tuple[int, int], window: Rect
    ) -> Iterator[Piece]:
        table = self.tables[level]
        kind = table.kinds[table.kind[page]]
        for tile, index in self._tiles(kind, layer, window):
            inside, outside = tile.overlap(window)
            if table.segment(page, index)[1]:
                decode = partial(self._decode_segment, level, page, index, tile)
                segment = self._cache.get((level, page, index), decode)
                yield segment[layer[1] % kind.tile[0]][inside], outside
            elif kind.fill:
                shape = (tile.h, tile.w, kind.shape[4])
                yield np.full(shape, kind.fill, kind.dtype)[inside], outside

    def _tiles(
        self, kind: PageKind, layer: tuple[int, int], window: Rect
    ) -> Iterator[tuple[Rect, int]]:
        """Give each segment of a page that meets a window: where it lies, and its index."""
        tile_depth, height, width = kind.tile
        _, deep, high, wide = kind.grid
        first = (layer[0] * deep + layer[1] // tile_depth) * high * wide
        for row in range(window.y // height, -(-(window.y + window.h) // height)):
            for column in range(window.x // width, -(-(window.x + window.w) // width)):
                tile = Rect(column * width, row * height, width, height)
                yield tile, first + row * wide + column

    def _decode_segment(self, level: int, page: int, index: int, tile: Rect) -> NDArray[Any]:
        """Decode a segment that is stored, ZYXS."""
        table = self.tables[level]
        kind_index = int(table.kind[page])
        kind = table.kinds[kind_index]
        data = self._files.read(kind.path, *table.segment(page, index))
        options = {"jpegtables": table.jpeg_tables.get(page)} if kind.is_jpeg else {}
        where = f"{kind.path}: page {page}, {tile.w} x {tile.h} px at x={tile.x}, y={tile.y}"
        return decode_segment(self._decoder(level, kind_index), data, index, kind, where, options)

    def _decoder(self, level: int, kind_index: int) -> Decode:
        kind = self.tables[level].kinds[kind_index]
        return self._decoders.get((level, kind_index), partial(load_decoder, kind))
