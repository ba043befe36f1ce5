"""What a strategy may choose from in one source."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import Area
from napari_patchset.patching.strategies.dropping import TOO_SMALL
from napari_patchset.patching.strategies.lattice import sorted_by_tile
from napari_patchset.source import SourceInfo


@dataclass(frozen=True, eq=False)
class Part:
    """What a strategy may choose from in one source.

    Attributes
    ----------
    stack : int
        Index of the source among those planned for.
    samples : int64 array
        The samples, ascending.
    first, shape : tuple of int
        First pixel along (Z)YX, and how many from there.
    area : Area or None
        What the region leaves of each plane.
    """

    stack: int
    source: SourceInfo
    samples: NDArray[np.int64]
    first: tuple[int, ...]
    shape: tuple[int, ...]
    area: Area | None = None

    def near_area(self) -> Self:
        """Narrow Y and X to the bounds of the area, so that few draws fall outside of it."""
        if self.area is None:
            return self
        rect = self.area.bounds
        (*depth, y, x), (*deep, h, w) = self.first, self.shape
        top, left = max(y, rect.y), max(x, rect.x)
        bottom, right = min(y + h, rect.y + rect.h), min(x + w, rect.x + rect.w)
        shape = (*deep, max(0, bottom - top), max(0, right - left))
        return replace(self, first=(*depth, top, left), shape=shape)

    @property
    def is_narrowed(self) -> bool:
        """Whether it is less than the planes and depths of the source."""
        return self.shape != self.source.spatial_shape

    def grid(
        self,
        size: tuple[int, ...],
        sample: NDArray[np.integer],
        start: NDArray[np.integer],
        dropped: Mapping[str, int] | None = None,
    ) -> PatchGrid:
        """Make a grid of unordered candidates, in the order of the source's tiles."""
        columns = sorted_by_tile(sample, start, self.source.block_shape)
        stack = np.full(len(start), self.stack, np.int32)
        return PatchGrid(size, stack, *columns, dropped or {})

    def empty(self, size: tuple[int, ...]) -> PatchGrid:
        """Make a grid without candidates; the samples, if any, count as too small."""
        none = np.empty((0, len(size)), np.int64)
        n = len(self.samples)
        return self.grid(size, none[:, 0], none, {TOO_SMALL: n} if n else {})
