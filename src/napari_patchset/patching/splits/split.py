"""Split: parts patches by file, by scene, or by blocks of the plane."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset.errors import ArgumentError
from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.blocks import Blocks, block_sides
from napari_patchset.patching.splits.choosing import choose
from napari_patchset.patching.splits.frames import find_frames
from napari_patchset.patching.streams import hash_of
from napari_patchset.source import SourceInfo

SPLITS = ("train", "val")
"""The names of the splits, by code."""

TRAIN, VAL = 0, 1

ALL = ("all",)
"""The names where nothing is split."""

BORDER = -1
"""The code of a patch that lies in both, and so in neither."""

_BY_CORNERS = np.array([TRAIN, BORDER, BORDER, BORDER, VAL], np.int8)
"""The code of a patch by how many of its corners lie in blocks that validate."""

_NEAR = 0.5
"""How far a split may be from what was asked for, see `_cost`, before others are tried."""

Codes = NDArray[np.int8]


class Split(Frozen):
    """Part patches into training and validation ones, so that they share no pixel.

    All T, Z and channels of one place are in one split. What validates is chosen by a hash of
    the seed and the source's key, scene and block.

    Parameters
    ----------
    val : float
        The share of patches that validate, above 0 and below 1. It is met as nearly as whole
        groups allow: of two files, one validates.
    by : {"auto", "file", "scene", "block"}
        What stays together: files; scenes, those that overlap on the stage as one; or blocks of
        the plane, where a patch across the border of the two splits is in neither. "auto" takes
        the first of these that comes near to `val`.
    seed : int
        Another seed, another choice.
    """

    val: float = Field(gt=0, lt=1)
    by: Literal["auto", "file", "scene", "block"] = "auto"
    seed: int = 0

    def assign(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Codes:
        """Give each patch the code of its split, or `BORDER`.

        Raises
        ------
        ArgumentError
            If no split leaves a patch for each side.
        """
        if not len(grid):
            return np.empty(0, np.int8)
        best, least = None, np.inf
        for codes in self._ways(grid, sources):
            cost = self._cost(codes)
            if cost < least:
                best, least = codes, cost
            if cost <= _NEAR:
                break
        if best is None:
            what = self.by if self.by in ("file", "scene") else "place apart"
            raise ArgumentError(
                f"The split by {self.by} finds patches in no second {what} to validate; choose "
                "smaller patches or another split, add sources, or leave the split out."
            )
        return best

    def _ways(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Iterator[Codes]:
        """Give the splits to choose from, the most independent ones first."""
        frames = find_frames(sources)
        if self.by in ("auto", "file"):
            yield from self._by_groups(grid, [(source.key,) for source in sources])
        if self.by in ("auto", "scene"):
            yield from self._by_groups(grid, [frames.names[i] for i in frames.index])
        if self.by in ("auto", "block"):
            for side in block_sides(frames, grid.size, self.val):
                yield self._by_blocks(grid, Blocks(frames, side))

    def _by_groups(
        self, grid: PatchGrid, names: Sequence[tuple[int | str | None, ...]]
    ) -> Iterator[Codes]:
        """Split by the group that each source is in."""
        numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
        if len(numbers) < 2:
            return
        group = np.array([numbers[name] for name in names])[grid.stack]
        sizes = np.bincount(group, minlength=len(numbers))
        ranks = np.array([hash_of(self.seed, *name) for name in numbers], np.uint64)
        yield choose(sizes, sizes, len(grid), ranks, self.val).astype(np.int8)[group]

    def _by_blocks(self, grid: PatchGrid, blocks: Blocks) -> Codes:
        """Split by blocks: what lies in those of both splits is in neither."""
        zones = blocks.zones(grid)
        patches = np.bincount(zones, minlength=len(blocks.corners[0]))
        chosen = choose(*blocks.count(patches), len(grid), blocks.ranks(self.seed), self.val)
        upper_left, *others = (chosen.astype(np.int8)[corner] for corner in blocks.corners)
        return _BY_CORNERS[sum(others, upper_left)][zones]

    def _cost(self, codes: Codes) -> float:
        """Say how far a split is from the share, in shares, and half of what it loses, likewise.

        Infinite where one side has no patch.
        """
        n_train, n_val = (np.count_nonzero(codes == code) for code in (TRAIN, VAL))
        if not (n_train and n_val):
            return np.inf
        kept, share = n_train + n_val, min(self.val, 1 - self.val)
        off, lost = abs(n_val / kept - self.val), 1 - kept / len(codes)
        return (off + lost / 2) / share
