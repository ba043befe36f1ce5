"""Verdicts: the candidates that are exported, their split, and why the others are rejected.

`judge` applies the filters to the metrics, retains a fraction of the rejected candidates if
requested and what the user keeps by hand (`Override`), rejects near-duplicates, splits the rest,
and rejects what the user rejects by hand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from napari_patchset._model import Frozen
from napari_patchset.patching.duplicates import DUPLICATE, find_duplicates, hashes_of
from napari_patchset.patching.filters.measurements import REST
from napari_patchset.patching.filters.patch_filters import PatchFilter
from napari_patchset.patching.filters.pixel_metrics import Metric
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name, hash_rows
from napari_patchset.patching.splits.groups import NO_SPLIT
from napari_patchset.patching.splits.split import ACROSS_PARTS, ACROSS_SPLITS, ALL, Split
from napari_patchset.source import SceneId, SourceInfo

_OTSU_BINS = 256

Metrics = Mapping[str, Metric]
"""By the name of the column, one value per candidate."""

ResolvedLimits = Mapping[str, Mapping[str, float]]
"""By the name of the column and the text of the limit: {"std_DAPI": {"p10": 3.5}}."""

BY_HAND = "by hand"
"""The reason of a candidate that is rejected by an override."""


class Override(Frozen):
    """Export or reject one patch.

    Attributes
    ----------
    keep : bool
        Whether it is exported.
    source : str
        The key of its source, see `SourceInfo`.
    scene : int, str or None
        The file's own id of the scene, None if it has none.
    sample : int
        Index along S.
    start : tuple of int
        Its first pixel along (Z)YX, in pixels of the patches.
    """

    keep: bool
    source: str
    scene: SceneId | None = None
    sample: int = 0
    start: tuple[int, ...]

    @classmethod
    def of(cls, grid: PatchGrid, row: int, sources: Sequence[SourceInfo], keep: bool) -> "Override":
        """Return the override of a candidate."""
        spec = grid[row]
        info = sources[spec.source_index]
        return cls(
            keep=keep, source=info.key, scene=info.scene, sample=spec.sample, start=spec.start
        )

    @property
    def place(self) -> tuple[str, SceneId | None, int, tuple[int, ...]]:
        """What it applies to."""
        return self.source, self.scene, self.sample, self.start


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The verdict on each candidate, in the order of the grid.

    Attributes
    ----------
    splits : tuple of str
        The names of the splits, ("all",) or ("train", "val", "test"), see `Split.names_in`.
    split : int8 array
        Index into `splits`; if there are several, `NO_SPLIT` for a patch across their border or one
        that a filter rejects.
    reason : int8 array
        Index into `reasons` of why it is rejected, -1 if it is exported.
    reasons : tuple of str
        Why a candidate can be rejected: the filters, that it lies across splits, `BY_HAND` if the
        user decided on any, and `DUPLICATE` if these are not exported.
    metrics : dict of str to float64 array
        Every metric of every candidate, by the name of its column.
    limits : dict of str to dict of str to float
        The numbers of limits that depend on all candidates, by column and text of the limit:
        {"std_DAPI": {"p10": 3.5}}.
    fold : int8 array or None
        The fold of each candidate, -1 if it is in none; None without folds.
    """

    splits: tuple[str, ...]
    split: NDArray[np.int8]
    reason: NDArray[np.int8]
    reasons: tuple[str, ...] = ()
    metrics: Metrics = field(default_factory=dict)
    limits: ResolvedLimits = field(default_factory=dict)
    fold: NDArray[np.int8] | None = None

    @property
    def kept(self) -> NDArray[np.bool_]:
        """A mask of the candidates that are exported."""
        kept: NDArray[np.bool_] = self.reason < 0
        return kept

    @property
    def n_rejected(self) -> tuple[int, ...]:
        """Number of candidates rejected for each of the reasons."""
        rejected = self.reason[self.reason >= 0]
        return tuple(np.bincount(rejected, minlength=len(self.reasons)).tolist())

    @property
    def fold_sizes(self) -> tuple[int, ...]:
        """Number of patches in each fold; empty without folds."""
        return () if self.fold is None else tuple(np.bincount(self.fold[self.fold >= 0]).tolist())

    @property
    def finite_limits(self) -> dict[str, dict[str, float]]:
        """The limits without those that are NaN because no candidate has the metric."""
        return {
            column: {limit: value for limit, value in numbers.items() if isfinite(value)}
            for column, numbers in self.limits.items()
        }

    def __getitem__(self, which: slice | NDArray[np.int64]) -> "Verdicts":
        """Return the verdicts on some of the candidates."""
        metrics = {column: values[which] for column, values in self.metrics.items()}
        fold = None if self.fold is None else self.fold[which]
        return replace(
            self,
            split=self.split[which],
            reason=self.reason[which],
            metrics=metrics,
            fold=fold,
        )


def judge(
    grid: PatchGrid,
    sources: Sequence[SourceInfo],
    *,
    filters: Sequence[PatchFilter] = (),
    keep_fraction: float = 0.0,
    overrides: Sequence[Override] = (),
    dedupe: int | None = None,
    split: Split | None = None,
    metrics: Metrics | None = None,
) -> Verdicts:
    """Decide on every candidate.

    The first filter that a candidate fails is its reason. Only candidates that no filter rejects
    are split, so that the share of validation patches is one of the exported patches. Those that
    the user rejects are split, too: so none of the others comes into another split.

    Parameters
    ----------
    filters : sequence of filters
        A patch must pass each of them.
    keep_fraction : float
        The share of candidates rejected by a filter that are exported nevertheless; chosen by a
        hash of the source's key and scene, and of the patch's sample and start.
    overrides : sequence of Override
        Candidates to export or reject whatever the filters say. One that shares pixels with both
        splits is rejected nevertheless.
    dedupe : int or None
        Largest distance of the hashes of near-duplicates, of which the first is exported, or those
        that are kept by hand; none of them if the first is rejected by hand. None to export all.
    metrics : dict of str to float64 array
        By column, in the order of the grid. A candidate without a metric, or with NaN, is not
        measured yet and passes.

    Raises
    ------
    ArgumentError
        If a filter names a channel that does not exist, or the split can't be made.
    """
    metrics = metrics or {}
    columns = [
        list(each.columns(sources[0].channels, sources[0].filter_channels).values())
        for each in filters
    ]
    limits = _resolve_limits(filters, columns, metrics)
    reason = np.full(len(grid), -1, np.int8)
    for i, (each, of_filter) in reversed(list(enumerate(zip(filters, columns, strict=True)))):
        reason[~passes_filter(each, of_filter, metrics, limits, len(grid))] = i
    if keep_fraction:
        reason[_kept_nevertheless(grid, sources, reason, keep_fraction)] = -1
    is_wanted, is_unwanted = np.zeros((2, len(grid)), bool)
    for override, row in zip(overrides, overridden_rows(overrides, grid, sources), strict=True):
        if row >= 0:
            (is_wanted if override.keep else is_unwanted)[row] = True
    reason[is_wanted] = -1
    part = np.zeros(len(grid), np.int8)
    across = ACROSS_SPLITS if split is None else split.across
    reasons = (*map(str, filters), across, *([BY_HAND] if overrides else []))
    if dedupe is not None:
        reason[_duplicates(reason < 0, metrics, dedupe, is_wanted)] = len(reasons)
        reasons = (*reasons, DUPLICATE)
    by_hand = len(filters) + 1
    if split is None:
        reason[is_unwanted] = by_hand
        return Verdicts(ALL, part, reason, reasons, metrics, limits)
    passed = reason < 0
    if passed.all():  # a million patches need no copy
        part = split.assign(grid, sources)
    else:
        part.fill(NO_SPLIT)
        part[passed] = split.assign(grid[passed], sources)
    reason[passed & (part == NO_SPLIT)] = len(filters)
    if is_unwanted.any():
        # Last: else one that looks like it would take its place, and others its split.
        reason[is_unwanted] = by_hand
        part[is_unwanted] = NO_SPLIT
        split.check_folds(part)
    codes, fold = split.split_of(part), split.fold_of(part)
    return Verdicts(split.names_in(sources), codes, reason, reasons, metrics, limits, fold)


def remedy_of(reasons: Iterable[str], is_split: bool) -> str:
    """Return a sentence on how to have more patches, "" for none, by why others are rejected."""
    remedies = dict.fromkeys(_REMEDIES.get(reason, "loosen the filters") for reason in reasons)
    if is_split:  # which may give a part none of the patches that are left
        remedies[_OTHER_SPLIT] = None
    text = ", or ".join(remedies)
    return f"{text[0].upper()}{text[1:]}." if text else ""


_OTHER_SPLIT = "change the split"

_REMEDIES = {
    ACROSS_SPLITS: _OTHER_SPLIT,
    ACROSS_PARTS: _OTHER_SPLIT,
    BY_HAND: "keep some of those that are rejected by hand",
    DUPLICATE: "allow near-duplicates",
}
"""What the user can do, by the reason; all others are filters."""


def overridden_rows(
    overrides: Sequence[Override], grid: PatchGrid, sources: Sequence[SourceInfo]
) -> NDArray[np.int64]:
    """Return the candidate that each override applies to, -1 if there is none.

    Patches of another size or overlap begin elsewhere, so that an override applies to none of them.
    """
    rows = np.full(len(overrides), -1, np.int64)
    index_of = {(info.key, info.scene): i for i, info in enumerate(sources)}
    known = [
        (i, (index_of[each.source, each.scene], each.sample, *each.start))
        for i, each in enumerate(overrides)
        if (each.source, each.scene) in index_of and len(each.start) == len(grid.size)
    ]
    if not known or not len(grid):
        return rows
    wanted = np.array([place for _, place in known], np.int64)
    name = np.array([hash_name("override")])
    hashes = hash_rows(name, grid.source_index, grid.sample, *grid.start.T)
    order = np.argsort(wanted_hashes := hash_rows(name, *wanted.T))
    near = order[np.searchsorted(wanted_hashes[order], hashes).clip(max=len(order) - 1)]
    for row in np.flatnonzero(wanted_hashes[near] == hashes).tolist():
        spec, place = grid[row], wanted[near[row]].tolist()
        if (spec.source_index, spec.sample, *spec.start) == tuple(place):
            rows[known[near[row]][0]] = row
    return rows


def _duplicates(
    passed: NDArray[np.bool_], metrics: Metrics, distance: int, is_wanted: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return the candidates that look like others, of those that passed the filters."""
    if (measured := hashes_of(metrics)) is None:
        return np.empty(0, np.intp)
    hashes, is_hashed = measured
    rows = np.flatnonzero(passed & is_hashed)
    return rows[find_duplicates(hashes[rows], distance, is_wanted[rows])]


def _resolve_limits(
    filters: Sequence[PatchFilter], columns: Sequence[Sequence[str]], metrics: Metrics
) -> dict[str, dict[str, float]]:
    limits: dict[str, dict[str, float]] = {}
    for each, of_filter in zip(filters, columns, strict=True):
        for column in of_filter:
            for limit in (each.above, each.below):
                if isinstance(limit, str) and column in metrics:
                    number = resolve_limit(limit, metrics[column])
                    limits.setdefault(column, {})[limit] = number
    return limits


def resolve_limit(limit: float | str, metric: NDArray[np.float64]) -> float:
    """Return a limit as a number; NaN if it depends on a metric that no candidate has.

    Parameters
    ----------
    metric : float64 array
        The metric of every candidate; those that are not finite do not count.
    """
    if not isinstance(limit, str):
        return limit
    known = metric[np.isfinite(metric)]
    if not len(known):
        return np.nan
    if limit == "otsu":
        return otsu_threshold(known)
    return float(np.percentile(known, float(limit[1:])))


def otsu_threshold(values: NDArray[np.float64]) -> float:
    """Return the threshold that separates values into the two classes that are furthest apart.

    Otsu (1979), doi:10.1109/TSMC.1979.4310076, on a histogram of 256 bins from the least to the
    greatest value; the centre of the last bin of the lower class, as in scikit-image.
    """
    low, high = float(values.min()), float(values.max())
    # Closer than this, floats are too coarse for that many bins; above the least is one class.
    if high - low <= _OTSU_BINS * np.spacing(max(abs(low), abs(high))):
        return low
    counts, edges = np.histogram(values, bins=_OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = counts.cumsum(), (counts * centres).cumsum()
    n_low, n_high = below[:-1], below[-1] - below[:-1]
    distance = total[:-1] / n_low - (total[-1] - total[:-1]) / n_high
    return float(centres[np.argmax(n_low * n_high * distance**2)])


def passes_filter(
    each: PatchFilter, columns: Sequence[str], metrics: Metrics, limits: ResolvedLimits, n: int
) -> NDArray[np.bool_]:
    """Return which of n candidates pass a filter, by its columns; one not measured yet does."""
    by_channel = [
        _lies_within(each, metrics[column], metrics.get(REST + column), limits.get(column, {}))
        if column in metrics
        else np.ones(n, bool)
        for column in columns
    ]
    combine = np.logical_or if each.match == "any" else np.logical_and
    passes: NDArray[np.bool_] = combine.reduce(by_channel)
    return passes


def _lies_within(
    each: PatchFilter, metric: Metric, rest: Metric | None, limits: Mapping[str, float]
) -> NDArray[np.bool_]:
    inside = np.isfinite(metric)
    for limit, compare in ((each.above, np.greater), (each.below, np.less)):
        if limit is not None:
            number = limits[limit] if isinstance(limit, str) else limit
            nearest = float(number)
            passes = compare(metric, nearest)
            if rest is not None or nearest != number:
                # Integers that a float does not hold are compared by what it leaves out.
                left_out = number - int(nearest) if isinstance(number, int) else 0
                beyond = np.zeros(1) if rest is None else rest
                passes |= (metric == nearest) & compare(beyond, left_out)
            inside &= passes
    return inside | np.isnan(metric)


def _kept_nevertheless(
    grid: PatchGrid, sources: Sequence[SourceInfo], reason: NDArray[np.int8], fraction: float
) -> NDArray[np.intp]:
    """Choose a fraction of the rejected candidates by a hash of their identity."""
    rejected = np.flatnonzero(reason >= 0)
    names = np.array([hash_name("keep", source.key, source.scene) for source in sources])
    columns = grid.sample[rejected], *grid.start[rejected].T
    hashes = hash_rows(names[grid.source_index[rejected]], *columns) >> np.uint64(11)
    return rejected[hashes.astype(np.float64) < fraction * 2**53]
