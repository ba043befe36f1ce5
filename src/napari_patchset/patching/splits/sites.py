"""Sites: which sources show the same place, and where each lies there.

Scenes of one file whose rectangles overlap on the stage form one site, and so do equal files.
Pixels of two sources at the same position of a site may show the same place of the specimen, so
they must not be in two splits. A site may be cut into `Blocks`, of which each is in one split.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.outlines import join_groups
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name, hash_rows
from napari_patchset.source import Rect, SceneId, SourceInfo

Ids = NDArray[np.int32]
Counts = NDArray[np.int64]
Corners = tuple[Counts, Counts, Counts, Counts]
"""The blocks of the upper left, upper right, lower left and lower right corner of patches."""


@dataclass(frozen=True, eq=False)
class Sites:
    """The site of each source, and its position there.

    Attributes
    ----------
    index : int64 array
        The site of each source.
    offset : int64 array, (sources, YX)
        The source's upper left corner in its site.
    extent : int64 array, (sources, YX)
        Height and width of the source.
    shape : int64 array, (sites, YX)
        Height and width of each site.
    names : tuple of (str, int or str or None)
        Key and scene of one source of each site, whatever the order of the sources.
    """

    index: NDArray[np.int64]
    offset: NDArray[np.int64]
    extent: NDArray[np.int64]
    shape: NDArray[np.int64]
    names: tuple[tuple[str, SceneId | None], ...]

    def starts(self, grid: PatchGrid, axis: Literal[0, 1]) -> NDArray[np.int32]:
        """Return the starts of patches along Y (0) or X (1) of their sites, as a new array.

        A patch that reaches past its source counts as the last one inside: its padding shows
        pixels from there.
        """
        start = grid.start[:, axis - 2].copy()
        last = np.maximum(self.extent[:, axis] - grid.size[axis - 2], 0).astype(np.int32)
        np.minimum(start, last[grid.source_index] if np.ptp(last) else last[0], out=start)
        if self.offset[:, axis].any():
            start += self.offset[grid.source_index, axis].astype(np.int32)
        return start


def find_sites(sources: Sequence[SourceInfo]) -> Sites:
    """Group sources by site.

    Scenes without a rectangle on the stage are a site each.
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
    for site, group in enumerate(groups):
        index[group] = site
        offset[group] -= offset[group].min(axis=0)
    ends = offset + rects[:, :1:-1]
    shapes = [ends[group].max(axis=0) for group in groups]
    names = [min(((sources[i].key, sources[i].scene) for i in group), key=repr) for group in groups]
    extent = np.array([source.spatial_shape[-2:] for source in sources], np.int64).reshape(-1, 2)
    return Sites(index, offset, extent, np.array(shapes).reshape(-1, 2), tuple(names))


def _rect(source: SourceInfo) -> Rect:
    *_, height, width = source.spatial_shape
    return source.rect or Rect(0, 0, width, height)


def _overlapping(rects: NDArray[np.int64]) -> list[list[int]]:
    """Group rectangles that overlap, directly or through others."""
    low, high = rects[:, :2], rects[:, :2] + rects[:, 2:]
    remaining = np.ones(len(rects), bool)
    groups = []
    while remaining.any():
        group = [int(remaining.argmax())]
        remaining[group] = False
        for member in group:  # grows during the loop
            near = ((low < high[member]) & (high > low[member])).all(axis=1) & remaining
            remaining &= ~near
            group += np.flatnonzero(near).tolist()
        groups.append(group)
    return groups


BLOCKS_PER_SPLIT = 4
"""About the number of a site's blocks in the smaller split: fewer would show too few places."""

MOST_SIDE = 6
"""Sides of blocks, in patches, up to which each whole number is tried."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rectangles of one size that cover the sites; the last of each row and column is larger.

    Attributes
    ----------
    side : (int, int)
        Height and width, at least those of a patch, so that a patch touches at most 2 x 2.
    draw : int
        Another one ranks the blocks in another order.
    """

    sites: Sites
    side: tuple[int, int]
    draw: int = 0

    @cached_property
    def counts(self) -> Ids:
        """Number of blocks in each site along YX."""
        counts: Ids = np.maximum(self.sites.shape // self.side, 1).astype(np.int32)
        return counts

    def __len__(self) -> int:
        return int(self.counts.prod(axis=1).sum())

    @property
    def site(self) -> Counts:
        """The site of each block."""
        return np.repeat(np.arange(len(self.counts)), self.counts.prod(axis=1))

    def ranks(self, seed: int) -> NDArray[np.uint64]:
        """Return for each block a hash of the seed, its site, its number there, and the draw."""
        draw = (self.draw,) if self.draw else ()
        names = np.array([hash_name(seed, *name, *draw) for name in self.sites.names], np.uint64)
        n = self.counts.prod(axis=1)
        numbers = np.arange(len(self)) - np.repeat(n.cumsum() - n, n)
        return hash_rows(np.repeat(names, n), numbers)

    def zones(self, grid: PatchGrid) -> Ids:
        """Return the zone of each patch: patches of one zone have their corners in the same blocks.

        Along an axis, every second zone lies inside of a block, and the others across the border
        of two. Beyond the site it is the last block.
        """
        shape = 2 * self.counts - 1
        n = shape.prod(axis=1, dtype=np.int32)
        site = self.sites.index[grid.source_index] if len(n) > 1 else 0
        zones, columns = (self._axis_zones(grid, site, axis) for axis in (0, 1))
        zones *= shape[site, 1]
        zones += columns
        zones += (n.cumsum(dtype=np.int32) - n)[site]
        return zones

    @cached_property
    def corners(self) -> Corners:
        """The blocks at the corners of the patches, by zone."""
        first, by_site = 0, []
        for rows, columns in self.counts.tolist():
            y, x = np.arange(2 * rows - 1)[:, None], np.arange(2 * columns - 1)
            ends = [
                (row, column) for row in (y // 2, -(y // -2)) for column in (x // 2, -(x // -2))
            ]
            by_site.append([(first + row * columns + column).ravel() for row, column in ends])
            first += rows * columns
        a, b, c, d = map(np.concatenate, zip(*by_site, strict=True))
        return a, b, c, d

    def join_outlines(self, grid: PatchGrid, zones: Ids) -> Corners:
        """Return the corners by zone, where the blocks that patches of one outline touch are one.

        So such patches are never across a border.
        """
        outline = np.full(len(grid), -1, np.int32) if grid.outline is None else grid.outline
        rows = np.flatnonzero(outline >= 0)
        if not len(rows):
            return self.corners
        keys = np.stack([grid.source_index[rows], outline[rows]])
        _, first, of_row = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        upper_left = self.corners[0][zones[rows]]
        joined = [upper_left[first[of_row]], *(each[zones[rows]] for each in self.corners[1:])]
        pairs = np.unique(np.stack([np.tile(upper_left, 4), np.concatenate(joined)]), axis=1)
        block = join_groups(np.arange(len(self)), *pairs)
        a, b, c, d = (block[corner] for corner in self.corners)
        return a, b, c, d

    def _axis_zones(
        self, grid: PatchGrid, site: NDArray[np.int64] | int, axis: Literal[0, 1]
    ) -> Ids:
        first, last_block = self.sites.starts(grid, axis), self.counts[site, axis] - 1
        last = first + (grid.size[axis - 2] - 1)
        zones: Ids = np.minimum(first // self.side[axis], last_block)
        zones += np.minimum(last // self.side[axis], last_block)
        return zones


def block_sides(sites: Sites, size: tuple[int, ...], share: float) -> Iterator[tuple[int, int]]:
    """Yield sides of blocks to try: first a good one, then larger and smaller ones.

    They are whole patches, so that no border runs through patches that lie side by side. `share` is
    that of the smallest split.
    """
    height, width = size[-2:]
    areas = sites.shape.prod(axis=1) / (height * width)
    start = max(1, int((areas.mean() * share / BLOCKS_PER_SPLIT) ** 0.5))
    largest = int((sites.shape // (height, width)).max()) // 2
    larger, smaller = [start], [start]
    while (more := larger[-1] * 3 // 2 + 1) <= largest:
        larger.append(more)
    while (fewer := smaller[-1] * 2 // 3) >= 1:
        smaller.append(fewer)
    sides = [*larger, *smaller[1:]]
    # Steps of a half again pass over sides that suit a small image, such as 3 beside 2 and 4.
    sides += [n for n in range(2, min(largest, MOST_SIDE) + 1) if n not in sides]
    for patches in sides:
        yield patches * height, patches * width


def even_sides(
    sites: Sites, size: tuple[int, ...], shares: Sequence[float]
) -> Iterator[tuple[int, int]]:
    """Yield sides of blocks that divide the largest height and width evenly, few blocks first.

    The first are those of strips from border to border that are as wide as the shares: straight
    cuts lose the fewest patches.
    """
    whole, lengths = int(sites.shape.max()), sites.shape.max(axis=0).tolist()
    sides = list[tuple[int, int]]()
    for share in sorted(set(shares)):
        height, width = (round(share * length) for length in lengths)
        sides += [(height, whole), (whole, width)]
    numbers = product(range(1, MOST_SIDE + 1), repeat=2)
    for rows, columns in sorted(numbers, key=lambda each: (each[0] * each[1], each))[1:]:
        sides.append(
            (
                whole if rows == 1 else lengths[0] // rows,
                whole if columns == 1 else lengths[1] // columns,
            )
        )
    height, width = size[-2:]
    yield from ((h, w) for h, w in dict.fromkeys(sides) if h >= height and w >= width)
