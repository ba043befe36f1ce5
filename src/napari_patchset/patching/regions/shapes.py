"""Regions that are drawn: rectangles, polygons, and several of them."""

from itertools import pairwise
from math import ceil, floor, isfinite
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset.patching.regions.base import Mask, Masks, SourceRegion
from napari_patchset.source import Rect, SourceInfo

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
