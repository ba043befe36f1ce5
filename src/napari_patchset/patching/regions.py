"""Regions: where on a plane patches may lie.

A plan names a region (`Rectangle`, `Polygon`, `ShapesRegion`, `MaskRegion` or `GeoJsonRegion`), for
one source and scene or for all. For a source it becomes an `Area`, which tells which patches lie
wholly inside, or `PlanePixels`, of which a share is enough. Coordinates are the file's pixels
(level 0) from the image's upper left corner, also where the image is resampled: pixel i reaches
from i to i + 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset._model import Frozen
from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.raster import BoolArray, Edges, fill, find_spans
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.areas import (
    Area,
    PixelArea,
    PlanePixels,
    PointXY,
    ScaledArea,
    inside_polygon,
)
from napari_patchset.source import Ratio, Rect, SceneId, SourceInfo

Masks = Mapping[str, BoolArray | Annotations]
"""What the file of a region holds, by the digest of its content: the pixels YX of a mask, or
outlines."""


class _SourceRegion(Frozen):
    """A region of one source and scene, or of all where these are None."""

    source: str | None = None
    scene: SceneId | None = None

    def is_of(self, source: SourceInfo) -> bool:
        """Return whether the region applies to a source."""
        return self.source in (None, source.key) and self.scene in (None, source.scene)


class _Shape(_SourceRegion, Area):
    """A region that is itself an area, whatever the source."""

    def area(self, source: SourceInfo, masks: Masks) -> Area:
        """Return the area that the region allows in the planes of a source."""
        return self if source.ratio is None else ScaledArea(self, source.ratio)

    def pixels(self, source: SourceInfo, masks: Masks) -> PlanePixels:
        """Return the pixels of a source, by their centres, that the region allows."""
        x, y, w, h = self.bounds
        bounds, ratio = Rect(x - 1, y - 1, w + 2, h + 2), source.ratio
        return PlanePixels(
            lambda window, *_: self._mask(window, ratio), _made_bounds(bounds, ratio)
        )

    @abstractmethod
    def _mask(self, window: Rect, ratio: Ratio | None) -> BoolArray:
        """Return which pixels YX of a window have their centre inside."""


def _made_bounds(bounds: Rect, ratio: Ratio | None) -> Rect:
    """Return a rectangle of made pixels that contains one of the file's pixels."""
    x, y, w, h = bounds
    tall, wide = ratio or (1, 1)
    left, top = floor(x / wide), floor(y / tall)
    return Rect(left, top, ceil((x + w) / wide) - left, ceil((y + h) / tall) - top)


def _fill_rings(rings: Sequence[Sequence[PointXY]], window: Rect, ratio: Ratio | None) -> BoolArray:
    """Return which pixels of a window lie in any of some rings."""
    start = [np.array(ring, np.float64).reshape(-1, 2) for ring in rings]
    end = [np.roll(ring, -1, axis=0) for ring in start]
    owner = np.repeat(np.arange(len(start)), [len(ring) for ring in start])
    edges = Edges(np.concatenate(start), np.concatenate(end), owner)
    return fill(find_spans(edges, window, ratio), window)


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

    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:  # noqa: D102
        y, x = start.T[-2:]
        inside: BoolArray = (x >= self.x) & (x + size[-1] <= self.x + self.w)
        inside &= (y >= self.y) & (y + size[-2] <= self.y + self.h)
        return inside

    def _mask(self, window: Rect, ratio: Ratio | None) -> BoolArray:
        x, y, w, h = self.x, self.y, self.w, self.h
        return _fill_rings([((x, y), (x + w, y), (x + w, y + h), (x, y + h))], window, ratio)


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

    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:  # noqa: D102
        low = np.ascontiguousarray(start.T[-2:])
        return inside_polygon(self.points, low, low + np.array(size[-2:], low.dtype)[:, np.newaxis])

    def _mask(self, window: Rect, ratio: Ratio | None) -> BoolArray:
        return _fill_rings([self.points], window, ratio)


class ShapesRegion(_Shape):
    """Limit patches to several shapes: each patch lies wholly inside of one of them.

    If only a share must be inside, it is one of all shapes together.

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

    def contains(self, start: NDArray[np.number], size: Sequence[float]) -> BoolArray:  # noqa: D102
        inside = np.zeros(len(start), bool)
        for shape in self.shapes:
            inside |= shape.contains(start, size)
        return inside

    def _mask(self, window: Rect, ratio: Ratio | None) -> BoolArray:
        inside = np.zeros((window.h, window.w), bool)
        for shape in self.shapes:
            inside |= shape._mask(window, ratio)
        return inside


class FileRegion(_SourceRegion, ABC):
    """A region that is read from a file; a manifest, which contains no paths, has its digest."""

    kind: str
    path: str | None = None
    digest: str

    def area(self, source: SourceInfo, masks: Masks) -> PixelArea:
        """Return the area that the region allows in the planes of a source.

        Raise ArgumentError if `masks` lacks the content of the file, or a mask has another size.
        """
        height, width = source.spatial_shape[-2:]
        return PixelArea([self.pixels(source, masks)], (height, width))

    @abstractmethod
    def pixels(self, source: SourceInfo, masks: Masks) -> PlanePixels:
        """Return the pixels of a source that the region allows; see `area`."""


class MaskRegion(FileRegion):
    """Limit patches to where a mask is not zero.

    Parameters
    ----------
    path : str or None
        The image of the mask: one plane of the size of the source's planes, or of that divided by
        a whole number, rounded up or down. None in a manifest, which contains no paths.
    digest : str
        The key of its content.
    source, scene : str or None
        Key and scene of the source that it applies to; None for all.
    """

    kind: Literal["mask"] = "mask"

    def pixels(self, source: SourceInfo, masks: Masks) -> PlanePixels:  # noqa: D102
        pixels, plane = masks.get(self.digest), source.spatial_shape[-2:]
        if not isinstance(pixels, np.ndarray):
            raise ArgumentError(f"The mask {self.path} of the region has not been read.")
        factor = _find_factor(pixels.shape, plane, source.ratio)
        if factor is None:
            has = " x ".join(map(str, pixels.shape))
            raise ArgumentError(
                f"The mask {self.path} is {has}, but {source.name} is {plane[0]} x {plane[1]}; "
                "use a mask of that size or of a whole fraction of it, or name the source and "
                "scene that it applies to."
            )
        rows, columns = (
            _mask_indices(n, factor, Fraction(1) if source.ratio is None else source.ratio[axis])
            for axis, n in enumerate(plane)
        )

        def read(window: Rect, sample: int, depth: int) -> BoolArray:
            inside = np.zeros((window.h, window.w), bool)
            of_plane, of_window = Rect(0, 0, plane[1], plane[0]).overlap_slices(window)
            y, x = rows[of_plane[0]], columns[of_plane[1]]
            (height, width), (y_last, x_last) = pixels.shape, (n - 1 for n in pixels.shape)
            inside[of_window] = pixels[np.ix_(np.minimum(y, y_last), np.minimum(x, x_last))]
            # Beyond the last pixel of a mask whose size is rounded down, nothing is inside.
            inside[of_window] &= np.logical_and.outer(y < height, x < width)
            return inside

        return PlanePixels(read, _bounds_of(pixels, rows, columns))


def _find_factor(mask: tuple[int, ...], plane: tuple[int, ...], ratio: Ratio | None) -> int | None:
    """Return the factor by which a mask, height and width, is smaller than the file's planes.

    Its size may be rounded down or up; where several factors fit, the nearest is taken; None if no
    one does. `plane` is in made pixels, if planes are resampled by `ratio`.
    """
    sizes = zip(plane, ratio or (Fraction(1), Fraction(1)), strict=True)
    spans = [(ceil(n * r), ceil((n + 1) * r) - 1) for n, r in sizes]  # what makes n pixels
    nearest = round(spans[0][0] / mask[0])
    for factor in (1, nearest, nearest - 1, nearest + 1):
        if factor >= 1 and all(
            low // factor <= n <= -(-high // factor)
            for n, (low, high) in zip(mask, spans, strict=True)
        ):
            return factor
    return None


def _mask_indices(n: int, factor: int, ratio: Fraction) -> NDArray[np.int64]:
    """Return the mask's pixel at the centre of each of `n` pixels along an axis."""
    centres = (2 * np.arange(n, dtype=np.int64) + 1) * ratio.numerator // (2 * ratio.denominator)
    indices: NDArray[np.int64] = centres // factor
    return indices


def _bounds_of(pixels: BoolArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Rect:
    """Return the rectangle around the pixels that a mask allows."""
    spans = []
    for axis, indices in ((1, rows), (0, columns)):
        any_inside = np.append(pixels.any(axis=axis), False)
        inside = np.flatnonzero(any_inside[np.minimum(indices, len(any_inside) - 1)])
        if not len(inside):
            return Rect(0, 0, 0, 0)
        spans.append((int(inside[0]), int(inside[-1]) + 1))
    (top, bottom), (left, right) = spans
    return Rect(left, top, right - left, bottom - top)


class GeoJsonRegion(FileRegion):
    """Limit patches to the outlines in a GeoJSON file, all of them together.

    A pixel is inside if its centre is; see `annotations.raster`. An outline of one plane allows
    nothing in others.

    Parameters
    ----------
    path : str or None
        The file. None in a manifest, which contains no paths.
    digest : str
        The digest of its content.
    source, scene : str or None
        Key and scene of the source that it applies to; None for all.
    """

    kind: Literal["geojson"] = "geojson"

    def pixels(self, source: SourceInfo, masks: Masks) -> PlanePixels:  # noqa: D102, on FileRegion
        outlines = masks.get(self.digest)
        if not isinstance(outlines, Annotations):
            raise ArgumentError(f"The outlines in {self.path} have not been read.")

        def read(window: Rect, sample: int, depth: int) -> BoolArray:
            z, t = source.plane_indices(sample, depth)
            return outlines.mask(window, z=z, t=t, ratio=source.ratio)

        bounds = _made_bounds(outlines.extent(), source.ratio)
        return PlanePixels(read, bounds, outlines.is_flat)


Region = Annotated[
    Rectangle | Polygon | ShapesRegion | MaskRegion | GeoJsonRegion, Field(discriminator="kind")
]
"""Every region that a plan can name."""
