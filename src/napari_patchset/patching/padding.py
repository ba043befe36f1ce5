"""Padding: the image's pixels that fill a patch where it reaches past the image.

The modes are those of `numpy.pad` applied to the whole image, so a patch may be filled with pixels
of the image that it does not contain itself. `padding_indices` says which ones, `pad_patch` puts
them into the patch.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PadMode = Literal["reflect", "symmetric", "edge", "constant"]


def padding_indices(
    start: Sequence[int], size: Sequence[int], bounds: Sequence[int], mode: PadMode
) -> list[NDArray[np.int64]]:
    """Return, along each axis, the image's pixel that each pixel of a patch shows.

    Parameters
    ----------
    start, size : sequence of int
        The patch, along (Z)YX.
    bounds : sequence of int
        Size of the image along the same axes.
    """
    axes = zip(start, size, bounds, strict=True)
    return [axis_padding_indices(first, extent, n, mode) for first, extent, n in axes]


def axis_padding_indices(start: int, size: int, n: int, mode: PadMode) -> NDArray[np.int64]:
    """Return the pixel of an axis of `n` pixels that each pixel of a patch shows.

    Raises
    ------
    ValueError
        For "constant", which shows no pixel of the image.
    """
    if mode == "constant":
        raise ValueError("'constant' padding shows no pixel of the image")
    indices = np.arange(start, start + size)
    if mode == "edge" or n == 1:
        return np.clip(indices, 0, n - 1)
    period = 2 * n - 2 if mode == "reflect" else 2 * n
    mirrored = indices % period
    last = period if mode == "reflect" else period - 1
    return np.where(mirrored < n, mirrored, last - mirrored)


def pad_patch(pixels: NDArray[Any], indices: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return a patch made of the smallest box of pixels that contains all it shows.

    Parameters
    ----------
    pixels : ndarray
        The box; its last axes are those of `indices`.
    indices : list of int64 array
        The `padding_indices` of the patch.
    """
    for axis, index in enumerate(indices, pixels.ndim - len(indices)):
        pixels = np.take(pixels, index - index.min(), axis=axis)
    return pixels
