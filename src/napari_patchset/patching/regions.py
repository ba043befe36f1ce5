"""Regions: where on a plane patches may lie.

A plan names a region (`Rectangle`, `Polygon`, `ShapesRegion` or `MaskRegion`), for one source and
scene or for all. For a source it becomes an `Area`, which tells which patches lie wholly inside.
Coordinates are the file's pixels (level 0) from the image's upper left corner, also where the image
is resampled: pixel i reaches from i to i + 1.
"""

from abc import ABC, abstractmethod
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
from napari_patchset.patching.coverage import box_sums, summed_area_table
from napari_patchset.source import Ratio, Rect, SceneId, SourceInfo

BoolArray = NDArray[np.bool_]
Masks = Mapping[str, BoolArray]
"""The pixels of masks, YX, by the digest of their content."""


class Area(Protocol):
    """The part of a plane that a region allows."""

    is_box: ClassVar[bool]
    """Whether every patch inside of the bounds is inside of the area."""

    @property
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:
        """Return which patches lie wholly inside, from their starts (n, YX) and their size."""


class _SourceRegion(Frozen):
    """Apply to one source and scene, or to all where these are None."""

    source: str | None = None
    scene: SceneId | None = None

    def is_of(self, source: SourceInfo) -> bool:
        """Return whether the region applies to a source."""
        return self.source in (None, source.key) and self.scene in (None, source.scene)


PointXY = tuple[float, float]

_GROUP = 32
"""Patches that are compared with a polygon as one box, as long as no edge is near."""


class _Shape(_SourceRegion, ABC):
    """Be an area itself, whatever the source."""

    is_box: ClassVar[bool] = False

    def area(self, source: SourceInfo, masks: Masks) -> Area:
        """Return the area that the region allows in the planes of a source."""
        return self if source.ratio is None else ScaledArea(self, source.ratio)

    @property
    @abstractmethod
    def bounds(self) -> Rect:
        """See `Area`."""

    @abstractmethod
    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:
        """See `Area`."""


class Rectangle(_Shape):
    """Limit patches to a rectangle.

    Parameters
    ----------
    x, y, w, h : int
        Left, top, width and height in level-0 pixels.
    source, scene : str or None
        Key and scene of the source that it applies to; None for all.
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

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:  # noqa: D102
        y, x = start.T
        inside: BoolArray = (x >= self.x) & (x + size[1] <= self.x + self.w)
        inside &= (y >= self.y) & (y + size[0] <= self.y + self.h)
        return inside


class Polygon(_Shape):
    """Limit patches to a polygon; one that crosses itself is filled by the even-odd rule.

    Parameters
    ----------
    points : tuple of (float, float)
        The corners as (x, y) in level-0 pixels, at least 3; the last is connected to the first.
    source, scene : str or None
        Key and scene of the source that it applies to; None for all.
    """

    kind: Literal["polygon"] = "polygon"
    points: tuple[PointXY, ...] = Field(min_length=3)

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

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:
        """Return which patches lie wholly inside, from their starts (n, YX) and their size.

        No edge may pass through the open rectangle of a patch; then all of the patch is on one
        side, that of its centre.
        """
        low = np.ascontiguousarray(start.T)
        return self._sides(low, low + np.array(size, low.dtype)[:, np.newaxis])[0]

    def _sides(
        self, low: NDArray[np.integer], high: NDArray[np.integer]
    ) -> tuple[BoolArray, BoolArray]:
        """Return which rectangles lie inside, and through which an edge passes.

        Successive ones lie near each other: if no edge passes through the box around a group of
        them, with a pixel to spare, they are all on the same side as the box.
        """
        n = low.shape[1]
        if n <= _GROUP:
            return self._sides_of_each(low, high)
        first = np.arange(0, n, _GROUP)
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
    ) -> tuple[BoolArray, BoolArray]:
        (y, x), half = (low + high) / 2, (high - low) / 2
        odd, crossed = np.zeros(len(x), bool), np.zeros(len(x), bool)
        for a, b in pairwise((*self.points, self.points[0])):
            odd ^= _is_left_of(x, y, a, b)
            crossed |= _is_crossed(x, y, half, a, b)
        return odd & ~crossed, crossed


class ShapesRegion(_Shape):
    """Limit patches to several shapes: each patch lies wholly inside of one of them.

    Parameters
    ----------
    shapes : tuple of Rectangle or Polygon
        The shapes. Overlapping ones are not joined.
    source, scene : str or None
        Key and scene of the source that they apply to; None for all.
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

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:  # noqa: D102
        inside = np.zeros(len(start), bool)
        for shape in self.shapes:
            inside |= shape.contains(start, size)
        return inside


def _is_left_of(
    x: NDArray[np.float64], y: NDArray[np.float64], a: PointXY, b: PointXY
) -> BoolArray:
    """Return which points have the edge on their right, on the ray along +x."""
    (ax, ay), (bx, by) = a, b
    if ay == by:
        return np.zeros(len(x), bool)
    is_left: BoolArray = (y >= min(ay, by)) & (y < max(ay, by))
    level = np.flatnonzero(is_left)
    is_left[level] = x[level] < ax + (y[level] - ay) * (bx - ax) / (by - ay)
    return is_left


def _is_crossed(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    half: NDArray[np.float64],
    a: PointXY,
    b: PointXY,
) -> BoolArray:
    """Return which open rectangles, from their centres and half their sizes, an edge crosses.

    By the separating axis theorem: neither x, y nor the edge's normal separates the two.
    """
    (ax, ay), (bx, by), (h, w) = a, b, half
    crossed: BoolArray = (x - w < max(ax, bx)) & (x + w > min(ax, bx))
    crossed &= (y - h < max(ay, by)) & (y + h > min(ay, by))
    near = np.flatnonzero(crossed)
    distance = np.abs((by - ay) * (x[near] - ax) - (bx - ax) * (y[near] - ay))
    crossed[near] = distance < w[near] * abs(by - ay) + h[near] * abs(bx - ax)
    return crossed


@dataclass(frozen=True, eq=False)
class ScaledArea:
    """An area in the file's pixels, for patches of an image that is resampled.

    Attributes
    ----------
    area : Area
        The area.
    ratio : tuple of Fraction
        How many of the file's pixels make one, along Y and X.
    """

    is_box: ClassVar[bool] = False
    area: Area
    ratio: Ratio

    @property
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""
        x, y, w, h = self.area.bounds
        (top, bottom), (left, right) = (
            (ceil(start / r), floor((start + n) / r))
            for start, n, r in zip((y, x), (h, w), self.ratio, strict=True)
        )
        return Rect(left, top, max(0, right - left), max(0, bottom - top))

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:
        """Return which patches lie wholly inside, from their starts (n, YX) and their size."""
        ratio = np.array(self.ratio, np.float64)
        # A hair less on each side, for what rounding adds.
        height, width = (np.array(size) * ratio - 2 * _ROUNDING).tolist()
        return self.area.contains(start * ratio + _ROUNDING, (height, width))


_ROUNDING = 1e-6

BAND = 256
"""Rows of the mask in which the patches that are checked at once begin."""


@dataclass(frozen=True, eq=False)
class MaskArea:
    """The pixels of a mask, bool, YX, which are summed in bands to bound the memory."""

    is_box: ClassVar[bool] = False
    pixels: BoolArray

    @cached_property
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""
        ys, xs = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(ys):
            return Rect(0, 0, 0, 0)
        y, x = int(ys[0]), int(xs[0])
        return Rect(x, y, int(xs[-1]) + 1 - x, int(ys[-1]) + 1 - y)

    def contains(self, start: NDArray[np.number], size: tuple[float, float]) -> BoolArray:
        """Return which patches lie wholly inside, from their starts (n, YX) and their size."""
        inside = np.asarray((start + size <= self.pixels.shape).all(axis=1))
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(start[rows, 0], kind="stable")]
        bands = start[rows, 0] // BAND
        for group in np.split(rows, np.flatnonzero(np.diff(bands)) + 1) if len(rows) else ():
            inside[group] = self._count(start[group], size) == size[0] * size[1]
        return inside

    def _count(self, start: NDArray[np.number], size: tuple[float, float]) -> NDArray[np.int32]:
        """Count the mask's pixels in patches that begin in one band."""
        first, last = int(start[:, 0].min()), int(start[:, 0].max())
        table = summed_area_table(self.pixels[first : last + size[0]], np.int32)
        (top, left), (height, width) = (start - (first, 0)).T, size
        return box_sums(table, top, left, top + height, left + width)


class MaskRegion(_SourceRegion):
    """Limit patches to where a mask is not zero.

    Parameters
    ----------
    path : str or None
        The image of the mask: one plane of the size of the source's planes. None in a manifest,
        which contains no paths.
    digest : str
        The key of its content.
    source, scene : str or None
        Key and scene of the source that it applies to; None for all.
    """

    kind: Literal["mask"] = "mask"
    path: str | None = None
    digest: str

    def area(self, source: SourceInfo, masks: Masks) -> MaskArea:
        """Return the area that the region allows in the planes of a source.

        Raises
        ------
        ArgumentError
            If `masks` lacks the pixels of the mask, or they have another size.
        """
        if self.digest not in masks:
            raise ArgumentError(f"The mask {self.path} of the region has not been read.")
        pixels, plane = masks[self.digest], source.spatial_shape[-2:]
        if source.ratio is not None:
            made = tuple(floor(n / r) for n, r in zip(pixels.shape, source.ratio, strict=True))
            if made == plane:  # the mask's pixel at the centre of each
                centres = [
                    (2 * np.arange(n) + 1) * r.numerator // (2 * r.denominator)
                    for n, r in zip(plane, source.ratio, strict=True)
                ]
                pixels = pixels[np.ix_(*centres)]
        if pixels.shape != plane:
            has = " x ".join(map(str, pixels.shape))
            raise ArgumentError(
                f"The mask {self.path} is {has}, but {source.name} is {plane[0]} x {plane[1]}; "
                "use a mask of that size, or name the source and scene that it applies to."
            )
        return MaskArea(pixels)


Region = Annotated[Rectangle | Polygon | ShapesRegion | MaskRegion, Field(discriminator="kind")]
"""Every region that a plan can name."""
