"""Count, mean, std, extremes and percentiles per channel, from partial sums that merge exactly.

Each shard is summed up on its own (`channel_sums`), the sums of all shards are added, and
`ChannelStatistics` follows from the total.

Percentiles come from a histogram that needs no range beforehand. Integers of up to 16 bits have a
bin for each value, so that they are exact. Other pixels are binned as float32: they share a bin if
they agree in sign, exponent and the first 7 bits of the mantissa, so a bin is at most 0.8 % wide.
"""

from collections.abc import Iterable, Iterator
from math import sqrt
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from napari_patchset._model import Frozen

_N_BINS = 2**16
_SIGN = np.uint32(2**31)


class Histogram(Frozen):
    """The number of pixels in each bin, from the first bin that holds any to the last.

    Attributes
    ----------
    exact : bool
        Whether each bin is one integer.
    first : int
        The first bin: its integer, otherwise its index among all bins in ascending order.
    packed : bytes
        The counts: little-endian, in as few bytes as the largest one needs, compressed by zstd.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    exact: bool
    first: int
    packed: bytes

    @classmethod
    def count(cls, parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Self:
        """Count finite pixels, in flat parts that are small enough for the processor's cache."""
        exact = is_exact(dtype)
        bins = np.zeros(_N_BINS, np.int64)
        lowest = int(np.iinfo(dtype).min) if exact and dtype.kind != "b" else 0
        for pixels in parts:
            codes = pixels if exact else _float_bins(pixels)
            counts = np.bincount(codes.astype(np.int64) - lowest if lowest else codes)
            bins[: len(counts)] += counts
        return cls._of(exact, lowest, bins)

    @classmethod
    def _of(cls, exact: bool, origin: int, bins: NDArray[np.int64]) -> Self:
        filled = np.flatnonzero(bins)
        first, end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        return cls(exact=exact, first=origin + first, packed=_pack(bins[first:end]))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of pixels in each bin, from `first`."""
        return _unpack(self.packed)

    def __add__(self, other: Self) -> "Histogram":
        parts = [(part.first, part.counts) for part in (self, other)]
        origin = min(first for first, _ in parts)
        bins = np.zeros(max(first + len(counts) for first, counts in parts) - origin, np.int64)
        for first, counts in parts:
            bins[first - origin :][: len(counts)] += counts
        return Histogram._of(self.exact, origin, bins)

    def percentiles(self, percents: Iterable[float]) -> dict[float, float]:
        """Return percentiles as `numpy.percentile` defines them.

        The pixels of a bin that is no single integer count as spread evenly over it.
        """
        counts = self.counts
        total = counts.cumsum()
        return {q: self._value(q / 100 * (int(total[-1]) - 1), counts, total) for q in percents}

    def _value(self, rank: float, counts: NDArray[np.int64], total: NDArray[np.int64]) -> float:
        """Return the value of a fractional rank, counted from 0."""
        low, high = np.searchsorted(total, [np.floor(rank), np.ceil(rank)], side="right").tolist()
        if self.exact:
            return float(self.first + low + (high - low) * (rank % 1))
        lower, upper = _float_edges(self.first + low)
        share = (rank + 0.5 - (total[low] - counts[low])) / counts[low]
        return float(lower + (upper - lower) * min(share, 1.0))


def _pack(counts: NDArray[np.int64]) -> bytes:
    width = np.min_scalar_type(counts.max(initial=0)).newbyteorder("<")
    packed = imagecodecs.zstd_encode(counts.astype(width).tobytes(), level=1)
    return bytes([width.itemsize]) + packed


def _unpack(packed: bytes) -> NDArray[np.int64]:
    counts = imagecodecs.zstd_decode(packed[1:])
    return np.frombuffer(counts, f"<u{packed[0]}").astype(np.int64)


def is_exact(dtype: np.dtype[Any]) -> bool:
    """Return whether each value of a pixel type has a bin of its own."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def _float_bins(pixels: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(over="ignore"):
        bits = pixels.astype(np.float32).view(np.uint32)
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ascending >> np.uint32(16)).astype(np.int64)


def _float_edges(code: int) -> tuple[float, float]:
    """Return the smallest and the largest float32 of a bin."""
    ascending = np.array([code << 16, (code << 16) + 0xFFFF], np.uint32)
    bits = np.where(ascending & _SIGN, ascending & ~_SIGN, ~ascending)
    lower, upper = bits.view(np.float32).tolist()
    return lower, upper


PERCENTILES = (0.1, 1.0, 2.0, 3.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.8, 99.9)
"""The percentiles of the manifest, among them those that CSBDeep and StarDist normalize by."""

_PART_PIXELS = 2**16
"""Pixels that are counted at a time: they fit into the processor's cache."""

_LARGEST = 1e140
"""Double-precision pixels from here on do not count: the sum of their squares is not finite."""

Number = int | float


class ChannelSums(Frozen):
    """Partial sums of one channel: integers of up to 16 bits are summed without rounding.

    Pixels that are not finite do not count; `extremes` is None if no pixel counts.
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
        percentiles = sums.histogram.percentiles(PERCENTILES)
        return cls(
            count=n,
            mean=sums.total / n,
            std=sqrt(max(variance, 0.0)),
            minimum=low,
            maximum=high,
            percentiles={q: float(min(max(value, low), high)) for q, value in percentiles.items()},
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
    """Yield the pixels that count, complex ones by their magnitude."""
    for part in _parts(pixels):
        real = np.abs(part) if part.dtype.kind == "c" else part
        counts = np.isfinite(real)
        if real.itemsize > 4 and real.dtype.kind == "f":
            counts = np.abs(real) < _LARGEST
        if counts.any():
            yield real[counts]


def _parts(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut the patches of one channel into flat runs of pixels."""
    together = max(1, _PART_PIXELS * len(pixels) // max(1, pixels.size))
    for first in range(0, len(pixels), together):
        flat = pixels[first : first + together].reshape(-1)
        for start in range(0, flat.size, _PART_PIXELS):
            yield flat[start : start + _PART_PIXELS]
