"""Split: parts patches by file, by scene, or by blocks of the plane.

Blocks: each frame cut into rectangles, for parting the plane into training and validation.

Which groups validate: by chance, as many as come nearest to the share that is wanted.

Which patches train and which validate, without a pixel in common.

Frames: the planes that sources share, where a place may show in several of them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name, hash_rows
from napari_patchset.source import Rect, SceneId, SourceInfo

GroupSizes = NDArray[np.int64]


def choose(
    inside: GroupSizes, touching: GroupSizes, n_patches: int, ranks: NDArray[np.uint64], val: float
) -> NDArray[np.bool_]:
    """Choose groups of patches to validate, in the order of their ranks.

    A group is taken if the share of validation patches comes nearer to `val` by it, and a patch
    is left to train. If that takes none, the one is taken that comes nearest.

    Parameters
    ----------
    inside : int64 array
        Patches that lie in each group alone: they validate if it is chosen.
    touching : int64 array
        Patches that lie in each group at all: they can't train if it is chosen.
    n_patches : int
        All patches.
    ranks : uint64 array
        One for each group.

    Returns
    -------
    ndarray
        Which groups validate; none if there is no choice.
    """
    chosen = np.zeros(len(inside), bool)
    possible = np.flatnonzero((inside > 0) & (touching < n_patches))
    order = possible[np.argsort(ranks[possible], kind="stable")]
    won = lost = 0
    off = val
    for group, w, t in zip(order.tolist(), inside[order], touching[order], strict=True):
        left = n_patches - lost - int(t)
        if left > 0 and (now := abs(_share(won + int(w), left) - val)) < off:
            chosen[group] = True
            won, lost, off = won + int(w), lost + int(t), now
        if _share(won, n_patches - lost) >= val:
            break
    if not won and len(order):
        alone = inside[order] / (n_patches - touching[order] + inside[order])
        chosen[order[np.argmin(np.abs(alone - val))]] = True
    return chosen


def _share(won: int, left: int) -> float:
    return won / (won + left)


@dataclass(frozen=True, eq=False)
class Frames:
    """Where each source lies in which plane; two sources in one frame may show the same place.

    Attributes
    ----------
    index : int64 array
        The frame of each source.
    offset : int64 array, (sources, YX)
        The source's upper left corner in its frame.
    extent : int64 array, (sources, YX)
        Height and width of the source.
    shape : int64 array, (frames, YX)
        The extent of each frame.
    names : tuple of (str, int or str or None)
        Key and scene of the first scene of each, which no order of the sources changes.
    """

    index: NDArray[np.int64]
    offset: NDArray[np.int64]
    extent: NDArray[np.int64]
    shape: NDArray[np.int64]
    names: tuple[tuple[str, SceneId | None], ...]

    def along(self, grid: PatchGrid, axis: Literal[0, 1]) -> NDArray[np.int32]:
        """Give the starts of patches along Y (0) or X (1) of their frames, as a new array.

        A patch that reaches past its source counts as the last one inside: all that it is filled
        with is from there.
        """
        start = grid.start[:, axis - 2].copy()
        last = np.maximum(self.extent[:, axis] - grid.size[axis - 2], 0).astype(np.int32)
        np.minimum(start, last[grid.source_index] if np.ptp(last) else last[0], out=start)
        if self.offset[:, axis].any():
            start += self.offset[grid.source_index, axis].astype(np.int32)
        return start


def stage_frames(sources: Sequence[SourceInfo]) -> Frames:
    """Put scenes of one file whose rectangles overlap into one frame, and all others alone.

    A file that does not say where its scenes lie has a frame for each.
    """
    planes: defaultdict[tuple[str, SceneId | None], list[int]] = defaultdict(list)
    for i, source in enumerate(sources):
        planes[source.key, source.scene if source.rect is None else None].append(i)
    rects = np.array([_rect(source) for source in sources]).reshape(-1, 4)
    groups = [
        [members[i] for i in group]
        for members in planes.values()
        for group in _overlapping(rects[members])
    ]
    index, offset = np.empty(len(sources), np.int64), rects[:, 1::-1].copy()
    for frame, group in enumerate(groups):
        index[group] = frame
        offset[group] -= offset[group].min(axis=0)
    ends = offset + rects[:, :1:-1]
    shapes = [ends[group].max(axis=0) for group in groups]
    names = [_first([(sources[i].key, sources[i].scene) for i in group]) for group in groups]
    extent = np.array([source.spatial_shape[-2:] for source in sources], np.int64).reshape(-1, 2)
    return Frames(index, offset, extent, np.array(shapes).reshape(-1, 2), tuple(names))


def _first(names: list[tuple[str, SceneId | None]]) -> tuple[str, SceneId | None]:
    return min(names, key=repr)


def _rect(source: SourceInfo) -> Rect:
    *_, height, width = source.spatial_shape
    return source.rect or Rect(0, 0, width, height)


def _overlapping(rects: NDArray[np.int64]) -> list[list[int]]:
    """Group rectangles that overlap, directly or through others."""
    low, high = rects[:, :2], rects[:, :2] + rects[:, 2:]
    free = np.ones(len(rects), bool)
    groups = []
    while free.any():
        group = [int(free.argmax())]
        free[group] = False
        for member in group:  # which grows meanwhile
            near = ((low < high[member]) & (high > low[member])).all(axis=1) & free
            free &= ~near
            group += np.flatnonzero(near).tolist()
        groups.append(group)
    return groups


PER_SPLIT = 4
"""So many blocks of a frame, about, lie in the smaller split: fewer would show fewer places."""

Ids = NDArray[np.int32]
Counts = NDArray[np.int64]
Corners = tuple[Counts, Counts, Counts, Counts]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rectangles of one size that cover the frames; the last of each row and column is larger.

    Attributes
    ----------
    side : (int, int)
        Height and width, at least those of a patch, so that a patch touches at most 2 x 2.
    """

    frames: Frames
    side: tuple[int, int]

    @cached_property
    def counts(self) -> Ids:
        """How many there are in each frame along YX."""
        counts: Ids = np.maximum(self.frames.shape // self.side, 1).astype(np.int32)
        return counts

    def __len__(self) -> int:
        return int(self.counts.prod(axis=1).sum())

    def ranks(self, seed: int) -> NDArray[np.uint64]:
        """Give each block a hash of the seed, its frame and its number in there."""
        names = np.array([hash_name(seed, *name) for name in self.frames.names], np.uint64)
        n = self.counts.prod(axis=1)
        numbers = np.arange(len(self)) - np.repeat(n.cumsum() - n, n)
        return hash_rows(np.repeat(names, n), numbers)

    def zones(self, grid: PatchGrid) -> Ids:
        """Give the zone of each patch: those of one zone have their corners in the same blocks.

        Along an axis, every second zone lies inside of a block, and the others across the border
        of two. Beyond the frame it is the last block.
        """
        shape = 2 * self.counts - 1
        n = shape.prod(axis=1, dtype=np.int32)
        frame = self.frames.index[grid.source_index] if len(n) > 1 else 0
        zones, columns = (self._along(grid, frame, axis) for axis in (0, 1))
        zones *= shape[frame, 1]
        zones += columns
        zones += (n.cumsum(dtype=np.int32) - n)[frame]
        return zones

    @cached_property
    def corners(self) -> Corners:
        """The blocks of the upper left, upper right, lower left, lower right corner, by zone."""
        first, found = 0, []
        for rows, columns in self.counts.tolist():
            y, x = np.arange(2 * rows - 1)[:, None], np.arange(2 * columns - 1)
            ends = [
                (row, column) for row in (y // 2, -(y // -2)) for column in (x // 2, -(x // -2))
            ]
            found.append([(first + row * columns + column).ravel() for row, column in ends])
            first += rows * columns
        a, b, c, d = map(np.concatenate, zip(*found, strict=True))
        return a, b, c, d

    def count(self, patches: Counts) -> tuple[Counts, Counts]:
        """Count the patches that lie in each block alone, and those that touch it.

        Parameters
        ----------
        patches : int64 array
            How many there are in each zone.
        """
        a, b, c, d = self.corners
        touching = self._sum(a, patches) + self._sum(b, patches * (b != a))
        touching += self._sum(c, patches * (c != a)) + self._sum(d, patches * ((d != b) & (d != c)))
        return self._sum(a, patches * (a == d)), touching

    def _along(self, grid: PatchGrid, frame: NDArray[np.int64] | int, axis: Literal[0, 1]) -> Ids:
        first, most = self.frames.along(grid, axis), self.counts[frame, axis] - 1
        last = first + (grid.size[axis - 2] - 1)
        zone: Ids = np.minimum(first // self.side[axis], most)
        zone += np.minimum(last // self.side[axis], most)
        return zone

    def _sum(self, blocks: Counts, patches: Counts) -> Counts:
        return np.bincount(blocks, patches, len(self)).astype(np.int64)


def block_sides(frames: Frames, size: tuple[int, ...], val: float) -> Iterator[tuple[int, int]]:
    """Give sides to try, in whole patches: first a good one, then larger and smaller ones.

    Whole patches, so that no border runs through patches that lie side by side.
    """
    height, width = size[-2:]
    areas = frames.shape.prod(axis=1) / (height * width)
    start = max(1, int((areas.mean() * min(val, 1 - val) / PER_SPLIT) ** 0.5))
    most = int((frames.shape // (height, width)).max()) // 2
    larger, smaller = [start], [start]
    while (more := larger[-1] * 3 // 2 + 1) <= most:
        larger.append(more)
    while (fewer := smaller[-1] * 2 // 3) >= 1:
        smaller.append(fewer)
    for patches in (*larger, *smaller[1:]):
        yield patches * height, patches * width


SPLITS = ("train", "val")
"""The names of the splits, by code."""

TRAIN, VAL = 0, 1

ALL = ("all",)
"""The names where nothing is split."""

NEITHER = -1
"""The code of a patch that lies in both, and so in neither."""

_BY_CORNERS = np.array([TRAIN, NEITHER, NEITHER, NEITHER, VAL], np.int8)
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
        """Give each patch the code of its split, or `NEITHER`.

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
        frames = stage_frames(sources)
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
        group = np.array([numbers[name] for name in names])[grid.source_index]
        sizes = np.bincount(group, minlength=len(numbers))
        ranks = np.array([hash_name(self.seed, *name) for name in numbers], np.uint64)
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
