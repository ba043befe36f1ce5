"""A histogram that needs no range beforehand: parts of it merge exactly.

Integers of up to 16 bits have a bin for each value, so that percentiles are exact. Other pixels
are looked at as float32 and share a bin if they agree in sign, exponent and the first 7 bits of
the mantissa: a bin is at most 0.8 % wide.
"""

from collections.abc import Iterable
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from napari_patchset.model import Frozen

_N_BINS = 2**16
_SIGN = np.uint32(2**31)


class Histogram(Frozen):
    """The number of pixels in each bin, from the first bin that holds any to the last.

    Attributes
    ----------
    exact : bool
        Whether each bin is one integer.
    first : int
        The first bin: its integer, else its place among all bins in ascending order.
    packed : bytes
        The counts: in as few bytes as the greatest one takes, little-endian, then zstd.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    exact: bool
    first: int
    packed: bytes

    @classmethod
    def count(cls, parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Self:
        """Count finite pixels, handed over in flat parts small enough for the cache."""
        exact = is_exact(dtype)
        bins = np.zeros(_N_BINS, np.int64)
        lowest = int(np.iinfo(dtype).min) if exact and dtype.kind != "b" else 0
        for pixels in parts:
            codes = pixels if exact else _float_bins(pixels)
            found = np.bincount(codes.astype(np.int64) - lowest if lowest else codes)
            bins[: len(found)] += found
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

    def percentiles(self, wanted: Iterable[float]) -> dict[float, float]:
        """Give the values below which so many percent of the pixels lie, as `numpy.percentile`.

        Where a bin is no single integer, its pixels count as spread evenly over it.
        """
        counts = self.counts
        until = counts.cumsum()
        return {q: self._at(q / 100 * (int(until[-1]) - 1), counts, until) for q in wanted}

    def _at(self, rank: float, counts: NDArray[np.int64], until: NDArray[np.int64]) -> float:
        low, high = np.searchsorted(until, [np.floor(rank), np.ceil(rank)], side="right").tolist()
        if self.exact:
            return float(self.first + low + (high - low) * (rank % 1))
        lower, upper = _float_edges(self.first + low)
        share = (rank + 0.5 - (until[low] - counts[low])) / counts[low]
        return float(lower + (upper - lower) * min(share, 1.0))


def _pack(counts: NDArray[np.int64]) -> bytes:
    width = np.min_scalar_type(counts.max(initial=0)).newbyteorder("<")
    packed = imagecodecs.zstd_encode(counts.astype(width).tobytes(), level=1)
    return bytes([width.itemsize]) + packed


def _unpack(packed: bytes) -> NDArray[np.int64]:
    counts = imagecodecs.zstd_decode(packed[1:])
    return np.frombuffer(counts, f"<u{packed[0]}").astype(np.int64)


def is_exact(dtype: np.dtype[Any]) -> bool:
    """Whether each value of a pixel type has a bin of its own."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def _float_bins(pixels: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(over="ignore"):
        bits = pixels.astype(np.float32).view(np.uint32)
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ascending >> np.uint32(16)).astype(np.int64)


def _float_edges(code: int) -> tuple[float, float]:
    """Give the least and the greatest float32 of a bin."""
    ascending = np.array([code << 16, (code << 16) + 0xFFFF], np.uint32)
    bits = np.where(ascending & _SIGN, ascending & ~_SIGN, ~ascending)
    lower, upper = bits.view(np.float32).tolist()
    return lower, upper
