"""FrozenPlan: a plan with its sources and the kinds of arrays as they were when it was made."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from napari_patchset.export.failures import Failure
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import SourceRef
from napari_patchset.export.sources.stamps import Stamp
from napari_patchset.export.sources.survey import Survey
from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.patchset.layout import IMAGE, LABELS, ROLES, ArrayLayout, shard_capacity
from napari_patchset.source import PixelSize, SourceInfo

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
    stamps : dict of str to (int, int)
        Size and time of each file, by path.
    failures : tuple of Failure
        The sources that could not be opened.
    scored_at_once : int
        Candidates in a run that is scored in one go.
    """

    asked: tuple[SourceRef, ...]
    plan: ExportPlan
    images: dict[str, tuple[SourceInfo, ...]]
    stamps: dict[str, Stamp]
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
            dropped=dict(grid.dropped),
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
