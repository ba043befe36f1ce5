"""The patches of one shown plane, found by index arithmetic: a million of them in milliseconds.

Patches as outlines: lines in pixels of the image, measured from the centre of the first one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid, take_starts
from napari_patchset.preview.colors import PatchCategory

Point = tuple[float, float]
"""Y and X in pixels of the image."""


@dataclass(frozen=True, eq=False)
class PlanePatches:
    """Patches of one plane.

    Attributes
    ----------
    rows : int64 array
        Their indices in the grid that they are of, ascending.
    start : int32 array, (n, 2)
        Start along YX of each.
    size : tuple of int
        Of every patch, along YX.
    category : uint8 array
        The `PatchCategory` of each.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int32]
    size: tuple[int, int]
    category: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        grid: PatchGrid,
        category: NDArray[np.uint8],
        stack: int,
        sample: int,
        depth: int | None = None,
    ) -> Self:
        """Take the patches of one sample, and with a depth axis those that hold `depth`."""
        first, last = _run(grid.source_index, stack)
        low, high = (first + n for n in _run(grid.sample[first:last], sample))
        height, width = grid.size[-2:]
        found = cls(
            np.arange(low, high), grid.start[low:high, -2:], (height, width), category[low:high]
        )
        if len(grid.size) == 2 or depth is None:
            return found
        z = grid.start[low:high, 0]
        return found[np.flatnonzero((z <= depth) & (depth < z + grid.size[0]))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: NDArray[np.integer]) -> Self:
        start = take_starts(self.start, index)
        return type(self)(self.rows[index], start, self.size, self.category[index])

    def looks_like(self, other: Self) -> bool:
        """Whether the patches of another plane lie at the same places, and are of the same kinds.

        So they do in all frames of a movie.
        """
        return self is other or (
            self.size == other.size
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.category, other.category)
        )

    def in_view(self, low: Point, high: Point) -> NDArray[np.int64]:
        """Find the patches that a rectangle touches, given by its YX corners in pixels."""
        y, x = self.start.T
        seen = (y < high[0]) & (y > low[0] - self.size[0])
        seen &= (x < high[1]) & (x > low[1] - self.size[1])
        return np.flatnonzero(seen)

    def at(self, y: float, x: float) -> int | None:
        """Give the row of the patch at a point whose centre is the nearest, None if none is."""
        near = self[self.in_view((y, x), (y + 1e-6, x + 1e-6))]
        if not len(near):
            return None
        away = np.abs(near.start + np.array(near.size) / 2 - (y, x)).max(axis=1)
        return int(near.rows[away.argmin()])

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all patches are kept for one split."""
        return not len(self) or bool((self.category == self.category[0]).all())


def _run(ascending: NDArray[np.int32], number: int) -> tuple[int, int]:
    """Find where a number stands; other types would be searched in a copy of all."""
    first, last = np.searchsorted(ascending, np.array([number, number + 1], ascending.dtype))
    return int(first), int(last)


class LineSegments(NamedTuple):
    """Line segments and the category of what they outline.

    Attributes
    ----------
    data : float64 array, (n, 2, 2)
        Start and extent along YX.
    category : uint8 array
        The `PatchCategory` of each line.
    """

    data: NDArray[np.float64]
    category: NDArray[np.uint8]


def outline_segments(plane: PlanePatches, inset: float = 0) -> LineSegments:
    """Give the outlines of patches.

    Patches of one category that form a lattice share their lines, so a million of them take a few
    thousand. Else each has its own, drawn `inset` pixels inside of its border so that neighbours
    don't hide each other, and a rejected one is struck through.
    """
    low = plane.start.astype(np.float64) - 0.5
    if plane.is_uniform:
        ys, xs = (_distinct(plane.start[:, axis]) - 0.5 for axis in (0, 1))
        n_depths = len(plane) // max(1, len(ys) * len(xs))
        if len(plane) == len(ys) * len(xs) * n_depths:
            data = _lattice_lines(ys, xs, np.array(plane.size, float))
            return LineSegments(data, np.resize(plane.category[:1], len(data)))
        inset = 0
    size = np.maximum(np.array(plane.size) - 2 * inset, 0)
    return _boxes(low + inset, size, plane.category)


def _boxes(
    low: NDArray[np.float64], size: NDArray[np.float64], category: NDArray[np.uint8]
) -> LineSegments:
    """Give four lines a patch, and one across each that is rejected."""
    down, right = np.array([size[0], 0]), np.array([0, size[1]])
    struck = low[category == PatchCategory.REJECTED]
    corners = np.concatenate([low, low, low + down, low + right, struck])
    repeats = [len(low)] * 4 + [len(struck)]
    along = np.repeat([right, down, right, down, down + right], repeats, axis=0)
    rejected = np.full(len(struck), PatchCategory.REJECTED, np.uint8)
    return LineSegments(
        np.stack([corners, along], axis=1), np.append(np.tile(category, 4), rejected)
    )


def _distinct(starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Give the different values in order, without sorting all of them."""
    first = starts.min(initial=0)
    present = np.zeros(starts.max(initial=0) - first + 1, bool)
    present[starts - first] = True
    found: NDArray[np.float64] = np.flatnonzero(present).astype(np.float64) + first
    return found


def _lattice_lines(
    ys: NDArray[np.float64], xs: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not len(ys):
        return np.empty((0, 2, 2))
    height, width = ys[-1] + size[0] - ys[0], xs[-1] + size[1] - xs[0]
    rows, columns = np.union1d(ys, ys + size[0]), np.union1d(xs, xs + size[1])
    starts = [(y, xs[0]) for y in rows] + [(ys[0], x) for x in columns]
    extents = [(0.0, width)] * len(rows) + [(height, 0.0)] * len(columns)
    return np.stack([np.array(starts), np.array(extents)], axis=1)
