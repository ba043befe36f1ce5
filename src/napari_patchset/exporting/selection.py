"""Selection: which candidates are written, and to which row of which array."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits import NEITHER
from napari_patchset.patching.verdicts import Metrics, Verdicts, judge
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.source import SourceInfo

UNREADABLE = "source can't be read"
"""The reason for which candidates of a source that can't be read are rejected."""


@dataclass(frozen=True, eq=False)
class ArraySelection:
    """One array of the set, and the candidate of each of its rows.

    Attributes
    ----------
    layout : ArrayLayout
        Of the array.
    candidates : int64 array
        Index of the candidate of each row, ascending.
    """

    layout: ArrayLayout
    candidates: NDArray[np.int64]

    def in_shard(self, shard: int) -> NDArray[np.int64]:
        """Return the candidates in a shard."""
        rows = self.layout.rows(shard)
        return self.candidates[rows.start : rows.stop]

    def shard_digest(self, shard: int) -> str:
        """Return the digest of the candidates in a shard: another selection has another one."""
        return digest_bytes(self.in_shard(shard).astype("<i8").tobytes())

    def shards_of(self, first: int, last: int) -> range:
        """Return the shards whose first candidate is in `range(first, last)`."""
        begins = self.candidates[:: self.layout.patches_per_shard]
        return range(*np.searchsorted(begins, (first, last)).tolist())


@dataclass(frozen=True, eq=False)
class Selection:
    """Split and row of each candidate.

    Attributes
    ----------
    verdicts : Verdicts
        Split, reason and metrics of each.
    split : int8 array
        Index of its split, -1 for a candidate that is not written.
    row : int64 array
        Its row in the arrays of that split, -1 for a candidate that is not written.
    """

    verdicts: Verdicts
    split: NDArray[np.int8]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, verdicts: Verdicts) -> Self:
        """Assign rows to the kept candidates of each split, in order."""
        split = np.where(verdicts.kept, verdicts.split, np.int8(-1))
        row = np.full(len(split), -1, np.int64)
        for index in range(len(verdicts.splits)):
            members = split == index
            row[members] = np.arange(members.sum())
        return cls(verdicts, split, row)

    @property
    def counts(self) -> dict[str, int]:
        """Number of patches in each split."""
        return {s: int((self.split == i).sum()) for i, s in enumerate(self.verdicts.splits)}

    @property
    def rejected(self) -> dict[str, int]:
        """Number of candidates that are not written, by reason."""
        verdicts = self.verdicts
        counts = dict.fromkeys(verdicts.reasons, 0)  # two equal filters have one reason
        for i, reason in enumerate(verdicts.reasons):
            counts[reason] += int((verdicts.reason == i).sum())
        return {reason: count for reason, count in counts.items() if count}

    def arrays(self, layouts: Sequence[ArrayLayout]) -> list[ArraySelection]:
        """Return every array of the set, split by split, for one layout of each role."""
        arrays = []
        for index, split in enumerate(self.verdicts.splits):
            candidates = np.flatnonzero(self.split == index)
            n = len(candidates)
            arrays += [ArraySelection(each.in_split(split, n), candidates) for each in layouts]
        return arrays


def select_candidates(
    recipe: Recipe,
    grid: PatchGrid,
    sources: Sequence[SourceInfo],
    metrics: Metrics,
    is_readable: NDArray[np.bool_],
) -> Selection:
    """Apply filters and split of a recipe.

    Parameters
    ----------
    is_readable : bool array
        Whether the source of each candidate can be read. The others are rejected, and count
        neither for a limit nor for the split.
    """
    readable = np.flatnonzero(is_readable)
    verdicts = judge(
        grid[readable],
        sources,
        filters=recipe.filters,
        keep_fraction=recipe.keep_fraction,
        split=recipe.split,
        metrics={column: values[readable] for column, values in metrics.items()},
    )
    return Selection.of(_with_unreadable(verdicts, readable, len(grid)))


def _with_unreadable(verdicts: Verdicts, readable: NDArray[np.intp], n: int) -> Verdicts:
    """Extend verdicts on the readable candidates to all `n`."""
    if len(readable) == n:
        return verdicts
    split, reason = np.full(n, NEITHER, np.int8), np.full(n, len(verdicts.reasons), np.int8)
    split[readable], reason[readable] = verdicts.split, verdicts.reason
    metrics = {column: np.full(n, np.nan) for column in verdicts.metrics}
    for column, values in metrics.items():
        values[readable] = verdicts.metrics[column]
    reasons = (*verdicts.reasons, UNREADABLE)
    return replace(verdicts, split=split, reason=reason, reasons=reasons, metrics=metrics)
