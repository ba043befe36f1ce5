"""What the export computes, again by other code, so that an error of one shows in the other.

`Moments` are the statistics of a channel, `PlainResampledStack` has pixels of another size,
`DrawnOutlines` the pixels of annotations, and `DrawnTiles` what the tiles of a mosaic cover.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import isclose, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import EVERY_PLANE, Annotations
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.protocol import BoundedStack, ImageStack

_PERCENTILE_ERROR = 2.0**-7
"""Largest relative error of the pixels that a percentile lies between, see `Histogram`."""

_BAND = 1024
"""Full-resolution rows whose features are looked up together."""

_AT_ONCE = 2**20
"""Pairs of edges and pixels that are compared at once."""

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Moments:
    """The statistics of one channel, computed patch by patch, and compared with the manifest's.

    Each patch is sorted, and count, mean and variance of patches are merged pairwise (Chan, Golub
    and LeVeque). Of a percentile it is counted how many pixels lie on either side.
    """

    def __init__(self, recorded: ChannelStatistics) -> None:
        self._recorded = recorded
        self._count, self._mean, self._squares = 0, np.longdouble(0), np.longdouble(0)
        self._rounding = 0.0
        self._low: Any = None
        self._high: Any = None
        values = np.array(list(recorded.percentiles.values()), float)
        slack = _PERCENTILE_ERROR * np.abs(values) + 1e-37
        self._edges = values - slack, values + slack
        self._below, self._up_to = np.zeros(len(values), int), np.zeros(len(values), int)

    def add(self, patch: NDArray[Any]) -> None:
        """Add the pixels of one patch."""
        pixels = np.abs(patch) if patch.dtype.kind == "c" else patch
        pixels = np.sort(pixels[np.isfinite(pixels)], axis=None)
        if not len(pixels):
            return
        ends = pixels[0].item(), pixels[-1].item()
        self._low = ends[0] if self._low is None else min(self._low, ends[0])
        self._high = ends[1] if self._high is None else max(self._high, ends[1])
        wide: Any = pixels.astype(np.float64 if pixels.itemsize <= 4 else np.longdouble)
        self._rounding = float(np.finfo(wide.dtype).eps)
        mean = np.longdouble(wide.mean())
        squares = np.longdouble(np.square(wide - wide.dtype.type(mean)).sum())
        n, before = len(pixels), self._count
        distance = mean - self._mean
        self._count += n
        self._squares += squares + distance**2 * (before * n / self._count)
        self._mean += distance * (n / self._count)
        low, high = self._edges
        numbers = pixels.astype(np.float64)
        self._below += np.searchsorted(numbers, low, "left")
        self._up_to += np.searchsorted(numbers, high, "right")

    def differences(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each statistic that is wrong, with both values."""
        recorded = self._recorded
        largest = max(abs(self._low), abs(self._high)) if self._count else 0
        computed: dict[str, Any] = {
            "count": self._count,
            "mean": float(self._mean),
            "std": float(np.sqrt(self._squares / max(self._count, 1))),
            "minimum": self._low if self._count else 0,
            "maximum": self._high if self._count else 0,
        }
        for name, value in computed.items():
            has = getattr(recorded, name)
            # The squares of the largest numbers are infinite where long double is double.
            error = largest * (self._rounding if name == "std" else 1e-13)
            is_equal = np.isinf(value) or isclose(has, value, rel_tol=1e-9, abs_tol=error)
            if not (is_equal if name in ("mean", "std") else has == value):
                yield name, f"{value}, the manifest says {has}"
        ranks = np.array(list(recorded.percentiles), float) / 100 * (self._count - 1)
        wrong = (self._below > np.ceil(ranks)) | (self._up_to <= np.floor(ranks))
        for i in np.flatnonzero(wrong).tolist():
            percent, value = list(recorded.percentiles.items())[i]
            yield (
                "percentiles",
                f"{percent} % at {value} by the manifest, but {self._up_to[i]} of {self._count} "
                "pixels are up to that",
            )


class PlainResampledStack(BoundedStack):
    """A source, at its own pixel size, that is resampled patch by patch to that of `info`.

    Pixels are summed up along each axis; what lies between two edges of the made pixels is the
    difference of two such sums. Only floating-point pixels, whose sums depend on their order, are
    added one after the other.
    """

    def __init__(self, source: ImageStack, info: SourceInfo, nearest: bool) -> None:
        level = source
        if not nearest and info.level:
            levels: Sequence[ImageStack] = getattr(source, "levels", ())
            level = levels[info.level]
        self._level, self._nearest = level, nearest
        self.source, self.original_axes = source.source, source.original_axes
        self.original_data_shape = source.original_data_shape
        self.data_dtype = source.data_dtype
        self.data_shape = (*source.data_shape[:-2], *info.spatial_shape[-2:])
        self._extent = tuple(level.data_shape[-2:])
        self._lengths = []
        for n, reduced, ratio in zip(
            source.data_shape[-2:], self._extent, info.ratio or (Fraction(1),) * 2, strict=True
        ):
            factor = round(n / reduced)
            is_whole = n // factor <= reduced <= -(-n // factor)
            scale = Fraction(factor) if is_whole else Fraction(n, reduced)
            self._lengths.append((ratio / scale).limit_denominator(10**6))

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        first, stop = start[-2:], [a + n for a, n in zip(start[-2:], out.shape[-2:], strict=True)]
        axes = list(zip(first, stop, self._lengths, self._extent, strict=True))
        low = [int(a * length) for a, _, length, _ in axes]
        high = [min(n, int(b * length) + 1) for _, b, length, n in axes]
        size = [b - a for a, b in zip(low, high, strict=True)]
        pixels = self._level.extract_patch(
            sample_idx, channels, (*start[:-2], *low), (*out.shape[1:-2], *size)
        )
        if self._nearest:
            half = Fraction(1, 2)
            rows, columns = (
                [min(int((j + half) * length), n - 1) - begin for j in range(a, b)]
                for (a, b, length, n), begin in zip(axes, low, strict=True)
            )
            out[...] = pixels[..., rows, :][..., columns]
            return
        edges, units = [], []
        for (a, b, length, n), begin in zip(axes, low, strict=True):
            unit = _unit(length, np.dtype(self.data_dtype))
            step, per = 2 * length.numerator * unit, 2 * length.denominator
            each = [min((j * step + per // 2) // per, n * unit) for j in range(a, b + 1)]
            edges.append(np.array(each, np.int64) - begin * unit)
            units.append(unit)
        for index in np.ndindex(out.shape[:-2]):
            out[index] = _averages(pixels[index], edges[0], edges[1], units)


def _unit(length: Fraction, dtype: np.dtype[Any]) -> int:
    """Return the units in a pixel: those in which a made pixel is whole, if they are not too many.

    Twice the sum of the weighted pixels must fit into 63 bits.
    """
    bits = 8 * dtype.itemsize if dtype.kind in "biu" and dtype.itemsize < 8 else 16
    longest = -(-length.numerator // length.denominator)
    most: int = 2 ** max(0, min((61 - bits) // 2 - longest.bit_length(), 20))
    return min(length.denominator, most)


def _averages(
    pixels: NDArray[Any], down: Integers, across: Integers, units: Sequence[int]
) -> NDArray[Any]:
    total = np.diff(down)[:, np.newaxis] * np.diff(across)
    if pixels.dtype.kind in "fc":
        return _added_up(pixels, down, across, units, total)
    sums = pixels.astype(object if pixels.dtype.itemsize == 8 else np.int64)
    sums = _between(_between(sums.T, across, units[1]).T, down, units[0])
    averages: NDArray[Any] = ((2 * sums + total) // (2 * total)).astype(pixels.dtype)
    return averages


def _between(pixels: NDArray[Any], edges: Integers, unit: int) -> NDArray[Any]:
    """Return the weighted sum of the rows between each two edges, which are in units."""
    none = np.zeros_like(pixels[:1])
    above = np.concatenate([none, np.cumsum(pixels, axis=0, dtype=pixels.dtype)])
    whole, part = np.divmod(edges, unit)
    up_to = above[whole] * unit + np.concatenate([pixels, none])[whole] * part[:, np.newaxis]
    between: NDArray[Any] = np.diff(up_to, axis=0)
    return between


def _added_up(
    pixels: NDArray[Any], down: Integers, across: Integers, units: Sequence[int], total: Integers
) -> NDArray[Any]:
    """Add up numbers in double precision: first down, then across, from the first to the last."""
    with np.errstate(invalid="ignore", over="ignore"):
        wide = pixels.astype(np.result_type(pixels.dtype, np.float64))
        rows = np.stack([_add(wide, *ends, units[0]) for ends in pairwise(down)])
        sums = np.stack([_add(rows.T, *ends, units[1]) for ends in pairwise(across)]).T
        averages = sums / total
        if pixels.dtype == np.float64:
            for y, x in np.ndindex(averages.shape):
                window = pixels[
                    down[y] // units[0] : -(-down[y + 1] // units[0]),
                    across[x] // units[1] : -(-across[x + 1] // units[1]),
                ]
                averages[y, x] = np.clip(averages[y, x], window.min(), window.max())
        return averages.astype(pixels.dtype)


def _add(rows: NDArray[Any], first: int, end: int, unit: int) -> NDArray[Any]:
    added = np.zeros(rows.shape[1], rows.dtype)
    for row in range(first // unit, -(-end // unit)):
        weight = min(end, (row + 1) * unit) - max(first, row * unit)
        added += rows[row] * float(weight)
    return added


class DrawnOutlines:
    """The annotations of one source, drawn pixel by pixel: each counts the edges to its left."""

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


class DrawnTiles:
    """The tiles of a mosaic."""

    def __init__(self, source: SourceInfo) -> None:
        self._plane_shape = source.spatial_shape[-2:]
        covered = [source.covered or (), *(group.covered for group in source.partial_planes)]
        self._rects = [np.array(rects, np.int64).reshape(-1, 4) for rects in covered]
        self._groups: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for i, group in enumerate(source.partial_planes, 1):
            for sample, _, depth in group.planes:
                self._groups[sample, depth].add(i)

    def share(self, sample: int, start: Sequence[int], size: Sequence[int]) -> float:
        """Return the share of a patch that tiles cover, in the plane of which they cover least."""
        depths = range(start[0], start[0] + size[0]) if len(start) == 3 else range(1)
        groups = {0}.union(*(self._groups.get((sample, depth), ()) for depth in depths))
        (height, width), (y, x) = self._plane_shape, start[-2:]
        shares = []
        for rects in (self._rects[i] for i in groups):
            plane = np.zeros((min(size[-2], height - y), min(size[-1], width - x)), bool)
            boxes = rects - (x, y, 0, 0)
            for left, top, w, h in boxes[(boxes[:, :2] + boxes[:, 2:] > 0).all(axis=1)].tolist():
                plane[max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)] = True
            shares.append(float(plane.mean()))
        return min(shares)
