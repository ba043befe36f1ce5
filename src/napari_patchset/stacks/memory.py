"""InMemoryImageStack: a stack over an array in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import ArgumentError
from napari_patchset.stacks.protocol import BoundedStack
from napari_patchset.stacks.tiff.series import read_tiff

ReadFunc = Callable[..., NDArray[Any]]
"""Reads a file, by its path and keyword arguments, into an array."""


def array_layout(axes: str, shape: Sequence[int]) -> AxisLayout:
    """Lay out an array of any axes; a Z axis of any size is the depth axis."""
    return AxisLayout(axes, tuple(shape), "Z" if "Z" in axes else "none")


def copy_window(
    sample: NDArray[Any], channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
) -> None:
    """Fill `out`, C(Z)YX, with the window of a sample, C(Z)YX, that begins at `start`."""
    window = tuple(slice(a, a + n) for a, n in zip(start, out.shape[1:], strict=True))
    for channel, target in zip(channels, out, strict=True):
        np.copyto(target, sample[channel][window])


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
        return cls._from_axes("array", data, axes)

    @classmethod
    def from_tiff(cls, path: Path, axes: str) -> Self:
        """Build a stack from the first series of a TIFF file, read whole.

        Parameters
        ----------
        path : Path
            The file.
        axes : str
            The axes of the array that `tifffile.imread` returns.

        Raises
        ------
        ArgumentError
            If the axes do not fit the array.
        UnreadableFileError
            If the file is damaged or no TIFF.
        """
        return cls._from_axes(path, read_tiff(path), axes)

    @classmethod
    def from_custom_file_type(
        cls, path: Path, axes: str, read_func: ReadFunc, **read_kwargs: Any
    ) -> Self:
        """Build a stack from what `read_func(path, **read_kwargs)` returns, of any axes."""
        return cls._from_axes(path, read_func(path, **read_kwargs), axes)

    @classmethod
    def _from_axes(cls, source: Path | Literal["array"], data: NDArray[Any], axes: str) -> Self:
        return cls(source, array_layout(axes, data.shape).to_stack(data), axes, data.shape)

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        copy_window(self._data[sample_idx], channels, start, out)
