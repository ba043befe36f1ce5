"""Normalize: patches with the mean and standard deviation, or the percentiles, of a set."""

import sys
from collections.abc import Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.statistics import ChannelStatistics


class Normalize:
    """Subtract an offset from each channel and divide it by a scale: `normalize(patch)`.

    It takes patches C(Z)YX and batches N, C, (Z), Y, X, arrays or torch tensors, whose device and
    gradient it keeps, and pickles.

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
        if n_spatial not in (2, 3):
            raise ArgumentError(f"n_spatial is {n_spatial}; a patch has 2 or 3 spatial axes.")
        self.offset = np.array(offset, np.float64)
        self.scale = np.array([each or 1.0 for each in scale], np.float64)
        self.n_spatial = n_spatial

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest | PatchSet,
        role: str = IMAGE,
        percentiles: tuple[float, float] | None = None,
    ) -> Self:
        """Return what normalizes the patches of a set by the statistics of its training patches.

        Parameters
        ----------
        manifest : Manifest or PatchSet
            That of a set, or the set.
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
        if isinstance(manifest, PatchSet):
            manifest = manifest.manifest
        if not isinstance(manifest, Manifest):
            raise ArgumentError(
                f"A {type(manifest).__name__} has no manifest; use Normalize.from_statistics with "
                'its statistics["image"].'
            )
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
            if len(percentiles) != 2:
                raise ArgumentError(
                    f"percentiles is {percentiles!r}; give two of them, those that become 0 and 1, "
                    "like (1, 99.8)."
                )
            pairs = [_span(each, *percentiles) for each in statistics]
        offset, scale = zip(*pairs, strict=True)
        return cls(offset, scale, n_spatial)

    def __repr__(self) -> str:
        offset, scale = (
            np.array2string(each, precision=6, separator=", ", threshold=6)
            for each in (self.offset, self.scale)
        )
        return f"Normalize(offset={offset}, scale={scale}, n_spatial={self.n_spatial})"

    @overload
    def __call__(self, patches: NDArray[Any]) -> NDArray[np.float32]: ...
    @overload
    def __call__(self, patches: Any) -> Any: ...
    def __call__(self, patches: Any) -> Any:
        """Return normalized patches as float32, of a tensor of float64 as that."""
        offset, scale = self._parameters(patches)
        normalized = (_exact(patches) - offset) / scale
        return normalized.astype(np.float32) if isinstance(normalized, np.ndarray) else normalized

    @overload
    def inverse(self, patches: NDArray[Any]) -> NDArray[np.float64]: ...
    @overload
    def inverse(self, patches: Any) -> Any: ...
    def inverse(self, patches: Any) -> Any:
        """Return patches in the units of the pixels, as float64, of a tensor as float32."""
        offset, scale = self._parameters(patches)
        return _exact(patches) * scale + offset

    def _parameters(self, patches: Any) -> tuple[Any, Any]:
        """Return offset and scale in the shape of channels, as what the patches are."""
        shape = self._shape(patches)
        arrays = self.offset.reshape(shape), self.scale.reshape(shape)
        if not _is_tensor(patches):
            return arrays
        like = _exact(patches)
        offset, scale = (like.new_tensor(each.tolist()) for each in arrays)
        return offset, scale

    def _shape(self, patches: Any) -> tuple[int, ...]:
        axis = patches.ndim - self.n_spatial - 1
        if axis not in (0, 1) or patches.shape[axis] != len(self.offset):
            axes = "CYX" if self.n_spatial == 2 else "CZYX"
            raise ArgumentError(
                f"Patches of shape {tuple(patches.shape)} are not {axes} or N{axes} with "
                f"{len(self.offset)} channels."
            )
        return (len(self.offset), *(1,) * self.n_spatial)


def _is_tensor(patches: Any) -> bool:
    torch = sys.modules.get("torch")  # what made a tensor has imported it
    return torch is not None and isinstance(patches, torch.Tensor)


def _exact(patches: Any) -> Any:
    """Return a tensor as floats that a device computes with; an array as it is."""
    if not _is_tensor(patches) or str(patches.dtype) == "torch.float64":
        return patches
    return patches.float()


def _span(statistics: ChannelStatistics, low: float, high: float) -> tuple[float, float]:
    known = statistics.percentiles
    for percent in (low, high):
        if percent not in known:
            has = ", ".join(f"{each:g}" for each in known)
            raise ArgumentError(f"There is no percentile {percent:g}; there are {has}.")
    if low >= high:
        raise ArgumentError(
            f"The percentiles {low:g} and {high:g} become 0 and 1; name the lower one first."
        )
    return known[low], known[high] - known[low]
