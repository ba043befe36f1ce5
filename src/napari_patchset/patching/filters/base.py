"""What all filters share: limits, channels, columns, and the line of text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset.model import Frozen
from napari_patchset.patching.filters.limits import Limit
from napari_patchset.patching.filters.text import format_filter, format_metric
from napari_patchset.source import ChannelId, channel_indices

AT_ONCE = 2**17
"""Pixels that are measured at once: a megabyte as float64, which stays in the cache."""

Pixels = NDArray[Any]
Metric = NDArray[np.float64]


class PatchFilter(Frozen, ABC):
    """Keep a patch whose metric lies above, below, or between limits.

    `str(filter)` is the text that `parse_filter` reads.

    Parameters
    ----------
    above, below : float, "pNN", "otsu" or None
        The metric must be greater, or less, than that; at least one is given.
    channels : tuple of int or str, or None
        The channels that are looked at; None for all.
    match : {"any", "all"}
        Whether one of the channels, or each of them, must pass.
    """

    kind: str
    above: Limit | None = None
    below: Limit | None = None
    channels: tuple[ChannelId, ...] | None = Field(default=None, min_length=1)
    match: Literal["any", "all"] = "any"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("a filter needs a limit, above or below")
        return self

    def measure(self, patches: Pixels) -> Metric:
        """Measure one channel of patches, each for itself and to the last bit the same.

        Parameters
        ----------
        patches : ndarray, (N, (Z), Y, X)
            Pixels in native dtype, without padding; of complex ones the magnitude is measured.

        Returns
        -------
        ndarray
            float64, (N,); -inf, which passes no filter, for a patch that holds NaN or infinity.
        """
        # Rows without gaps are summed in an order that does not depend on their neighbours.
        rows = np.ascontiguousarray(patches.reshape(len(patches), prod(patches.shape[1:])))
        found = np.empty(len(rows))
        step = max(1, AT_ONCE // rows.shape[1])
        for first in range(0, len(rows), step):
            few = slice(first, first + step)
            found[few] = self._measure_finite(rows[few])
        return found

    def _measure_finite(self, rows: Pixels) -> Metric:
        rows = np.abs(rows) if rows.dtype.kind == "c" else rows
        if rows.dtype.kind != "f" or (finite := np.isfinite(rows).all(axis=1)).all():
            return self._measure(rows).astype(np.float64)
        found = np.full(len(rows), -np.inf)
        found[finite] = self._measure(rows[finite])
        return found

    @abstractmethod
    def _measure(self, rows: Pixels) -> Pixels:
        """Measure patches that are one row of pixels each, (N, pixels): (N,)."""

    def column(self, channel: str) -> str:
        """Name the column that holds the metric of a channel: "std_DAPI"."""
        return f"{self._metric}_{channel}"

    def columns(self, channels: Sequence[str]) -> dict[int, str]:
        """Name the column of each channel that is looked at, by the channel's index.

        Parameters
        ----------
        channels : sequence of str
            The names of all channels; one that occurs twice is told apart by its index.

        Raises
        ------
        ArgumentError
            If there is no such channel.
        """
        unique = [n if channels.count(n) == 1 else f"{n} {i}" for i, n in enumerate(channels)]
        return {i: self.column(unique[i]) for i in channel_indices(channels, self.channels)}

    @property
    def _metric(self) -> str:
        own = self.model_dump(exclude=set(PatchFilter.model_fields), exclude_none=True)
        return format_metric(self.kind, own)

    def __str__(self) -> str:
        return format_filter(self._metric, self.channels, self.match, self.above, self.below)
