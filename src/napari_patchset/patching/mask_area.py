"""Which patches lie inside of a mask, in memory that does not grow with its height."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.summing import sum_table, sums_inside
from napari_patchset.source import Rect

BAND = 256
"""Rows of patches that are looked at at once."""


@dataclass(frozen=True, eq=False)
class MaskArea:
    """The pixels of a mask, bool, YX."""

    is_box: ClassVar[bool] = False
    pixels: NDArray[np.bool_]

    @cached_property
    def bounds(self) -> Rect:
        """The smallest rectangle that holds every patch inside."""
        ys, xs = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(ys):
            return Rect(0, 0, 0, 0)
        y, x = int(ys[0]), int(xs[0])
        return Rect(x, y, int(xs[-1]) + 1 - x, int(ys[-1]) + 1 - y)

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.bool_]:
        """Say which patches lie wholly inside, from their starts (n, YX) and their size."""
        inside = np.asarray((start + size <= self.pixels.shape).all(axis=1))
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(start[rows, 0], kind="stable")]
        bands = start[rows, 0] // BAND
        for group in np.split(rows, np.flatnonzero(np.diff(bands)) + 1) if len(rows) else ():
            inside[group] = self._count(start[group], size) == size[0] * size[1]
        return inside

    def _count(self, start: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.int32]:
        """Count the pixels in patches that begin in a few rows."""
        first, last = int(start[:, 0].min()), int(start[:, 0].max())
        table = sum_table(self.pixels[first : last + size[0]], np.int32)
        (top, left), (height, width) = (start - (first, 0)).T, size
        return sums_inside(table, top, left, top + height, left + width)
