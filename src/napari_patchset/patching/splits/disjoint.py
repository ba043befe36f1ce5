"""The proof of a split: no place of a validation patch lies in a training patch."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.frames import find_frames
from napari_patchset.patching.splits.split import TRAIN, VAL
from napari_patchset.source import SourceInfo

Integers = NDArray[np.int64]


class Leak(NamedTuple):
    """A training and a validation patch that share a place, by their rows in the grid."""

    train: int
    val: int


def find_leak(
    grid: PatchGrid, split: NDArray[np.int8], sources: Sequence[SourceInfo]
) -> Leak | None:
    """Find a training and a validation patch whose rectangles overlap in the plane.

    T, Z and channels do not matter: what lies at one place must be in one split. Scenes that
    overlap on the stage are one plane, and so are equal files.

    Parameters
    ----------
    split : int8 array
        The code of each patch's split; patches that are in none do not matter.
    """
    frames, size = find_frames(sources), np.array(grid.size[-2:])
    start = np.stack([frames.along(grid, axis) for axis in (0, 1)], axis=1).astype(np.int64)
    # An empty row and column of cells at the end, so that no cell's neighbour is that of another.
    rows, columns = start.max(axis=0, initial=0) // size + 2
    y, x = (start // size).T
    cell = (frames.index[grid.stack] * rows + y) * columns + x
    place = cell * size.prod() + (start % size) @ [size[1], 1]
    train, val = (_gather(split == code, cell, place, start) for code in (TRAIN, VAL))
    for i, j in _near(train, val, size, int(columns)):
        if leak := _overlap(train.rows_in(i), val.rows_in(j), start, size):
            return leak
    return None


class _Cells(NamedTuple):
    """The patches of a split by the cell, of the size of a patch, that they start in.

    Attributes
    ----------
    cell : int64 array
        The cells that hold any, ascending.
    first : int64 array
        Where the patches of each begin in `rows`, and the end.
    rows : int64 array
        One patch of each place.
    low, high : int64 array, (cells, YX)
        The box around their starts.
    """

    cell: Integers
    first: Integers
    rows: Integers
    low: Integers
    high: Integers

    def rows_in(self, i: int) -> Integers:
        return self.rows[self.first[i] : self.first[i + 1]]


def _gather(chosen: NDArray[np.bool_], cell: Integers, place: Integers, start: Integers) -> _Cells:
    rows = np.flatnonzero(chosen)
    rows = rows[np.unique(place[rows], return_index=True)[1]]
    first = np.flatnonzero(np.diff(cell[rows], prepend=-1))
    starts = start[rows]
    low, high = (edge.reduceat(starts, first, axis=0) for edge in (np.minimum, np.maximum))
    return _Cells(cell[rows[first]], np.append(first, len(rows)), rows, low, high)


def _near(a: _Cells, b: _Cells, size: Integers, columns: int) -> Iterator[tuple[int, int]]:
    """Give the pairs of cells whose boxes are so near that patches of the two may overlap."""
    if not len(b.cell):
        return
    for down, right in product((-1, 0, 1), repeat=2):
        wanted = a.cell + (down * columns + right)
        at = np.minimum(np.searchsorted(b.cell, wanted), len(b.cell) - 1)
        i = np.flatnonzero(b.cell[at] == wanted)
        j = at[i]
        near = (a.low[i] - b.high[j] < size) & (b.low[j] - a.high[i] < size)
        found = near.all(axis=1)
        yield from zip(i[found].tolist(), j[found].tolist(), strict=True)


def _overlap(train: Integers, val: Integers, start: Integers, size: Integers) -> Leak | None:
    """Find two patches that overlap."""
    for row in train.tolist():
        near = (np.abs(start[val] - start[row]) < size).all(axis=1)
        if near.any():
            return Leak(row, int(val[near.argmax()]))
    return None
