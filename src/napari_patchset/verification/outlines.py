"""Annotations drawn pixel by pixel, to compare the shares of classes in the table with.

This is not the code of the export, so that an error of one shows in the other: each pixel counts
the edges to its left, by the rule that `annotations.raster` states.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import EVERY_PLANE, Annotations
from napari_patchset.source import SourceInfo

_BAND = 1024
"""Full-resolution rows whose features are looked up together."""

_AT_ONCE = 2**20
"""Pairs of edges and pixels that are compared at once."""

Mask = NDArray[np.bool_]


class DrawnOutlines:
    """The annotations of one source."""

    def __init__(self, annotations: Annotations, source: SourceInfo) -> None:
        self._annotations, self._source = annotations, source
        self._ratio = [float(each) for each in source.ratio or (1, 1)]
        self._in_band = lru_cache(16)(self._find_in_band)

    def masks(self, sample: int, start: Sequence[int], size: Sequence[int]) -> dict[str, Mask]:
        """Return the pixels of each class, (Z)YX, in the part of a patch inside of the image."""
        shape = self._source.spatial_shape
        extent = [min(n, end - a) for a, n, end in zip(start, size, shape, strict=True)]
        names = [each.name for each in self._annotations.classes]
        masks = {name: np.zeros(extent, bool) for name in names}
        depths = range(start[0], start[0] + extent[0]) if len(extent) == 3 else [0]
        drawn = [
            (feature, self._draw(feature, start[-2:], extent[-2:]))
            for feature in self._near(start[-2:], extent[-2:])
        ]
        for i, depth in enumerate(depths):
            z, t = self._source.plane_indices(sample, depth)
            for feature, mask in drawn:
                own = int(self._annotations.z[feature]), int(self._annotations.t[feature])
                if own[0] in (z, EVERY_PLANE) and own[1] in (t, EVERY_PLANE):
                    of_class = masks[names[self._annotations.class_index[feature]]]
                    plane = of_class[i] if of_class.ndim == 3 else of_class
                    plane |= mask
        return masks

    def _near(self, corner: Sequence[int], extent: Sequence[int]) -> list[int]:
        """Return the features whose bounds meet a box."""
        (top, bottom), (left, right) = (
            (a * r, (a + n) * r) for a, n, r in zip(corner, extent, self._ratio, strict=True)
        )
        found = set[int]()
        for band in range(int(top // _BAND), int(bottom // _BAND) + 1):
            features = self._in_band(band)
            x0, y0, x1, y1 = self._annotations.bounds[features].T
            meets = (x0 <= right) & (x1 >= left) & (y0 <= bottom) & (y1 >= top)
            found.update(features[meets].tolist())
        return sorted(found)

    def _find_in_band(self, band: int) -> NDArray[np.intp]:
        top, bottom = self._annotations.bounds[:, 1], self._annotations.bounds[:, 3]
        return np.flatnonzero((top <= (band + 1) * _BAND) & (bottom >= band * _BAND))

    def _draw(self, feature: int, corner: Sequence[int], extent: Sequence[int]) -> Mask:
        """Return the pixels YX of a feature: those with an odd number of edges to their left."""
        (tall, wide), (height, width) = self._ratio, extent
        vertices = slice(self._annotations.first[feature], self._annotations.end[feature])
        points, is_end = self._annotations.vertices[vertices], self._annotations.ends_ring[vertices]
        begins = np.flatnonzero(~is_end)
        a, b = points[begins], points[begins + 1]
        is_upward = a[:, 1] > b[:, 1]
        upper = np.where(is_upward[:, np.newaxis], b, a)
        lower = np.where(is_upward[:, np.newaxis], a, b)
        rows = corner[0] + np.arange(height)[:, np.newaxis]
        columns = corner[1] + np.arange(width)
        odd = np.zeros((height, width), bool)
        step = max(1, _AT_ONCE // prod(extent))
        is_beside = (lower[:, 1] / tall - 0.5 <= rows[0]) | (upper[:, 1] / tall - 0.5 > rows[-1])
        upper, lower = upper[~is_beside], lower[~is_beside]
        for first in range(0, len(upper), step):
            (x0, y0), (x1, y1) = upper[first : first + step].T, lower[first : first + step].T
            crosses = (rows >= y0 / tall - 0.5) & (rows < y1 / tall - 0.5)
            with np.errstate(divide="ignore", invalid="ignore"):
                x = x0 + ((rows + 0.5) * tall - y0) * (x1 - x0) / (y1 - y0)
                is_left = columns >= (x / wide - 0.5)[..., np.newaxis]
            odd ^= (crosses[..., np.newaxis] & is_left).sum(axis=1) % 2 == 1
        return odd
