"""The metrics that filters look at, one class each."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.base import Metric, PatchFilter, Pixels


class Max(PatchFilter):
    """Look at the largest pixel."""

    kind: Literal["max"] = "max"

    def _measure(self, rows: Pixels) -> Pixels:
        found: Pixels = rows.max(axis=1)
        return found


class Mean(PatchFilter):
    """Look at the mean."""

    kind: Literal["mean"] = "mean"

    def _measure(self, rows: Pixels) -> Pixels:
        found: Pixels = rows.astype(np.float64).mean(axis=1)
        return found


class Std(PatchFilter):
    """Look at the standard deviation, with N in the denominator."""

    kind: Literal["std"] = "std"

    def _measure(self, rows: Pixels) -> Pixels:
        found: Pixels = rows.astype(np.float64).std(axis=1)
        return found


class Shannon(PatchFilter):
    """Look at the Shannon entropy of the grey values, in bits.

    Parameters
    ----------
    bins : int or None
        Number of bins of equal width; None, for integers only, for one bin a grey value, which is
        scikit-image's `shannon_entropy` and the one that CAREamics filters by.
    low, high : float or None
        The range of the bins; what lies beyond counts in the first or last one. None for the
        range of the pixel type, which only integers have.
    """

    kind: Literal["shannon"] = "shannon"
    bins: int | None = Field(default=None, ge=2)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low is None and self.high is None:
            return self
        if self.bins is None or self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("shannon needs bins, low and high, low below high, for a range")
        return self

    def _measure(self, rows: Pixels) -> Pixels:
        binned = np.sort(self._binned(rows), axis=1)
        begins = np.ones(binned.shape, bool)
        np.not_equal(binned[:, 1:], binned[:, :-1], out=begins[:, 1:])
        at = np.flatnonzero(begins)
        counts = np.diff(at, append=begins.size)
        n = binned.shape[1]
        information = np.bincount(at // n, counts * np.log2(counts), minlength=len(rows))
        found: Metric = np.log2(n) - information / n
        return found

    def _binned(self, rows: Pixels) -> Pixels:
        if self.low is None or self.high is None:
            low, high = _range(rows.dtype, "shannon(bins=256,low=0,high=1)>2")
        else:
            low, high = self.low, self.high
        if self.bins is None:
            return rows
        index = (rows.astype(np.float64) - low) * (self.bins / (high - low))
        return np.clip(index, 0, self.bins - 1).astype(np.int32)


class Saturation(PatchFilter):
    """Look at the share of pixels, 0 to 1, that are at a level or above.

    Parameters
    ----------
    level : float or None
        The grey value; None for the largest one of the pixel type, which only integers have. A
        camera of 12 bits saturates at 4095.
    """

    kind: Literal["saturation"] = "saturation"
    level: float | None = Field(default=None, allow_inf_nan=False)

    def _measure(self, rows: Pixels) -> Pixels:
        level = self.level
        if level is None:
            _, level = _range(rows.dtype, "saturation(level=1)<0.01")
        return _share(rows >= level)


class Mask(PatchFilter):
    """Look at the share of pixels, 0 to 1, in which the mask of the source is not zero."""

    kind: Literal["mask"] = "mask"

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if self.channels is not None or self.match != "any":
            raise ValueError("mask looks at the one channel of the mask; leave channels out")
        return self

    def _measure(self, rows: Pixels) -> Pixels:
        return _share(rows != 0)

    def columns(self, channels: Sequence[str]) -> dict[int, str]:  # noqa: D102, on PatchFilter
        return {0: self.column("mask")}

    def column(self, channel: str) -> str:  # noqa: D102, on PatchFilter
        return "mask"


def _share(holds: NDArray[np.bool_]) -> Metric:
    share: Metric = holds.mean(axis=1)
    return share


def _range(dtype: np.dtype[Any], example: str) -> tuple[float, float]:
    """Give the range of a pixel type; only integers have one."""
    if dtype.kind not in "iu":
        raise ArgumentError(f"{dtype} has no range of grey values; give it, as in {example}.")
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)
