"""Resample a patch again, with other code than the export's.

Pixels are summed up along each axis, and what lies between two edges of the made pixels is the
difference of two such sums. Only floating-point pixels, whose sums depend on their order, are added
one after the other. An error of the export so shows in `verify`.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import SourceInfo
from napari_patchset.stacks.protocol import BoundedStack, ImageStack

Integers = NDArray[np.int64]


class PlainResampledStack(BoundedStack):
    """A source that is resampled patch by patch.

    Parameters
    ----------
    source : ImageStack
        The source at its own pixel size.
    info : SourceInfo
        Describes the resampled source.
    nearest : bool
        Whether to take the pixel at the centre.
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
