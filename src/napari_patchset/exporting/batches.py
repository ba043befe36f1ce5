"""Batches: candidates that are cut together, because the same tiles hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.padding import PadMode, padding_indices
from napari_patchset.source import SourceInfo

_AT_ONCE = 2**16
"""Candidates that are sorted at once: of millions it would take more memory than their tiles."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Candidates in the order of reading, and where it is cut into batches.

    A batch lies in one source, sample, depth and tile, and all of it goes to one place. A patch
    that is filled from within the image beyond its edge is a batch by itself.

    Attributes
    ----------
    grid : PatchGrid
        What the candidates are among.
    candidates : int64 array
        Their indices in the grid.
    borders : int64 array, (b + 1,)
        Where each batch begins among them; at the end, their number.
    stack, sample, place : int64 array, (b,)
        Of each batch.
    low, high : int64 array, (b, 3)
        The box along ZYX that each batch reads; Z is 0 to 1 without a depth axis.
    is_folded : bool array, (b,)
        Whether its one patch is filled beyond the edge.
    """

    grid: PatchGrid
    candidates: NDArray[np.int64]
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
        place: NDArray[np.integer],
    ) -> Self:
        """Cut candidates, ascending, into batches; `place` says where each of them goes."""
        parts = [
            cls._of_groups(grid, sources, pad, candidates[part], place[part], group)
            for part, group in _parts(grid, sources, candidates)
        ]
        return cls._joined(grid, parts)

    @classmethod
    def _of_groups(
        cls,
        grid: PatchGrid,
        sources: Sequence[SourceInfo],
        pad: PadMode,
        candidates: NDArray[np.int64],
        place: NDArray[np.integer],
        group: NDArray[np.int64],
    ) -> Self:
        """Cut whole groups; see `_groups`."""
        chosen = grid[candidates]
        start = chosen.start.astype(np.int64)
        bounds = np.array([source.spatial_shape for source in sources], np.int64)[
            chosen.source_index
        ]
        folds = pad != "constant"
        is_folded = np.asarray((start + grid.size > bounds).any(axis=1) & folds)
        order = np.lexsort((candidates, place, group))
        keys = [group[order], place[order], np.where(is_folded, np.arange(len(start)), -1)[order]]
        borders = np.append(np.flatnonzero(np.diff(_number(keys), prepend=-1)), len(start))
        begin = borders[:-1]
        low, high = _boxes(start, grid.size, bounds, is_folded, pad)
        return cls(
            grid,
            candidates[order],
            borders,
            chosen.source_index[order][begin].astype(np.int64),
            chosen.sample[order][begin].astype(np.int64),
            place[order][begin].astype(np.int64),
            np.minimum.reduceat(low[order], begin),
            np.maximum.reduceat(high[order], begin),
            is_folded[order][begin],
        )

    @classmethod
    def _joined(cls, grid: PatchGrid, parts: Sequence[Self]) -> Self:
        begins = np.cumsum([0, *(len(part.candidates) for part in parts)])
        borders = [part.borders[:-1] + n for part, n in zip(parts, begins[:-1], strict=True)]
        names = "candidates", "stack", "sample", "place", "low", "high", "is_folded"
        columns = {name: np.concatenate([getattr(each, name) for each in parts]) for name in names}
        return cls(grid=grid, borders=np.concatenate([*borders, begins[-1:]]), **columns)

    def __len__(self) -> int:
        return len(self.stack)

    def chosen(self, batch: int) -> NDArray[np.int64]:
        """Give the candidates of a batch."""
        return self.candidates[int(self.borders[batch]) : int(self.borders[batch + 1])]

    def starts(self, batch: int) -> NDArray[np.int64]:
        """Give the start along (Z)YX of each patch of a batch, (n, 2 or 3)."""
        return self.grid.start[self.chosen(batch)].astype(np.int64)

    def span(self, stack: int) -> range:
        """Give the batches of a source."""
        return range(*np.searchsorted(self.stack, (stack, stack + 1)).tolist())

    def box(self, batch: int) -> tuple[list[int], list[int]]:
        """Give the box along ZYX that a batch reads."""
        return self.low[batch].tolist(), self.high[batch].tolist()


def _parts(
    grid: PatchGrid, sources: Sequence[SourceInfo], candidates: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Part candidates between groups, and give the group of each as well."""
    first, size, n = 0, _AT_ONCE, len(candidates)
    while first < n:
        group = _groups(grid[candidates[first : first + size]], sources)
        # The last one may go on.
        whole = len(group) if first + size >= n else int(np.searchsorted(group, group[-1]))
        if whole:
            yield slice(first, first + whole), group[:whole]
        first, size = first + whole, _AT_ONCE if whole else 2 * size


def _groups(grid: PatchGrid, sources: Sequence[SourceInfo]) -> NDArray[np.int64]:
    """Tell apart the runs of patches that lie in one source, sample, depth and tile.

    Those that reach into the next row of tiles are a run of their own: what they need of this row
    is a strip. To the right each row of patches reaches into the next tile, and is not cut there.
    """
    blocks = [source.block_shape or source.spatial_shape[-2:] for source in sources]
    height, width = np.array(blocks, np.int64)[grid.source_index].T
    *depth, y, x = grid.start.T
    last_row = (y + grid.size[-2] - 1) // height
    return _number([grid.source_index, grid.sample, *depth, y // height, last_row, x // width])


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
        shown = padding_indices(start[i].tolist(), size, bounds[i].tolist(), pad)
        low[i] = [index.min() for index in shown]
        high[i] = [index.max() + 1 for index in shown]
    if len(size) == 2:
        low, high = (np.insert(box, 0, z, axis=1) for z, box in enumerate((low, high)))
    return low, high
