"""Random starts that keep apart, one after the other."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.strategies.positions import Positions
from napari_patchset.patching.streams import integers

TRIES = 100
"""Draws for one patch before it is given up, and with it all further ones."""

_BATCH = 1024

Start = tuple[int, ...]


def spread(
    words: np.random.Philox,
    n_starts: Start,
    size: Start,
    count: int,
    max_overlap: float,
    positions: Positions | None = None,
) -> NDArray[np.int64]:
    """Draw starts one by one, none of which overlaps an earlier one by more than a fraction.

    Random sequential addition: each is uniform over what is still free, or over as much of it as
    `TRIES` draws find.

    Parameters
    ----------
    n_starts, size : tuple of int
        Number of starts and patch size along (Z)YX.
    max_overlap : float
        Largest overlap of two patches, in patches.
    positions : Positions or None
        Says which of the starts an area allows; None for all.

    Returns
    -------
    ndarray
        int64, (at most `count`, 2 or 3).
    """
    found = _Neighbours(size, max_overlap * prod(size))
    starts: list[Start] = []
    rejected = 0
    for start in _draws(words, n_starts, positions):
        if found.leaves_room(start):
            found.add(start)
            starts.append(start)
            rejected = 0
        else:
            rejected += 1
        if len(starts) == count or rejected == TRIES:
            break
    return np.array(starts, np.int64).reshape(-1, len(size))


class _Neighbours:
    """Starts by cell of patch size: only those of adjoining cells can overlap."""

    def __init__(self, size: Start, limit: float) -> None:
        self._size, self._limit = size, limit
        self._cells: defaultdict[Start, list[Start]] = defaultdict(list)
        self._steps = list(product((-1, 0, 1), repeat=len(size)))

    def add(self, start: Start) -> None:
        self._cells[self._cell(start)].append(start)

    def leaves_room(self, start: Start) -> bool:
        cell = self._cell(start)
        for step in self._steps:
            near = tuple(c + s for c, s in zip(cell, step, strict=True))
            for other in self._cells.get(near, ()):
                if self._overlap(start, other) > self._limit:
                    return False
        return True

    def _cell(self, start: Start) -> Start:
        return tuple(s // p for s, p in zip(start, self._size, strict=True))

    def _overlap(self, a: Start, b: Start) -> int:
        sides = zip(a, b, self._size, strict=True)
        return prod(max(0, p - abs(i - j)) for i, j, p in sides)


def _draws(
    words: np.random.Philox,
    n_starts: Start,
    positions: Positions | None,
) -> Iterator[Start]:
    """Draw starts until none of many is allowed."""
    fruitless = 0
    while fruitless < TRIES:
        flat = integers(words, np.full(_BATCH, prod(n_starts), np.uint64))
        if positions is not None:
            flat = flat[positions.lie_inside(flat)]
        fruitless = 0 if len(flat) else fruitless + 1
        columns = (column.tolist() for column in np.unravel_index(flat, n_starts))
        yield from zip(*columns, strict=True)
