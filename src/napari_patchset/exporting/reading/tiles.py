"""Tiles of a source: which candidates share them, and how long their pixels stay in memory.

`Batches` are candidates that are cut together, because the same tiles hold them. Candidates are
ordered as their source is best read: patches that begin in one tile follow each other. The order is
cut into batches, each small enough to be cut, and written or measured, at once.

`TileBuffer` has the decoded tiles that later batches need, or only the strips that they need. A
tile is pinned by the first batch that needs it and unpinned by each one: then it is cut down to
what later batches need of it, or freed. Over the memory limit, the tiles that are needed last are
freed, and decoded again later.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PadMode, PatchGrid, padding_indices
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.protocol import Block

_SORTED_AT_ONCE = 2**16
"""Candidates sorted at a time: millions at once would need more memory than their tiles."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Candidates in the order of reading, cut into batches.

    A batch has one source, sample, depth, tile and destination. A patch that is padded with pixels
    of the image is a batch by itself. Arrays without a comment have a value for each of b batches.
    """

    grid: PatchGrid
    pad: PadMode
    """How a patch is filled beyond the image."""
    candidates: NDArray[np.int64]
    """Indices into the grid, in the order of reading."""
    borders: NDArray[np.int64]
    """Where each batch begins in `candidates`, and their number: b + 1 values."""
    source_index: NDArray[np.int64]
    sample: NDArray[np.int64]
    destination: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    """The box along ZYX that each batch reads, (b, 3); Z is 0 to 1 without a depth axis."""
    is_padded: NDArray[np.bool_]
    """Whether the batch is one patch that is padded with pixels of the image."""

    @classmethod
    def from_candidates(
        cls,
        grid: PatchGrid,
        sources: Sequence[SourceInfo],
        pad: PadMode,
        candidates: NDArray[np.int64],
        destination: NDArray[np.integer],
    ) -> Self:
        """Cut candidates, ascending, into batches; a destination is, e.g., the index of a shard."""
        parts = [
            cls._from_groups(grid, sources, pad, candidates[part], destination[part], group)
            for part, group in _parts_of_whole_groups(grid, sources, candidates)
        ]
        begins = np.cumsum([0, *(len(part.candidates) for part in parts)])
        borders = [part.borders[:-1] + n for part, n in zip(parts, begins[:-1], strict=True)]
        names = ("candidates", "source_index", "sample", "destination", "low", "high", "is_padded")
        columns = {name: np.concatenate([getattr(each, name) for each in parts]) for name in names}
        return cls(grid=grid, pad=pad, borders=np.concatenate([*borders, begins[-1:]]), **columns)

    @classmethod
    def _from_groups(
        cls,
        grid: PatchGrid,
        sources: Sequence[SourceInfo],
        pad: PadMode,
        candidates: NDArray[np.int64],
        destination: NDArray[np.integer],
        group: NDArray[np.int64],
    ) -> Self:
        patches = grid[candidates]
        start = patches.start.astype(np.int64)
        bounds = _by_source(patches, sources, lambda source: source.spatial_shape)
        is_padded = np.asarray((start + grid.size > bounds).any(axis=1) & (pad != "constant"))
        order = np.lexsort((candidates, destination, group))
        # A padded patch has a number of its own, and so is a batch by itself.
        alone = np.where(is_padded, np.arange(len(start)), -1)
        run = _number_runs([group[order], destination[order], alone[order]])
        borders = np.append(np.flatnonzero(np.diff(run, prepend=-1)), len(start))
        first = borders[:-1]
        low, high = _boxes(start, grid.size, bounds, is_padded, pad)
        return cls(
            grid,
            pad,
            candidates[order],
            borders,
            patches.source_index[order][first].astype(np.int64),
            patches.sample[order][first].astype(np.int64),
            destination[order][first].astype(np.int64),
            np.minimum.reduceat(low[order], first),
            np.maximum.reduceat(high[order], first),
            is_padded[order][first],
        )

    def __len__(self) -> int:
        return len(self.source_index)

    def candidates_of(self, batch: int) -> NDArray[np.int64]:
        """Return the candidates of a batch."""
        return self.candidates[int(self.borders[batch]) : int(self.borders[batch + 1])]

    def starts_of(self, batch: int) -> NDArray[np.int64]:
        """Return the start along (Z)YX of each patch of a batch, (n, 2 or 3)."""
        return self.grid.start[self.candidates_of(batch)].astype(np.int64)

    def of_source(self, index: int) -> range:
        """Return the batches of a source."""
        return range(*np.searchsorted(self.source_index, (index, index + 1)).tolist())


def _parts_of_whole_groups(
    grid: PatchGrid, sources: Sequence[SourceInfo], candidates: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Cut candidates between groups; yield each part, and the group of each of its candidates."""
    first, size, n = 0, _SORTED_AT_ONCE, len(candidates)
    while first < n:
        group = _groups(grid[candidates[first : first + size]], sources)
        # The last group may go on behind the part.
        whole = len(group) if first + size >= n else int(np.searchsorted(group, group[-1]))
        if whole:
            yield slice(first, first + whole), group[:whole]
        first, size = first + whole, _SORTED_AT_ONCE if whole else 2 * size


def _groups(grid: PatchGrid, sources: Sequence[SourceInfo]) -> NDArray[np.int64]:
    """Return the number of each patch's run: patches of one source, sample, depth and tile.

    Patches that reach into the next row of tiles are a run of their own: they need only a strip of
    this row. Patches that reach into the next tile to the right are not, since every row of patches
    does.
    """
    blocks = _by_source(grid, sources, lambda each: each.block_shape or each.spatial_shape[-2:])
    height, width = blocks.T
    *depth, y, x = grid.start.T
    last_row = (y + grid.size[-2] - 1) // height
    return _number_runs([grid.source_index, grid.sample, *depth, y // height, last_row, x // width])


def _by_source(
    grid: PatchGrid, sources: Sequence[SourceInfo], value: Callable[[SourceInfo], Sequence[int]]
) -> NDArray[np.int64]:
    """Return a value of the source of each patch; sources without a patch here are left out."""
    first, last = int(grid.source_index.min()), int(grid.source_index.max())
    values = np.array([value(source) for source in sources[first : last + 1]], np.int64)
    by_patch: NDArray[np.int64] = values[grid.source_index - first]
    return by_patch


def _number_runs(keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Count up from 0 whenever one of the keys changes."""
    changes = np.zeros(len(keys[0]), bool)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.cumsum(changes, dtype=np.int64)


def _boxes(
    start: NDArray[np.int64],
    size: Sequence[int],
    bounds: NDArray[np.int64],
    is_padded: NDArray[np.bool_],
    pad: PadMode,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the box along ZYX, within the image, that each patch reads."""
    low, high = start.copy(), np.minimum(start + size, bounds)
    for i in np.flatnonzero(is_padded).tolist():
        indices = padding_indices(start[i].tolist(), size, bounds[i].tolist(), pad)
        low[i] = [index.min() for index in indices]
        high[i] = [index.max() + 1 for index in indices]
    if len(size) == 2:
        low, high = (np.insert(box, 0, z, axis=1) for z, box in enumerate((low, high)))
    return low, high


MIN_TILE_BYTES = 32 * 2**20
"""Bytes of the memory that decoded tiles have at least, whatever the limit."""


@dataclass(slots=True)
class _PinnedTile:
    """The part of a tile that is in memory: where it lies in the plane, and its pixels."""

    rect: Rect
    pixels: Future[NDArray[Any]]
    nbytes: int
    next_batch: int


class TileBuffer:
    """The tiles of one stack; each is decoded once as long as the needed parts fit.

    Parameters
    ----------
    span : range
        The batches that read this stack.
    pool : Executor
        Decodes.
    check_cancelled : callable
        Called before each tile is decoded; an exception that it raises passes through `pixels`.
    decode : callable or None
        Decodes a block, or takes it from a cache; by default the block's own `decode`.
    """

    def __init__(
        self,
        batches: Batches,
        span: range,
        pool: Executor,
        check_cancelled: Callable[[], None],
        decode: Callable[[Block], NDArray[Any]] | None = None,
    ) -> None:
        self._batches, self._span = batches, span
        self._pool, self._check_cancelled = pool, check_cancelled
        self._decode = decode or (lambda block: block.decode())
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

            def decode() -> NDArray[Any]:
                self._check_cancelled()
                return self._decode(block)

            pixels = self._pool.submit(decode)
            self._pinned[block.key] = _PinnedTile(block.rect, pixels, nbytes, batch)

    def pixels(self, block: Block) -> tuple[NDArray[Any], int, int]:
        """Return a plane's pixels YX of a pinned tile, and the Y and X where they begin."""
        tile = self._pinned[block.key]
        return block.plane(tile.pixels.result()), tile.rect.y, tile.rect.x

    def unpin(self, block: Block, batch: int) -> None:
        """Free the part of a tile that no later batch needs."""
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
        # A copy takes time: it must free half. An absent chunk is one value, without axes.
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
        # From `end` on, every batch begins behind the tile.
        bottom = self._key(max(block.samples), block.depths.stop - 1, rect.y + rect.h)
        end = self._span.start + int(np.searchsorted(self._least_key, bottom))
        if end <= batch + 1:
            return None
        later, batches = slice(batch + 1, end), self._batches
        low, high = batches.low[later], batches.high[later]
        tile_low = np.array((block.depths.start, rect.y, rect.x))
        tile_high = np.array((block.depths.stop, rect.y + rect.h, rect.x + rect.w))
        meets = ((low < tile_high) & (high > tile_low)).all(axis=1)
        sample, (first, *others) = batches.sample[later], block.samples
        meets &= np.isin(sample, block.samples) if others else sample == first
        users = np.flatnonzero(meets)
        if not len(users):
            return None
        _, top, left = np.maximum(low[users].min(axis=0), tile_low).tolist()
        _, bottom, right = np.minimum(high[users].max(axis=0), tile_high).tolist()
        return Rect(left, top, right - left, bottom - top), batch + 1 + int(users[0])
