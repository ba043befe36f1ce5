"""Normalize: patches with the mean and standard deviation, or the percentiles, of a set."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.statistics import ChannelStatistics


class Normalize:
    """Subtract an offset from each channel and divide it by a scale: `normalize(patch)`.

    It takes patches C(Z)YX and batches N, C, (Z), Y, X, and pickles.

    Parameters
    ----------
    offset, scale : sequence of float
        One number for each channel; a scale of 0, of a channel of one value, counts as 1.
    n_spatial : int
        Number of spatial axes of a patch, 2 or 3.
    """

    def __init__(self, offset: Sequence[float], scale: Sequence[float], n_spatial: int) -> None:
        if len(offset) != len(scale):
            raise ArgumentError(f"There are {len(offset)} offsets, but {len(scale)} scales.")
        self.offset = np.array(offset, np.float64)
        self.scale = np.array([each or 1.0 for each in scale], np.float64)
        self.n_spatial = n_spatial

    @classmethod
    def from_manifest(
        cls, manifest: Manifest, role: str = IMAGE, percentiles: tuple[float, float] | None = None
    ) -> Self:
        """Return what normalizes the patches of a set by the statistics of its training patches.

        Parameters
        ----------
        manifest : Manifest
            `patch_set.manifest`.
        role : {"image", "target"}
            Which arrays.
        percentiles : tuple of float, or None
            Two percentiles of the manifest that become 0 and 1, as (1, 99.8); None for mean 0 and
            standard deviation 1.

        Raises
        ------
        ArgumentError
            If the manifest has no statistics of this role, or no such percentile.
        """
        if role not in manifest.statistics:
            has = ", ".join(manifest.statistics) or "none"
            raise ArgumentError(f"The manifest has no statistics of {role}; it has {has}.")
        n_spatial = 2 if manifest.depth_axis == "none" else 3
        return cls.from_statistics(manifest.statistics[role], n_spatial, percentiles)

    @classmethod
    def from_statistics(
        cls,
        statistics: Sequence[ChannelStatistics],
        n_spatial: int,
        percentiles: tuple[float, float] | None = None,
    ) -> Self:
        """Return what normalizes by statistics, one of each channel; see `from_manifest`.

        Those of one fold are `patch_set.fold(0).statistics["image"]`.
        """
        if percentiles is None:
            pairs = [(each.mean, each.std) for each in statistics]
        else:
            pairs = [_span(each, *percentiles) for each in statistics]
        offset, scale = zip(*pairs, strict=True)
        return cls(offset, scale, n_spatial)

    def __call__(self, patches: NDArray[Any]) -> NDArray[np.float32]:
        """Return normalized patches as float32."""
        shape = self._shape(patches)
        normalized = (patches - self.offset.reshape(shape)) / self.scale.reshape(shape)
        return normalized.astype(np.float32)

    def inverse(self, patches: NDArray[Any]) -> NDArray[np.float64]:
        """Return patches in the units of the pixels, as float64."""
        shape = self._shape(patches)
        return patches * self.scale.reshape(shape) + self.offset.reshape(shape)

    def _shape(self, patches: NDArray[Any]) -> tuple[int, ...]:
        axis = patches.ndim - self.n_spatial - 1
        if axis not in (0, 1) or patches.shape[axis] != len(self.offset):
            axes = "CYX" if self.n_spatial == 2 else "CZYX"
            raise ArgumentError(
                f"Patches of shape {patches.shape} are not {axes} or N{axes} with "
                f"{len(self.offset)} channels."
            )
        return (len(self.offset), *(1,) * self.n_spatial)


def _span(statistics: ChannelStatistics, low: float, high: float) -> tuple[float, float]:
    known = statistics.percentiles
    for percent in (low, high):
        if percent not in known:
            has = ", ".join(f"{each:g}" for each in known)
            raise ArgumentError(f"There is no percentile {percent:g}; there are {has}.")
    return known[low], known[high] - known[low]
