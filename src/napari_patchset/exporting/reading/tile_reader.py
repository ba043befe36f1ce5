"""TileReader: batches of patches, for which each tile of a source is decoded once.

For each batch, the tiles that it needs are decoded by a pool of threads, a few batches ahead; at
its turn, the pixels are pasted from the tiles into the patches. Patches lie in lattices as a rule,
and what a tile holds of a lattice is copied in a few calls of NumPy, not patch by patch.

`read_patch` reads a single patch through the cache of its stack instead.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise, product
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from napari_patchset.exporting.reading.open_images import OpenImage, OpenImages
from napari_patchset.exporting.reading.tiles import Batches, TileBuffer
from napari_patchset.patching.grid import PadMode, PatchSpec, pad_patch, padding_indices
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.protocol import Block, ImageStack, blocks_of
from napari_patchset.stacks.resampled import ResampledStack

_MAX_AHEAD = 4
"""Batches whose tiles are decoded ahead, at most."""


_REMOTE_READS = 16
"""Tiles of remote sources that are read at once, and batches ahead: their threads only wait."""


class PendingBatch(NamedTuple):
    """A batch whose tiles are being decoded; see `Batches`."""

    number: int
    source_index: int
    destination: int
    candidates: NDArray[np.int64]
    """Its patches, in the order in which they are filled."""
    dtype: np.dtype[Any]
    paster: "PatchPaster"
    window: Rect
    """The box around its patches."""
    tiles: list[tuple[int, int, Block]]
    """Channel and depth of the output, and a tile that holds a part of it."""
    n_covered: int
    """In how many of its planes a single tile holds every pixel."""


class TileReader:
    """Read batches, in order, of one role of the sources.

    Parameters
    ----------
    role : str
        Which of the images: "image", "target", "labels" or "mask".
    memory : int
        Bytes of decoded tiles; more if a single batch needs it.
    channels : sequence of int or None
        Which of the plan's channels, by index, those that only filters measure behind the others;
        None for all that are exported.
    tiles : TileCache or None
        Decoded tiles that outlast this reader.
    """

    def __init__(
        self,
        batches: Batches,
        images: OpenImages,
        role: str,
        memory: int,
        channels: Sequence[int] | None = None,
        tiles: TileCache | None = None,
    ) -> None:
        self._batches, self._images, self._role = batches, images, role
        self._memory, self._channels, self._tiles = memory, channels, tiles
        self._threads, self._max_ahead = images.threads, _MAX_AHEAD
        sources = np.unique(batches.source_index).tolist()
        if any(images.is_remote(source, role) for source in sources):
            self._threads = max(images.threads, _REMOTE_READS)
            self._max_ahead = max(_MAX_AHEAD, _REMOTE_READS)
        self._open: dict[int, tuple[OpenImage, TileBuffer]] = {}
        """By source: tiles of the next source are decoded while this one is read."""

    def read(self) -> Generator[PendingBatch, None, None]:
        """Yield every batch at its turn; it must be filled before the next one is taken."""
        pool = ThreadPoolExecutor(self._threads, "decode")
        ahead: deque[PendingBatch] = deque()
        try:
            for number in range(len(self._batches)):
                ahead.append(self._begin(number, pool))
                while len(ahead) > self._max_ahead or (
                    len(ahead) > 1 and self._nbytes > self._memory
                ):
                    yield ahead[0]
                    self._end(ahead.popleft())
            while ahead:
                yield ahead[0]
                self._end(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
            for source in list(self._open):
                self._close(source)

    def fill(self, batch: PendingBatch, out: NDArray[Any]) -> None:
        """Fill `out`, N, C, (Z), Y, X and of the stack's type, with the patches of a batch."""
        with self._images.source_errors(batch.source_index):
            if not self._batches.is_padded[batch.number]:
                self._paste(batch, out)
                return
            batches, stack = self._batches, self._open[batch.source_index][0].stack
            size, (start,) = batches.grid.size, batches.starts_of(batch.number).tolist()
            extent = (batches.high - batches.low)[batch.number, -len(size) :]
            box = np.empty((1, out.shape[1], *extent), out.dtype)
            self._paste(batch, box)
            indices = padding_indices(start, size, stack.data_shape[2:], batches.pad)
            out[...] = pad_patch(box, indices)

    @property
    def _nbytes(self) -> int:
        return sum(tiles.nbytes for _, tiles in self._open.values())

    def _open_source(self, source: int, pool: Executor) -> tuple[OpenImage, TileBuffer]:
        """Open the image of a source, whose tiles a pool decodes."""
        image = self._images.pin((source, self._role))
        batches, span = self._batches, self._batches.of_source(source)
        if isinstance(image.stack, ResampledStack):
            batches = _footprints(batches, span, image.stack)
        decode = None
        if self._tiles is not None:  # an empty one is false
            decode = partial(_cached, self._tiles, source, self._role)
        check_cancelled = self._images.check_cancelled
        return image, TileBuffer(batches, span, pool, check_cancelled, decode)

    def _begin(self, number: int, pool: Executor) -> PendingBatch:
        """Find the tiles of a batch and start to decode them."""
        batches, source = self._batches, int(self._batches.source_index[number])
        with self._images.source_errors(source):
            if source not in self._open:
                self._open[source] = self._open_source(source, pool)
            (stack, channels, filter_channels), tile_buffer = self._open[source]
            if self._channels is not None:
                read = [*channels, *filter_channels]
                channels = [read[channel] for channel in self._channels]
            z, top, left = batches.low[number].tolist()
            end, bottom, right = batches.high[number].tolist()
            patches, window = self._patches(number), Rect(left, top, right - left, bottom - top)
            level: ImageStack = stack
            level_patches, level_window = patches, window
            if isinstance(stack, ResampledStack):
                level, level_patches = stack.level_stack, patches.footprint(stack)
                level_window = _footprint(stack, window)
            dtype, sample = np.dtype(stack.data_dtype), int(batches.sample[number])
            tiles, covered = [], set[tuple[int, int]]()
            for (c, channel), depth in product(enumerate(channels), range(z, end)):
                for block in blocks_of(level, sample, channel, depth, level_window):
                    if level_patches.meet(block.rect):
                        tile_buffer.pin(block, number, dtype.itemsize)
                        tiles.append((c, depth - z, block))
                        # What is resampled is a plane's whole window.
                        filled = _clipped(block.rect, stack.data_shape)
                        if patches.lie_in(filled if level is stack else window):
                            covered.add((c, depth))
        destination, candidates = int(batches.destination[number]), batches.candidates_of(number)
        fields = number, source, destination, candidates, dtype, patches, window, tiles
        return PendingBatch(*fields, len(covered))

    def _patches(self, number: int) -> "PatchPaster":
        """Return where the patches of a batch lie; for a padded one, the box that it reads."""
        batches = self._batches
        if not batches.is_padded[number]:
            return PatchPaster(batches.starts_of(number)[:, -2:], batches.grid.size[-2:])
        low, high = batches.low[number, 1:], batches.high[number, 1:]
        return PatchPaster(low[np.newaxis], tuple((high - low).tolist()))

    def _paste(self, batch: PendingBatch, out: NDArray[Any]) -> None:
        planes = out if out.ndim == 5 else out[:, :, np.newaxis]
        if batch.n_covered < planes.shape[1] * planes.shape[2]:
            out.fill(0)
        image, tile_buffer = self._open[batch.source_index]
        if isinstance(image.stack, ResampledStack):
            self._paste_derived(batch, image.stack, tile_buffer, planes)
            return
        for channel, depth, block in batch.tiles:
            pixels, rect = _pixels_in_image(tile_buffer, block, image.stack)
            batch.paster.paste(pixels, rect, planes[:, channel, depth])

    def _paste_derived(
        self,
        batch: PendingBatch,
        stack: ResampledStack,
        tile_buffer: TileBuffer,
        planes: NDArray[Any],
    ) -> None:
        """Put the tiles of each plane together, and derive the window's pixels from them."""
        read = _footprint(stack, batch.window)
        box = PatchPaster(np.array([(read.y, read.x)], np.int64), (read.h, read.w))
        for (channel, depth), tiles in groupby(batch.tiles, key=itemgetter(0, 1)):
            level = np.zeros((1, read.h, read.w), batch.dtype)
            for *_, block in tiles:
                box.paste(*_pixels_in_image(tile_buffer, block, stack.level_stack), level)
            derived = stack.derive(level[0], (read.y, read.x), batch.window)
            batch.paster.paste(derived, batch.window, planes[:, channel, depth])

    def _end(self, batch: PendingBatch) -> None:
        """Free the tiles that no later batch needs."""
        if batch.number + 1 == self._batches.of_source(batch.source_index).stop:
            self._close(batch.source_index)
            return
        _, tile_buffer = self._open[batch.source_index]
        for block in {block.key: block for _, _, block in batch.tiles}.values():
            tile_buffer.unpin(block, batch.number)
        tile_buffer.shrink(self._memory, batch.number + self._max_ahead)

    def _close(self, source: int) -> None:
        del self._open[source]
        self._images.unpin((source, self._role))


def _cached(tiles: TileCache, source: int, role: str, block: Block) -> NDArray[Any]:
    return tiles.get((source, role, block.key), block.decode)


def _footprint(stack: ResampledStack, window: Rect) -> Rect:
    """Return the pixels that are read for those of a window."""
    x, y, w, h = window
    (top, left), (bottom, right) = (
        ends.tolist() for ends in stack.footprint(np.array((y, x)), np.array((y + h, x + w)))
    )
    return Rect(left, top, right - left, bottom - top)


def _footprints(batches: Batches, span: range, stack: ResampledStack) -> Batches:
    """Return the batches with the boxes, of those of one source, that are read for them."""
    low, high, of_source = batches.low.copy(), batches.high.copy(), slice(span.start, span.stop)
    low[of_source, 1:], high[of_source, 1:] = stack.footprint(
        low[of_source, 1:], high[of_source, 1:]
    )
    return replace(batches, low=low, high=high)


def _pixels_in_image(
    tile_buffer: TileBuffer, block: Block, stack: ImageStack
) -> tuple[NDArray[Any], Rect]:
    """Return a plane's pixels of a pinned tile that lie in the image, and where."""
    pixels, y, x = tile_buffer.pixels(block)
    rect = _clipped(Rect(x, y, pixels.shape[1], pixels.shape[0]), stack.data_shape)
    return pixels[: rect.h, : rect.w], rect


def _clipped(rect: Rect, shape: Sequence[int]) -> Rect:
    """Return the part of a tile that lies in the image."""
    height, width = shape[-2:]
    return rect._replace(w=min(rect.w, width - rect.x), h=min(rect.h, height - rect.y))


def read_patch(
    stack: ImageStack, channels: Sequence[int], spec: PatchSpec, pad: PadMode
) -> NDArray[Any]:
    """Read one patch C(Z)YX through the stack's own cache, padded as in an export."""
    start, size, bounds = spec.start, spec.size, stack.data_shape[2:]
    is_inside = all(a + n <= b for a, n, b in zip(start, size, bounds, strict=True))
    if is_inside or pad == "constant":
        return stack.extract_patch(spec.sample, channels, start, size)
    indices = padding_indices(start, size, bounds, pad)
    low = [int(index.min()) for index in indices]
    extent = [int(index.max()) + 1 - first for index, first in zip(indices, low, strict=True)]
    return pad_patch(stack.extract_patch(spec.sample, channels, low, extent), indices)


_MIN_LATTICE = 8
"""Average number of patches in a lattice below which copying one by one is faster."""


class _Lattice(NamedTuple):
    """Consecutive patches that start at every combination of some Y and X, row by row."""

    rows: slice
    ys: list[int]
    xs: list[int]


class _EvenStarts(NamedTuple):
    """Evenly spaced starts along one axis, of whose patches a tile holds the same part."""

    first: int
    n: int
    step: int
    offset: int
    """Start of the part of the first patch in the tile."""
    part: slice
    """The pixels of each patch that the tile holds."""


class PatchPaster:
    """Copy pixels of a plane into patches of one size, by their starts along YX, (n, 2)."""

    def __init__(self, start: NDArray[np.int64], size: tuple[int, ...]) -> None:
        self._start, self._size = start, size
        lattices = list(_lattices(start))
        self._lattices = lattices if len(lattices) * _MIN_LATTICE <= len(start) else []
        self._by_tile: dict[Rect, list[tuple[_Lattice, list[_EvenStarts], list[_EvenStarts]]]] = {}

    def footprint(self, stack: ResampledStack) -> "PatchPaster":
        """Return the patches of the pixels that these are derived from, all of the largest size."""
        low, high = stack.footprint(self._start, self._start + self._size)
        return PatchPaster(low, tuple((high - low).max(axis=0).tolist()))

    def meet(self, rect: Rect) -> bool:
        """Return whether any patch has a pixel in a rectangle."""
        low, high = (rect.y, rect.x), (rect.y + rect.h, rect.x + rect.w)
        meets = (self._start < high) & (self._start + self._size > low)
        return bool(meets.all(axis=1).any())

    def lie_in(self, rect: Rect) -> bool:
        """Return whether every pixel of every patch is in a rectangle."""
        low, high = (rect.y, rect.x), (rect.y + rect.h, rect.x + rect.w)
        return bool(((self._start >= low) & (self._start + self._size <= high)).all())

    def paste(self, pixels: NDArray[Any], rect: Rect, out: NDArray[Any]) -> None:
        """Copy the pixels YX of a rectangle into the patches, `out` N, Y, X."""
        if not self._lattices:
            self._paste_each(pixels, rect, out)
        for lattice, down, across in self._starts_in(rect):
            shape = len(lattice.ys), len(lattice.xs), *out.shape[1:]
            patches = out[lattice.rows].reshape(shape)
            for y, x in product(down, across):
                target = patches[y.first : y.first + y.n, x.first : x.first + x.n, y.part, x.part]
                height, width = pixels.strides
                strides = y.step * height, x.step * width, height, width
                first = pixels[y.offset :, x.offset :]
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

    def _starts_in(self, rect: Rect) -> list[tuple[_Lattice, list[_EvenStarts], list[_EvenStarts]]]:
        """Return the starts whose patches a tile holds a part of; the same for all planes."""
        if rect not in self._by_tile:
            height, width = self._size
            down = [list(_even_starts(each.ys, height, rect.y, rect.h)) for each in self._lattices]
            across = [list(_even_starts(each.xs, width, rect.x, rect.w)) for each in self._lattices]
            self._by_tile[rect] = list(zip(self._lattices, down, across, strict=True))
        return self._by_tile[rect]


def _lattices(start: NDArray[np.int64]) -> Iterator[_Lattice]:
    """Split patches into lattices, each as large as the order allows."""
    ys, xs = start[:, 0], start[:, 1]
    begins = [0, *(np.flatnonzero(np.diff(ys)) + 1).tolist(), len(start)]
    columns: list[int] = []
    first, rows = 0, list[int]()
    for begin, end in pairwise(begins):
        row_columns = xs[begin:end].tolist()
        if rows and row_columns != columns:
            yield _Lattice(slice(first, begin), rows, columns)
            first, rows = begin, []
        columns = row_columns
        rows.append(int(ys[begin]))
    yield _Lattice(slice(first, len(start)), rows, columns)


def _even_starts(starts: list[int], size: int, low: int, extent: int) -> Iterator[_EvenStarts]:
    """Group the starts along one axis of whose patches a tile, from `low`, holds a part."""
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
            offset = starts[first] + begin - low
            yield _EvenStarts(first, last + 1 - first, step, offset, slice(begin, end))
        first = last + 1
