"""A stack over an array in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.stacks.base import BoundedStack


class InMemoryImageStack(BoundedStack):
    """Cut patches out of an array that is already in memory.

    Parameters
    ----------
    source : Path or "array"
        Where the data comes from.
    data : ndarray
        In the order SC(Z)YX.
    original_axes : str or None
        The axes before merging into S; None for the order of `data`.
    original_data_shape : tuple of int or None
        The shape before merging into S; None for the shape of `data`.
    """

    def __init__(
        self,
        source: Path | Literal["array"],
        data: NDArray[Any],
        original_axes: str | None = None,
        original_data_shape: tuple[int, ...] | None = None,
    ) -> None:
        if data.ndim not in (4, 5):
            raise ArgumentError(f"Data must be SCYX or SCZYX, not of {data.ndim} dimensions.")
        self.source = source
        self.data_shape = data.shape
        self.data_dtype = data.dtype
        self._data = data
        self._original_axes = original_axes or ("SCYX" if data.ndim == 4 else "SCZYX")
        self._original_data_shape = original_data_shape or data.shape

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""
        return self._original_axes

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before merging into S."""
        return self._original_data_shape

    @classmethod
    def from_array(cls, data: NDArray[Any], axes: str) -> Self:
        """Build a stack from an array of any axes; a Z axis becomes the depth axis."""
        depth_axis: DepthAxis = "Z" if "Z" in axes else "none"
        layout = AxisLayout(axes, data.shape, depth_axis)
        return cls("array", layout.to_stack(data), axes, data.shape)

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        window = [slice(a, a + n) for a, n in zip(start, out.shape[1:], strict=True)]
        sample = self._data[sample_idx]
        for channel, target in zip(channels, out, strict=True):
            np.copyto(target, sample[(channel, *window)])
