"""The search for a split: by whole files, sites, groups of a column, or blocks of a plane.

Each way to group the patches gives a split, the nearest to the wanted shares that whole groups
allow (`groups.assign_groups`). `SplitSearch` takes the first one that is good, else the best.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name
from napari_patchset.patching.splits.groups import (
    Codes,
    GroupName,
    Zones,
    assign_groups,
    join_groupings,
)
from napari_patchset.patching.splits.sheet_columns import WELL, value_of
from napari_patchset.patching.splits.sites import Blocks, Sites, block_sides, even_sides
from napari_patchset.source import SourceInfo

ANNOTATION = "annotation"

BY = ("auto", "file", "scene", "block", ANNOTATION, WELL)
"""What a split goes by, apart from the columns of a samples sheet."""

Grouping = Sequence[GroupName] | Blocks
"""What stays together: the group that each source is in, by name, or blocks."""

_DRAWS = 4
"""In how many orders the blocks of each size are drawn, while no split is good."""

_MOST_LOOKED_AT = 2**25
"""Patches times blockings: a million patches are not split in a thousand ways."""

MOST_LOST = 0.5
"""A split that leaves out more of the patches is refused."""

_REFUSED = 1e6
"""The cost of one, beside which any other is cheap."""

_GOOD_COST = 0.5
"""The cost, see `SplitSearch._cost`, up to which no further split is tried."""


@dataclass(frozen=True, eq=False)
class SplitSearch:
    """Find the parts of a split.

    Attributes
    ----------
    by, stratify, seed
        See `Split`.
    shares : tuple of float
        The wanted share of each part: the folds, or those that train, then validation and test.
    folds : int
        How many of the parts are folds, or train.
    spare : int
        Groups that are left, if possible, beyond one for each part that trains.
    """

    sources: Sequence[SourceInfo]
    sites: Sites
    by: str
    shares: tuple[float, ...]
    folds: int
    stratify: str | None
    seed: int
    spare: int = 0

    def groupings(self, size: tuple[int, ...]) -> Iterator[Grouping]:
        """Yield what to split by, for a patch size: what has the most independent patches first."""
        sources, sites = self.sources, self.sites
        if self.by in ("auto", "file"):
            yield [(source.key,) for source in sources]
        if self.by in ("auto", "scene"):
            yield [sites.names[i] for i in sites.index]
        if self.by not in BY or self.by == WELL:
            names = [("group", value_of(source, self.by)) for source in sources]
            yield join_groupings([("site", *sites.names[i]) for i in sites.index], names)
        if self.by in ("auto", "block", ANNOTATION):
            squares = [*block_sides(sites, size, min(self.shares))]
            yield from (Blocks(sites, side) for side in squares)
            if self.by != ANNOTATION:  # which joins blocks, and takes long for each of them
                even = [*even_sides(sites, size, self.shares)]
                yield from (Blocks(sites, side) for side in even)
                for draw, side in product(range(1, _DRAWS), even + squares):
                    yield Blocks(sites, side, draw)

    def choose(
        self, grid: PatchGrid, groupings: Iterable[Grouping], chosen: Codes | None = None
    ) -> tuple[Grouping | None, Codes | None]:
        """Return the first grouping by which the split is good, or the best one, and the codes.

        Parameters
        ----------
        chosen : int8 array or None
            For each patch 1 if it is for the test, 0 if it is to be split, or `NO_SPLIT`; None if
            all are to be split.
        """
        best: tuple[Grouping | None, Codes | None] = None, None
        least = np.inf
        rest = grid if chosen is None else grid[chosen == 0]
        tests = grid.source_index[:0] if chosen is None else grid.source_index[chosen == 1]
        for n_tried, grouping in enumerate(groupings):
            if best[1] is not None and n_tried * len(rest) > _MOST_LOOKED_AT:
                break
            codes = self._assign_by(grouping, rest, tests)
            if chosen is not None and codes is not None:
                of_rest, codes = codes, np.where(chosen == 1, np.int8(len(self.shares) - 1), chosen)
                codes[chosen == 0] = of_rest
            cost = np.inf if codes is None else self._cost(codes)
            if cost < least:
                best, least = (grouping, codes), cost
            if cost <= _GOOD_COST:
                break
        return best

    def _assign_by(
        self, grouping: Grouping, grid: PatchGrid, tests: NDArray[np.integer]
    ) -> Codes | None:
        """Return the codes of the patches by a grouping; None if it has too few groups.

        Parameters
        ----------
        tests : int array
            The source of each patch that is for the test already, and not in the grid.
        """
        shares = self.shares[self.folds : -1 if len(tests) else None]
        if isinstance(grouping, Blocks):
            zone = grouping.zones(grid)
            patches = np.bincount(zone, minlength=len(grouping.corners[0]))
            corners = grouping.corners
            if self.by == ANNOTATION:
                corners = grouping.join_outlines(grid, zone)
            zones = Zones(patches, corners, len(grouping))
            ranks = grouping.ranks(self.seed)
            of_source, of_group = grouping.sites.index, grouping.site
        else:
            numbers = {name: i for i, name in enumerate(dict.fromkeys(grouping))}
            if len(numbers) < self.folds + len(shares):  # before a million patches are looked at
                return None
            of_source = np.array([numbers[name] for name in grouping])
            of_group = np.arange(len(numbers))
            zone = of_source[grid.source_index].astype(np.int32)
            zones = Zones.of_whole_groups(np.bincount(zone, minlength=len(numbers)))
            ranks = np.array([hash_name(self.seed, *name) for name in numbers], np.uint64)
        has_enough = np.count_nonzero(zones.patches) >= self.folds + len(shares)
        if not isinstance(grouping, Blocks) and not has_enough:
            return None
        strata = self._strata(of_source)
        held = np.bincount(strata[of_source[tests]], minlength=len(strata))
        part = assign_groups(zones, ranks, strata[of_group], shares, self.folds, held, self.spare)
        codes: Codes = zones.parts(part)[zone]
        return codes

    def _strata(self, group: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the stratum of each group: the values of all of its sources."""
        values: list[set[str]] = [set() for _ in range(int(group.max()) + 1)]
        for source, i in zip(self.sources, group.tolist(), strict=True):
            values[i].add(str(self.stratify and value_of(source, self.stratify)))
        names = [tuple(sorted(each)) for each in values]
        numbers = {name: i for i, name in enumerate(sorted(set(names)))}
        return np.array([numbers[name] for name in names], np.int64)

    def _cost(self, codes: Codes) -> float:
        """Return the largest relative error of a share plus half the fraction of patches lost.

        Both are relative to the smallest part's share; infinite if one part has no patch.
        """
        counts = [np.count_nonzero(codes == code) for code in range(len(self.shares))]
        if not all(counts):
            return np.inf
        n_split, shares = sum(counts), self.shares
        errors = [abs(n / n_split - of) for n, of in zip(counts[1:], shares[1:], strict=True)]
        lost = 1 - n_split / len(codes)
        cost = (max(errors) + lost / 2) / min(shares)
        return cost if lost <= MOST_LOST else _REFUSED + cost
