"""Groups of patches that stay together, and the part of a split that each of them is in.

Which groups are in a part is decided by a hash of each (its rank) as long as that comes near to the
wanted share; `choose_groups` then takes those that come nearest. `deal_folds` deals groups to folds
of even size. Strata are parted one after the other, and what one of them has too much or too
little, the next one makes up for.

The nearest share is a subset sum: the sums of some of the first k groups are a set of integers, and
so the bits of one integer, from which those of k + 1 groups follow by a shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Codes = NDArray[np.int8]
Ranks = NDArray[np.uint64]

TRAINING, VALIDATION, TEST = "train", "val", "test"
"""The names of the splits."""

NO_SPLIT = -1
"""The code of a patch that is in no part, as it shares pixels with several."""

GroupName = tuple[int | str | None, ...]

_MAX_SUMS = 2**28
"""Most bits, of sums by groups, that are searched for the nearest share; they take 32 MB."""


@dataclass(frozen=True, eq=False)
class Zones:
    """Patches by the groups that they have pixels in: those of one zone have the same.

    Attributes
    ----------
    patches : int64 array
        Number of patches in each zone.
    corners : four int64 arrays
        The group of the upper left, upper right, lower left and lower right corner of the patches
        of each zone.
    n_groups : int
        Number of groups.
    """

    patches: Counts
    corners: tuple[Counts, Counts, Counts, Counts]
    n_groups: int

    @classmethod
    def of_whole_groups(cls, patches: Counts) -> "Zones":
        """Return the zones of groups that no patch lies across, by the patches in each."""
        group = np.arange(len(patches))
        return cls(patches, (group, group, group, group), len(patches))

    def parts(self, part: Codes) -> Codes:
        """Return the part of each zone, `NO_SPLIT` across several, from that of each group."""
        a, b, c, d = (part[corner] for corner in self.corners)
        return np.where((a == b) & (a == c) & (a == d), a, np.int8(NO_SPLIT))

    def count(self, patches: Counts) -> tuple[Counts, Counts]:
        """Count the patches that lie in each group only, and those that touch it.

        Parameters
        ----------
        patches : int64 array
            The number of patches in each zone that count.
        """
        a, b, c, d = self.corners
        touching = self._sum(a, patches) + self._sum(b, patches * (b != a))
        touching += self._sum(c, patches * (c != a)) + self._sum(d, patches * ((d != b) & (d != c)))
        return self._sum(a, patches * (a == d)), touching

    def _sum(self, groups: Counts, patches: Counts) -> Counts:
        return np.bincount(groups, patches, self.n_groups).astype(np.int64)


def assign_groups(
    zones: Zones,
    ranks: Ranks,
    strata: Counts,
    shares: Sequence[float],
    folds: int,
    held: Counts,
    spare: int = 0,
) -> Codes:
    """Return the part of each group.

    Parameters
    ----------
    strata : int64 array
        The stratum of each group, ordered as they are parted; the groups at the four corners of a
        patch are of one stratum.
    shares : sequence of float
        The wanted shares of the last parts; they are chosen last one first.
    folds : int
        Number of parts that share the rest evenly.
    held : int64 array
        Patches of each stratum that are held back already and count for the shares, but are in no
        zone.
    spare : int
        Groups that are left, if possible, beyond one for each other part.
    """
    part = np.zeros(zones.n_groups, np.int8)
    for after, share in reversed(list(enumerate(shares))):
        # Until the folds are dealt, part 0 holds their groups.
        n_left = folds + after + spare
        part[_choose(zones, part, ranks, strata, share, n_left, held)] = folds + after
    if folds > 1:
        rest = zones.parts(part) == 0
        sizes, _ = zones.count(np.where(rest, zones.patches, 0))
        of_rest = part == 0
        part[of_rest] = deal_folds(sizes[of_rest], ranks[of_rest], strata[of_rest], folds)
    return part


def _choose(
    zones: Zones,
    part: Codes,
    ranks: Ranks,
    strata: Counts,
    share: float,
    n_left: int,
    held: Counts,
) -> NDArray[np.bool_]:
    """Choose groups of part 0 for one more part, and leave groups for `n_left` parts."""
    of_zone = zones.parts(part)
    rest = np.where(of_zone == 0, zones.patches, 0)
    inside, touching = zones.count(rest)
    stratum = strata[zones.corners[0]]
    names = np.unique(strata)
    chosen, missing = np.zeros(zones.n_groups, bool), 0.0
    if len(names) > 1:
        for name in names.tolist():
            n_rest = int(rest[stratum == name].sum())
            n_split = n_rest + int(zones.patches[(stratum == name) & (of_zone > 0)].sum())
            n_split += int(held[name])
            members = np.flatnonzero((strata == name) & (inside > 0))
            target = share * n_split + missing
            chosen[members], missing = _choose_near(
                inside[members], touching[members], n_rest, ranks[members], target
            )
    if not chosen.any() or np.count_nonzero((inside > 0) & ~chosen) < n_left:
        n_rest, n_others = int(rest.sum()), int(zones.patches[of_zone > 0].sum() + held.sum())
        wanted = share * (n_rest + n_others) / max(n_rest, 1) if n_others else share
        most = 1 - 0.5 / max(n_rest, 1)
        chosen = choose_groups(inside, touching, n_rest, ranks, min(wanted, most))
    if n_left > 1:  # one is left by every choice
        smallest = np.flatnonzero(chosen)
        smallest = smallest[np.lexsort((ranks[smallest], inside[smallest]))]
        lacking = n_left - np.count_nonzero((inside > 0) & ~chosen)
        chosen[smallest[: max(0, min(lacking, len(smallest) - 1))]] = False
    return chosen


def _choose_near(
    inside: Counts, touching: Counts, n_patches: int, ranks: Ranks, target: float
) -> tuple[NDArray[np.bool_], float]:
    """Choose groups that have nearly `target` patches, perhaps none or all; and what is missing."""
    choices = [np.zeros(len(inside), bool), np.ones(len(inside), bool)]
    if 0 < target < n_patches:
        choices.append(choose_groups(inside, touching, n_patches, ranks, target / n_patches))
    chosen = min(choices, key=lambda each: abs(int(inside[each].sum()) - target))
    return chosen, target - int(inside[chosen].sum())


def deal_folds(sizes: Counts, ranks: Ranks, strata: Counts, folds: int) -> Codes:
    """Deal groups to folds that have nearly the same number of patches, in each stratum and in all.

    Of each stratum, the groups go one by one, the largest first, to the smallest hand; then the
    largest hand goes to the smallest fold. So two folds never differ by more than the largest
    group, neither in a stratum nor in all (Graham, 1969, doi:10.1137/0117039).
    """
    fold, totals = np.zeros(len(sizes), np.int8), np.zeros(folds, np.int64)
    for stratum in np.unique(strata).tolist():
        members = np.flatnonzero((strata == stratum) & (sizes > 0))
        members = members[np.lexsort((ranks[members], -sizes[members]))]
        hands, hand = np.zeros(folds, np.int64), np.empty(len(members), np.int64)
        for i, size in enumerate(sizes[members].tolist()):
            hand[i] = hands.argmin()
            hands[hand[i]] += size
        fold_of = np.empty(folds, np.int64)
        fold_of[np.argsort(-hands, kind="stable")] = np.argsort(totals, kind="stable")
        fold[members] = fold_of[hand]
        totals[fold_of] += hands
    return fold


def choose_groups(
    inside: Counts, touching: Counts, n_patches: int, ranks: Ranks, share: float
) -> NDArray[np.bool_]:
    """Choose the groups whose patches are one part of a split, in the order of their ranks.

    A group is chosen if it brings the share of the part nearer to `share` and leaves a patch for
    the rest. If none does, the group is chosen that comes nearest alone. Where no patch lies in two
    groups, others are chosen if they come nearer.

    Parameters
    ----------
    inside : int64 array
        Patches that lie in each group only: they are in the part if it is chosen.
    touching : int64 array
        Patches that lie in each group at all: they can't be in the rest if it is chosen.
    n_patches : int
        All patches.
    ranks : uint64 array
        The rank of each group.

    Returns
    -------
    ndarray
        bool, which groups are chosen; none if there is no choice.
    """
    chosen = np.zeros(len(inside), bool)
    possible = np.flatnonzero((inside > 0) & (touching < n_patches))
    order = possible[np.argsort(ranks[possible], kind="stable")]
    n_part = n_not_rest = 0
    least = share
    for group, gained, lost in zip(order.tolist(), inside[order], touching[order], strict=True):
        n_rest = n_patches - n_not_rest - int(lost)
        if n_rest > 0 and (error := abs(_share(n_part + int(gained), n_rest) - share)) < least:
            chosen[group] = True
            n_part, n_not_rest, least = n_part + int(gained), n_not_rest + int(lost), error
        if _share(n_part, n_patches - n_not_rest) >= share:
            break
    if not n_part and len(order):
        alone = inside[order] / (n_patches - touching[order] + inside[order])
        chosen[order[np.argmin(np.abs(alone - share))]] = True
    if np.array_equal(inside, touching) and len(order):
        chosen[order] = _nearest_groups(inside[order], chosen[order], share)
    return chosen


def _nearest_groups(sizes: Counts, chosen: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return groups that come nearest to the share, the same ones if none do better.

    Of many groups of many patches, single ones are exchanged as long as that helps.
    """
    unit, total = int(np.gcd.reduce(sizes)), int(sizes.sum())
    target = share * total
    error = abs(int(sizes[chosen].sum()) - target)
    if error <= unit / 2:
        return chosen
    if len(sizes) * (total // unit) > _MAX_SUMS:
        return _exchange_groups(sizes, chosen, target)
    sums = [1]  # bit k: whether some of the first groups have k units of patches together
    for size in (sizes // unit).tolist():
        sums.append(sums[-1] | sums[-1] << size)
    middle, last = int(target / unit), total // unit
    below = sums[-1] & ((1 << middle + 1) - 2)
    above = (sums[-1] & ((1 << last) - 1)) >> middle + 1
    nearest = [below.bit_length() - 1] if below else []
    nearest += [middle + (above & -above).bit_length()] if above else []
    if not nearest:  # one group, as the rest of the patches lie across
        return chosen
    best = min(nearest, key=lambda n: abs(n * unit - target))
    if not abs(best * unit - target) < error:
        return chosen
    chosen = np.zeros(len(sizes), bool)
    for i in reversed(range(len(sizes))):
        if not sums[i] >> best & 1:
            chosen[i] = True
            best -= int(sizes[i]) // unit
    return chosen


def _exchange_groups(sizes: Counts, chosen: NDArray[np.bool_], target: float) -> NDArray[np.bool_]:
    """Add, remove or swap one group at a time, as long as that comes nearer to a sum."""
    chosen = chosen.copy()
    while True:
        missing = target - sizes[chosen].sum()
        leaving, coming = (np.unique(np.append(sizes[of], 0)) for of in (chosen, ~chosen))
        # For each size that may leave, the two that come nearest to taking its place.
        after = np.searchsorted(coming, leaving + missing).clip(1, len(coming) - 1)
        pairs = [
            (abs(leaving[i] + missing - coming[j]), leaving[i], coming[j])
            for i in range(len(leaving))
            for j in (after[i] - 1, after[i])
            if 0 < sizes[chosen].sum() - leaving[i] + coming[j] < sizes.sum()
        ]
        error, out, back = min(pairs, default=(np.inf, 0, 0))
        if not error < abs(missing):
            return chosen
        for size, of in ((out, chosen), (back, ~chosen)):
            if size:
                chosen[np.flatnonzero(of & (sizes == size))[0]] ^= True


def _share(n_part: int, n_rest: int) -> float:
    return n_part / (n_part + n_rest)


def join_groupings(*groupings: Sequence[GroupName]) -> list[GroupName]:
    """Return the groups of those that are in one group by any of the groupings.

    Each has the least name of its members, whatever their order.
    """
    names = sorted({name for names in groupings for name in names}, key=repr)
    numbers = {name: i for i, name in enumerate(names)}
    by = [np.array([numbers[name] for name in grouping]) for grouping in groupings]
    joined, before = by[0], np.empty(0, np.int64)
    while not np.array_equal(joined, before):
        before = joined
        for of_each in by:
            least = np.full(len(names), len(names))
            np.minimum.at(least, of_each, joined)
            joined = least[of_each]
    return [names[i] for i in joined.tolist()]
