"""What becomes of each candidate: its split, whether it is kept, and why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.filter_syntax import resolve
from napari_patchset.patching.filters import PatchFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name, hash_rows
from napari_patchset.patching.splits import ALL, NEITHER, SPLITS, Split
from napari_patchset.source import SourceInfo

ACROSS_SPLITS = "across the border of train and val"

Metrics = Mapping[str, NDArray[np.float64]]
Limits = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """One entry a candidate, in the order of the grid.

    Attributes
    ----------
    splits : tuple of str
        The names of the splits, ("all",) or ("train", "val").
    split : int8 array
        Index into `splits`; where there are two, -1 for a patch that lies across their border, or
        that a filter rejects.
    reason : int8 array
        Index into `reasons` of why it is rejected, -1 if it is kept.
    reasons : tuple of str
        Why a candidate can be rejected: the filters, and `ACROSS_SPLITS`.
    metrics : dict of str to float64 array
        Every metric of every candidate, by the name of its column.
    limits : dict of str to dict of str to float
        What limits that depend on all candidates came to, by the name of the column and the limit
        as it was given: {"std_DAPI": {"p10": 3.5}}.
    """

    splits: tuple[str, ...]
    split: NDArray[np.int8]
    reason: NDArray[np.int8]
    reasons: tuple[str, ...] = ()
    metrics: Metrics = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which candidates are exported."""
        found: NDArray[np.bool_] = self.reason < 0
        return found

    @property
    def finite_limits(self) -> dict[str, dict[str, float]]:
        """The limits without those that came to nothing, for want of a metric."""
        return {
            column: {limit: value for limit, value in of.items() if isfinite(value)}
            for column, of in self.limits.items()
        }

    def __getitem__(self, which: slice) -> "Verdicts":
        """Return the verdicts on a slice of the candidates."""
        metrics = {column: values[which] for column, values in self.metrics.items()}
        return replace(self, split=self.split[which], reason=self.reason[which], metrics=metrics)


def judge(
    grid: PatchGrid,
    sources: Sequence[SourceInfo],
    *,
    filters: Sequence[PatchFilter] = (),
    keep_fraction: float = 0.0,
    split: Split | None = None,
    metrics: Metrics | None = None,
) -> Verdicts:
    """Decide on every candidate.

    The first filter that a candidate fails is its reason. What no filter rejects is split, so that
    the share of validation patches is one of those that are exported.

    Parameters
    ----------
    filters : sequence of filters
        A patch must pass each of them.
    keep_fraction : float
        The share of those rejected by a filter that is kept all the same; chosen by a hash of the
        source's key and scene, and of the patch's sample and start.
    metrics : dict of str to float64 array
        By column, in the order of the grid. A candidate without one, or with NaN, is not scored
        yet and passes.

    Raises
    ------
    ArgumentError
        If a filter names a channel that does not exist, or the split can't be made.
    """
    metrics = metrics or {}
    names = sources[0].channels
    limits = _resolve_limits(filters, names, metrics)
    reason = np.full(len(grid), -1, np.int8)
    for i, each in reversed(list(enumerate(filters))):
        reason[~_passes(each, names, metrics, limits, len(grid))] = i
    if keep_fraction:
        reason[_spared(grid, sources, reason, keep_fraction)] = -1
    codes = np.zeros(len(grid), np.int8)
    if split is not None:
        passed = reason < 0
        # A million patches are not copied for nothing.
        if passed.all():
            codes = split.assign(grid, sources)
        else:
            codes.fill(NEITHER)
            codes[passed] = split.assign(grid[passed], sources)
        reason[passed & (codes == NEITHER)] = len(filters)
    reasons = (*map(str, filters), ACROSS_SPLITS)
    return Verdicts(SPLITS if split else ALL, codes, reason, reasons, metrics, limits)


def _resolve_limits(
    filters: Sequence[PatchFilter], names: Sequence[str], metrics: Metrics
) -> dict[str, dict[str, float]]:
    limits: dict[str, dict[str, float]] = {}
    for each in filters:
        for column in each.columns(names).values():
            for limit in (each.above, each.below):
                if isinstance(limit, str) and column in metrics:
                    limits.setdefault(column, {})[limit] = resolve(limit, metrics[column])
    return limits


def _passes(
    each: PatchFilter, names: Sequence[str], metrics: Metrics, limits: Limits, n: int
) -> NDArray[np.bool_]:
    passed = [
        _lies_within(each, metrics[column], limits.get(column, {}))
        if column in metrics
        else np.ones(n, bool)
        for column in each.columns(names).values()
    ]
    combine = np.logical_or if each.match == "any" else np.logical_and
    found: NDArray[np.bool_] = combine.reduce(passed)
    return found


def _lies_within(
    each: PatchFilter, metric: NDArray[np.float64], limits: Mapping[str, float]
) -> NDArray[np.bool_]:
    inside = np.isfinite(metric)
    if each.above is not None:
        inside &= metric > (limits[each.above] if isinstance(each.above, str) else each.above)
    if each.below is not None:
        inside &= metric < (limits[each.below] if isinstance(each.below, str) else each.below)
    return inside | np.isnan(metric)


def _spared(
    grid: PatchGrid, sources: Sequence[SourceInfo], reason: NDArray[np.int8], fraction: float
) -> NDArray[np.intp]:
    """Choose some of the rejected, by a hash of what they are."""
    rejected = np.flatnonzero(reason >= 0)
    names = np.array([hash_name("keep", source.key, source.scene) for source in sources])
    columns = grid.sample[rejected], *grid.start[rejected].T
    drawn = hash_rows(names[grid.source_index[rejected]], *columns) >> np.uint64(11)
    return rejected[drawn.astype(np.float64) < fraction * 2**53]
