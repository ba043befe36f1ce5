"""Read batches of patches: each tile is decoded once, ahead of its turn and on other threads.

Copy into many patches what a tile holds of them, in as few calls as their order allows.

Cut one patch at a time, through the stack's own cache.

Pixels from sources to patches: each tile decoded once, cut, and cast or measured.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise, product
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from napari_patchset.exporting.batches import Batches
from napari_patchset.exporting.open_sources import Images, OpenImage
from napari_patchset.exporting.tile_buffer import TileBuffer
from napari_patchset.patching.grid import PatchSpec
from napari_patchset.patching.padding import PadMode, pad_patch, padding_indices
from napari_patchset.source import Rect
from napari_patchset.stacks.protocol import Block, ImageStack, blocks_of

_FEW = 8
"""Patches of a lattice below which copying one by one is quicker."""


class _Lattice(NamedTuple):
    """Patches at every combination of starts along Y and X, in this order."""

    rows: slice
    ys: list[int]
    xs: list[int]


class _Run(NamedTuple):
    """Evenly spaced starts along one axis, of whose patches a tile holds the same part."""

    first: int
    n: int
    step: int
    source: int
    """Where in the tile the first one's part begins."""
    part: slice
    """Which pixels of each patch it is."""


class PlacedPatches:
    """Where patches of one size lie in a plane.

    Parameters
    ----------
    start : int64 array, (n, 2)
        Their starts along YX, in the order of the output.
    size : tuple of int
        Height and width.
    """

    def __init__(self, start: NDArray[np.int64], size: tuple[int, ...]) -> None:
        self._start = start
        self._size = size
        found = list(_lattices(start))
        self._lattices = found if len(found) * _FEW <= len(start) else []
        self._runs: dict[Rect, list[tuple[_Lattice, list[_Run], list[_Run]]]] = {}

    def meet(self, rect: Rect) -> bool:
        """Whether any patch holds a pixel of a rectangle."""
        low, high = (rect.y, rect.x), (rect.y + rect.h, rect.x + rect.w)
        inside = (self._start < high) & (self._start + self._size > low)
        return bool(inside.all(axis=1).any())

    def lie_in(self, rect: Rect) -> bool:
        """Whether a rectangle holds every pixel of every patch."""
        low, high = (rect.y, rect.x), (rect.y + rect.h, rect.x + rect.w)
        inside = (self._start >= low) & (self._start + self._size <= high)
        return bool(inside.all())

    def paste(self, pixels: NDArray[Any], rect: Rect, out: NDArray[Any]) -> None:
        """Fill of each patch, `out` N, Y, X, what the pixels of a rectangle hold of it."""
        if not self._lattices:
            self._paste_each(pixels, rect, out)
        for lattice, down, across in self._find_runs(rect):
            shape = len(lattice.ys), len(lattice.xs), *out.shape[1:]
            patches = out[lattice.rows].reshape(shape)
            for y, x in product(down, across):
                target = patches[y.first : y.first + y.n, x.first : x.first + x.n, y.part, x.part]
                height, width = pixels.strides
                strides = y.step * height, x.step * width, height, width
                first = pixels[y.source :, x.source :]
                target[...] = as_strided(first, target.shape, strides, writeable=False)

    def _paste_each(self, pixels: NDArray[Any], rect: Rect, out: NDArray[Any]) -> None:
        corner = np.array((rect.y, rect.x))
        low = np.maximum(corner - self._start, 0)
        high = np.minimum(corner + pixels.shape - self._start, self._size)
        members = np.flatnonzero((high > low).all(axis=1))
        source, low, high = ((a[members]).tolist() for a in (self._start - corner, low, high))
        for i, (y, x), (top, left), (bottom, right) in zip(
            members.tolist(), source, low, high, strict=True
        ):
            out[i, top:bottom, left:right] = pixels[y + top : y + bottom, x + left : x + right]

    def _find_runs(self, rect: Rect) -> list[tuple[_Lattice, list[_Run], list[_Run]]]:
        """Find the runs that a tile holds parts of: the same for all planes."""
        if rect not in self._runs:
            height, width = self._size
            self._runs[rect] = [
                (
                    lattice,
                    list(_part_runs(lattice.ys, height, rect.y, rect.h)),
                    list(_part_runs(lattice.xs, width, rect.x, rect.w)),
                )
                for lattice in self._lattices
            ]
        return self._runs[rect]


def _lattices(start: NDArray[np.int64]) -> Iterator[_Lattice]:
    """Part patches into lattices, each as large as the order allows."""
    ys, xs = start[:, 0], start[:, 1]
    begins = [0, *(np.flatnonzero(np.diff(ys)) + 1).tolist(), len(start)]
    columns: list[int] = []
    first, rows = 0, list[int]()
    for begin, end in pairwise(begins):
        here = xs[begin:end].tolist()
        if rows and here != columns:
            yield _Lattice(slice(first, begin), rows, columns)
            first, rows = begin, []
        columns = here
        rows.append(int(ys[begin]))
    yield _Lattice(slice(first, len(start)), rows, columns)


def _part_runs(starts: list[int], size: int, low: int, extent: int) -> Iterator[_Run]:
    """Give the runs among starts along one axis of which a tile, from `low`, holds a part."""
    parts = [(max(low - s, 0), min(low + extent - s, size)) for s in starts]
    first, n = 0, len(starts)
    while first < n:
        last, step = first, 0
        while last + 1 < n and parts[last + 1] == parts[first]:
            gap = starts[last + 1] - starts[last]
            if last > first and gap != step:
                break
            last, step = last + 1, gap
        begin, end = parts[first]
        if begin < end:
            source = starts[first] + begin - low
            yield _Run(first, last + 1 - first, step, source, slice(begin, end))
        first = last + 1


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
    places: PlacedPatches
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
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self._batches, self._images, self._role = batches, images, role
        self._pad, self._limit, self._threads = pad, limit, threads
        self._proceed = check_cancelled
        self._held: dict[int, TileBuffer] = {}
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
                self._held[index] = TileBuffer(batches, batches.span(index), pool, self._proceed)
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

    def _places(self, batch: int) -> PlacedPatches:
        """Give where the patches of a batch lie; a folded one as all that is read for it."""
        batches = self._batches
        if not batches.is_folded[batch]:
            return PlacedPatches(batches.starts(batch)[:, -2:], batches.grid.size[-2:])
        low, high = batches.low[batch, 1:], batches.high[batch, 1:]
        return PlacedPatches(low[np.newaxis], tuple((high - low).tolist()))

    def _fold(self, batch: ReadBatch, out: NDArray[Any]) -> None:
        """Fill the one patch of a batch from within the image, beyond the edge too."""
        batches, low, high = self._batches, *self._batches.box(batch.number)
        size = batches.grid.size
        extent = [b - a for a, b in zip(low, high, strict=True)][-len(size) :]
        read = np.empty((1, out.shape[1], *extent), out.dtype)
        self._paste(batch, read)
        start = batches.starts(batch.number)[0].tolist()
        bounds = self._open[batch.stack].stack.data_shape[2:]
        shown = padding_indices(start, size, bounds, self._pad)
        out[...] = pad_patch(read, shown)

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


def read_patch(
    stack: ImageStack, channels: Sequence[int], spec: PatchSpec, pad: PadMode
) -> NDArray[Any]:
    """Read a patch C(Z)YX, filling what lies beyond the image as `pad` says."""
    bounds = stack.data_shape[2:]
    inside = all(s + n <= b for s, n, b in zip(spec.start, spec.size, bounds, strict=True))
    if inside or pad == "constant":
        return stack.extract_patch(spec.sample, channels, spec.start, spec.size)
    shown = padding_indices(spec.start, spec.size, bounds, pad)
    low = [int(index.min()) for index in shown]
    extent = [int(index.max()) + 1 - first for index, first in zip(shown, low, strict=True)]
    return pad_patch(stack.extract_patch(spec.sample, channels, low, extent), shown)
