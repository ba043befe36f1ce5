"""FrozenPlan: a plan with its sources and the kinds of arrays as they were when it was made.

Selection: the verdict on each candidate gives it its array and its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset._model import Frozen
from napari_patchset.exporting.plan import ExportPlan, Failure, SourceRef
from napari_patchset.exporting.sources import Survey
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.layout import IMAGE, LABELS, ROLES, ArrayLayout, shard_capacity
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import PixelSize, SourceInfo
from napari_patchset.stacks.cache import FileStat

_SCORED_SHARDS = 4
"""So many shards' worth of candidates are scored in one go."""


class ArrayKind(Frozen):
    """What every split holds one array of: the images, the targets or the labels.

    Attributes
    ----------
    role : str
        "image", "target" or "labels".
    patch_shape : tuple of int
        C, (Z), Y, X.
    dtype : str
        NumPy's name of the pixel type.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    capacity : int
        Patches in a full shard.
    channels : tuple of str
        One name for each channel.
    pixel_size : PixelSize
        In micrometres.
    codec : str
        How each patch is compressed.
    """

    role: str
    patch_shape: tuple[int, ...]
    dtype: str
    axes: str
    capacity: int
    channels: tuple[str, ...]
    pixel_size: PixelSize
    codec: str

    @classmethod
    def of(
        cls,
        role: str,
        source: SourceInfo,
        size: Sequence[int],
        dtype: str | None = None,
        codec: str = "none",
    ) -> Self:
        """Lay out the patches of a size that are cut from sources like this one."""
        shape, kind = (len(source.channels), *size), dtype or source.dtype
        return cls(
            role=role,
            patch_shape=shape,
            dtype=kind,
            axes=source.layout.stack_axes,
            capacity=shard_capacity(shape, np.dtype(kind)),
            channels=source.channels,
            pixel_size=source.pixel_size,
            codec=codec,
        )

    def layout(self, split: str, n: int) -> ArrayLayout:
        """Give the array of one split, of `n` patches."""
        return ArrayLayout(
            name=f"{split}/{self.role}",
            n=n,
            patch_shape=self.patch_shape,
            dtype=np.dtype(self.dtype),
            axes=self.axes,
            capacity=self.capacity,
            channels=self.channels,
            pixel_size=self.pixel_size,
            codec=self.codec,
        )


class FrozenPlan(Frozen):
    """A plan, its sources as they were when it was made, and what follows from both.

    Attributes
    ----------
    asked : tuple of SourceRef
        The sources that the plan was made for.
    plan : ExportPlan
        With the sources that could be opened, the scene of every image chosen.
    images : dict of role to tuple of SourceInfo
        What is known of every source's image, target, labels and mask.
    stamps : dict of str to FileStat
        Size and time of each file, by path.
    failures : tuple of Failure
        The sources that could not be opened.
    scored_at_once : int
        Candidates in a run that is scored in one go.
    """

    asked: tuple[SourceRef, ...]
    plan: ExportPlan
    images: dict[str, tuple[SourceInfo, ...]]
    stamps: dict[str, FileStat]
    failures: tuple[Failure, ...]
    size: tuple[int, ...]
    n_candidates: int
    dropped: dict[str, int]
    kinds: tuple[ArrayKind, ...]
    scored_at_once: int

    @classmethod
    def of(cls, survey: Survey, grid: PatchGrid) -> Self:
        """Freeze what was surveyed with the candidates that belong to it."""
        plan = survey.plan
        kinds = []
        for role in ROLES:
            if role in survey.images:
                dtype = None if role == LABELS else plan.dtype
                first = survey.images[role][0]
                kinds.append(ArrayKind.of(role, first, grid.size, dtype, plan.codec))
        return cls(
            asked=survey.asked,
            plan=plan,
            images=survey.images,
            stamps=survey.stamps,
            failures=survey.failures,
            size=grid.size,
            n_candidates=len(grid),
            dropped=dict(grid.excluded),
            kinds=tuple(kinds) if FORMATS[plan.format].has_pixels else (),
            scored_at_once=_SCORED_SHARDS * kinds[0].capacity,
        )

    @property
    def score_runs(self) -> int:
        """Number of runs that the candidates are scored in."""
        return -(-self.n_candidates // self.scored_at_once) if self.plan.filters else 0

    def score_run(self, run: int) -> slice:
        """Give the candidates of a run."""
        return slice(run * self.scored_at_once, (run + 1) * self.scored_at_once)

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What is known of the images that patches are cut from."""
        return self.images[IMAGE]


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
