"""Copy into many patches what a tile holds of them, in as few calls as their order allows."""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from napari_patchset.source import Rect

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


class Places:
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
