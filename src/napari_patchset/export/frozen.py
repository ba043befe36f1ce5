"""FrozenPlan: a plan with its sources and the kinds of arrays as they were when it was made."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np

from napari_patchset.export.plan import ExportPlan
from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import ArrayLayout, shard_capacity
from napari_patchset.source import PixelSize, SourceInfo


class ArrayKind(Frozen):
    """What every split holds one array of: the images, the targets or the labels.

    Attributes
    ----------
    name : {"image", "target", "labels"}
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

    name: Literal["image", "target", "labels"]
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
        name: Literal["image", "target", "labels"],
        source: SourceInfo,
        size: Sequence[int],
        dtype: str | None = None,
        codec: str = "none",
    ) -> Self:
        """Lay out the patches of a size that are cut from sources like this one."""
        shape, kind = (len(source.channels), *size), dtype or source.dtype
        return cls(
            name=name,
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
            name=f"{split}/{self.name}",
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
    """A plan, its sources as they were when it was made, and what follows from both."""

    plan: ExportPlan
    sources: tuple[SourceInfo, ...]
    size: tuple[int, ...]
    n_candidates: int
    dropped: dict[str, int]
    kinds: tuple[ArrayKind, ...]

    @classmethod
    def of(cls, plan: ExportPlan, sources: Sequence[SourceInfo], grid: PatchGrid) -> Self:
        """Freeze a plan with the sources and candidates that belong to it."""
        return cls(
            plan=plan,
            sources=tuple(sources),
            size=grid.size,
            n_candidates=len(grid),
            dropped=dict(grid.dropped),
            kinds=(ArrayKind.of("image", sources[0], grid.size, codec=plan.codec),),
        )
