"""The average of pixels over intervals of any length, in whole numbers.

Weights are whole numbers, in units of a fraction of a pixel in which the length of an interval is
exact if it can be. Integers are summed as integers and rounded half up: the same bytes on every
machine. Floating-point pixels are summed in one order, first along Y and then along X, in double
precision.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_SUM_BITS = 61
"""Bits of the largest sum of weighted pixels, so that its double fits into int64."""

_ROWS = 32
"""Made rows that are averaged at once."""

_MAX_UNIT_BITS = 20
"""A pixel is divided into at most 2**20 units of weight."""


class Taps(NamedTuple):
    """The weighted pixels that are summed along one axis for each made pixel."""

    first: Integers
    """The first pixel of each."""
    weights: Integers
    """Of shape (taps, made): weight of the first, second, ... pixel of each; zero where there are
    fewer."""
    step: int | None
    """The distance between the first pixels if every weight is one."""

    def part(self, start: int, stop: int) -> "Taps":
        """Return the taps of some of the made pixels."""
        return Taps(self.first[start:stop], self.weights[:, start:stop], self.step)

    @property
    def total(self) -> Integers:
        """The sum of the weights of each made pixel."""
        total: Integers = self.weights.sum(axis=0)
        return total


class AveragedAxis(NamedTuple):
    """One axis of an image whose pixels are averaged."""

    ratio: Fraction
    """The length of an interval, a made pixel, in pixels."""
    n: int
    """Number of pixels."""
    unit: int
    """Units of weight in a pixel."""

    @classmethod
    def for_type(cls, ratio: Fraction, n: int, dtype: np.dtype[Any]) -> Self:
        """Return an axis with as many units as sums of pixels of a type can't overflow with."""
        bits = 8 * dtype.itemsize if dtype.kind in "biu" and dtype.itemsize < 8 else 16
        free = (_SUM_BITS - bits) // 2 - ceil(ratio).bit_length()
        largest = 2 ** max(0, min(free, _MAX_UNIT_BITS))
        return cls(ratio, n, min(ratio.denominator, largest))

    def centres(self, start: int, stop: int) -> Integers:
        """Return the pixel at the centre of each made pixel of a range."""
        made = np.arange(start, stop, dtype=np.int64)
        centres = (2 * made + 1) * self.ratio.numerator // (2 * self.ratio.denominator)
        nearest: Integers = np.minimum(centres, self.n - 1)
        return nearest

    def taps(self, start: int, stop: int, first: int) -> Taps:
        """Return the taps of a range of made pixels, counted from the pixel `first`."""
        taps = _taps(self, start, stop)
        return taps._replace(first=taps.first - first)


@lru_cache(maxsize=64)
def _taps(axis: AveragedAxis, start: int, stop: int) -> Taps:
    ratio, n, unit = axis
    made = np.arange(start, stop + 1, dtype=np.int64)
    whole, part = np.divmod(made * ratio.numerator, ratio.denominator)
    edges = whole * unit + (2 * part * unit + ratio.denominator) // (2 * ratio.denominator)
    edges = np.minimum(edges, n * unit)
    first = edges[:-1] // unit
    count = int(((edges[1:] - 1) // unit - first).max()) + 1
    left = first * unit + np.arange(count)[:, np.newaxis] * unit
    weights = np.minimum(edges[1:], left + unit) - np.maximum(edges[:-1], left)
    weights = np.maximum(weights, 0)
    is_whole = ratio.denominator == 1 and bool((weights == 1).all())
    return Taps(first, weights, int(ratio) if is_whole else None)


def area_average(pixels: NDArray[Any], down: Taps, across: Taps) -> NDArray[Any]:
    """Average pixels, YX, over the intervals of two axes; the result is of the same type."""
    if pixels.dtype.kind == "b":
        return area_average(pixels.view(np.uint8), down, across).astype(bool)
    if len(down.first) > _ROWS:  # few at a time stay in the processor's cache
        firsts = range(0, len(down.first), _ROWS)
        bands = [area_average(pixels, down.part(i, i + _ROWS), across) for i in firsts]
        return np.concatenate(bands)
    total = down.total[:, np.newaxis] * across.total
    if pixels.dtype.kind in "iu":
        sums = _sums(pixels, down, across, _sum_type(pixels.dtype, int(total.max())))
        return _divided(sums, total).astype(pixels.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.result_type(pixels.dtype, np.float64)
        means = _sums(pixels, down, across, wide) / total
        if wide == pixels.dtype == np.float64:  # its sums are rounded, and a constant stays
            low, high = _extremes(pixels, down, across)
            means = np.clip(means, low, high)
        averaged: NDArray[Any] = means.astype(pixels.dtype)
        return averaged


def _sum_type(dtype: np.dtype[Any], total: int) -> np.dtype[Any]:
    """Return the smallest type that holds the double of every sum; Python's integers are last."""
    bits = 8 * dtype.itemsize + total.bit_length() + 1
    if dtype.itemsize == 8:
        return np.dtype(object)
    return np.dtype(np.int32 if bits < 32 else np.int64)


def _sums(pixels: NDArray[Any], down: Taps, across: Taps, dtype: np.dtype[Any]) -> NDArray[Any]:
    rows = np.zeros((len(down.first), pixels.shape[1]), dtype)
    for made, index, weight in _terms(down):
        few = pixels[index].astype(dtype)
        rows[made] += few if weight is None else few * weight[:, np.newaxis]
    sums = np.zeros((len(rows), len(across.first)), dtype)
    for made, index, weight in _terms(across):
        sums[:, made] += rows[:, index] if weight is None else rows[:, index] * weight
    return sums


def _extremes(pixels: NDArray[Any], down: Taps, across: Taps) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the largest pixel that each made pixel averages."""
    extremes = []
    for extreme, start in ((np.fmin, np.inf), (np.fmax, -np.inf)):
        rows = np.full((len(down.first), pixels.shape[1]), start)
        for made, index, _ in _terms(down):
            rows[made] = extreme(rows[made], pixels[index])
        ends = np.full((len(rows), len(across.first)), start)
        for made, index, _ in _terms(across):
            ends[:, made] = extreme(ends[:, made], rows[:, index])
        extremes.append(ends)
    return extremes[0], extremes[1]


def _terms(taps: Taps) -> Iterator[tuple[slice | Integers, slice | Integers, Integers | None]]:
    """Yield the made pixels that have a first, second, ... tap, its pixels, and its weights."""
    n = len(taps.first)
    for tap, weights in enumerate(taps.weights):
        if taps.step is not None:
            first = int(taps.first[0]) + tap
            yield slice(None), slice(first, first + (n - 1) * taps.step + 1, taps.step), None
            continue
        has = np.flatnonzero(weights)
        if len(has) == n:
            yield slice(None), taps.first + tap, weights
        else:
            yield has, taps.first[has] + tap, weights[has]


def _divided(sums: NDArray[Any], total: Integers) -> NDArray[Any]:
    """Divide sums, rounding half up."""
    first = int(total.flat[0])
    if (total == first).all():
        if first & (first - 1) == 0 and sums.dtype != object:
            shift = first.bit_length() - 1
            return sums if first == 1 else (sums + first // 2) >> shift
        total = np.asarray(first)
    half_up: NDArray[Any] = (2 * sums + total) // (2 * total)
    return half_up
