"""Count, mean, std, extremes and percentiles per channel, from partial sums that merge exactly.

Each shard is summed up on its own (`channel_sums`), the sums of all shards are added, and
`ChannelStatistics` follows from the total.

Sums are integers of any size, in units of a power of two, so that adding them loses nothing and
their order does not matter. Those of integer pixels are exact. Floating-point pixels are summed as
differences from the mean of a few thousand neighbours, which keeps the digits of a small spread
around a large mean (Chan, Golub and LeVeque, 1983, doi:10.1080/00031305.1983.10483115).

Percentiles come from a histogram that needs no range beforehand. Integers that span less than 2^20
have a bin for each value, so that they are exact. Other pixels are binned as float32: they share a
bin if they agree in sign, exponent and the first 7 bits of the mantissa, so a bin is at most 0.8 %
wide.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import frexp, ldexp, sqrt
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from napari_patchset._model import Frozen

_MAX_INTEGERS = 2**20
"""Most bins of one integer each; 8 MB while they are counted."""

_SIGN = np.uint32(2**31)


class Histogram(Frozen):
    """The number of pixels in each bin, from the first bin that holds any to the last."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    exact: bool
    """Whether each bin is one integer."""
    first: int
    """The first bin: its integer, otherwise its index among all bins in ascending order."""
    packed: bytes
    """The counts: little-endian, in as few bytes as the largest one needs, compressed by zstd."""

    @classmethod
    def from_integers(cls, pixels: NDArray[Any], lowest: int, highest: int) -> Self:
        """Count integers between two bounds."""
        bins = np.zeros(highest - lowest + 1, np.int64)
        codes = np.empty(min(_COUNTED_PIXELS, pixels.size), np.int64)
        for part in _parts(pixels, _COUNTED_PIXELS):
            of_part = codes[: part.size].reshape(part.shape)
            if part.itemsize > 2:  # the difference is less than `_MAX_INTEGERS`
                of_part[...] = part - part.dtype.type(lowest)
            else:
                of_part[...] = part
                if lowest:
                    of_part -= lowest
            counts = np.bincount(of_part.reshape(-1))
            bins[: len(counts)] += counts
        return cls._from_bins(True, lowest, bins)

    @classmethod
    def from_floats(cls, parts: Iterable[NDArray[Any]]) -> Self:
        """Count numbers by their bins as float32."""
        bins = np.zeros(2**16, np.int64)
        for pixels in parts:
            bins += np.bincount(_float_bins(pixels.reshape(-1)), minlength=len(bins))
        return cls._from_bins(False, 0, bins)

    @classmethod
    def _from_bins(cls, exact: bool, origin: int, bins: NDArray[np.int64]) -> Self:
        filled = np.flatnonzero(bins)
        first, end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        counts = bins[first:end]
        width = np.min_scalar_type(counts.max(initial=0)).newbyteorder("<")
        packed = imagecodecs.zstd_encode(counts.astype(width).tobytes(), level=1)
        packed = bytes([width.itemsize]) + packed
        return cls(exact=exact, first=origin + first, packed=packed)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of pixels in each bin, from `first`."""
        counts = imagecodecs.zstd_decode(self.packed[1:])
        return np.frombuffer(counts, f"<u{self.packed[0]}").astype(np.int64)

    def __add__(self, other: Self) -> "Histogram":
        parts = [(part.first, part.counts) for part in (self, other)]
        origin = min(first for first, _ in parts)
        n_bins = max(first + len(counts) for first, counts in parts) - origin
        exact = self.exact and other.exact and n_bins <= _MAX_INTEGERS
        if not exact and (self.exact or other.exact):
            return self._as_floats() + other._as_floats()
        bins = np.zeros(n_bins, np.int64)
        for first, counts in parts:
            bins[first - origin :][: len(counts)] += counts
        return Histogram._from_bins(exact, origin, bins)

    def _as_floats(self) -> "Histogram":
        """Return the histogram of the same pixels with the bins of floating-point pixels."""
        if not self.exact:
            return self
        counts = self.counts
        values = np.arange(len(counts), dtype=np.uint64 if self.first >= 0 else np.int64)
        bins = np.zeros(2**16, np.int64)
        np.add.at(bins, _float_bins(values + values.dtype.type(self.first)), counts)
        return Histogram._from_bins(False, 0, bins)

    def percentiles(self, percents: Iterable[float]) -> dict[float, float]:
        """Return percentiles as `numpy.percentile` defines them.

        The pixels of a bin that is no single integer count as spread evenly over it. So both
        pixels that a percentile lies between are known to 0.8 %, if their magnitudes lie between
        1.2e-38 and 3.4e38.
        """
        counts = self.counts
        total = counts.cumsum()
        return {q: self._value(q / 100 * (int(total[-1]) - 1), counts, total) for q in percents}

    def _value(self, rank: float, counts: NDArray[np.int64], total: NDArray[np.int64]) -> float:
        """Return the value of a fractional rank, counted from 0."""
        ends = np.array([np.floor(rank), np.ceil(rank)])
        low, high = np.searchsorted(total, ends, side="right").tolist()
        if self.exact:
            return float(self.first + low + (high - low) * (rank % 1))
        values = []  # pixels are spread evenly over their bin
        for each, i in zip(ends if low < high else (rank, rank), (low, high), strict=True):
            lower, upper = _float_edges(self.first + i)
            share = (each + 0.5 - (total[i] - counts[i])) / counts[i]
            values.append(float(lower + (upper - lower) * min(share, 1.0)))
        below, above = values
        return below + (above - below) * (rank % 1)


def _float_bins(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the bin of each number; one too large for float32 is in the last one."""
    if pixels.dtype == np.float64:
        pixels = np.clip(pixels, -_MAX_FLOAT, _MAX_FLOAT)
    bits = pixels.astype(np.float32).view(np.uint32)
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ascending >> np.uint32(16)).astype(np.int64)


def _float_edges(code: int) -> tuple[float, float]:
    """Return the smallest and the largest float32 of a bin."""
    ascending = np.array([code << 16, (code << 16) + 0xFFFF], np.uint32)
    bits = np.where(ascending & _SIGN, ascending & ~_SIGN, ~ascending)
    lower, upper = bits.view(np.float32).tolist()
    # Next to zero, float32 is too coarse for bins of 0.8 %; most of these pixels are zero itself.
    return (0.0, 0.0) if lower == 0 or upper == 0 else (lower, upper)


PERCENTILES = (0.1, 1.0, 2.0, 3.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0, 99.8, 99.9)
"""The percentiles of the manifest, among them those that CSBDeep and StarDist normalize by."""

_PART_PIXELS = 2**16
"""Pixels that are summed up at a time: they fit into the processor's cache."""

_COUNTED_PIXELS = 2**18
"""Pixels that are counted at a time: with fewer, threads that count wait for each other."""

_MAX_FLOAT = float(np.finfo(np.float32).max)

Number = int | float


class ChannelSums(Frozen):
    """Partial sums of one channel, which are added without rounding.

    Pixels that are not finite do not count. `total` is the sum of the pixels in units of 2^-scale,
    `squares` that of their squares in units of 2^(-2 scale); the scale is zero for integers.
    `extremes`, the least and the largest pixel, is None if no pixel counts.
    """

    count: int
    total: int
    squares: int
    scale: int = 0
    extremes: tuple[Number, Number] | None
    histogram: Histogram

    def __add__(self, other: Self) -> "ChannelSums":
        ends = [end for part in (self, other) for end in part.extremes or ()]
        scale = max(self.scale, other.scale)
        total = squares = 0
        for part in (self, other):
            total += part.total << (scale - part.scale)
            squares += part.squares << 2 * (scale - part.scale)
        return ChannelSums(
            count=self.count + other.count,
            total=total,
            squares=squares,
            scale=scale,
            extremes=(min(ends), max(ends)) if ends else None,
            histogram=self.histogram + other.histogram,
        )


class ChannelStatistics(Frozen):
    """Statistics of one channel over every finite pixel of every patch of a split.

    Complex pixels count by their magnitude. Mean and standard deviation of integers are exact, but
    for the rounding of the result.

    Attributes
    ----------
    count : int
        Number of pixels.
    mean, std, minimum, maximum : float
        Zero where there is no pixel; the standard deviation has N in the denominator.
    percentiles : dict of float to float
        By `PERCENTILES`; exact for integers that span less than 2^20, else within 0.8 %: see
        `Histogram.percentiles`.
    """

    count: int
    mean: float
    std: float
    minimum: Number
    maximum: Number
    percentiles: dict[float, float]

    @classmethod
    def from_sums(cls, sums: ChannelSums) -> Self:
        """Derive the statistics from merged sums."""
        if sums.extremes is None:
            return cls(count=0, mean=0.0, std=0.0, minimum=0, maximum=0, percentiles={})
        n, (low, high) = sums.count, sums.extremes
        percentiles = sums.histogram.percentiles(PERCENTILES)
        return cls(
            count=n,
            mean=sums.total / (n << sums.scale),
            # Rounding the pixels' squares may make this negative.
            std=_root(max(n * sums.squares - sums.total**2, 0), n**2 << 2 * sums.scale),
            minimum=low,
            maximum=high,
            percentiles={q: float(min(max(value, low), high)) for q, value in percentiles.items()},
        )


def _root(numerator: int, denominator: int) -> float:
    """Return the square root of a fraction, even if the fraction exceeds the range of floats."""
    shift = (numerator.bit_length() - denominator.bit_length()) // 2
    if abs(shift) < 500:
        return sqrt(numerator / denominator)
    root = sqrt((numerator << max(-2 * shift, 0)) / (denominator << max(2 * shift, 0)))
    return ldexp(root, shift)


def channel_sums(patches: NDArray[Any]) -> list[ChannelSums]:
    """Sum up each channel of patches N, C, (Z), Y, X."""
    sums = _integer_sums if patches.dtype.kind in "bui" else _float_sums
    return [sums(patches[:, c]) for c in range(patches.shape[1])]


def _integer_sums(pixels: NDArray[Any]) -> ChannelSums:
    """Sum up integers without rounding, from their histogram unless they span too many values."""
    if pixels.dtype.kind == "b":
        low, high = 0, 1
    elif pixels.itemsize <= 2:
        low, high = int(np.iinfo(pixels.dtype).min), int(np.iinfo(pixels.dtype).max)
    else:
        low, high = int(pixels.min()), int(pixels.max())
    if high - low >= _MAX_INTEGERS:
        total, squares = _wide_sums(pixels, low)
        return ChannelSums(
            count=pixels.size,
            total=total,
            squares=squares,
            extremes=(low, high),
            histogram=Histogram.from_floats(_parts(pixels, _PART_PIXELS)),
        )
    histogram = Histogram.from_integers(pixels, low, high)
    counts, first = histogram.counts, histogram.first
    above = np.arange(len(counts))
    upper, lower = np.divmod(above**2, 2**16)  # each product below stays under 2**63
    total, squares = int(counts @ above), (int(counts @ upper) << 16) + int(counts @ lower)
    return ChannelSums(
        count=pixels.size,
        total=total + pixels.size * first,
        squares=squares + 2 * first * total + pixels.size * first**2,
        extremes=(first, first + len(counts) - 1) if len(counts) else None,
        histogram=histogram,
    )


def _wide_sums(pixels: NDArray[Any], low: int) -> tuple[int, int]:
    """Sum up integers and their squares without rounding, as digits of 16 bits.

    A part has at most 2^16 pixels, so the sums of its digits' products are exact in float64.
    """
    total = squares = 0
    for part in _parts(pixels, _PART_PIXELS):
        above = part.reshape(-1).astype(np.uint64) - np.uint64(low % 2**64)
        n_digits = -(-int(above.max()).bit_length() // 16)
        digits = [
            ((above >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.float64)
            for i in range(n_digits)
        ]
        t = sum(int(digit.sum()) << 16 * i for i, digit in enumerate(digits))
        # Not BLAS: its threads would fight with those of the export.
        s = sum(
            int(np.einsum("i,i->", a, b)) << 16 * (i + j)
            for i, a in enumerate(digits)
            for j, b in enumerate(digits)
        )
        total += t + part.size * low
        squares += s + 2 * low * t + part.size * low**2
    return total, squares


def _float_sums(pixels: NDArray[Any]) -> ChannelSums:
    count, total, squares, ends = 0, Fraction(), Fraction(), []
    for part in _finite(pixels):
        low, high = float(part.min()), float(part.max())
        count += part.size
        ends += [low, high]
        of_part = _part_sums(part.astype(np.float64), max(abs(low), abs(high)))
        total, squares = total + of_part[0], squares + of_part[1]
    # All denominators are powers of two.
    scale = max(total.denominator.bit_length() - 1, squares.denominator.bit_length() // 2)
    return ChannelSums(
        count=count,
        total=int(total * 2**scale),
        squares=int(squares * 4**scale),
        scale=scale,
        extremes=(min(ends), max(ends)) if ends else None,
        histogram=Histogram.from_floats(_finite(pixels)),
    )


def _part_sums(part: NDArray[np.float64], largest: float) -> tuple[Fraction, Fraction]:
    """Sum up numbers and their squares; only the differences from their mean are rounded."""
    exponent = frexp(largest)[1]
    if abs(exponent) > 400:  # squares would be infinite, or zero
        total, squares = _part_sums(np.ldexp(part, -exponent), 1.0)
        return total * Fraction(2) ** exponent, squares * Fraction(4) ** exponent
    difference = part - part[0]
    middle = difference.sum() / part.size
    difference -= middle
    mean = Fraction(float(part[0])) + Fraction(float(middle))
    rest = Fraction(float(difference.sum()))
    squares = Fraction(float(np.square(difference, out=difference).sum()))
    return part.size * mean + rest, part.size * mean**2 + 2 * mean * rest + squares


def _finite(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the pixels that count, complex ones by their magnitude."""
    for part in _parts(pixels, _PART_PIXELS):
        real = np.abs(part) if part.dtype.kind == "c" else part
        is_finite = np.isfinite(real)
        if is_finite.any():
            yield real[is_finite]


def _parts(pixels: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Cut the patches of one channel into parts of at most `size` pixels, in any shape."""
    together = max(1, size * len(pixels) // max(1, pixels.size))
    for first in range(0, len(pixels), together):
        part = pixels[first : first + together]
        if part.size <= size:
            yield part
        else:  # a single patch
            flat = part.reshape(-1)
            yield from (flat[start : start + size] for start in range(0, flat.size, size))
