"""Selection: the verdict on each candidate gives it its array and its row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.keeping.frozen import ArrayKind
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.manifest import digest_bytes


@dataclass(frozen=True, eq=False)
class PlannedArray:
    """One array of the set, and the candidates that its rows are.

    Attributes
    ----------
    members : int64 array
        The candidate of each row, ascending.
    """

    layout: ArrayLayout
    members: NDArray[np.int64]

    def candidates(self, shard: int) -> NDArray[np.int64]:
        """Give the candidates that lie in a shard."""
        rows = self.layout.rows(shard)
        return self.members[rows.start : rows.stop]

    def stamp(self, shard: int) -> str:
        """Digest which candidates lie in a shard: another selection gives another stamp."""
        return digest_bytes(self.candidates(shard).astype("<i8").tobytes())

    def shards_begun(self, first: int, last: int) -> range:
        """Give the shards whose first patch is one of the candidates `first` up to `last`."""
        begun = np.searchsorted(self.members[:: self.layout.capacity], (first, last))
        return range(*begun.tolist())


@dataclass(frozen=True, eq=False)
class Selection:
    """What becomes of each candidate, and where its pixels go.

    Attributes
    ----------
    verdicts : Verdicts
        Split, reason and metrics of each.
    array : int8 array
        Index of its split, -1 for a candidate that is not written.
    row : int64 array
        Its row in the arrays of that split, -1 for one that is not written.
    """

    verdicts: Verdicts
    array: NDArray[np.int8]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, verdicts: Verdicts) -> Self:
        """Give each split's kept candidates their rows, in order."""
        array = np.where(verdicts.kept, verdicts.split, np.int8(-1))
        row = np.full(len(array), -1, np.int64)
        for split in range(len(verdicts.splits)):
            mine = array == split
            row[mine] = np.arange(mine.sum())
        return cls(verdicts, array, row)

    @property
    def counts(self) -> dict[str, int]:
        """Number of patches in each split."""
        return {s: int((self.array == i).sum()) for i, s in enumerate(self.verdicts.splits)}

    @property
    def rejected(self) -> dict[str, int]:
        """Number of candidates that are not written, by reason."""
        verdicts = self.verdicts
        counts = {r: int((verdicts.reason == i).sum()) for i, r in enumerate(verdicts.reasons)}
        return {reason: count for reason, count in counts.items() if count}

    def arrays(self, kinds: Sequence[ArrayKind]) -> list[PlannedArray]:
        """Give every array of the set, split by split."""
        planned = []
        for index, split in enumerate(self.verdicts.splits):
            members = np.flatnonzero(self.array == index)
            planned += [PlannedArray(kind.layout(split, len(members)), members) for kind in kinds]
        return planned
