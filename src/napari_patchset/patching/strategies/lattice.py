"""Starts along one axis, and their product over a plane in the order of the source's tiles."""

from collections.abc import Sequence
from math import ceil, prod
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
        int32, (product of the lengths, 2 or 3), each column in one piece.
    """
    *depth, ys, xs = (starts.astype(np.int32) for starts in axes)
    height, width = block_shape or (2**31 - 1, 2**31 - 1)
    columns = np.empty((len(axes), prod(map(len, axes))), np.int32)
    bands: dict[int, Band] = {}
    first = 0
    for y in _groups(ys, height):
        if len(y) not in bands:
            bands[len(y)] = _band([*map(len, depth), len(y), len(xs)], _groups(xs, width))
        *z, row, x = bands[len(y)]
        last = first + len(row)
        for column, starts, at in zip(columns, (*depth, y, xs), (*z, row, x), strict=True):
            starts.take(at, out=column[first:last], mode="clip")
        first = last
    return columns.T


Band = list[NDArray[np.intp]]
"""The indices along (Z)YX of all starts of a row of tiles, in their order."""


def _band(shape: Sequence[int], across: Sequence[NDArray[np.int32]]) -> Band:
    borders = np.cumsum([len(xs) for xs in across])[:-1]
    grids = np.broadcast_arrays(*np.ix_(*map(np.arange, shape)))
    return [
        np.concatenate([box.ravel() for box in np.split(grid, borders, axis=-1)]) for grid in grids
    ]


def _groups(starts: NDArray[np.int32], extent: int) -> list[NDArray[np.int32]]:
    """Split ascending starts by the tile that they begin in."""
    borders = np.flatnonzero(np.diff(starts // extent)) + 1
    return np.split(starts, borders)


def sorted_by_tile(
    sample: NDArray[np.integer], start: NDArray[np.integer], block_shape: tuple[int, int] | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sort by sample, row and column of the source tile, and start along (Z)YX.

    It is the order that `ordered_product` makes, for starts in any order, (n, 2 or 3), none of
    them negative.

    Returns
    -------
    sample : int32 array
        The samples, sorted.
    start : int32 array
        The starts, each column in one piece.
    """
    if not len(start):
        return sample.astype(np.int32), start.astype(np.int32)
    (*depth, ys, xs), last = start.T, start.max(axis=0).tolist()
    height, width = block_shape or (last[-2] + 1, last[-1] + 1)
    rows, columns = last[-2] // height + 1, last[-1] // width + 1
    n_depth = last[0] + 1 if depth else 1
    # One integer a patch: numbers sort ten times faster than rows, and hold all that is sorted.
    # Below 2^63 for any image. In place, as a million take 8 MB.
    key = sample * np.int64(rows)
    key += ys // height
    key *= columns
    key += xs // width
    key *= n_depth
    key += depth[0] if depth else 0
    key *= height
    key += ys % height
    key *= width
    key += xs % width
    key.sort()
    of, row, column, z, y, x = _digits(key, (rows, columns, n_depth, height, width))
    spatial = [z, row * np.int32(height) + y, column * np.int32(width) + x]
    return of, np.stack(spatial[-start.shape[1] :]).T


def _digits(numbers: NDArray[np.int64], bases: Sequence[int]) -> list[NDArray[np.int32]]:
    """Take numbers apart, the digit of the last base being the least; what is left comes first."""
    digits = []
    for base in reversed(bases):
        digits.append((numbers % base).astype(np.int32))
        numbers = numbers // base
    return [numbers.astype(np.int32), *reversed(digits)]
