"""Sums over many boxes of a plane at once, from one table (Crow, 1984: summed areas)."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Indices = NDArray[np.integer[Any]]


def sum_table(values: NDArray[Any], dtype: DTypeLike = np.int64) -> NDArray[Any]:
    """Sum what lies above and to the left of each corner of the values, YX: one more each way."""
    table = np.zeros((len(values) + 1, values.shape[1] + 1), dtype)
    values.cumsum(axis=0, dtype=dtype).cumsum(axis=1, out=table[1:, 1:])
    return table


def sums_inside(
    table: NDArray[Any], top: Indices, left: Indices, bottom: Indices, right: Indices
) -> NDArray[Any]:
    """Sum inside of boxes, given by their corners."""
    found: NDArray[Any] = table[bottom, right] - table[top, right]
    found -= table[bottom, left]
    found += table[top, left]
    return found
