"""Random and Stratified: patches drawn at random, the same ones in every run.

Each sample of a source has a random stream of its own (`random_stream`), so that its patches
depend on no other source. `Starts` are the places where its patches may start, and draws them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset.patching.areas import Area
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import draw_distinct, draw_integers, random_stream
from napari_patchset.patching.strategies.base import NO_POSITION, OVERLAPS, SelectedSource
from napari_patchset.patching.strategies.sized import SizedStrategy

MAX_ROUNDS = 10
"""Rounds of draws, of as many as are needed, before all starts in the area are listed."""

MAX_LISTED = 2**25
"""Of more starts those in the area are not listed: it would take seconds."""

MAX_TRIES = 100
"""Consecutive draws that overlap too much before drawing stops."""

_CHUNK = 2**20
_BATCH = 1024

FlatStarts = NDArray[np.int64]
Start = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Starts:
    """The places in a sample of a source where patches of one size may start.

    They are relative to the first one, along (Z)YX; a flat start is the index of one in C order.
    """

    n: Start
    """Number of starts along each axis; 0 if no patch fits."""
    origin: Start
    """The first start in the image."""
    size: Start
    """Size of a patch."""
    area: Area | None = None
    """The area that must contain all of a patch; None if that holds for every start."""

    @property
    def count(self) -> int:
        """Number of starts; of very many in an area, estimated from a million of them."""
        n_planes, n_listed = self._listed
        if self.area is None or not n_listed:
            return prod(self.n)
        if n_listed <= MAX_LISTED:
            return n_planes * len(self._inside)
        drawn = draw_integers(random_stream(0), np.full(_CHUNK, n_listed, np.uint64))
        share = Fraction(int(self.contains(drawn).sum()), _CHUNK)
        return n_planes * max(1, int(share * n_listed))

    def at(self, sample: int) -> "Starts":
        """Return the starts in one sample, whose area may differ from that of others."""
        if self.area is None or self.is_alike:
            return self
        return replace(self, area=self.area.at(sample))

    @property
    def is_alike(self) -> bool:
        """Whether they are the same in every sample."""
        return self.area is None or self.area.is_flat

    def contains(self, flat: FlatStarts) -> NDArray[np.bool_]:
        """Return whether the patch of each start lies inside of the area."""
        if self.area is None:
            return np.ones(len(flat), bool)
        start = np.stack(np.unravel_index(flat, self.n), axis=1) + self.origin
        return self.area.contains(start, self.size)

    def draw(self, stream: np.random.Philox, count: int) -> NDArray[np.int64]:
        """Draw different starts, each equally likely: ascending, (at most `count`, 2 or 3).

        There are fewer if there are no more, or if hardly any of very many lie in the area.
        """
        if self.area is None:
            flat = draw_distinct(stream, count, self.count)
        else:
            flat = self._draw_inside(stream, count)
        return np.stack(np.unravel_index(flat, self.n), axis=1)

    def draw_apart(
        self, stream: np.random.Philox, count: int, max_overlap: float
    ) -> NDArray[np.int64]:
        """Draw starts, (at most `count`, 2 or 3), none of which overlaps an earlier one by more.

        Random sequential addition: each start is uniform over the free positions, or over as many
        of them as `MAX_TRIES` draws reach. Overlap is a fraction of a patch.
        """
        drawn = _DrawnPatches(self.size, max_overlap * prod(self.size))
        starts: list[Start] = []
        rejected = 0
        for start in self._draw_one_by_one(stream):
            if drawn.can_take(start):
                drawn.add(start)
                starts.append(start)
                rejected = 0
            else:
                rejected += 1
            if len(starts) == count or rejected == MAX_TRIES:
                break
        return np.array(starts, np.int64).reshape(-1, len(self.size))

    def _draw_inside(self, stream: np.random.Philox, count: int) -> FlatStarts:
        drawn = np.empty(0, np.int64)
        for _ in range(MAX_ROUNDS):
            more = draw_integers(stream, np.full(count, prod(self.n), np.uint64))
            drawn = np.concatenate([drawn, more[self.contains(more)]])
            # Of equal starts the first, in the order drawn: to take the least would be biased.
            order = np.sort(np.unique(drawn, return_index=True)[1])
            drawn = drawn[order[:count]]
            if len(drawn) == count:
                return np.sort(drawn)
        remaining = np.setdiff1d(self._all, drawn, assume_unique=True)
        more = remaining[draw_distinct(stream, count - len(drawn), len(remaining))]
        return np.sort(np.concatenate([drawn, more]))

    def _draw_one_by_one(self, stream: np.random.Philox) -> Iterator[Start]:
        """Draw in batches, until `MAX_TRIES` batches in a row have no start in the area."""
        fruitless = 0
        while fruitless < MAX_TRIES:
            flat = draw_integers(stream, np.full(_BATCH, prod(self.n), np.uint64))
            flat = flat[self.contains(flat)]
            fruitless = 0 if len(flat) else fruitless + 1
            columns = (column.tolist() for column in np.unravel_index(flat, self.n))
            yield from zip(*columns, strict=True)

    @property
    def _listed(self) -> tuple[int, int]:
        """How many planes are alike, and the number of starts in one of these, or in all planes."""
        *depth, height, width = self.n
        if self.is_alike:
            return prod(depth), height * width
        return 1, prod(self.n)

    @cached_property
    def _inside(self) -> FlatStarts:
        """The starts in the area, those of the first plane if all are alike."""
        _, n = self._listed
        chunks = (np.arange(i, min(i + _CHUNK, n)) for i in range(0, n, _CHUNK))
        return np.concatenate([chunk[self.contains(chunk)] for chunk in chunks])

    @cached_property
    def _all(self) -> FlatStarts:
        """All starts in the area, or none if there are too many to go through."""
        if prod(self.n) > MAX_LISTED:
            return np.empty(0, np.int64)
        n_planes, n = self._listed
        planes = np.arange(n_planes) * n
        flat: FlatStarts = (planes[:, np.newaxis] + self._inside).ravel()
        return flat


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
                axes = zip(start, other, self._size, strict=True)
                if prod(max(0, p - abs(i - j)) for i, j, p in axes) > self._max_pixels:
                    return False
        return True

    def _cell(self, start: Start) -> Start:
        return tuple(s // p for s, p in zip(start, self._size, strict=True))


class _RandomStrategy(SizedStrategy):
    """Draw patches by a seed."""

    seed: int = Field(default=0, description="Random seed of the patches.")
    small: Literal["error", "skip"] = "error"

    def _starts(self, selected: SelectedSource) -> Starts:
        """Return the starts of patches, none if no patch fits."""
        n: Start = (0,) * len(self.pixels)
        if self._fits(selected, self.small):
            n = tuple(n - p + 1 for n, p in zip(selected.shape, self.pixels, strict=True))
        is_box = selected.area is None or selected.area.is_box
        return Starts(n, selected.origin, self.pixels, None if is_box else selected.area)


class Random(_RandomStrategy):
    """Draw patches uniformly from all positions inside the image, none of them twice.

    Of the n - p + 1 starts along an axis, min(i + 1, n - i, p, n - p + 1) give a patch that holds
    pixel i. So a pixel at distance i < p from the border, in an image of at least 2 p - 1 pixels,
    lies in (i + 1) / p as many patches as one inside, and in several axes in the product of that:
    the corner of a plane in 1 / (height * width) as many. Only patches that reach past the border
    could even this out, and none does.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    count : int
        Number of patches; fewer if there are not as many positions, and less those that touch
        a missing plane or the gaps of a mosaic.
    per : {"sample", "total"}
        Whether `count` applies to each sample, or to all samples of all sources together, whose
        positions are equally likely.
    seed : int
        Another seed gives other patches. A sample's patches depend on nothing else but the
        source's content, scene and sample, and with "total" on its share of `count`.
    max_overlap : float or None
        Largest overlap of two patches of a sample as a fraction of a patch, below 1. Draws that
        overlap more are drawn again; after 100 in a row the sample gets no further patches.
    small : {"error", "skip"}
        What to do with an image smaller than a patch.
    region, select, min_covered
        See `PatchStrategy`. All `count` patches are drawn inside of the region, if they fit.
    """

    kind: Literal["random"] = "random"
    count: int = Field(ge=1, description="Number of patches per plane (or volume).")
    per: Literal["sample", "total"] = "sample"
    max_overlap: float | None = Field(default=None, ge=0, lt=1)

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        sources = [selected.cropped_to_area() for selected in sources]
        starts = [self._starts(selected) for selected in sources]
        if self.per == "total":
            n_positions = [
                [each.count] if each.is_alike else [each.at(s).count for s in of.samples.tolist()]
                for each, of in zip(starts, sources, strict=True)
            ]
            counts = distribute(self.count, self.seed, sources, n_positions)
        else:
            counts = [np.full(len(selected.samples), self.count) for selected in sources]
        return [self._draw(*each) for each in zip(sources, starts, counts, strict=True)]

    def _draw(
        self, selected: SelectedSource, starts: Starts, counts: NDArray[np.int64]
    ) -> PatchGrid:
        if not prod(starts.n):
            return selected.empty_grid(self.pixels)
        drawn = []
        for sample, count in zip(selected.samples.tolist(), counts.tolist(), strict=True):
            stream = random_stream(self.seed, selected.source, sample)
            of_sample = starts.at(sample)
            if self.max_overlap is None:
                drawn.append(of_sample.draw(stream, count))
            else:
                drawn.append(of_sample.draw_apart(stream, count, self.max_overlap))
        n_drawn = np.array([len(each) for each in drawn])
        start = np.concatenate(drawn, dtype=np.int32, casting="same_kind")
        del drawn  # a million take 16 MB
        start += np.array(selected.origin)
        reason = NO_POSITION if self.max_overlap is None else OVERLAPS
        lacking = int((counts - n_drawn).sum())
        samples = np.repeat(selected.samples.astype(np.int32), n_drawn)
        return selected.grid(self.pixels, samples, start, {reason: lacking} if lacking else {})


class Stratified(_RandomStrategy):
    """Draw one patch from each cell of a grid, so that no part of the image is missed.

    The n - p + 1 starts along an axis are cut into cells of p; the last one has the remaining 1
    to p. That makes n // p cells, and each gives one start, uniformly. So a start in a last cell
    of r starts is p / r times as likely to be drawn as one elsewhere, which makes up for some of
    the border's lesser chance.

    Parameters
    ----------
    size, seed, small
        See `Random`.
    region, select, min_covered
        See `PatchStrategy`. The cells begin at the bounds of a region.
    """

    kind: Literal["stratified"] = "stratified"

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        return [self._draw(selected.cropped_to_area()) for selected in sources]

    def _draw(self, selected: SelectedSource) -> PatchGrid:
        n_starts = self._starts(selected).n
        if not prod(n_starts):
            return selected.empty_grid(self.pixels)
        self._check_count(selected, self.pixels)
        firsts = [np.arange(0, n, p) for n, p in zip(n_starts, self.pixels, strict=True)]
        cell = np.stack(np.meshgrid(*firsts, indexing="ij"), axis=-1).reshape(-1, len(firsts))
        cell_size = np.minimum(np.array(n_starts) - cell, np.array(self.pixels)).astype(np.uint64)
        streams = (random_stream(self.seed, selected.source, s) for s in selected.samples.tolist())
        drawn = [draw_integers(stream, cell_size) + cell for stream in streams]
        start = np.concatenate(drawn) + np.array(selected.origin)
        return selected.grid(self.pixels, np.repeat(selected.samples, len(cell)), start)


def distribute(
    count: int, seed: int, sources: Sequence[SelectedSource], n_positions: Sequence[Sequence[int]]
) -> list[NDArray[np.int64]]:
    """Distribute a number of patches over samples, as if drawn from the positions of all of them.

    Samples are ranked by `SelectedSource.rank`, and sample. `n_positions` has for each source the
    number of positions in each sample, or one number for all; so does what is returned.
    """
    ranked = sorted(range(len(sources)), key=lambda i: sources[i].rank)
    sizes = [np.broadcast_to(n_positions[i], len(sources[i].samples)) for i in ranked]
    ends = np.cumsum(np.concatenate(sizes), dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    drawn = draw_distinct(random_stream(seed), min(count, total), total)
    counts = np.diff(np.searchsorted(drawn, ends), prepend=0)
    if total:
        counts[0] += count - len(drawn)  # counted as lacking
    parts = np.split(counts, np.cumsum([len(each) for each in sizes])[:-1])
    return [part for _, part in sorted(zip(ranked, parts, strict=True), key=lambda pair: pair[0])]
