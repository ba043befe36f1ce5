"""Stacks over arrays in memory: InMemoryImageStack, and FileImageStack for one of many files.

The latter knows its shape beforehand; `load` reads the whole file and `close` frees it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.stacks.protocol import BoundedStack
from napari_patchset.stacks.tiff.series import open_series

ReadFunc = Callable[..., NDArray[Any]]
"""Function that reads a file, by its path and keyword arguments, into an array."""


def _layout(axes: str, shape: Sequence[int]) -> AxisLayout:
    """Lay out an array of any axes; a Z axis of any size is the depth axis."""
    return AxisLayout(axes, tuple(shape), "Z" if "Z" in axes else "none")


def _read_tiff(path: Path) -> NDArray[Any]:
    """Read the whole of the first series, as `tifffile.imread` does, in native byte order."""
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        data: NDArray[Any] = series[0].pages.asarray()
        return data.astype(data.dtype.newbyteorder("="), copy=False)


def _describe_tiff(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and type of the result of `_read_tiff`."""
    with open_series(Path(path).absolute(), plain=True) as (series, _):
        pages = series[0].pages
        return pages.shape, pages.dtype.newbyteorder("=")


def copy_window(
    sample: NDArray[Any], channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
) -> None:
    """Fill `out`, C(Z)YX, with the window of a sample, C(Z)YX, that begins at `start`."""
    window = tuple(slice(a, a + n) for a, n in zip(start, out.shape[1:], strict=True))
    for channel, target in zip(channels, out, strict=True):
        np.copyto(target, sample[channel][window])


class _ArrayStack(BoundedStack):
    """A stack whose pixels are an array SC(Z)YX, or will be."""

    _data: NDArray[Any] | None

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        if self._data is not None:
            copy_window(self._data[sample_idx], channels, start, out)


class InMemoryImageStack(_ArrayStack):
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
        self.original_axes = original_axes or ("SCYX" if data.ndim == 4 else "SCZYX")
        self.original_data_shape = original_data_shape or data.shape

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
        return cls._from_axes(path, _read_tiff(path), axes)

    @classmethod
    def from_custom_file_type(
        cls, path: Path, axes: str, read_func: ReadFunc, **read_kwargs: Any
    ) -> Self:
        """Build a stack from the result of `read_func(path, **read_kwargs)`, of any axes."""
        return cls._from_axes(path, read_func(path, **read_kwargs), axes)

    @classmethod
    def _from_axes(cls, source: Path | Literal["array"], data: NDArray[Any], axes: str) -> Self:
        return cls(source, _layout(axes, data.shape).to_stack(data), axes, data.shape)


class FileImageStack(_ArrayStack):
    """Cut patches out of one of many files that do not fit into memory together.

    The pixels are in memory between `load` and `close`.

    Parameters
    ----------
    source : Path
        The file.
    axes : str
        Its axes, e.g. "STCZYX".
    data_shape : tuple of int
        The shape SC(Z)YX after merging.
    data_dtype : dtype
        Type of a pixel.
    read_func : callable
        Reads the file into an array of `axes`.
    read_kwargs : dict or None
        Keyword arguments for `read_func`.
    original_data_shape : tuple of int or None
        The shape along `axes`.
    """

    def __init__(
        self,
        source: Path,
        axes: str,
        data_shape: tuple[int, ...],
        data_dtype: DTypeLike,
        read_func: ReadFunc,
        read_kwargs: dict[str, Any] | Any = None,
        original_data_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.source = source
        self.axes = axes
        self.data_shape = data_shape
        self.data_dtype = data_dtype
        self.read_func = read_func
        self.read_kwargs = read_kwargs
        self.original_axes = axes
        self.original_data_shape = original_data_shape or ()
        self._data: NDArray[Any] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the pixels are in memory."""
        return self._data is not None

    @classmethod
    def from_tiff(cls, path: Path, axes: str) -> Self:
        """Build a stack from the first series of a TIFF file without reading its pixels.

        See `InMemoryImageStack.from_tiff`.
        """
        shape, dtype = _describe_tiff(path)
        data_shape = _layout(axes, shape).stack_shape
        return cls(path, axes, data_shape, dtype, _read_tiff, original_data_shape=shape)

    def load(self) -> None:
        """Read the file.

        Raises
        ------
        UnreadableFileError
            If its data has another shape than `data_shape`.
        """
        data = self.read_func(self.source, **(self.read_kwargs or {}))
        data = _layout(self.axes, data.shape).to_stack(data)
        if data.shape != tuple(self.data_shape):
            raise UnreadableFileError(
                f"{self.source}: its data has shape {data.shape} in the order SC(Z)YX, "
                f"but {tuple(self.data_shape)} was expected."
            )
        self._data = data.astype(self.data_dtype, copy=False)

    def close(self) -> None:
        """Free the pixels; `load` reads them again."""
        self._data = None

    def extract_patch(  # noqa: D102, documented on the protocol
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> NDArray[Any]:
        if self._data is None:
            raise ArgumentError(
                f"Cannot extract a patch because {self.source} has not been loaded; call `load` "
                "first."
            )
        return super().extract_patch(sample_idx, channels, coords, patch_size)
