"""Hold decoded tiles, or the strips of them that later batches need, and no more."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.batches import Batches
from napari_patchset.source import Rect
from napari_patchset.stacks.protocol import Block

if TYPE_CHECKING:
    from collections.abc import Hashable

DEFAULT_MEMORY = 184 * 2**20
"""Bytes for decoded tiles and open shards."""

LEAST_TILES = 32 * 2**20
"""Bytes of them for decoded tiles, however little is given."""


@dataclass(slots=True)
class _PinnedTile:
    """What is held of a tile: where it lies, and the pixels once they are decoded."""

    rect: Rect
    pixels: Future[NDArray[Any]]
    nbytes: int
    next_use: int


class TileBuffer:
    """The tiles of one stack, each decoded once as long as what is needed of them fits.

    Parameters
    ----------
    batches : Batches
        All that will be read.
    span : range
        Those of them that this stack is read for.
    pool : Executor
        Decodes.
    proceed : callable
        Asked before each tile is decoded; who asks for the tile gets what it raises.
    """

    def __init__(
        self, batches: Batches, span: range, pool: Executor, check_cancelled: Callable[[], None]
    ) -> None:
        self._batches = batches
        self._span = span
        self._pool = pool
        self._proceed = check_cancelled
        self._held: dict[Hashable, _PinnedTile] = {}
        of = slice(span.start, span.stop)
        self._extent = batches.high[of, :2].max(axis=0) + 1
        keys = self._key(batches.sample[of], batches.low[of, 0], batches.low[of, 1])
        self._least = np.minimum.accumulate(keys[::-1])[::-1]
        """The least key of each batch and the ones after it: in it one looks up where to stop."""

    def _key(self, sample: Any, z: Any, y: Any) -> Any:
        depth, height = self._extent
        return (sample * depth + z) * height + y

    @property
    def nbytes(self) -> int:
        """Bytes of what is held, or soon will be."""
        return sum(held.nbytes for held in self._held.values())

    def request(self, block: Block, batch: int, itemsize: int) -> None:
        """Have a tile decoded for a batch, unless it is held."""
        if block.key not in self._held:
            nbytes = block.rect.w * block.rect.h * itemsize
            future = self._pool.submit(self._decode, block)
            self._held[block.key] = _PinnedTile(block.rect, future, nbytes, batch)

    def _decode(self, block: Block) -> NDArray[Any]:
        self._proceed()
        return block.decode()

    def pixels(self, block: Block) -> tuple[NDArray[Any], int, int]:
        """Give a plane's pixels of a tile, and the Y and X in the plane where they begin."""
        held = self._held[block.key]
        return block.plane(held.pixels.result()), held.rect.y, held.rect.x

    def release(self, block: Block, batch: int) -> None:
        """Let go of what no later batch than this one needs of a tile."""
        held = self._held.get(block.key)
        if held is None:
            return
        need = self._need(block, held.rect, batch)
        if need is None:
            del self._held[block.key]
            return
        rect, held.next_use = need
        pixels = held.pixels.result()
        held.nbytes = pixels.nbytes
        if pixels.ndim and 2 * rect.w * rect.h < held.rect.w * held.rect.h:
            self._keep_part(held, block, pixels, rect)

    def shrink(self, limit: int, batch: int) -> None:
        """Drop tiles that are needed last until the rest fits; they are decoded again then."""
        excess = self.nbytes - limit
        if excess <= 0:
            return
        for key in sorted(self._held, key=lambda key: -self._held[key].next_use):
            if excess <= 0 or self._held[key].next_use <= batch:
                break
            excess -= self._held.pop(key).nbytes

    def _keep_part(self, held: _PinnedTile, block: Block, pixels: NDArray[Any], rect: Rect) -> None:
        inside = [slice(None)] * pixels.ndim
        y, x = rect.y - held.rect.y, rect.x - held.rect.x
        for axis, part in zip(block.yx, (slice(y, y + rect.h), slice(x, x + rect.w)), strict=True):
            inside[axis] = part
        held.rect, held.pixels = rect, Future()
        held.pixels.set_result(pixels[tuple(inside)].copy())
        held.nbytes = held.pixels.result().nbytes

    def _need(self, block: Block, rect: Rect, batch: int) -> tuple[Rect, int] | None:
        """Give the part of a tile that later batches read, and the first of these."""
        bottom = self._key(max(block.samples), block.depths.stop - 1, rect.y + rect.h)
        last = self._span.start + int(np.searchsorted(self._least, bottom))
        later, all_of = slice(batch + 1, max(last, batch + 1)), self._batches
        low, high = all_of.low[later], all_of.high[later]
        tile_low = np.array((block.depths.start, rect.y, rect.x))
        tile_high = np.array((block.depths.stop, rect.y + rect.h, rect.x + rect.w))
        meets = ((low < tile_high) & (high > tile_low)).all(axis=1)
        meets &= np.isin(all_of.sample[later], block.samples)
        found = np.flatnonzero(meets)
        if not len(found):
            return None
        _, top, left = np.maximum(low[found].min(axis=0), tile_low).tolist()
        _, bottom, right = np.minimum(high[found].max(axis=0), tile_high).tolist()
        return Rect(left, top, right - left, bottom - top), batch + 1 + int(found[0])
