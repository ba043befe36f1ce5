"""Areas: the part of the planes of one source that a region or classes allow.

An `Area` tells which patches lie inside. A polygon or rectangle is an area itself, compared with
whole patches (`inside_polygon`); `PixelArea` counts pixels instead, which a mask, annotations and a
share of a patch need.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.raster import BoolArray
from napari_patchset.patching.coverage import box_sums, summed_area_table
from napari_patchset.source import Ratio, Rect

PointXY = tuple[float, float]

_ROUNDING = 1e-6
"""Pixels of the file."""

_GROUP = 32
"""Patches that are compared with a polygon as one box, as long as no edge is near."""

TILE = 1024
"""Patches that start in one square of this side are counted together."""

_FEW, _OFTEN = 4096, 16
"""Patches, and how often they cover each pixel, up to which each is counted by itself."""

COUNTED_AT_ONCE = 2**22
"""Pixels that are counted at once; each takes five bytes."""


class Area(ABC):
    """The part of planes that is allowed; the same in every plane, unless a subclass differs."""

    is_box: ClassVar[bool] = False
    """Whether every patch inside of the bounds is inside of the area."""

    @property
    def is_flat(self) -> bool:
        """Whether it is the same in every plane."""
        return True

    @property
    @abstractmethod
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""

    def at(self, sample: int) -> "Area":
        """Return the area in the planes of one sample."""
        return self

    @abstractmethod
    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:
        """Return which patches lie wholly inside, from their starts (n, (Z)YX) and their size.

        Without Z, an area that is not flat is that of the first depth.
        """


@dataclass(frozen=True, eq=False)
class ScaledArea(Area):
    """An area in the file's pixels, for patches of an image that is resampled."""

    area: Area
    ratio: Ratio
    """How many of the file's pixels make one, along Y and X."""

    @property
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""
        x, y, w, h = self.area.bounds
        (top, bottom), (left, right) = (
            (ceil(start / r), floor((start + n) / r))
            for start, n, r in zip((y, x), (h, w), self.ratio, strict=True)
        )
        return Rect(left, top, max(0, right - left), max(0, bottom - top))

    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:
        """Return which patches lie wholly inside."""
        ratio = np.array(self.ratio, np.float64)
        # A hair less on each side, for what rounding adds.
        height, width = (np.array(size[-2:]) * ratio - 2 * _ROUNDING).tolist()
        return self.area.contains(start[:, -2:] * ratio + _ROUNDING, (height, width))


def inside_polygon(corners: Sequence[PointXY], low: NDArray[Any], high: NDArray[Any]) -> BoolArray:
    """Return which rectangles, from `low` to `high`, (2, n), YX, lie wholly inside of a polygon.

    No edge may pass through the open rectangle; then all of it is on one side, that of its centre.
    """
    return _sides(corners, low, high)[0]


def _sides(
    corners: Sequence[PointXY], low: NDArray[Any], high: NDArray[Any]
) -> tuple[BoolArray, BoolArray]:
    """Return which rectangles lie inside, and through which an edge passes.

    Successive ones lie near each other: if no edge passes through the box around a group of them,
    with a pixel to spare, they are all on the same side as the box.
    """
    n = low.shape[1]
    if n <= _GROUP:
        return _sides_of_each(corners, low, high)
    first = np.arange(0, n, _GROUP)
    low_box = np.minimum.reduceat(low, first, axis=1) - 1
    high_box = np.maximum.reduceat(high, first, axis=1) + 1
    n_each = np.diff(first, append=n)
    inside, crossed = (side.repeat(n_each) for side in _sides(corners, low_box, high_box))
    near = np.flatnonzero(crossed)
    inside[near], crossed[near] = _sides_of_each(corners, low[:, near], high[:, near])
    return inside, crossed


def _sides_of_each(
    corners: Sequence[PointXY], low: NDArray[Any], high: NDArray[Any]
) -> tuple[BoolArray, BoolArray]:
    (y, x), half = (low + high) / 2, (high - low) / 2
    odd, crossed = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for a, b in pairwise((*corners, corners[0])):
        odd ^= _is_left_of(x, y, a, b)
        crossed |= _is_crossed(x, y, half, a, b)
    return odd & ~crossed, crossed


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


class PlanePixels(NamedTuple):
    """Which pixels of a source are allowed."""

    read: Callable[[Rect, int, int], BoolArray]
    """Returns those of a window, YX, which may reach beyond the image, of a sample and depth."""
    bounds: Rect
    """A rectangle that contains them."""
    is_flat: bool = True
    """Whether they are the same in every plane."""


@dataclass(frozen=True, eq=False)
class PixelArea(Area):
    """Patches of whose pixels at least a share is allowed."""

    pixels: Sequence[PlanePixels]
    """A pixel is allowed if each of these allows it."""
    shape: tuple[int, int]
    """Height and width of the planes; beyond them no pixel is allowed."""
    min_inside: float = 1.0
    """The least share of the pixels of a patch, in all of its planes."""
    overhang: tuple[int, int] = (0, 0)
    """How far a patch inside may reach beyond the allowed pixels, along Y and X."""
    sample: int = 0
    """The sample whose planes these are."""

    @property
    def is_flat(self) -> bool:
        """Whether it is the same in every plane."""
        return all(each.is_flat for each in self.pixels)

    @property
    def bounds(self) -> Rect:
        """A rectangle that contains every patch inside."""
        height, width = self.shape
        bounds = [each.bounds for each in self.pixels]
        across = [(0, width), *((b.x, b.x + b.w) for b in bounds)]
        down = [(0, height), *((b.y, b.y + b.h) for b in bounds)]
        (top, bottom), (left, right) = (
            (
                max(0, max(first for first, _ in spans) - beyond),
                min(n, min(end for _, end in spans) + beyond),
            )
            for spans, beyond, n in zip((down, across), self.overhang, self.shape, strict=True)
        )
        return Rect(left, top, max(0, right - left), max(0, bottom - top))

    def at(self, sample: int) -> "PixelArea":
        """Return the area in the planes of one sample."""
        return replace(self, sample=sample)

    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:
        """Return of which patches at least the share `min_inside` is allowed."""
        *depth, height, width = map(int, size)
        has_depth = bool(depth) and start.shape[1] == 3 and not self.is_flat
        n_depths = depth[0] if has_depth else 1
        counts = np.zeros(len(start), np.int64)
        tiles = start[:, -2:] // TILE
        order = np.lexsort((tiles[:, 1], tiles[:, 0]))
        borders = np.flatnonzero(np.diff(tiles[order], axis=0).any(axis=1)) + 1
        for rows in np.split(order, borders) if len(order) else ():
            corners = start[rows, -2:].astype(np.int64)
            if not has_depth:
                counts[rows] = self._count(corners, (height, width), 0)
                continue
            first = start[rows, 0].astype(np.int64)
            for z in range(int(first.min()), int(first.max()) + n_depths):
                through = (first <= z) & (z < first + n_depths)
                counts[rows[through]] += self._count(corners[through], (height, width), z)
        inside: BoolArray = counts / (n_depths * height * width) >= self.min_inside
        return inside

    def _count(
        self, corners: NDArray[np.int64], size: tuple[int, int], depth: int
    ) -> NDArray[np.int64]:
        """Count the allowed pixels in patches of one plane that lie near each other."""
        counts = np.zeros(len(corners), np.int64)
        if not len(corners):
            return counts
        low = np.maximum(corners, 0)
        high = np.minimum(corners + size, self.shape)
        (y, x), (bottom, right) = low.min(axis=0).tolist(), high.max(axis=0).tolist()
        if right <= x:
            return counts
        step = max(1, COUNTED_AT_ONCE // (right - x))
        for top in range(y, bottom, step):
            window = Rect(x, top, right - x, min(step, bottom - top))
            allowed = self._allowed(window, depth)
            if not allowed.any():
                continue
            tops, bottoms = (np.clip(each[:, 0] - top, 0, window.h) for each in (low, high))
            lefts, rights = low[:, 1] - x, np.maximum(high[:, 1], low[:, 1]) - x
            areas = (bottoms - tops) * (rights - lefts)
            if allowed.all():
                counts += areas
            elif len(areas) <= _FEW and areas.sum() <= _OFTEN * allowed.size:
                boxes = np.stack([tops, bottoms, lefts, rights], axis=1).tolist()
                for i, (top_row, bottom_row, left, end) in enumerate(boxes):
                    counts[i] += np.count_nonzero(allowed[top_row:bottom_row, left:end])
            else:
                table = summed_area_table(allowed, np.int32)
                counts += box_sums(table, tops, lefts, bottoms, rights)
        return counts

    def _allowed(self, window: Rect, depth: int) -> BoolArray:
        allowed = np.ones((window.h, window.w), bool)
        for each in self.pixels:
            inside, _ = window.overlap_slices(each.bounds)
            if not allowed[inside].size:
                return np.zeros_like(allowed)
            allowed &= each.read(window, self.sample, depth)
        return allowed
