"""Split: which patches train and which validate, without a pixel in common.

A split keeps groups together: whole files, whole sites (scenes that overlap on the stage), or
blocks, rectangles that a site is cut into. `choose_groups` picks the groups that validate by a
hash, as many as come nearest to the share. A patch in blocks of both splits is in neither.

The nearest share is a subset sum: the sums of some of the first k groups are a set of integers, and
so the bits of one integer, from which those of k + 1 groups follow by a shift.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name
from napari_patchset.patching.sites import Blocks, Counts, block_sides, find_sites
from napari_patchset.source import SourceInfo

SPLITS = ("train", "val")
"""The names of the splits, by code."""

TRAIN, VAL = 0, 1

ALL = ("all",)
"""The names if nothing is split."""

NO_SPLIT = -1
"""The code of a patch that is in no split, as it shares pixels with both."""

_CODES_BY_CORNERS = np.array([TRAIN, NO_SPLIT, NO_SPLIT, NO_SPLIT, VAL], np.int8)
"""The code of a patch by how many of its corners lie in blocks that validate."""

_GOOD_COST = 0.5
"""The cost, see `Split._cost`, up to which no further split is tried."""

_MAX_RATIO = 1.5

_MAX_SUMS = 2**28
"""Most bits, of sums by groups, that are searched for the nearest share; they take 32 MB."""

Codes = NDArray[np.int8]


class Split(Frozen):
    """Split patches into training and validation patches that share no pixel.

    All T, Z and channels of one place are in one split. The groups that validate are chosen by a
    hash of the seed and the source's key, scene and block.

    Parameters
    ----------
    val : float
        The share of patches that validate, above 0 and below 1. It is met as nearly as whole
        groups allow: of two files, one validates. See `remark`.
    by : {"auto", "file", "scene", "block"}
        The groups that stay together: files; scenes, those that overlap on the stage as one; or
        blocks of the plane, where a patch across the border of the two splits is in neither. "auto"
        takes the first of these that comes near to `val`.
    seed : int
        Another seed chooses other groups.
    """

    val: float = Field(gt=0, lt=1, description="Approximate share of patches for validation.")
    by: Literal["auto", "file", "scene", "block"] = Field(
        default="auto", description="Unit that is never divided between splits."
    )
    seed: int = Field(default=0, description="Seed of the split.")

    def assign(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Codes:
        """Return the code of each patch's split, or `NO_SPLIT`.

        Raises
        ------
        ArgumentError
            If no split leaves a patch for each side, or each would leave out most patches.
        """
        if not len(grid):
            return np.empty(0, np.int8)
        best, least = None, np.inf
        for codes in self._possible_splits(grid, sources):
            cost = self._cost(codes)
            if cost < least:
                best, least = codes, cost
            if cost <= _GOOD_COST:
                break
        if best is None:
            raise ArgumentError(self._impossible())
        n_lost = np.count_nonzero(best == NO_SPLIT)
        if 2 * n_lost > len(best):
            raise ArgumentError(
                f"The split would leave out {n_lost} of {len(best)} patches, which lie across the "
                "border of train and val. Choose smaller patches or less overlap, add sources and "
                "split by file or scene, or leave the split out."
            )
        return best

    def remark(self, counts: Mapping[str, int]) -> str | None:
        """Return a sentence if the smaller split is 1.5 times larger or smaller than wanted.

        Parameters
        ----------
        counts : dict of str to int
            Patches in each split.
        """
        n_train, n_val = (counts.get(name, 0) for name in SPLITS)
        if not (n_train and n_val):
            return None
        share = n_val / (n_train + n_val)
        wanted, actual = (v if self.val <= 0.5 else 1 - v for v in (self.val, share))
        if wanted / _MAX_RATIO <= actual <= wanted * _MAX_RATIO:
            return None
        remedy = "Add sources" if self.by in ("auto", "block") else "Split by block, or add sources"
        return (
            f"{share:.0%} of the patches validate, not {self.val:.0%}: whole groups give no nearer "
            f"share. {remedy}."
        )

    def _possible_splits(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Iterator[Codes]:
        """Yield splits, the ones with the most independent patches first."""
        sites = find_sites(sources)
        if self.by in ("auto", "file"):
            yield from self._by_group(grid, [(source.key,) for source in sources])
        if self.by in ("auto", "scene"):
            yield from self._by_group(grid, [sites.names[i] for i in sites.index])
        if self.by in ("auto", "block"):
            for side in block_sides(sites, grid.size, self.val):
                yield self._by_block(grid, Blocks(sites, side))

    def _by_group(
        self, grid: PatchGrid, names: Sequence[tuple[int | str | None, ...]]
    ) -> Iterator[Codes]:
        """Split by the group, named for each source, that a patch is in."""
        numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
        if len(numbers) < 2:
            return
        group = np.array([numbers[name] for name in names])[grid.source_index]
        sizes = np.bincount(group, minlength=len(numbers))
        ranks = np.array([hash_name(self.seed, *name) for name in numbers], np.uint64)
        yield choose_groups(sizes, sizes, len(grid), ranks, self.val).astype(np.int8)[group]

    def _by_block(self, grid: PatchGrid, blocks: Blocks) -> Codes:
        zones = blocks.zones(grid)
        patches = np.bincount(zones, minlength=len(blocks.corners[0]))
        inside, touching = blocks.count(patches)
        chosen = choose_groups(inside, touching, len(grid), blocks.ranks(self.seed), self.val)
        upper_left, *others = (chosen.astype(np.int8)[corner] for corner in blocks.corners)
        return _CODES_BY_CORNERS[sum(others, upper_left)][zones]

    def _cost(self, codes: Codes) -> float:
        """Return the relative error of the share plus half the fraction of patches lost.

        Both are relative to the smaller split's share; infinite if one split has no patch.
        """
        n_train, n_val = (np.count_nonzero(codes == code) for code in (TRAIN, VAL))
        if not (n_train and n_val):
            return np.inf
        n_split, smaller = n_train + n_val, min(self.val, 1 - self.val)
        error, lost = abs(n_val / n_split - self.val), 1 - n_split / len(codes)
        return (error + lost / 2) / smaller

    def _impossible(self) -> str:
        if self.by == "file":
            return (
                "Splitting by file needs patches in at least two files. Add files, or split by "
                "block."
            )
        if self.by == "scene":
            return (
                "Splitting by scene needs patches in at least two scenes that do not overlap on "
                "the stage. Add scenes, or split by block."
            )
        return (
            f"Splitting by {self.by} needs patches at two or more places that do not overlap. "
            "Choose smaller patches, add sources, or leave the split out."
        )


def choose_groups(
    inside: Counts, touching: Counts, n_patches: int, ranks: NDArray[np.uint64], val: float
) -> NDArray[np.bool_]:
    """Choose the groups of patches that validate, in the order of their ranks.

    A group is chosen if it brings the share of validation patches nearer to `val` and leaves a
    patch to train. If none does, the group is chosen that comes nearest alone. Where no patch lies
    in two groups, others are chosen if they come nearer.

    Parameters
    ----------
    inside : int64 array
        Patches that lie in each group only: they validate if it is chosen.
    touching : int64 array
        Patches that lie in each group at all: they can't train if it is chosen.
    n_patches : int
        All patches.
    ranks : uint64 array
        The rank of each group.

    Returns
    -------
    ndarray
        bool, which groups validate; none if there is no choice.
    """
    chosen = np.zeros(len(inside), bool)
    possible = np.flatnonzero((inside > 0) & (touching < n_patches))
    order = possible[np.argsort(ranks[possible], kind="stable")]
    n_val = n_not_train = 0
    least = val
    for group, gained, lost in zip(order.tolist(), inside[order], touching[order], strict=True):
        n_train = n_patches - n_not_train - int(lost)
        if n_train > 0 and (error := abs(_share(n_val + int(gained), n_train) - val)) < least:
            chosen[group] = True
            n_val, n_not_train, least = n_val + int(gained), n_not_train + int(lost), error
        if _share(n_val, n_patches - n_not_train) >= val:
            break
    if not n_val and len(order):
        alone = inside[order] / (n_patches - touching[order] + inside[order])
        chosen[order[np.argmin(np.abs(alone - val))]] = True
    if np.array_equal(inside, touching) and len(order):
        chosen[order] = _nearest_groups(inside[order], chosen[order], val)
    return chosen


def _nearest_groups(sizes: Counts, chosen: NDArray[np.bool_], val: float) -> NDArray[np.bool_]:
    """Return groups that come nearest to the share, the same ones if none do better.

    Of many groups of many patches, single ones are exchanged as long as that helps.
    """
    unit, total = int(np.gcd.reduce(sizes)), int(sizes.sum())
    target = val * total
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


def _share(n_val: int, n_train: int) -> float:
    return n_val / (n_val + n_train)
