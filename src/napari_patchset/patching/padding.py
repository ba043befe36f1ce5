"""Where the pixels of a patch come from when it reaches past the image."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PadMode = Literal["reflect", "symmetric", "edge", "constant"]


def source_indices(start: int, size: int, n: int, mode: PadMode) -> NDArray[np.int64]:
    """Give, for each pixel of a patch along an axis, the image pixel that it shows.

    The modes are those of `numpy.pad` on the whole image of `n` pixels, so a patch is padded
    with the image's own pixels, also those that the patch itself does not hold.

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
    folded = indices % period
    last = period if mode == "reflect" else period - 1
    return np.where(folded < n, folded, last - folded)


def folded_indices(
    start: Sequence[int], size: Sequence[int], bounds: Sequence[int], pad: PadMode
) -> list[NDArray[np.int64]]:
    """Give the image's pixels that a patch shows, along each axis."""
    axes = zip(start, size, bounds, strict=True)
    return [source_indices(first, extent, n, pad) for first, extent, n in axes]


def fold(pixels: NDArray[Any], shown: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Fill a patch from the box that holds what it shows; its last axes are those of `shown`."""
    for axis, index in enumerate(shown, pixels.ndim - len(shown)):
        pixels = np.take(pixels, index - index.min(), axis=axis)
    return pixels
