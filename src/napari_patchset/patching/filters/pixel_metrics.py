"""Metrics of the pixels of patches: contrast, sharpness, entropy and others, one number for each.

Each function takes patches of one channel, (N, (Z), Y, X), and returns N numbers; that of a patch
depends on no other patch. Mean and spread are exact to the last digits whatever the pixel type,
also where a small spread lies around a large mean.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError

Pixels = NDArray[Any]
Metric = NDArray[np.float64]

_PIXELS_AT_ONCE = 2**17
"""Pixels that are measured at once: a megabyte as float64, which fits into the CPU's cache."""


def measure_in_parts(measure: Callable[[Pixels], Pixels], patches: Pixels) -> Metric:
    """Measure patches of any pixel type, a few at once; -inf is for one with NaN or infinity.

    `measure` gets finite real pixels: complex ones are replaced by their magnitude.
    """
    # The order in which a contiguous row is summed does not depend on its neighbours.
    patches = np.ascontiguousarray(patches)
    metric = np.full(len(patches), -np.inf)
    step = max(1, _PIXELS_AT_ONCE // prod(patches.shape[1:]))
    for first in range(0, len(patches), step):
        few = patches[first : first + step]
        few = np.abs(few) if few.dtype.kind == "c" else few
        rows = np.arange(first, first + len(few))
        if few.dtype.kind == "f" and not (finite := np.isfinite(_rows(few)).all(axis=1)).all():
            few, rows = few[finite], rows[finite]
        if len(few):
            metric[rows] = measure(few)
    return metric


def maxima(patches: Pixels) -> Pixels:
    """Return the largest pixel of each patch, of the same type."""
    largest: Pixels = _rows(patches).max(axis=1)
    return largest


def means(patches: Pixels) -> Metric:
    """Return the mean of each patch."""
    offset, wide, exponent = _widen(_rows(patches))
    mean: Metric = np.ldexp(offset + wide.mean(axis=1), exponent)
    return mean


def standard_deviations(patches: Pixels) -> Metric:
    """Return the standard deviation of each patch, with N in the denominator."""
    _, wide, exponent = _widen(_rows(patches))
    std: Metric = np.ldexp(wide.std(axis=1), exponent)
    return std


def sharpness(patches: Pixels) -> Metric:
    """Return the variance of the Laplacian along Y and X over the squared mean, see `FocusFilter`.

    It is 0 without a pixel that has four neighbours, and -inf where only the mean is 0.
    """
    # Neither the offset nor the unit of a row matters: the one drops out, the other cancels.
    offset, wide, _ = _widen(_rows(patches))
    mean = offset + wide.mean(axis=1)
    planes = wide.reshape(patches.shape)
    laplacian = planes[..., :-2, 1:-1] + planes[..., 2:, 1:-1]
    laplacian += planes[..., 1:-1, :-2] + planes[..., 1:-1, 2:]
    laplacian -= 4 * planes[..., 1:-1, 1:-1]
    if not laplacian.size:
        return np.zeros(len(patches))
    spread: Metric = _rows(laplacian).std(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        focus: Metric = np.square(spread / mean)
    focus[spread == 0] = 0
    focus[~np.isfinite(focus)] = -np.inf
    return focus


def entropy(patches: Pixels) -> Metric:
    """Return the Shannon entropy, in bits, of the values in each patch."""
    values = np.sort(_rows(patches), axis=1)
    is_first = np.ones(values.shape, bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=is_first[:, 1:])
    firsts = np.flatnonzero(is_first)
    counts = np.diff(firsts, append=is_first.size)
    # The entropy of counts c of n pixels: log2(n) - sum(c log2(c)) / n.
    n = values.shape[1]
    sums = np.bincount(firsts // n, counts * np.log2(counts), minlength=len(values))
    bits: Metric = np.log2(n) - sums / n
    return bits


def binned(patches: Pixels, bins: int, low: float, high: float) -> NDArray[np.int32]:
    """Return the bin of each pixel; those below `low` or above `high` are in the outer bins."""
    index = (patches.astype(np.float64) - low) * (bins / (high - low))
    return np.clip(index, 0, bins - 1).astype(np.int32)


def shares(passes: NDArray[np.bool_]) -> Metric:
    """Return the share of pixels, 0 to 1, that are true in each patch."""
    share: Metric = _rows(passes).mean(axis=1)
    return share


def grey_range(dtype: np.dtype[Any], example: str) -> tuple[int, int]:
    """Return the range of a pixel type; raise ArgumentError for a float, which has none.

    `example` shows a filter that states it.
    """
    if dtype.kind not in "iu":
        raise ArgumentError(f"{dtype} has no range of grey values; set it, as in {example}.")
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _rows(patches: Pixels) -> Pixels:
    """Return each patch as one row of pixels."""
    return patches.reshape(len(patches), -1)


def _widen(rows: Pixels) -> tuple[Metric, Pixels, NDArray[np.int32]]:
    """Return an offset for each row, and how much each of its pixels differs from that.

    Both are in units of 2 to the power of an exponent for each row, so that no square is infinite
    or zero. Integers below 64 bits, whose sums are exact in double precision, stay as they are.
    Other pixels are differences from the first one, which keep the digits of a small spread around
    a large mean.
    """
    exponent = np.zeros(len(rows), np.int32)
    if rows.dtype.kind in "bui" and rows.itemsize < 8:
        return np.zeros(len(rows)), rows.astype(np.float64), exponent
    if rows.dtype.kind in "ui":
        high, low = (rows >> 32).astype(np.int64), (rows & 0xFFFFFFFF).astype(np.int64)
        difference = (high - high[:, :1]) * 2.0**32 + (low - low[:, :1])
        return rows[:, 0].astype(np.float64), difference, exponent
    wide = rows.astype(np.float64)
    largest = np.frexp(np.abs(wide).max(axis=1))[1]
    if (np.abs(largest) > 400).any():
        exponent = largest
        wide = np.ldexp(wide, -exponent[:, np.newaxis])
    return wide[:, 0], wide - wide[:, :1], exponent
