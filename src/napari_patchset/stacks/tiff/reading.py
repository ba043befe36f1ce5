"""Read windows of pages: raw rows by position; segments decoded once, and kept."""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.forking import ForkAware
from napari_patchset.source import Rect
from napari_patchset.stacks.open_files import Files
from napari_patchset.stacks.tiff.decoding import Decode, decode_segment, load_decoder
from napari_patchset.stacks.tiff.pages import PageKind, PageTable
from napari_patchset.stacks.tiles import DEFAULT_LIMIT, TileCache

Piece = tuple[NDArray[Any], tuple[slice, slice]]
"""Pixels YXS, and the rows and columns of the window that they fill."""

_BAND = 4 * 2**20
_WHOLE_ROWS = 64 * 2**10
"""Up to so many bytes, one read of whole rows is quicker than one for each row."""


class PageReader(ForkAware):
    """Read pages of one image at all its resolutions; threads may share it.

    Parameters
    ----------
    tables : tuple of PageTable
        One for each resolution.
    limit : int
        Bytes of decoded segments to keep.
    """

    def __init__(self, tables: tuple[PageTable, ...], limit: int = DEFAULT_LIMIT) -> None:
        self.tables = tables
        self._files = Files({kind.path for table in tables for kind in table.kinds})
        self._cache = TileCache(limit)
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._decoders: dict[tuple[int, int], Decode] = {}
        self._lock = Lock()

    @property
    def decoded(self) -> int:
        """How many segments were decoded so far."""
        return self._cache.decoded

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
                yield (level, page, sample, depth, y), band, partial(self._cache.count, read)
            return
        for tile, index in self._tiles(kind, (sample, depth), window):
            if table.segment(page, index)[1]:
                decode = partial(self._decode_segment, level, page, index, tile)
                yield (level, page, index), tile, partial(self._cache.count, decode)
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
        self._mind_fork()
        with self._lock:
            if (level, kind_index) not in self._decoders:
                decode = load_decoder(self.tables[level].kinds[kind_index])
                self._decoders[level, kind_index] = decode
            return self._decoders[level, kind_index]

    def __getstate__(self) -> dict[str, Any]:
        return {"tables": self.tables, "_files": self._files, "_cache": self._cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()
