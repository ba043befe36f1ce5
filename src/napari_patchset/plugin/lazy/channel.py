"""One channel of an image as a lazy array, at each of its resolutions."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.plugin.lazy.array import BLOCK, AsyncSlicer, LazyArray
from napari_patchset.plugin.lazy.indexing import Index, as_range, as_slice, of_range
from napari_patchset.stacks.protocol import ImageStack

_REDUCED_BLOCK = 256
"""Side in pixels of a block of a lower resolution, which may take many tiles."""


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
    is_labels : bool
        Whether a copy can be painted: see `LazyArray`.
    """

    def __init__(
        self,
        stack: ImageStack,
        channels: int | list[int],
        axes: str | None = None,
        is_labels: bool = False,
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
            is_labels,
        )

    def read(self, index: Index) -> NDArray[Any]:
        """Read the selection of an index, plane by plane."""
        y = self.y_axis
        outer = [as_range(i) for i in index[:y]]
        rows, columns = (as_range(i) for i in index[y : y + 2])
        shape = (*map(len, outer), len(rows), len(columns), *self.shape[y + 2 :])
        pixels = np.empty(shape, self.dtype)
        if rows and columns:
            planes = pixels.reshape(-1, *shape[y:])
            for position, at in enumerate(product(*outer)):
                planes[position] = self._read_plane(at, rows, columns)
        selected: NDArray[Any] = pixels[tuple(of_range(i) for i in index[: y + 2])]
        return selected[(..., as_slice(index[-1]))] if self._rgb else selected

    def _read_plane(self, at: tuple[int, ...], rows: range, columns: range) -> NDArray[Any]:
        sample = self.layout.ravel(dict(zip(self.axes, at, strict=False)))
        low, high = (min(rows), min(columns)), (max(rows) + 1, max(columns) + 1)
        size = (high[0] - low[0], high[1] - low[1])
        pixels = self.stack.extract_patch(sample, self._channels, low, size)
        pixels = pixels[:, :: rows.step, :: columns.step]
        return np.moveaxis(pixels, 0, -1) if self._rgb else pixels[0]


def lazy_levels(
    stacks: Sequence[ImageStack],
    channels: int | list[int],
    axes: str | None = None,
    is_labels: bool = False,
) -> list[LazyChannel]:
    """Return a channel at each resolution; the lowest one is the substitute for missing pixels."""
    levels = [LazyChannel(stack, channels, axes, is_labels) for stack in stacks]
    slicer = AsyncSlicer([level.shape for level in levels])
    for number, level in enumerate(levels):
        level.slicer, level.level = slicer, number
    return levels


def visible_axes(layout: AxisLayout) -> str:
    """Return the axes that are shown: sample axes of more than one index, then Y and X."""
    return "".join(axis for axis in layout.sample_axes if layout.sizes[axis] > 1) + "YX"


def _block_of(stack: ImageStack) -> tuple[int, int]:
    """Return whole tiles of a source, of a size that is worth a read."""
    tile = getattr(stack, "block_shape", None)
    if tile is None:
        return _REDUCED_BLOCK, _REDUCED_BLOCK
    height, width = (max(1, n) * max(1, BLOCK // max(1, n)) for n in tile)
    return height, width
