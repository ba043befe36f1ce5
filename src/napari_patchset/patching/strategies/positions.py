"""The positions in an area of any form, and chance among them."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.regions import Area
from napari_patchset.patching.streams import distinct, integers

ROUNDS = 10
"""Draws for each patch before all positions are gone through."""

MOST = 2**25
"""Of more positions not all are gone through: it would take seconds."""

_AT_ONCE = 2**20

Flat = NDArray[np.int64]
"""Positions by their number in C order along (Z)YX."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Where patches of a size may start, of which an area allows some.

    Attributes
    ----------
    area : Area
        What must hold all of a patch.
    first, n_starts : tuple of int
        The first start along (Z)YX, and how many there are.
    size : tuple of int
        Patch size along (Z)YX.
    """

    area: Area
    first: tuple[int, ...]
    n_starts: tuple[int, ...]
    size: tuple[int, ...]

    def lie_inside(self, flat: Flat) -> NDArray[np.bool_]:
        """Say which positions the area allows."""
        start = np.stack(np.unravel_index(flat, self.n_starts)[-2:], axis=1) + self.first[-2:]
        return self.area.holds(start, (self.size[-2], self.size[-1]))

    def draw(self, words: np.random.Philox, count: int) -> Flat:
        """Draw different positions that the area allows, each equally likely; ascending.

        It gives fewer if there are no more, or if of very many positions hardly any is allowed.
        """
        found = np.empty(0, np.int64)
        for _ in range(ROUNDS):
            drawn = integers(words, np.full(count, prod(self.n_starts), np.uint64))
            both = np.concatenate([found, drawn[self.lie_inside(drawn)]])
            # The first of equal ones, as they were drawn: the least would not be by chance.
            order = np.sort(np.unique(both, return_index=True)[1])
            found = both[order[:count]]
            if len(found) == count:
                return np.sort(found)
        left = np.setdiff1d(self._all, found, assume_unique=True)
        more = left[distinct(words, count - len(found), len(left))]
        return np.sort(np.concatenate([found, more]))

    @cached_property
    def _all(self) -> Flat:
        """Every position that the area allows."""
        *depth, height, width = self.n_starts
        if prod(self.n_starts) > MOST:
            return np.empty(0, np.int64)
        starts = range(0, height * width, _AT_ONCE)
        parts = (np.arange(i, min(i + _AT_ONCE, height * width)) for i in starts)
        plane = np.concatenate([part[self.lie_inside(part)] for part in parts])
        planes = np.arange(prod(depth)) * (height * width)
        found: Flat = (planes[:, np.newaxis] + plane).ravel()
        return found
