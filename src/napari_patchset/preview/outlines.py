"""The patches of one plane, and their outlines as line segments.

`PlanePatches.from_grid` takes the patches of a plane out of a grid by index arithmetic, which takes
milliseconds for a million of them; `outline_segments` returns the lines to draw. Coordinates are
pixels of the image; the centre of the first pixel is 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid, take_starts
from napari_patchset.preview.categories import PatchCategory
from napari_patchset.source import Ratio

Point = tuple[float, float]
"""Y and X in pixels of the image."""


@dataclass(frozen=True, eq=False)
class PlanePatches:
    """The patches of one plane.

    Attributes
    ----------
    rows : int64 array
        Their indices in the grid, ascending.
    start : int32 array, (n, 2)
        Start of each along YX.
    size : tuple of int
        Size of every patch along YX.
    category : uint8 array
        The `PatchCategory` of each.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int32]
    size: tuple[int, int]
    category: NDArray[np.uint8]

    @classmethod
    def from_grid(
        cls,
        grid: PatchGrid,
        category: NDArray[np.uint8],
        source_index: int,
        sample: int,
        depth: int | None = None,
    ) -> Self:
        """Return the patches of one sample, with a depth axis only those that contain `depth`."""
        first, last = _find_run(grid.source_index, source_index)
        low, high = (first + n for n in _find_run(grid.sample[first:last], sample))
        height, width = grid.size[-2:]
        start = grid.start[low:high, -2:]
        patches = cls(np.arange(low, high), start, (height, width), category[low:high])
        if len(grid.size) == 2 or depth is None:
            return patches
        z = grid.start[low:high, 0]
        return patches[np.flatnonzero((z <= depth) & (depth < z + grid.size[0]))]

    def scaled(self, ratio: Ratio | None) -> Self:
        """Return the patches in pixels of which so many, along YX, make one of theirs."""
        if ratio is None:
            return self
        factors = np.array(ratio, np.float64)
        start = np.floor(self.start * factors + 0.5).astype(np.int32)
        height, width = np.floor(np.array(self.size) * factors + 0.5).astype(int).tolist()
        return type(self)(self.rows, start, (height, width), self.category)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: NDArray[np.integer]) -> Self:
        start = take_starts(self.start, index)
        return type(self)(self.rows[index], start, self.size, self.category[index])

    def looks_like(self, other: Self) -> bool:
        """Return whether another plane's patches have the same positions and categories.

        This is so in all frames of a movie.
        """
        return self is other or (
            self.size == other.size
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.category, other.category)
        )

    def in_view(self, low: Point, high: Point) -> NDArray[np.int64]:
        """Return the indices of the patches that a rectangle, from `low` to `high`, touches."""
        y, x = self.start.T
        seen = (y < high[0]) & (y > low[0] - self.size[0])
        seen &= (x < high[1]) & (x > low[1] - self.size[1])
        return np.flatnonzero(seen)

    def row_at(self, y: float, x: float) -> int | None:
        """Return the row of the patch at a point, the one with the nearest centre; else None."""
        near = self[self.in_view((y, x), (y + 1e-6, x + 1e-6))]
        if not len(near):
            return None
        distance = np.abs(near.start + np.array(near.size) / 2 - (y, x)).max(axis=1)
        return int(near.rows[distance.argmin()])

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all patches have one category."""
        return not len(self) or bool((self.category == self.category[0]).all())


def _find_run(ascending: NDArray[np.int32], number: int) -> tuple[int, int]:
    """Return the first index of a number and the one after its last.

    The number is searched as the array's own type; for another one NumPy would copy the array.
    """
    first, last = np.searchsorted(ascending, np.array([number, number + 1], ascending.dtype))
    return int(first), int(last)


class LineSegments(NamedTuple):
    """Line segments and the category of the patch that each outlines.

    Attributes
    ----------
    data : float64 array, (n, 2, 2)
        Start and extent along YX.
    category : uint8 array
        The `PatchCategory` of each segment.
    """

    data: NDArray[np.float64]
    category: NDArray[np.uint8]


def outline_segments(patches: PlanePatches, inset: float = 0) -> LineSegments:
    """Return the outlines of patches.

    Patches of one category on a complete grid share their lines, so a million of them take a few
    thousand. Otherwise each has its own, `inset` pixels inside of its border so that neighbours
    do not hide each other, and a diagonal if it is rejected.
    """
    low = patches.start.astype(np.float64) - 0.5
    if patches.is_uniform:
        ys, xs = (_unique(patches.start[:, axis]) - 0.5 for axis in (0, 1))
        n_depths = len(patches) // max(1, len(ys) * len(xs))
        if len(patches) == len(ys) * len(xs) * n_depths:
            data = _grid_lines(ys, xs, np.array(patches.size, float))
            return LineSegments(data, np.resize(patches.category[:1], len(data)))
        inset = 0
    size = np.maximum(np.array(patches.size) - 2 * inset, 0)
    return _boxes(low + inset, size, patches.category)


def _boxes(
    low: NDArray[np.float64], size: NDArray[np.float64], category: NDArray[np.uint8]
) -> LineSegments:
    """Return four segments for each patch, and a diagonal for each rejected one."""
    down, right = np.array([size[0], 0]), np.array([0, size[1]])
    rejected = low[category == PatchCategory.REJECTED]
    starts = np.concatenate([low, low, low + down, low + right, rejected])
    repeats = [len(low)] * 4 + [len(rejected)]
    extents = np.repeat([right, down, right, down, down + right], repeats, axis=0)
    diagonals = np.full(len(rejected), PatchCategory.REJECTED, np.uint8)
    categories = np.append(np.tile(category, 4), diagonals)
    return LineSegments(np.stack([starts, extents], axis=1), categories)


def _unique(starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the different values in order, without sorting all of them."""
    first = starts.min(initial=0)
    present = np.zeros(starts.max(initial=0) - first + 1, bool)
    present[starts - first] = True
    values: NDArray[np.float64] = np.flatnonzero(present).astype(np.float64) + first
    return values


def _grid_lines(
    ys: NDArray[np.float64], xs: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not len(ys):
        return np.empty((0, 2, 2))
    height, width = ys[-1] + size[0] - ys[0], xs[-1] + size[1] - xs[0]
    rows, columns = np.union1d(ys, ys + size[0]), np.union1d(xs, xs + size[1])
    starts = [(y, xs[0]) for y in rows] + [(ys[0], x) for x in columns]
    extents = [(0.0, width)] * len(rows) + [(height, 0.0)] * len(columns)
    return np.stack([np.array(starts), np.array(extents)], axis=1)
