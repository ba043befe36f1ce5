"""Count, mean, std, extremes and percentiles per channel, from partial sums that merge exactly."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.model import Frozen
from napari_patchset.patchset.histogram import Histogram, is_exact

PERCENTILES = (0.1, 1.0, 2.0, 3.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.8, 99.9)
"""The percentiles that are kept; among them the ones that CSBDeep and StarDist normalize by."""

_AT_ONCE = 2**16
"""Pixels that are counted at once, while they lie in the processor's cache."""

_LARGEST = 1e140
"""Pixels of double precision from here on do not count: their squares have no finite sum."""

Number = int | float


class ChannelSums(Frozen):
    """Partial sums of one channel: integers of up to 16 bits are summed without rounding.

    Pixels that are not finite do not count; `extremes` is None where none is left.
    """

    count: int
    total: Number
    squares: Number
    extremes: tuple[Number, Number] | None
    histogram: Histogram

    def __add__(self, other: Self) -> "ChannelSums":
        ends = [end for part in (self, other) for end in part.extremes or ()]
        return ChannelSums(
            count=self.count + other.count,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            extremes=(min(ends), max(ends)) if ends else None,
            histogram=self.histogram + other.histogram,
        )


class ChannelStatistics(Frozen):
    """Statistics of one channel over every finite pixel of every patch of a split.

    Complex pixels count by their magnitude; those of 1e140 or more do not.

    Attributes
    ----------
    count : int
        Number of pixels.
    mean, std, minimum, maximum : float
        Zero where there is no pixel; the standard deviation has N in the denominator.
    percentiles : dict of float to float
        By `PERCENTILES`; exact for integers of up to 16 bits, else within 0.8 %: see `Histogram`.
    """

    count: int
    mean: float
    std: float
    minimum: Number
    maximum: Number
    percentiles: dict[float, float]

    @classmethod
    def of(cls, sums: ChannelSums) -> Self:
        """Derive the statistics from merged sums."""
        if sums.extremes is None:
            return cls(count=0, mean=0.0, std=0.0, minimum=0, maximum=0, percentiles={})
        n, (low, high) = sums.count, sums.extremes
        variance = (n * sums.squares - sums.total**2) / n**2
        found = sums.histogram.percentiles(PERCENTILES)
        return cls(
            count=n,
            mean=sums.total / n,
            std=sqrt(max(variance, 0.0)),
            minimum=low,
            maximum=high,
            percentiles={q: float(min(max(value, low), high)) for q, value in found.items()},
        )


def channel_sums(patches: NDArray[Any]) -> list[ChannelSums]:
    """Sum up each channel of patches N, C, (Z), Y, X."""
    sums = _exact_sums if is_exact(patches.dtype) else _float_sums
    return [sums(patches[:, c]) for c in range(patches.shape[1])]


def _exact_sums(pixels: NDArray[Any]) -> ChannelSums:
    """Derive the sums from the histogram: one pass, and no rounding."""
    histogram = Histogram.count(_parts(pixels), pixels.dtype)
    counts = histogram.counts
    values = np.arange(histogram.first, histogram.first + len(counts))
    high, low = np.divmod(values**2, 2**16)  # each product below stays under 2**63
    return ChannelSums(
        count=int(counts.sum()),
        total=int(counts @ values),
        squares=(int(counts @ high) << 16) + int(counts @ low),
        extremes=(int(values[0]), int(values[-1])) if len(values) else None,
        histogram=histogram,
    )


def _float_sums(pixels: NDArray[Any]) -> ChannelSums:
    count, total, squares, ends = 0, 0.0, 0.0, []
    for part in _finite(pixels):
        wide = part.astype(np.float64)
        count += part.size
        total += float(wide.sum())
        # Not BLAS: its threads would fight with those of the export.
        squares += float(np.einsum("i,i->", wide, wide))
        ends += [part.min().item(), part.max().item()]
    return ChannelSums(
        count=count,
        total=total,
        squares=squares,
        extremes=(min(ends), max(ends)) if ends else None,
        histogram=Histogram.count(_finite(pixels), pixels.dtype),
    )


def _finite(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Give the pixels that count, the magnitude of complex ones."""
    for part in _parts(pixels):
        real = np.abs(part) if part.dtype.kind == "c" else part
        counts = np.isfinite(real)
        if real.itemsize > 4 and real.dtype.kind == "f":
            counts = np.abs(real) < _LARGEST
        if counts.any():
            yield real[counts]


def _parts(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut the patches of one channel into flat runs of pixels."""
    together = max(1, _AT_ONCE * len(pixels) // max(1, pixels.size))
    for first in range(0, len(pixels), together):
        flat = pixels[first : first + together].reshape(-1)
        for start in range(0, flat.size, _AT_ONCE):
            yield flat[start : start + _AT_ONCE]
