"""A region that is a mask: patches lie where its pixels are not zero."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.regions.base import Mask, Masks, SourceRegion
from napari_patchset.patching.regions.summing import sum_table, sums_inside
from napari_patchset.source import Rect, SourceInfo

BAND = 256
"""Rows of patches that are looked at at once."""


@dataclass(frozen=True, eq=False)
class MaskArea:
    """The pixels of a mask, bool, YX, looked at in memory that does not grow with its height."""

    is_box: ClassVar[bool] = False
    pixels: Mask

    @cached_property
    def bounds(self) -> Rect:
        """The smallest rectangle that holds every patch inside."""
        ys, xs = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(ys):
            return Rect(0, 0, 0, 0)
        y, x = int(ys[0]), int(xs[0])
        return Rect(x, y, int(xs[-1]) + 1 - x, int(ys[-1]) + 1 - y)

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:
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


class MaskRegion(SourceRegion):
    """Limit patches to where a mask is not zero.

    Parameters
    ----------
    path : str or None
        The image of the mask: one plane, as large as those that it limits. None in a manifest,
        which does not say where files lie.
    digest : str
        The key of its content.
    source, scene : str or None
        The key of the source, and the scene, that it lies in; None for all.
    """

    kind: Literal["mask"] = "mask"
    path: str | None = None
    digest: str

    def area(self, source: SourceInfo, masks: Masks) -> MaskArea:
        """Give the area that is left of a source's planes.

        Raises
        ------
        ArgumentError
            If the pixels of the mask are not given, or it has another size.
        """
        if self.digest not in masks:
            raise ArgumentError(f"The mask {self.path} of the region is not read.")
        pixels, plane = masks[self.digest], source.spatial_shape[-2:]
        if pixels.shape != plane:
            has = " x ".join(map(str, pixels.shape))
            raise ArgumentError(
                f"The mask {self.path} is {has}, but {source.name} is {plane[0]} x {plane[1]}; "
                "give a mask of its size, or say which source and scene it is of."
            )
        return MaskArea(pixels)
