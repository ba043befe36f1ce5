"""Arrays that napari slices and that read a stack only then.

Painting on pixels that lie in a file: not done, and said once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy, deepcopy
from itertools import product
from math import prod
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.lazy.indexing import (
    Index,
    as_range,
    as_slice,
    of_range,
    select,
    shape_of,
)
from napari_patchset.plugin.lazy.redraw import layers_of
from napari_patchset.plugin.lazy.slicer import AsyncSlicer
from napari_patchset.plugin.napari_compat import asked_for_drawing
from napari_patchset.stacks.protocol import ImageStack

_COPIED_BYTES = 2 * 2**30
"""What a copy of a layer may take in memory."""


def refuse_to_write(array: Any) -> NoReturn:
    """Refuse to change what a file holds; the layers that show it can't be edited from then on.

    Raises
    ------
    ArgumentError
        Always, with what to do instead.
    """
    layers = layers_of(array.arrivals)
    for layer in layers:
        layer.editable = False
    name = layers[0].name if layers else "this array"
    raise ArgumentError(
        f"{name} shows what its file holds, and that is never changed; right-click the layer, "
        "Duplicate, and paint on the copy."
    )


def in_memory(array: Any) -> NDArray[Any]:
    """Give all pixels of a lazy array, for a copy that can be painted.

    Raises
    ------
    ArgumentError
        If they take too much memory.
    """
    nbytes = array.size * array.dtype.itemsize
    if nbytes > _COPIED_BYTES:
        raise ArgumentError(
            f"A copy takes {nbytes / 2**30:.1f} GB of memory, more than the "
            f"{_COPIED_BYTES / 2**30:.0f} GB that a layer may; crop the image first."
        )
    pixels: NDArray[Any] = array.read(array.whole)
    return pixels


_BLOCK = 512
"""Pixels along a side of what is read at once, about, where the source has no larger tiles."""

_REDUCED = 256
"""The same at a lower resolution, where a block may stand for many tiles."""


class LazyArray(ABC):
    """An array that is read where it is indexed.

    Where napari slices it to draw the window, the window does not wait: what is not there yet
    comes later, and the layer is drawn again. Whoever else asks gets the pixels.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    dtype : dtype
        Of the array.
    block : sequence of int
        What is read at once, along each axis.
    plane : int
        The axis Y; X comes after it.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, block: Sequence[int], plane: int) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.ndim, self.size = len(self.shape), prod(self.shape)
        self.block, self.plane = tuple(block), plane
        self.arrivals, self.level = AsyncSlicer([self.shape]), 0

    @property
    def whole(self) -> Index:
        """The index of everything."""
        return tuple(map(range, self.shape))

    @property
    def chunks(self) -> tuple[int, ...]:
        """What napari widens its view to, so that moving a little needs no other pixels."""
        tile = range(self.plane, self.plane + 2)
        return tuple(_share(b) if i in tile else b for i, b in enumerate(self.block))

    @abstractmethod
    def read(self, index: Index) -> NDArray[Any]:
        """Read a part."""

    def __getitem__(self, key: Any) -> Any:
        part = select(self.whole, key)
        return Part(self, part) if asked_for_drawing() else self.read(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        drawn = asked_for_drawing()
        pixels = self.arrivals.show(self, self.whole) if drawn else self.read(self.whole)
        return np.asarray(pixels, dtype=dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        refuse_to_write(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Self | NDArray[Any]":
        """Read the same pixels, for a copy of the layer."""
        other = copy(self)
        other.arrivals = deepcopy(self.arrivals, memo)
        return other


class Part:
    """A part of an array for napari to draw; indexed further, nothing is read yet."""

    def __init__(self, array: LazyArray, index: Index) -> None:
        self._array, self._index = array, index
        self.shape, self.dtype = shape_of(index), array.dtype
        self.ndim, self.size = len(self.shape), prod(self.shape)

    def __getitem__(self, key: Any) -> "Part":
        return Part(self._array, select(self._index, key))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array.arrivals.show(self._array, self._index), dtype=dtype)


class LazyChannel(LazyArray):
    """One channel of a 2-D stack as an array of its sample axes, then Y and X.

    Sample axes of size 1 are left out, so that napari makes no slider for them.

    Parameters
    ----------
    stack : ImageStack
        SCYX.
    channels : int or list of int
        The channel, or the three of an RGB image, which become the last axis.
    axes : str or None
        The axes to show, ending in "YX", where those of other scenes are to be shown too.
    """

    def __init__(
        self, stack: ImageStack, channels: int | list[int], axes: str | None = None
    ) -> None:
        self.stack = stack
        self.layout = AxisLayout(stack.original_axes, tuple(stack.original_data_shape))
        self._channels = [channels] if isinstance(channels, int) else channels
        self._rgb = not isinstance(channels, int)
        self.axes = axes or visible_axes(self.layout)
        planes = [self.layout.sizes.get(axis, 1) for axis in self.axes[:-2]]
        colors = [3] if self._rgb else []
        super().__init__(
            (*planes, *stack.data_shape[-2:], *colors),
            stack.data_dtype,
            (*([1] * len(planes)), *_block_of(stack), *colors),
            len(planes),
        )

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part, plane by plane."""
        y = self.plane
        outer = [as_range(i) for i in index[:y]]
        rows, columns = (as_range(i) for i in index[y : y + 2])
        read = np.empty(
            (*map(len, outer), len(rows), len(columns), *self.shape[y + 2 :]), self.dtype
        )
        if rows and columns:
            planes = read.reshape(-1, *read.shape[y:])
            for position, at in enumerate(product(*outer)):
                planes[position] = self._plane(at, rows, columns)
        found: NDArray[Any] = read[tuple(of_range(i) for i in index[: y + 2])]
        return found[(..., as_slice(index[-1]))] if self._rgb else found

    def _plane(self, at: tuple[int, ...], rows: range, columns: range) -> NDArray[Any]:
        sample = self.layout.ravel(dict(zip(self.axes, at, strict=False)))
        low, high = (min(rows), min(columns)), (max(rows) + 1, max(columns) + 1)
        size = (high[0] - low[0], high[1] - low[1])
        pixels = self.stack.extract_patch(sample, self._channels, low, size)
        pixels = pixels[:, :: rows.step, :: columns.step]
        return np.moveaxis(pixels, 0, -1) if self._rgb else pixels[0]


def lazy_levels(
    stacks: Sequence[ImageStack],
    channels: int | list[int],
    kind: type[LazyChannel] = LazyChannel,
    axes: str | None = None,
) -> list[LazyChannel]:
    """Give a channel at each resolution; what is coarse and there stands in for what is to come."""
    levels = [kind(stack, channels, axes) for stack in stacks]
    arrivals = AsyncSlicer([level.shape for level in levels])
    for number, level in enumerate(levels):
        level.arrivals, level.level = arrivals, number
    return levels


def visible_axes(layout: AxisLayout) -> str:
    """Give the axes that are shown: sample axes of more than one index, then Y and X."""
    return "".join(axis for axis in layout.sample_axes if layout.sizes[axis] > 1) + "YX"


def _block_of(stack: ImageStack) -> tuple[int, int]:
    """Give whole tiles of a source, of a size that is worth a read."""
    tile = getattr(stack, "block_shape", None)
    if tile is None:
        return _REDUCED, _REDUCED
    height, width = (max(1, n) * max(1, _BLOCK // max(1, n)) for n in tile)
    return height, width


def _share(block: int) -> int:
    """Divide a tile into parts of about the size of a block."""
    return -(-block // max(1, block // _BLOCK))
