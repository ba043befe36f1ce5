"""Starts along one axis, and their product over a plane in the order of the source's tiles."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Edge = Literal["shift", "drop", "pad", "balance"]


def axis_starts(n: int, size: int, overlap: int, edge: Edge) -> NDArray[np.int64]:
    """Give the patch starts along an axis of `n` pixels, ascending.

    With the stride s = size - overlap and k = ceil((n - overlap) / s), at least 1:

    - "shift": 0, s, 2 s, ..., the last one moved back to n - size (as CAREamics tiles);
    - "drop": the same without a last one that would not fit;
    - "pad": the same k starts, the last patch reaching past the end;
    - "balance": k starts spread evenly, round(i (n - size) / (k - 1)).

    An axis shorter than the patch has the one start 0.
    """
    stride = size - overlap
    count = max(1, ceil((n - overlap) / stride))
    starts = np.arange(count) * stride
    if n <= size or edge == "pad":
        return starts
    if edge == "drop":
        return starts[starts <= n - size]
    if edge == "balance":
        # Halves round to even, as everywhere in NumPy.
        return np.round(np.arange(count) * (n - size) / (count - 1)).astype(np.int64)
    return np.minimum(starts, n - size)


def ordered_product(
    axes: Sequence[NDArray[np.int64]], block_shape: tuple[int, int] | None
) -> NDArray[np.int32]:
    """Combine starts along (Z)YX into rows, those that begin in one source tile together.

    Within a tile the order is that of the axes; tiles follow each other row by row.

    Returns
    -------
    ndarray
        int32, (product of the lengths, 2 or 3).
    """
    *depth, ys, xs = axes
    height, width = block_shape or (2**31, 2**31)
    zs = depth[0] if depth else np.zeros(1, np.int64)
    rows = np.empty((len(zs) * len(ys) * len(xs), len(axes)), np.int32)
    first = 0
    for y in _groups(ys, height):
        for x in _groups(xs, width):
            last = first + len(zs) * len(y) * len(x)
            box = rows[first:last].reshape(len(zs), len(y), len(x), len(axes))
            box[..., -1], box[..., -2] = x, y[:, np.newaxis]
            if depth:
                box[..., 0] = zs[:, np.newaxis, np.newaxis]
            first = last
    return rows


def _groups(starts: NDArray[np.int64], extent: int) -> list[NDArray[np.int64]]:
    """Split ascending starts by the tile that they begin in."""
    borders = np.flatnonzero(np.diff(starts // extent)) + 1
    return np.split(starts, borders)


def order_by_tile(
    sample: NDArray[np.int64], start: NDArray[np.int64], block_shape: tuple[int, int] | None
) -> NDArray[np.intp]:
    """Give the order by sample, row and column of the source tile, and start along (Z)YX.

    It is the order that `ordered_product` makes, for starts in any order, (n, 2 or 3), none of
    them negative.
    """
    if not len(start):
        return np.empty(0, np.intp)
    (*depth, ys, xs), (*_, y_last, x_last) = start.T, start.max(axis=0).tolist()
    height, width = block_shape or (y_last + 1, x_last + 1)
    n_depth = int(start[:, 0].max()) + 1 if depth else 1
    # One integer a patch sorts ten times faster than five columns do; below 2^63 for any image.
    key = sample * (y_last // height + 1) + ys // height
    key = key * (x_last // width + 1) + xs // width
    key = key * n_depth + (depth[0] if depth else 0)
    key = (key * height + ys % height) * width + xs % width
    return np.argsort(key, kind="stable")
