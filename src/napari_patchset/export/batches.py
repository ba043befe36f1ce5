"""Batches: candidates that are cut together, because the same tiles hold them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.padding import PadMode, source_indices
from napari_patchset.source import SourceInfo


@dataclass(frozen=True, eq=False)
class Batches:
    """Candidates in the order of reading, and where it is cut into batches.

    A batch lies in one source, sample, depth and tile, and all of it goes to one place. A patch
    that is filled from within the image beyond its edge is a batch by itself.

    Attributes
    ----------
    size : tuple of int
        Size of a patch along (Z)YX.
    candidates : int64 array
        Their indices in the grid.
    start : int64 array, (n, 2 or 3)
        Their starts.
    borders : int64 array, (b + 1,)
        Where each batch begins among them; at the end, their number.
    stack, sample, place : int64 array, (b,)
        Of each batch.
    low, high : int64 array, (b, 3)
        The box along ZYX that each batch reads; Z is 0 to 1 without a depth axis.
    is_folded : bool array, (b,)
        Whether its one patch is filled beyond the edge.
    """

    size: tuple[int, ...]
    candidates: NDArray[np.int64]
    start: NDArray[np.int64]
    borders: NDArray[np.int64]
    stack: NDArray[np.int64]
    sample: NDArray[np.int64]
    place: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    is_folded: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        grid: PatchGrid,
        sources: Sequence[SourceInfo],
        pad: PadMode,
        candidates: NDArray[np.int64],
        place: NDArray[np.int64] | None = None,
    ) -> Self:
        """Cut candidates, ascending, into batches; `place` says where each of them goes."""
        place = np.zeros(len(candidates), np.int64) if place is None else place
        chosen = grid[candidates]
        start = chosen.start.astype(np.int64)
        bounds = np.array([source.spatial_shape for source in sources], np.int64)[chosen.stack]
        folds = pad != "constant"
        is_folded = np.asarray((start + grid.size > bounds).any(axis=1) & folds)
        tile = _last_tile(chosen, sources)
        group = _number([chosen.stack, chosen.sample, *start.T[:-2], *tile.T])
        order = np.lexsort((candidates, place, group))
        keys = [group[order], place[order], np.where(is_folded, np.arange(len(start)), -1)[order]]
        borders = np.append(np.flatnonzero(np.diff(_number(keys), prepend=-1)), len(start))
        begin = borders[:-1]
        low, high = _boxes(start, grid.size, bounds, is_folded, pad)
        return cls(
            grid.size,
            candidates[order],
            start[order],
            borders,
            chosen.stack[order][begin].astype(np.int64),
            chosen.sample[order][begin].astype(np.int64),
            place[order][begin],
            np.minimum.reduceat(low[order], begin),
            np.maximum.reduceat(high[order], begin),
            is_folded[order][begin],
        )

    def __len__(self) -> int:
        return len(self.stack)

    def rows(self, batch: int) -> slice:
        """Give which of the candidates are a batch."""
        return slice(int(self.borders[batch]), int(self.borders[batch + 1]))

    def span(self, stack: int) -> range:
        """Give the batches of a source."""
        return range(*np.searchsorted(self.stack, (stack, stack + 1)).tolist())

    def box(self, batch: int) -> tuple[list[int], list[int]]:
        """Give the box along ZYX that a batch reads."""
        return self.low[batch].tolist(), self.high[batch].tolist()


def _last_tile(grid: PatchGrid, sources: Sequence[SourceInfo]) -> NDArray[np.int64]:
    """Give row and column of the tile that holds the last pixel of each patch."""
    blocks = [source.block_shape or source.spatial_shape[-2:] for source in sources]
    last = grid.start[:, -2:] + np.array(grid.size[-2:]) - 1
    tile: NDArray[np.int64] = last // np.array(blocks, np.int64)[grid.stack]
    return tile


def _number(keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Count up from 0 whenever one of the keys changes."""
    changes = np.zeros(len(keys[0]), bool)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.cumsum(changes, dtype=np.int64)


def _boxes(
    start: NDArray[np.int64],
    size: Sequence[int],
    bounds: NDArray[np.int64],
    is_folded: NDArray[np.bool_],
    pad: PadMode,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the box along ZYX, within the image, that each patch reads."""
    low, high = start.copy(), np.minimum(start + size, bounds)
    for i in np.flatnonzero(is_folded).tolist():
        shown = folded_indices(start[i].tolist(), size, bounds[i].tolist(), pad)
        low[i] = [index.min() for index in shown]
        high[i] = [index.max() + 1 for index in shown]
    if len(size) == 2:
        low, high = (np.insert(box, 0, z, axis=1) for z, box in enumerate((low, high)))
    return low, high


def folded_indices(
    start: Sequence[int], size: Sequence[int], bounds: Sequence[int], pad: PadMode
) -> list[NDArray[np.int64]]:
    """Give the image's pixels that a patch shows, along each axis."""
    axes = zip(start, size, bounds, strict=True)
    return [source_indices(first, extent, n, pad) for first, extent, n in axes]
