"""The metric of each filter over the candidates of the scene on the screen; needs no window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.filters.patch_filters import MaskFilter, PatchFilter, ShareFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Verdicts, passes_filter, resolve_limit
from napari_patchset.source import SourceInfo

MARKS = ("p10", "otsu")
"""The limits that each histogram marks."""

_BINS = 64
_TAIL = 99.5
"""Percentile beyond which a few values do not widen the histogram much."""


@dataclass(frozen=True, eq=False)
class MetricHistogram:
    """The metric of one filter.

    Attributes
    ----------
    channels : tuple of str
        The channels that are measured, "" for a metric of none.
    counts : tuple of int64 array
        The number of candidates in each bin, for each channel.
    rejected : tuple of int64 array
        How many of these this filter rejects: of several channels, others count as well.
    low, high : float
        The range of the bins; values beyond count in the last one.
    highest : float
        The greatest value.
    positions : dict of str to tuple of float
        The number that each limit with a name is for each channel: `MARKS`, and those of the
        filter; over all candidates, as in the export.
    n_rejected, n_measured : int
        Candidates of the scene that do not pass this filter, and those that are measured.
    n : int
        The candidates of the scene.
    """

    channels: tuple[str, ...]
    counts: tuple[NDArray[np.int64], ...]
    rejected: tuple[NDArray[np.int64], ...]
    low: float
    high: float
    highest: float
    positions: Mapping[str, tuple[float, ...]]
    n_rejected: int
    n_measured: int
    n: int

    @property
    def is_flat(self) -> bool:
        """Whether all values are the same, so that no limit parts them."""
        return not self.low < self.high

    @property
    def summary(self) -> str:
        """How many candidates are rejected, in two lines."""
        so_far = "" if self.n_measured == self.n else "…"
        return f"rejects {self.n_rejected:,}\nof {self.n_measured:,}{so_far}"

    def places(self, limit: float | str) -> tuple[float, ...]:
        """Return where a limit lies for each channel, or for all, from 0 to 1 within the range."""
        numbers = self.positions.get(limit, ()) if isinstance(limit, str) else (float(limit),)
        known = [number for number in numbers if np.isfinite(number)]
        if self.is_flat:
            return ()
        return tuple(min(1.0, max(0.0, (v - self.low) / (self.high - self.low))) for v in known)

    def value_at(self, place: float) -> float:
        """Return the number at a place from 0 to 1, with no more digits than can be seen.

        At the ends, all values are on one side of it.
        """
        span = self.high - self.low
        digits = -floor(log10(span / 200))
        if place <= 0:
            return round(floor(self.low * 10.0**digits - 0.5) / 10.0**digits, digits)
        if place >= 1:
            return round(ceil(self.highest * 10.0**digits + 0.5) / 10.0**digits, digits)
        return round(self.low + place * span, digits)


def filter_histograms(
    filters: Sequence[PatchFilter],
    sources: Sequence[SourceInfo],
    grid: PatchGrid,
    verdicts: Verdicts,
    shown_index: int,
) -> tuple[MetricHistogram | None, ...]:
    """Return the histogram of each filter, None while nothing is measured.

    Parameters
    ----------
    shown_index : int
        The source on the screen.
    """
    is_shown = grid.source_index == shown_index
    return tuple(_histograms(filters, sources, is_shown, verdicts))


def _histograms(
    filters: Sequence[PatchFilter],
    sources: Sequence[SourceInfo],
    is_shown: NDArray[np.bool_],
    verdicts: Verdicts,
) -> Iterator[MetricHistogram | None]:
    first, metrics = sources[0], verdicts.metrics
    names = [*first.channels, *first.filter_channels]
    for each in filters:
        columns = each.columns(first.channels, first.filter_channels)
        if not metrics.keys() >= {*columns.values()}:
            yield None
            continue
        shown = [metrics[column][is_shown] for column in columns.values()]
        is_measured = ~np.isnan(shown).any(axis=0)
        finite = [values[np.isfinite(values)] for values in shown]
        if not any(map(len, finite)):
            yield None
            continue
        low, high = _range(np.concatenate(finite))
        limits = {*MARKS, *(limit for limit in (each.above, each.below) if isinstance(limit, str))}
        all_columns = list(columns.values())
        has_no_channel = isinstance(each, MaskFilter | ShareFilter)
        passed = passes_filter(each, all_columns, metrics, verdicts.limits, len(is_shown))
        is_rejected = ~passed[is_shown] & is_measured
        yield MetricHistogram(
            channels=tuple("" if has_no_channel else names[i] for i in columns),
            counts=tuple(_counts(values, low, high) for values in finite),
            rejected=tuple(
                _counts(values[is_rejected & np.isfinite(values)], low, high) for values in shown
            ),
            low=low,
            high=high,
            highest=max(float(values.max()) for values in finite if len(values)),
            positions={
                limit: tuple(resolve_limit(limit, metrics[column]) for column in all_columns)
                for limit in sorted(limits)
            },
            n_rejected=int(np.count_nonzero(is_rejected)),
            n_measured=int(np.count_nonzero(is_measured)),
            n=int(np.count_nonzero(is_shown)),
        )


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a histogram, from the least value almost to the greatest."""
    low, tail, high = np.percentile(values, [0, _TAIL, 100], method="lower").tolist()
    return low, min(high, low + 1.25 * (tail - low)) if tail > low else high


def _counts(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    if not low < high:
        return np.zeros(_BINS, np.int64)
    return np.histogram(values.clip(low, high), _BINS, (low, high))[0].astype(np.int64)
