"""Which candidates of an export are written, and where.

`Selection` assigns each of them a row in the arrays of its split, and so a `Shard`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.groups import NO_SPLIT, TEST, TRAINING, VALIDATION
from napari_patchset.patching.verdicts import Metrics, Verdicts, remedy_of
from napari_patchset.patchset.layout import UNSPLIT, ArrayLayout
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.source import SourceInfo

UNREADABLE = "source can't be read"
"""The reason for which candidates of a source that can't be read are rejected."""


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard of an array, and the index of the candidate of each of its patches, ascending."""

    layout: ArrayLayout
    number: int
    candidates: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""
        return len(self.candidates), *self.layout.patch_shape

    @property
    def digest(self) -> str:
        """The digest of the candidates: another selection has another one."""
        return digest_bytes(self.candidates.astype("<i8").tobytes())


@dataclass(frozen=True, eq=False)
class ArraySelection:
    """One array of the set, and the index of the candidate of each of its rows, ascending."""

    layout: ArrayLayout
    candidates: NDArray[np.int64]

    @property
    def shards(self) -> list[Shard]:
        """All shards of the array."""
        n = self.layout.patches_per_shard
        return [
            Shard(self.layout, i, self.candidates[i * n : (i + 1) * n])
            for i in range(self.layout.n_shards)
        ]


@dataclass(frozen=True, eq=False)
class Selection:
    """Index of the split of each candidate, and its row there; -1 if it is not written."""

    verdicts: Verdicts
    split: NDArray[np.int8]
    row: NDArray[np.int64]

    @classmethod
    def from_verdicts(cls, verdicts: Verdicts) -> Self:
        """Assign rows to the exported candidates of each split, in order."""
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

    @property
    def folds(self) -> tuple[int, ...]:
        """Number of patches in each fold; empty without folds."""
        return self.verdicts.fold_sizes

    def check_not_empty(self) -> None:
        """Raise ArgumentError if a split has no patch."""
        if empty := [split for split, count in self.counts.items() if not count]:
            raise ArgumentError(_explain_empty(empty, self))

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

    Candidates whose source can't be read (`is_readable`) are rejected, and count neither for a
    limit nor for the split. Raise ExportError if a filter's metric was not measured.
    """
    if missing := set(recipe.metric_columns(sources)) - metrics.keys():
        raise ExportError(
            f"{', '.join(sorted(missing))} was not measured; score the patches first."
        )
    readable = np.flatnonzero(is_readable)
    measured = {column: values[readable] for column, values in metrics.items()}
    verdicts = recipe.judge(grid[readable], sources, measured)
    if len(grid) == len(readable):
        return Selection.from_verdicts(verdicts)

    def spread(values: NDArray[Any], other: float) -> NDArray[Any]:
        """Return values for all candidates; those that can't be read get another one."""
        all_values = np.full(len(grid), other, values.dtype)
        all_values[readable] = values
        return all_values

    return Selection.from_verdicts(
        replace(
            verdicts,
            split=spread(verdicts.split, NO_SPLIT),
            reason=spread(verdicts.reason, len(verdicts.reasons)),
            reasons=(*verdicts.reasons, UNREADABLE),
            metrics={name: spread(values, np.nan) for name, values in verdicts.metrics.items()},
            fold=None if verdicts.fold is None else spread(verdicts.fold, NO_SPLIT),
        )
    )


def _explain_empty(splits: list[str], selection: Selection) -> str:
    """Explain why splits have no patches, with the remedy."""
    purposes = {UNSPLIT: "", TRAINING: " for training"}
    purposes |= {VALIDATION: " for validation", TEST: " for a test"}
    purpose = " and".join(purposes[split] for split in splits)
    counts, n = list(selection.rejected.items()), len(selection.split)
    mendable = [reason for reason, _ in counts if reason != UNREADABLE]
    remedy = remedy_of(mendable, UNSPLIT not in splits)
    if len(counts) == 1 and counts[0][1] == n:
        text = f"No patches left{purpose}: {counts[0][0]} rejected all {n:,}."
    else:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts) or "none"
        text = f"No patches left{purpose} of {n:,}. Rejected are {reasons}."
    return f"{text} {remedy}".rstrip()
