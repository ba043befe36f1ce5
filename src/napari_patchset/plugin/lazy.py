"""Arrays that napari slices and that read a stack, or a patch set, only then."""

from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.patchset.arrays import PatchArray
from napari_patchset.stacks.base import ImageStack

_Key = tuple[int | slice, ...]


class LazyChannel:
    """One channel of a 2-D stack as an array of its sample axes, then Y and X.

    Sample axes of size 1 are left out, so that napari makes no slider for them.

    Parameters
    ----------
    stack : ImageStack
        SCYX.
    channels : int or list of int
        The channel, or the three of an RGB image, which become the last axis.
    """

    def __init__(self, stack: ImageStack, channels: int | list[int]) -> None:
        self.stack = stack
        self.layout = AxisLayout(stack.original_axes, tuple(stack.original_data_shape))
        self._channels = [channels] if isinstance(channels, int) else channels
        self._rgb = not isinstance(channels, int)
        self.axes = visible_axes(self.layout)
        planes = tuple(self.layout.sizes[axis] for axis in self.axes[:-2])
        self.shape = (*planes, *stack.data_shape[-2:], *((3,) if self._rgb else ()))
        self.dtype = np.dtype(stack.data_dtype)
        self.ndim, self.size = len(self.shape), prod(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        n = len(self.axes)
        full = expand_key(key, self.ndim)
        ranges = [_indices(k, size) for k, size in zip(full[:n], self.shape, strict=False)]
        *outer, rows, columns = ranges
        read = np.empty((*map(len, ranges), *self.shape[n:]), self.dtype)
        if rows and columns:
            for position, index in enumerate(product(*outer)):
                read.reshape(-1, *read.shape[n - 2 :])[position] = self._plane(index, rows, columns)
        found: NDArray[Any] = read[
            tuple(0 if isinstance(k, int) else slice(None) for k in full[:n])
        ]
        return found[(..., *full[n:])] if self._rgb else found

    def _plane(self, index: tuple[int, ...], rows: range, columns: range) -> NDArray[Any]:
        sample = self.layout.ravel(dict(zip(self.axes, index, strict=False)))
        low, high = (min(rows), min(columns)), (max(rows) + 1, max(columns) + 1)
        size = (high[0] - low[0], high[1] - low[1])
        pixels = self.stack.extract_patch(sample, self._channels, low, size)
        pixels = pixels[:, :: rows.step, :: columns.step]
        return np.moveaxis(pixels, 0, -1) if self._rgb else pixels[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


class LazyPatches:
    """One channel of a patch set as an array of N, (Z), Y, X."""

    def __init__(self, patches: PatchArray, channel: int) -> None:
        self._patches = patches
        self._channel = channel
        self.shape = (len(patches), *patches.shape[2:])
        self.dtype = patches.dtype
        self.ndim, self.size = len(self.shape), prod(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        first, *rest = expand_key(key, self.ndim)
        patches = [self._patches[i][self._channel] for i in _indices(first, self.shape[0])]
        stacked = np.stack(patches)[(slice(None), *rest)]
        return stacked[0] if isinstance(first, int) else stacked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)


def visible_axes(layout: AxisLayout) -> str:
    """Give the axes that are shown: sample axes of more than one index, then Y and X."""
    return "".join(axis for axis in layout.sample_axes if layout.sizes[axis] > 1) + "YX"


def expand_key(key: Any, ndim: int) -> _Key:
    """Spell out an index: one int or slice for each axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    parts += [slice(None)] * (ndim - len(parts))
    return tuple(part if isinstance(part, slice) else int(part) for part in parts)


def _indices(key: int | slice, n: int) -> range:
    """Give the indices that a key selects of `n`.

    Raises
    ------
    IndexError
        If an integer is outside.
    """
    if isinstance(key, slice):
        return range(*key.indices(n))
    index = key + n if key < 0 else key
    if not 0 <= index < n:
        raise IndexError(f"Index {key} is out of bounds for an axis of {n}.")
    return range(index, index + 1)
