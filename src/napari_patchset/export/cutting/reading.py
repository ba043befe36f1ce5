"""Read batches of patches: each tile is decoded once, ahead of its turn and on other threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.cutting.batches import Batches
from napari_patchset.export.cutting.holding import HeldTiles
from napari_patchset.export.cutting.pasting import Places
from napari_patchset.export.sources.opened import Images, OpenImage
from napari_patchset.patching.padding import PadMode, fold, folded_indices
from napari_patchset.source import Rect
from napari_patchset.stacks.blocks import Block, blocks_of

_AHEAD = 4
"""Batches whose tiles are asked for ahead, at most."""


class KeptImages(Images, Protocol):
    """Give images and keep them open, and say which source is to blame where one can't be read."""

    def keep(self, which: tuple[int, str]) -> OpenImage:
        """Give an image that stays open until it is let go."""

    def let_go(self, which: tuple[int, str]) -> None:
        """Let an image be closed."""

    def blaming(self, index: int) -> AbstractContextManager[None]:
        """Blame what goes wrong inside on a source."""


class ReadBatch(NamedTuple):
    """A batch whose tiles are asked for.

    Attributes
    ----------
    number : int
        Its index among the batches.
    stack : int
        Its source.
    """

    number: int
    stack: int
    places: Places
    tiles: list[tuple[int, int, Block]]
    """Channel and depth of the output, and a tile that holds a part of it."""
    n_whole: int
    """In how many channels and depths a single tile holds every pixel."""


class BatchReader:
    """Read batches, in order, of one role of the sources.

    Parameters
    ----------
    pad : PadMode
        What fills a patch beyond the image.
    limit : int
        Bytes of decoded tiles to hold; more where a single batch needs it.
    threads : int
        How many decode.
    proceed : callable
        Asked before each tile is decoded; what it raises ends the reading.
    """

    def __init__(
        self,
        batches: Batches,
        images: KeptImages,
        role: str,
        pad: PadMode,
        limit: int,
        threads: int,
        proceed: Callable[[], None] = lambda: None,
    ) -> None:
        self._batches, self._images, self._role = batches, images, role
        self._pad, self._limit, self._threads = pad, limit, threads
        self._proceed = proceed
        self._held: dict[int, HeldTiles] = {}
        self._open: dict[int, OpenImage] = {}
        """What is read at the moment: tiles are decoded while later sources are opened."""

    def read(self) -> Generator[ReadBatch, None, None]:
        """Give every batch at its turn, to be filled before the next one is asked for."""
        pool = ThreadPoolExecutor(self._threads, "decode")
        try:
            for batch in self._planned(pool):
                yield batch
                self._release(batch)
        finally:
            pool.shutdown(cancel_futures=True)
            for index in list(self._open):
                self._let_go(index)

    def fill(self, batch: ReadBatch, out: NDArray[Any]) -> None:
        """Fill `out`, N, C, (Z), Y, X and of the stack's type, with the patches of a batch."""
        with self._images.blaming(batch.stack):
            if self._batches.is_folded[batch.number]:
                self._fold(batch, out)
            else:
                self._paste(batch, out)

    def _planned(self, pool: Executor) -> Iterator[ReadBatch]:
        ahead: deque[ReadBatch] = deque()
        for batch in range(len(self._batches)):
            ahead.append(self._plan(batch, pool))
            held = sum(tiles.nbytes for tiles in self._held.values())
            while len(ahead) > _AHEAD or (len(ahead) > 1 and held > self._limit):
                yield ahead.popleft()
                held = sum(tiles.nbytes for tiles in self._held.values())
        yield from ahead

    def _plan(self, batch: int, pool: Executor) -> ReadBatch:
        """Find the tiles of a batch and have them decoded."""
        batches, index = self._batches, int(self._batches.stack[batch])
        with self._images.blaming(index):
            if index not in self._open:
                self._open[index] = self._images.keep((index, self._role))
                self._held[index] = HeldTiles(batches, batches.span(index), pool, self._proceed)
            stack, channels = self._open[index]
            (z, top, left), (end, bottom, right) = batches.box(batch)
            places, window = self._places(batch), Rect(left, top, right - left, bottom - top)
            itemsize, sample = np.dtype(stack.data_dtype).itemsize, int(batches.sample[batch])
            tiles, whole = [], set[tuple[int, int]]()
            for (c, channel), depth in product(enumerate(channels), range(z, end)):
                for block in blocks_of(stack, sample, channel, depth, window):
                    if places.meet(block.rect):
                        self._held[index].request(block, batch, itemsize)
                        tiles.append((c, depth - z, block))
                        if places.lie_in(_clipped(block.rect, stack.data_shape)):
                            whole.add((c, depth))
        return ReadBatch(batch, index, places, tiles, len(whole))

    def _places(self, batch: int) -> Places:
        """Give where the patches of a batch lie; a folded one as all that is read for it."""
        batches = self._batches
        if not batches.is_folded[batch]:
            return Places(batches.starts(batch)[:, -2:], batches.grid.size[-2:])
        low, high = batches.low[batch, 1:], batches.high[batch, 1:]
        return Places(low[np.newaxis], tuple((high - low).tolist()))

    def _fold(self, batch: ReadBatch, out: NDArray[Any]) -> None:
        """Fill the one patch of a batch from within the image, beyond the edge too."""
        batches, low, high = self._batches, *self._batches.box(batch.number)
        size = batches.grid.size
        extent = [b - a for a, b in zip(low, high, strict=True)][-len(size) :]
        read = np.empty((1, out.shape[1], *extent), out.dtype)
        self._paste(batch, read)
        start = batches.starts(batch.number)[0].tolist()
        bounds = self._open[batch.stack].stack.data_shape[2:]
        shown = folded_indices(start, size, bounds, self._pad)
        out[...] = fold(read, shown)

    def _paste(self, batch: ReadBatch, out: NDArray[Any]) -> None:
        planes = out if out.ndim == 5 else out[:, :, np.newaxis]
        if batch.n_whole < planes.shape[1] * planes.shape[2]:
            out.fill(0)
        held = self._held[batch.stack]
        shape = self._open[batch.stack].stack.data_shape
        for channel, depth, block in batch.tiles:
            pixels, y, x = held.pixels(block)
            rect = _clipped(Rect(x, y, pixels.shape[1], pixels.shape[0]), shape)
            pixels = pixels[: rect.h, : rect.w]
            batch.places.paste(pixels, rect, planes[:, channel, depth])

    def _release(self, batch: ReadBatch) -> None:
        if batch.number + 1 == self._batches.span(batch.stack).stop:
            self._let_go(batch.stack)
            return
        held = self._held[batch.stack]
        for block in {block.key: block for _, _, block in batch.tiles}.values():
            held.release(block, batch.number)
        held.shrink(self._limit, batch.number + _AHEAD)

    def _let_go(self, index: int) -> None:
        """Forget a source that no later batch lies in."""
        del self._open[index]
        self._held.pop(index, None)
        self._images.let_go((index, self._role))


def _clipped(rect: Rect, shape: Sequence[int]) -> Rect:
    """Leave of a tile what lies in the image."""
    height, width = shape[-2:]
    return rect._replace(w=min(rect.w, width - rect.x), h=min(rect.h, height - rect.y))
