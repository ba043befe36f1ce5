"""A CZI at lower resolution, through the pyramid that is in the file."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.base import BoundedStack, ImageStack
from napari_patchset.stacks.metadata import ImageMetadata

COARSEST = 512
"""Halving stops when the longer side of a plane is no longer than this."""

PYRAMID_BLOCK = (COARSEST, COARSEST)
"""So the coarsest plane is one read: libCZI looks through all subblocks for each."""


class FullStack(ImageStack, Protocol):
    """What a level needs of the stack at full resolution."""

    axes: str
    rect: Rect
    metadata: ImageMetadata

    def read_reduced(
        self,
        sample_idx: int,
        channel: int,
        depth: int,
        window: Rect,
        factor: int,
        out: NDArray[Any],
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor."""


class CziLevel(BoundedStack):
    """A CZI stack reduced `factor` times along Y and X; it is open as long as the full one is.

    Parameters
    ----------
    full : FullStack
        The stack at full resolution.
    factor : int
        A power of two.
    block_shape : tuple of int or None
        What is best read at once, height and width, where the file has a pyramid.
    """

    def __init__(
        self, full: FullStack, factor: int, block_shape: tuple[int, int] | None = None
    ) -> None:
        self._full = full
        self.factor = factor
        *outer, height, width = full.data_shape
        self.data_shape = [*outer, -(-height // factor), -(-width // factor)]
        self.block_shape = block_shape
        self.data_dtype = full.data_dtype
        self.source = full.source
        self.axes = full.axes
        self.original_axes = full.original_axes
        self.original_data_shape = (*full.original_data_shape[:-2], *self.data_shape[-2:])
        self.metadata = full.metadata

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        f, corner = self.factor, self._full.rect
        y, x = start[-2:]
        window = Rect(corner.x + x * f, corner.y + y * f, out.shape[-1] * f, out.shape[-2] * f)
        planes = out if out.ndim == 4 else out[:, np.newaxis]
        first = start[0] if len(start) == 3 else 0
        for channel, stack in zip(channels, planes, strict=True):
            for depth, target in enumerate(stack, first):
                self._full.read_reduced(sample_idx, channel, depth, window, f, target)


def level_factors(height: int, width: int, coarsest: int = COARSEST) -> list[int]:
    """Give the factors 1, 2, 4, ... down to a plane of at most `coarsest` pixels a side."""
    factors = [1]
    while max(height, width) > coarsest * factors[-1]:
        factors.append(2 * factors[-1])
    return factors
