"""Random and Stratified: patches drawn by chance, the same ones every time.

Random starts that keep apart, one after the other.

The positions in an area of any form, and chance among them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import distinct, integers, stream
from napari_patchset.patching.regions import Area
from napari_patchset.patching.strategies.base import NO_POSITION, OVERLAPS, InBounds, Part, Sized

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


class _Drawn(InBounds, Sized):
    """Draw patches from a stream of their own for each seed, source key, scene and sample."""

    seed: int = 0
    small: Literal["error", "skip"] = "error"

    def _n_starts(self, part: Part) -> tuple[int, ...]:
        """Give the number of starts along each axis; 0 where no patch fits."""
        if not self._fits(part, self.small):
            return (0,) * len(self.size)
        return tuple(n - p + 1 for n, p in zip(part.shape, self.size, strict=True))


class Random(_Drawn):
    """Draw patches uniformly from all positions inside the image, none of them twice.

    Of the n - p + 1 starts along an axis, min(i + 1, n - i, p, n - p + 1) give a patch that holds
    pixel i. So a pixel at distance i < p from the border, in an image of at least 2 p - 1 pixels,
    lies in (i + 1) / p as many patches as one inside, and in several axes in the product of that:
    the corner of a plane in 1 / (height * width) as many. Patches reach past the border in no
    case, which would make this equal.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    count : int
        Number of patches; fewer where there are not as many positions, and less those that touch
        a missing plane or the gaps of a mosaic.
    per : {"sample", "total"}
        Whether so many in each sample, or in all samples of all sources together, in proportion
        to their numbers of positions.
    seed : int
        Another seed gives other patches. A sample's patches depend on nothing else but the
        source's content, scene and sample, and with "total" on how many fall to it.
    max_overlap : float or None
        Largest overlap of two patches of a sample as a fraction of a patch, below 1. Draws that
        overlap more are drawn again, up to 100 times; then no more are drawn.
    small : {"error", "skip"}
        What to do with an image smaller than a patch.
    region, select, min_covered
        See `PatchStrategy`. All `count` patches are drawn inside of the region, if it has room.
    """

    kind: Literal["random"] = "random"
    count: int = Field(ge=1)
    per: Literal["sample", "total"] = "sample"
    max_overlap: float | None = Field(default=None, ge=0, lt=1)

    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        parts = [part.near_area() for part in parts]
        n_starts = [self._n_starts(part) for part in parts]
        n_positions = [prod(n) for n in n_starts]
        if self.per == "total":
            counts = share(self.count, parts, n_positions)
        else:
            counts = [np.full(len(part.samples), self.count) for part in parts]
        return [self._draw(*args) for args in zip(parts, n_starts, counts, strict=True)]

    def _draw(self, part: Part, n_starts: tuple[int, ...], counts: NDArray[np.int64]) -> PatchGrid:
        if not prod(n_starts):
            return part.empty(self.size)
        positions = None
        if part.area is not None and not part.area.is_box:
            positions = Positions(part.area, part.first, n_starts, self.size)
        drawn = [
            self._draw_one(stream(self.seed, part.source, sample), n_starts, count, positions)
            for sample, count in zip(part.samples.tolist(), counts.tolist(), strict=True)
        ]
        found = np.array([len(starts) for starts in drawn])
        start = np.concatenate(drawn, dtype=np.int32, casting="same_kind")
        del drawn  # a million take 16 MB
        start += np.array(part.first)
        reason = NO_POSITION if self.max_overlap is None else OVERLAPS
        lacking = int((counts - found).sum())
        dropped = {reason: lacking} if lacking else {}
        return part.grid(self.size, np.repeat(part.samples.astype(np.int32), found), start, dropped)

    def _draw_one(
        self,
        words: np.random.Philox,
        n_starts: tuple[int, ...],
        count: int,
        positions: Positions | None,
    ) -> NDArray[np.int64]:
        if self.max_overlap is not None:
            return spread(words, n_starts, self.size, count, self.max_overlap, positions)
        if positions is None:
            flat = distinct(words, count, prod(n_starts))
        else:
            flat = positions.draw(words, count)
        return np.stack(np.unravel_index(flat, n_starts), axis=1)


class Stratified(_Drawn):
    """Draw one patch from each cell of a grid, so that chance leaves no part of the image out.

    The n - p + 1 starts along an axis are cut into cells of p; the last one holds what is left, 1
    to p. That makes n // p cells, and each gives one start, uniformly. So a start in a last cell
    of r starts is p / r times as likely to be drawn as one elsewhere, which makes up for some of
    the border's lesser chance.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    seed : int
        Another seed gives other patches; see `Random`.
    small : {"error", "skip"}
        What to do with an image smaller than a patch.
    region, select, min_covered
        See `PatchStrategy`. The cells begin at the bounds of a region.
    """

    kind: Literal["stratified"] = "stratified"

    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        return [self._plan_one(part.near_area()) for part in parts]

    def _plan_one(self, part: Part) -> PatchGrid:
        n_starts = self._n_starts(part)
        if not prod(n_starts):
            return part.empty(self.size)
        self._require_few(part, self.size)
        firsts = [np.arange(0, n, p) for n, p in zip(n_starts, self.size, strict=True)]
        first = np.stack(np.meshgrid(*firsts, indexing="ij"), axis=-1).reshape(-1, len(firsts))
        left = np.minimum(np.array(n_starts) - first, np.array(self.size)).astype(np.uint64)
        samples = part.samples.tolist()
        drawn = [integers(stream(self.seed, part.source, s), left) + first for s in samples]
        start = np.concatenate(drawn) + np.array(part.first)
        return part.grid(self.size, np.repeat(part.samples, len(first)), start)


def share(count: int, parts: Sequence[Part], n_positions: Sequence[int]) -> list[NDArray[np.int64]]:
    """Distribute a number of patches over samples in proportion to their positions.

    By largest remainder; equal remainders go by source key, scene and sample, so that the order
    of the sources has no part in it.

    Returns
    -------
    list of ndarray
        For each part, the number of patches of each sample.
    """
    total = sum(n * len(part.samples) for n, part in zip(n_positions, parts, strict=True))
    if not total:
        return [np.zeros(len(part.samples), np.int64) for part in parts]
    counts = [
        np.full(len(part.samples), count * n // total, np.int64)
        for n, part in zip(n_positions, parts, strict=True)
    ]
    left = count - sum(int(each.sum()) for each in counts)
    remainders = [count * n % total for n in n_positions]
    for _, which, i in sorted(_by_remainder(parts, remainders))[:left]:
        counts[which][i] += 1
    return counts


def _by_remainder(
    parts: Sequence[Part], remainders: Sequence[int]
) -> Iterator[tuple[tuple[int, str, str, int], int, int]]:
    for which, (part, remainder) in enumerate(zip(parts, remainders, strict=True)):
        for i, sample in enumerate(part.samples.tolist()):
            rank = (-remainder, part.source.key, repr(part.source.scene), sample)
            yield rank, which, i
