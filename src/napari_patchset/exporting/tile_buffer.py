"""TileBuffer: decoded tiles that later batches need, or only the strips of them that they need.

A tile is pinned by the first batch that needs it and unpinned by each one: then it is cut down to
what later batches need of it, or freed. Over the memory limit, the tiles that are needed last are
freed, and decoded again later.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.batches import Batches
from napari_patchset.source import Rect
from napari_patchset.stacks.protocol import Block

DEFAULT_MEMORY = 184 * 2**20
"""Bytes for decoded tiles and open shards."""

LEAST_TILES = 32 * 2**20
"""Bytes of the memory that decoded tiles have at least, whatever the limit."""


@dataclass(slots=True)
class _PinnedTile:
    """The part of a tile that is in memory: where it lies in the plane, and its pixels."""

    rect: Rect
    pixels: Future[NDArray[Any]]
    nbytes: int
    next_batch: int


class TileBuffer:
    """The tiles of one stack; each is decoded once as long as what is needed of them fits.

    Parameters
    ----------
    batches : Batches
        All batches that will be read.
    span : range
        Those of them that read this stack.
    pool : Executor
        Decodes.
    check_cancelled : callable
        Called before each tile is decoded; whatever it raises, `pixels` raises.
    """

    def __init__(
        self, batches: Batches, span: range, pool: Executor, check_cancelled: Callable[[], None]
    ) -> None:
        self._batches, self._span = batches, span
        self._pool, self._check_cancelled = pool, check_cancelled
        self._pinned: dict[Hashable, _PinnedTile] = {}
        of_stack = slice(span.start, span.stop)
        self._extent = batches.high[of_stack, :2].max(axis=0) + 1
        low = batches.low[of_stack]
        keys = self._key(batches.sample[of_stack], low[:, 0], low[:, 1])
        self._least_key = np.minimum.accumulate(keys[::-1])[::-1]
        """The least key of each batch and all later ones, to find the last that needs a tile."""

    def _key(self, sample: Any, z: Any, y: Any) -> Any:
        """Return a number that orders positions by sample, Z and Y."""
        depth, height = self._extent
        return (sample * depth + z) * height + y

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles that are decoded, or being decoded."""
        return sum(tile.nbytes for tile in self._pinned.values())

    def pin(self, block: Block, batch: int, itemsize: int) -> None:
        """Decode a tile for a batch, unless it is in memory."""
        if block.key not in self._pinned:
            nbytes = block.rect.w * block.rect.h * itemsize
            pixels = self._pool.submit(self._decode, block)
            self._pinned[block.key] = _PinnedTile(block.rect, pixels, nbytes, batch)

    def _decode(self, block: Block) -> NDArray[Any]:
        self._check_cancelled()
        return block.decode()

    def pixels(self, block: Block) -> tuple[NDArray[Any], int, int]:
        """Return a plane's pixels YX of a pinned tile, and the Y and X where they begin."""
        tile = self._pinned[block.key]
        return block.plane(tile.pixels.result()), tile.rect.y, tile.rect.x

    def unpin(self, block: Block, batch: int) -> None:
        """Free what no batch after this one needs of a tile."""
        tile = self._pinned.get(block.key)
        if tile is None:
            return
        need = self._needed_later(block, tile.rect, batch)
        if need is None:
            del self._pinned[block.key]
            return
        rect, tile.next_batch = need
        pixels = tile.pixels.result()
        tile.nbytes = pixels.nbytes
        if pixels.ndim and 2 * rect.w * rect.h < tile.rect.w * tile.rect.h:
            inside = [slice(None)] * pixels.ndim
            y, x = rect.y - tile.rect.y, rect.x - tile.rect.x
            inside[block.yx[0]], inside[block.yx[1]] = slice(y, y + rect.h), slice(x, x + rect.w)
            strip = pixels[tuple(inside)].copy()
            tile.rect, tile.pixels, tile.nbytes = rect, Future(), strip.nbytes
            tile.pixels.set_result(strip)

    def shrink(self, limit: int, batch: int) -> None:
        """Free tiles until the rest fits; those stay that a batch up to this one needs next."""
        excess = self.nbytes - limit
        if excess <= 0:
            return
        for key in sorted(self._pinned, key=lambda key: -self._pinned[key].next_batch):
            if excess <= 0 or self._pinned[key].next_batch <= batch:
                break
            excess -= self._pinned.pop(key).nbytes

    def _needed_later(self, block: Block, rect: Rect, batch: int) -> tuple[Rect, int] | None:
        """Return the part of a tile that later batches read, and the first of these batches."""
        bottom = self._key(max(block.samples), block.depths.stop - 1, rect.y + rect.h)
        end = self._span.start + int(np.searchsorted(self._least_key, bottom))
        later, batches = slice(batch + 1, max(end, batch + 1)), self._batches
        low, high = batches.low[later], batches.high[later]
        tile_low = np.array((block.depths.start, rect.y, rect.x))
        tile_high = np.array((block.depths.stop, rect.y + rect.h, rect.x + rect.w))
        meets = ((low < tile_high) & (high > tile_low)).all(axis=1)
        meets &= np.isin(batches.sample[later], block.samples)
        users = np.flatnonzero(meets)
        if not len(users):
            return None
        _, top, left = np.maximum(low[users].min(axis=0), tile_low).tolist()
        _, bottom, right = np.minimum(high[users].max(axis=0), tile_high).tolist()
        return Rect(left, top, right - left, bottom - top), batch + 1 + int(users[0])
