"""What all regions share: the source that they lie in, and the area that they leave of a plane.

Coordinates are level-0 pixels from the image's upper left corner: pixel i reaches from i to i + 1.

Regions that are drawn: rectangles, polygons, and several of them.

A region that is a mask: patches lie where its pixels are not zero.

What of a source patches may lie in: regions of a plane, ranges of its other axes, its tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, floor, isfinite
from typing import Annotated, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.coverage import sum_table, sums_inside
from napari_patchset.source import Rect, SceneId, SourceInfo

Mask = NDArray[np.bool_]
Masks = Mapping[str, Mask]
"""The pixels of masks, YX, by their digest."""


class Area(Protocol):
    """The part of a plane that a region leaves."""

    is_box: ClassVar[bool]
    """Whether every patch inside of the bounds lies inside."""

    @property
    def bounds(self) -> Rect:
        """The smallest rectangle that holds every patch inside."""

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:
        """Say which patches lie wholly inside, from their starts (n, YX) and their size."""


class SourceRegion(Frozen):
    """Belong to one source and scene, or to every one where they are None."""

    source: str | None = None
    scene: SceneId | None = None

    def is_of(self, source: SourceInfo) -> bool:
        """Whether the region lies in a source."""
        return self.source in (None, source.key) and self.scene in (None, source.scene)


Point = tuple[float, float]

_TOGETHER = 32
"""Rectangles that are held against a polygon as one, as long as no edge is near."""


class _Shape(SourceRegion):
    """Be an area without knowing any pixel."""

    is_box: ClassVar[bool] = False

    def area(self, source: SourceInfo, masks: Masks) -> Self:
        """Give the area that is left of a source's planes."""
        return self


class Rectangle(_Shape):
    """Limit patches to a rectangle.

    Parameters
    ----------
    x, y, w, h : int
        Left, top, width and height in level-0 pixels.
    source, scene : str or None
        The key of the source, and the scene, that it lies in; None for all.
    """

    is_box: ClassVar[bool] = True
    kind: Literal["rectangle"] = "rectangle"
    x: int
    y: int
    w: int = Field(gt=0)
    h: int = Field(gt=0)

    @property
    def bounds(self) -> Rect:  # noqa: D102, on Area
        return Rect(self.x, self.y, self.w, self.h)

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:  # noqa: D102
        return _in_rect(start, size, self.bounds)


class Polygon(_Shape):
    """Limit patches to a polygon; one that crosses itself is filled by the even-odd rule.

    Parameters
    ----------
    points : tuple of (float, float)
        The corners as (x, y) in level-0 pixels, at least 3; the last is joined to the first.
    source, scene : str or None
        The key of the source, and the scene, that it lies in; None for all.
    """

    kind: Literal["polygon"] = "polygon"
    points: tuple[Point, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(isfinite(value) for point in self.points for value in point):
            raise ValueError("every corner must be a pair of finite numbers")
        return self

    @property
    def bounds(self) -> Rect:  # noqa: D102, on Area
        xs, ys = zip(*self.points, strict=True)
        x, y = ceil(min(xs)), ceil(min(ys))
        return Rect(x, y, max(0, floor(max(xs)) - x), max(0, floor(max(ys)) - y))

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:
        """Say which patches lie wholly inside, from their starts (n, YX) and their size.

        No edge may pass through the open rectangle of a patch; then all of the patch is on one
        side, that of its centre.
        """
        low = np.ascontiguousarray(start.T)
        return self._sides(low, low + np.array(size, low.dtype)[:, np.newaxis])[0]

    def _sides(self, low: NDArray[np.integer], high: NDArray[np.integer]) -> tuple[Mask, Mask]:
        """Say which rectangles lie inside, and through which an edge passes.

        Those that follow each other lie near each other: if no edge passes through the box around
        them, with a pixel to spare, they are on one side with it.
        """
        n = low.shape[1]
        if n <= _TOGETHER:
            return self._sides_of_each(low, high)
        first = np.arange(0, n, _TOGETHER)
        low_box, high_box = (
            np.minimum.reduceat(low, first, axis=1) - 1,
            np.maximum.reduceat(high, first, axis=1) + 1,
        )
        n_each = np.diff(first, append=n)
        inside, crossed = (side.repeat(n_each) for side in self._sides(low_box, high_box))
        near = np.flatnonzero(crossed)
        inside[near], crossed[near] = self._sides_of_each(low[:, near], high[:, near])
        return inside, crossed

    def _sides_of_each(
        self, low: NDArray[np.integer], high: NDArray[np.integer]
    ) -> tuple[Mask, Mask]:
        (y, x), half = (low + high) / 2, (high - low) / 2
        odd, crossed = np.zeros(len(x), bool), np.zeros(len(x), bool)
        for a, b in pairwise((*self.points, self.points[0])):
            odd ^= _is_left_of(x, y, a, b)
            crossed |= _is_crossed(x, y, half, a, b)
        return odd & ~crossed, crossed


class ShapesRegion(_Shape):
    """Limit patches to several shapes: each lies wholly inside of one of them.

    Parameters
    ----------
    shapes : tuple of Rectangle or Polygon
        The shapes. Those that overlap do not become one.
    source, scene : str or None
        The key of the source, and the scene, that they lie in; None for all.
    """

    kind: Literal["shapes"] = "shapes"
    shapes: tuple[Annotated[Rectangle | Polygon, Field(discriminator="kind")], ...] = Field(
        min_length=1
    )

    @property
    def bounds(self) -> Rect:  # noqa: D102, on Area
        bounds = [shape.bounds for shape in self.shapes]
        x, y = min(b.x for b in bounds), min(b.y for b in bounds)
        right, bottom = max(b.x + b.w for b in bounds), max(b.y + b.h for b in bounds)
        return Rect(x, y, right - x, bottom - y)

    def holds(self, start: NDArray[np.integer], size: tuple[int, int]) -> Mask:  # noqa: D102
        inside = np.zeros(len(start), bool)
        for shape in self.shapes:
            inside |= shape.holds(start, size)
        return inside


def _in_rect(start: NDArray[np.integer], size: tuple[int, int], rect: Rect) -> Mask:
    y, x = start.T
    inside: Mask = (x >= rect.x) & (x + size[1] <= rect.x + rect.w)
    inside &= (y >= rect.y) & (y + size[0] <= rect.y + rect.h)
    return inside


def _is_left_of(x: NDArray[np.float64], y: NDArray[np.float64], a: Point, b: Point) -> Mask:
    """Say which points have the edge on their right, on the ray along +x."""
    (ax, ay), (bx, by) = a, b
    if ay == by:
        return np.zeros(len(x), bool)
    level: Mask = (y >= min(ay, by)) & (y < max(ay, by))
    at = np.flatnonzero(level)
    level[at] = x[at] < ax + (y[at] - ay) * (bx - ax) / (by - ay)
    return level


def _is_crossed(
    x: NDArray[np.float64], y: NDArray[np.float64], half: NDArray[np.float64], a: Point, b: Point
) -> Mask:
    """Say which open rectangles, given by centres and half their sizes, an edge passes through.

    By the separating axis theorem: none of x, y and the edge's normal parts the two.
    """
    (ax, ay), (bx, by), (h, w) = a, b, half
    hit: Mask = (x - w < max(ax, bx)) & (x + w > min(ax, bx))
    hit &= (y - h < max(ay, by)) & (y + h > min(ay, by))
    at = np.flatnonzero(hit)
    away = np.abs((by - ay) * (x[at] - ax) - (bx - ax) * (y[at] - ay))
    hit[at] = away < w[at] * abs(by - ay) + h[at] * abs(bx - ax)
    return hit


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


Region = Annotated[Rectangle | Polygon | ShapesRegion | MaskRegion, Field(discriminator="kind")]
"""Every region that a plan can name."""
