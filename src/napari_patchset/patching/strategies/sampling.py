"""Random starts of patches: inside of an area of any shape, or with a limited overlap.

Starts are relative to the selected box, along (Z)YX; a flat start is the index of one in C order
among all `n_starts`.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.random_streams import draw_distinct, draw_integers
from napari_patchset.patching.regions import Area

MAX_ROUNDS = 10
"""Rounds of draws, of as many as are needed, before all starts in the area are listed."""

MAX_LISTED = 2**25
"""Of more starts those in the area are not listed: it would take seconds."""

MAX_TRIES = 100
"""Draws in a row that overlap too much before no more patches are drawn."""

_CHUNK = 2**20
_BATCH = 1024

FlatStarts = NDArray[np.int64]
Start = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StartsInArea:
    """The starts whose patch lies inside of an area.

    Attributes
    ----------
    area : Area
        The area that must contain all of a patch.
    origin, n_starts : tuple of int
        The first start along (Z)YX in the image, and the number of them.
    size : tuple of int
        Patch size along (Z)YX.
    """

    area: Area
    origin: Start
    n_starts: Start
    size: Start

    def contains(self, flat: FlatStarts) -> NDArray[np.bool_]:
        """Whether the patch of each start lies inside of the area."""
        start = np.stack(np.unravel_index(flat, self.n_starts)[-2:], axis=1) + self.origin[-2:]
        return self.area.contains(start, (self.size[-2], self.size[-1]))

    def draw(self, stream: np.random.Philox, count: int) -> FlatStarts:
        """Draw different starts, each equally likely; ascending.

        There are fewer if the area has no more, or if hardly any of very many starts lie in it.
        """
        drawn = np.empty(0, np.int64)
        for _ in range(MAX_ROUNDS):
            more = draw_integers(stream, np.full(count, prod(self.n_starts), np.uint64))
            drawn = np.concatenate([drawn, more[self.contains(more)]])
            # Of equal starts the first, in the order drawn: to take the least would be biased.
            order = np.sort(np.unique(drawn, return_index=True)[1])
            drawn = drawn[order[:count]]
            if len(drawn) == count:
                return np.sort(drawn)
        remaining = np.setdiff1d(self._all, drawn, assume_unique=True)
        more = remaining[draw_distinct(stream, count - len(drawn), len(remaining))]
        return np.sort(np.concatenate([drawn, more]))

    @cached_property
    def _all(self) -> FlatStarts:
        """All starts in the area, or none if there are too many to go through."""
        *depth, height, width = self.n_starts
        if prod(self.n_starts) > MAX_LISTED:
            return np.empty(0, np.int64)
        in_plane = height * width
        chunks = (np.arange(i, min(i + _CHUNK, in_plane)) for i in range(0, in_plane, _CHUNK))
        plane = np.concatenate([chunk[self.contains(chunk)] for chunk in chunks])
        planes = np.arange(prod(depth)) * in_plane
        flat: FlatStarts = (planes[:, np.newaxis] + plane).ravel()
        return flat


def draw_apart(
    stream: np.random.Philox,
    n_starts: Start,
    size: Start,
    count: int,
    max_overlap: float,
    allowed: StartsInArea | None = None,
) -> NDArray[np.int64]:
    """Draw starts one by one, none of which overlaps an earlier one by more than a fraction.

    Random sequential addition: each start is uniform over the free positions, or over as many of
    them as `MAX_TRIES` draws reach.

    Parameters
    ----------
    n_starts, size : tuple of int
        Number of starts and patch size along (Z)YX.
    max_overlap : float
        Largest overlap of two patches, as a fraction of a patch.
    allowed : StartsInArea or None
        The starts to draw from; None for all.

    Returns
    -------
    ndarray
        int64, (at most `count`, 2 or 3).
    """
    drawn = _DrawnPatches(size, max_overlap * prod(size))
    starts: list[Start] = []
    rejected = 0
    for start in _draws(stream, n_starts, allowed):
        if drawn.can_take(start):
            drawn.add(start)
            starts.append(start)
            rejected = 0
        else:
            rejected += 1
        if len(starts) == count or rejected == MAX_TRIES:
            break
    return np.array(starts, np.int64).reshape(-1, len(size))


class _DrawnPatches:
    """Patches by the cell, of the size of a patch, that they start in.

    Only patches in adjoining cells can overlap.
    """

    def __init__(self, size: Start, max_pixels: float) -> None:
        self._size, self._max_pixels = size, max_pixels
        self._cells: defaultdict[Start, list[Start]] = defaultdict(list)
        self._steps = list(product((-1, 0, 1), repeat=len(size)))

    def add(self, start: Start) -> None:
        self._cells[self._cell(start)].append(start)

    def can_take(self, start: Start) -> bool:
        cell = self._cell(start)
        for step in self._steps:
            near = tuple(c + s for c, s in zip(cell, step, strict=True))
            for other in self._cells.get(near, ()):
                if self._overlap(start, other) > self._max_pixels:
                    return False
        return True

    def _cell(self, start: Start) -> Start:
        return tuple(s // p for s, p in zip(start, self._size, strict=True))

    def _overlap(self, a: Start, b: Start) -> int:
        axes = zip(a, b, self._size, strict=True)
        return prod(max(0, p - abs(i - j)) for i, j, p in axes)


def _draws(
    stream: np.random.Philox, n_starts: Start, allowed: StartsInArea | None
) -> Iterator[Start]:
    """Draw starts in batches, until `MAX_TRIES` batches in a row have none that is allowed."""
    fruitless = 0
    while fruitless < MAX_TRIES:
        flat = draw_integers(stream, np.full(_BATCH, prod(n_starts), np.uint64))
        if allowed is not None:
            flat = flat[allowed.contains(flat)]
        fruitless = 0 if len(flat) else fruitless + 1
        columns = (column.tolist() for column in np.unravel_index(flat, n_starts))
        yield from zip(*columns, strict=True)
