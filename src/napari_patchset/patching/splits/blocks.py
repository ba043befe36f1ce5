"""Blocks: each frame cut into rectangles, for parting the plane into training and validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.frames import Frames
from napari_patchset.patching.streams import hash_of, hashes

PER_SPLIT = 4
"""So many blocks of a frame, about, lie in the smaller split: fewer would show fewer places."""

Ids = NDArray[np.int32]
Counts = NDArray[np.int64]
Corners = tuple[Counts, Counts, Counts, Counts]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rectangles of one size that cover the frames; the last of each row and column is larger.

    Attributes
    ----------
    side : (int, int)
        Height and width, at least those of a patch, so that a patch touches at most 2 x 2.
    """

    frames: Frames
    side: tuple[int, int]

    @cached_property
    def counts(self) -> Ids:
        """How many there are in each frame along YX."""
        counts: Ids = np.maximum(self.frames.shape // self.side, 1).astype(np.int32)
        return counts

    def __len__(self) -> int:
        return int(self.counts.prod(axis=1).sum())

    def ranks(self, seed: int) -> NDArray[np.uint64]:
        """Give each block a hash of the seed, its frame and its number in there."""
        names = np.array([hash_of(seed, *name) for name in self.frames.names], np.uint64)
        n = self.counts.prod(axis=1)
        numbers = np.arange(len(self)) - np.repeat(n.cumsum() - n, n)
        return hashes(np.repeat(names, n), numbers)

    def zones(self, grid: PatchGrid) -> Ids:
        """Give the zone of each patch: those of one zone have their corners in the same blocks.

        Along an axis, every second zone lies inside of a block, and the others across the border
        of two. Beyond the frame it is the last block.
        """
        shape = 2 * self.counts - 1
        n = shape.prod(axis=1, dtype=np.int32)
        frame = self.frames.index[grid.stack] if len(n) > 1 else 0
        zones, columns = (self._along(grid, frame, axis) for axis in (0, 1))
        zones *= shape[frame, 1]
        zones += columns
        zones += (n.cumsum(dtype=np.int32) - n)[frame]
        return zones

    @cached_property
    def corners(self) -> Corners:
        """The blocks of the upper left, upper right, lower left, lower right corner, by zone."""
        first, found = 0, []
        for rows, columns in self.counts.tolist():
            y, x = np.arange(2 * rows - 1)[:, None], np.arange(2 * columns - 1)
            ends = [
                (row, column) for row in (y // 2, -(y // -2)) for column in (x // 2, -(x // -2))
            ]
            found.append([(first + row * columns + column).ravel() for row, column in ends])
            first += rows * columns
        a, b, c, d = map(np.concatenate, zip(*found, strict=True))
        return a, b, c, d

    def count(self, patches: Counts) -> tuple[Counts, Counts]:
        """Count the patches that lie in each block alone, and those that touch it.

        Parameters
        ----------
        patches : int64 array
            How many there are in each zone.
        """
        a, b, c, d = self.corners
        touching = self._sum(a, patches) + self._sum(b, patches * (b != a))
        touching += self._sum(c, patches * (c != a)) + self._sum(d, patches * ((d != b) & (d != c)))
        return self._sum(a, patches * (a == d)), touching

    def _along(self, grid: PatchGrid, frame: NDArray[np.int64] | int, axis: Literal[0, 1]) -> Ids:
        first, most = self.frames.along(grid, axis), self.counts[frame, axis] - 1
        last = first + (grid.size[axis - 2] - 1)
        zone: Ids = np.minimum(first // self.side[axis], most)
        zone += np.minimum(last // self.side[axis], most)
        return zone

    def _sum(self, blocks: Counts, patches: Counts) -> Counts:
        return np.bincount(blocks, patches, len(self)).astype(np.int64)


def block_sides(frames: Frames, size: tuple[int, ...], val: float) -> Iterator[tuple[int, int]]:
    """Give sides to try, in whole patches: first a good one, then larger and smaller ones.

    Whole patches, so that no border runs through patches that lie side by side.
    """
    height, width = size[-2:]
    areas = frames.shape.prod(axis=1) / (height * width)
    start = max(1, int((areas.mean() * min(val, 1 - val) / PER_SPLIT) ** 0.5))
    most = int((frames.shape // (height, width)).max()) // 2
    larger, smaller = [start], [start]
    while (more := larger[-1] * 3 // 2 + 1) <= most:
        larger.append(more)
    while (fewer := smaller[-1] * 2 // 3) >= 1:
        smaller.append(fewer)
    for patches in (*larger, *smaller[1:]):
        yield patches * height, patches * width
