"""Blocks: each frame cut into rectangles, for parting the plane into training and validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.frames import Frames
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.streams import hash_of, hashes

PER_SPLIT = 4
"""So many blocks of a frame, about, lie in the smaller split: fewer would show fewer places."""

Ids = NDArray[np.int32]
Counts = NDArray[np.int64]
Corners = tuple[Ids, Ids, Ids, Ids]


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

    def corners(self, grid: PatchGrid) -> Corners:
        """Give the blocks of each patch's upper left, upper right, lower left, lower right pixel.

        Beyond the frame it is the last block.
        """
        counts = self.counts
        n = counts.prod(axis=1, dtype=np.int32)
        frame = self.frames.index[grid.stack] if len(n) > 1 else 0
        ends: list[tuple[Ids, Ids]] = []
        for axis in (0, 1):
            first = self.frames.along(grid, axis)
            last = first + (grid.size[axis - 2] - 1)
            most, side = counts[frame, axis] - 1, self.side[axis]
            ends.append((np.minimum(first // side, most), np.minimum(last // side, most)))
        (top, bottom), (left, right) = ends
        for row in (top, bottom):
            row *= counts[frame, 1]
            row += (n.cumsum(dtype=np.int32) - n)[frame]
        return top + left, top + right, bottom + left, bottom + right

    def count(self, corners: Corners) -> tuple[Counts, Counts]:
        """Count the patches that lie in each block alone, and those that touch it."""
        a, b, c, d = corners
        touching = self._times(a) + self._times(b[b != a]) + self._times(c[c != a])
        return self._times(a[a == d]), touching + self._times(d[(d != b) & (d != c)])

    def _times(self, ids: Ids) -> Counts:
        return np.bincount(ids, minlength=len(self))


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
