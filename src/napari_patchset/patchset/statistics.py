"""Count, mean, std, minimum and maximum per channel, from partial sums that merge exactly."""

from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.model import Frozen

_EXACT_PIXELS = 2**20
"""A float64 holds the sum of this many squares of 16-bit integers without rounding."""


class ChannelSums(Frozen):
    """Partial sums of one channel: integers of up to 16 bits are summed without rounding."""

    count: int
    total: int | float
    squares: int | float
    minimum: int | float
    maximum: int | float

    def __add__(self, other: Self) -> "ChannelSums":
        return ChannelSums(
            count=self.count + other.count,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        """Mean of all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation of all pixels, with N in the denominator."""
        variance = (self.count * self.squares - self.total**2) / self.count**2
        return sqrt(max(variance, 0.0))


class ChannelStatistics(Frozen):
    """Statistics of one channel over every pixel of every patch of a split."""

    count: int
    mean: float
    std: float
    minimum: int | float
    maximum: int | float

    @classmethod
    def of(cls, sums: ChannelSums) -> Self:
        """Derive the statistics from merged sums."""
        return cls(
            count=sums.count,
            mean=sums.mean,
            std=sums.std,
            minimum=sums.minimum,
            maximum=sums.maximum,
        )


def channel_sums(patches: NDArray[Any]) -> list[ChannelSums]:
    """Sum up each channel of patches N, C, (Z), Y, X."""
    return [_sums(patches[:, c]) for c in range(patches.shape[1])]


def _sums(pixels: NDArray[Any]) -> ChannelSums:
    whole = pixels.dtype.kind in "bui"
    total: int | float = 0
    squares: int | float = 0
    for patch in pixels:
        flat = patch.ravel()
        for first in range(0, flat.size, _EXACT_PIXELS):
            part = flat[first : first + _EXACT_PIXELS].astype(np.float64)
            # Not BLAS: its threads would fight with those of the export.
            part_total, part_squares = float(part.sum()), float(np.einsum("i,i->", part, part))
            total += int(part_total) if whole else part_total
            squares += int(part_squares) if whole else part_squares
    minimum, maximum = pixels.min().item(), pixels.max().item()
    return ChannelSums(
        count=pixels.size, total=total, squares=squares, minimum=minimum, maximum=maximum
    )
