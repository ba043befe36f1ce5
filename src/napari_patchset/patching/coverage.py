"""The share of each patch that has pixels, in a mosaic whose tiles leave gaps.

The tiles are drawn on a coarse grid whose lines are the tiles' edges. A summed-area table of it
(Crow, 1984, doi:10.1145/800031.808600) gives the area covered in any number of patches.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.source import Plane, Rect, SourceInfo

MAX_RECTS = 600
"""Most tiles that are drawn at once: they take a table of at most 1200 x 1200 numbers."""

MAX_NUMBERS = 4_000_000
"""Most numbers in a table, of the cells or of the pixels along one axis."""

Boxes = NDArray[np.int64]
"""Left, top, right and bottom edges, (4, n)."""

Indices = NDArray[np.integer[Any]]


def covered_share(grid: PatchGrid, source: SourceInfo) -> NDArray[np.float32] | None:
    """Return the share of each patch that tiles cover, None if they cover every plane.

    Patches are of this source, and sorted by sample. Of the planes of a patch, its channels and
    depths, the one that is covered least counts; and of a plane, only the part inside the image:
    what lies beyond is padding, not a gap.
    """
    if source.covered is None or not len(grid):
        return None
    *_, height, width = source.spatial_shape
    tiles = _boxes(source.covered)
    is_whole = _cover_plane(tiles, height, width)
    if is_whole and not source.partial_planes:
        return None
    share = np.ones(len(grid)) if is_whole else _plane_share(tiles, grid, height, width)
    for group in source.partial_planes:
        rows = rows_touching(grid, source, group.planes)
        if len(rows):
            of_group = _plane_share(_boxes(group.covered), grid[rows], height, width)
            share[rows] = np.minimum(share[rows], of_group)
    return share.astype(np.float32)


def rows_touching(
    grid: PatchGrid, source: SourceInfo, planes: Collection[Plane]
) -> NDArray[np.int64]:
    """Return the patches, of one source and sorted by sample, that contain one of some planes."""
    depths: defaultdict[int, set[int]] = defaultdict(set)
    for sample, _, z in planes:
        depths[sample].add(z)
    samples = np.array(sorted(depths))
    firsts, ends = (np.searchsorted(grid.sample, samples, side) for side in ("left", "right"))
    rows = []
    for sample, first, end in zip(samples.tolist(), firsts.tolist(), ends.tolist(), strict=True):
        of_sample = np.arange(first, end)
        if len(grid.size) == 3:
            # The planes in a patch are those before its end, less those before its start.
            present = np.zeros(source.spatial_shape[0] + 1, np.int64)
            present[np.array(sorted(depths[sample])) + 1] = 1
            before, start = present.cumsum(), grid.start[of_sample, 0]
            stop = np.minimum(start + grid.size[0], source.spatial_shape[0])
            of_sample = of_sample[before[stop] > before[start]]
        rows.append(of_sample)
    return np.concatenate(rows) if rows else np.empty(0, np.int64)


def _boxes(rects: Sequence[Rect]) -> Boxes:
    boxes = np.array(rects, np.int64).reshape(-1, 4).T
    boxes[2:] += boxes[:2]
    return boxes


def _plane_share(tiles: Boxes, grid: PatchGrid, height: int, width: int) -> NDArray[np.float64]:
    """Return the share of each patch that tiles cover in one plane."""
    y, x = grid.start[:, -2:].T.astype(np.int64)
    bottom, right = (np.minimum(grid.size[-2] + y, height), np.minimum(grid.size[-1] + x, width))
    areas = _covered_areas(tiles, np.stack([x, y, right, bottom]))
    share: NDArray[np.float64] = areas / ((right - x) * (bottom - y))
    return share


def summed_area_table(values: NDArray[Any], dtype: DTypeLike = np.int64) -> NDArray[Any]:
    """Sum the values, YX, above and to the left of each corner: one more along each axis."""
    table = np.zeros((len(values) + 1, values.shape[1] + 1), dtype)
    values.cumsum(axis=0, dtype=dtype).cumsum(axis=1, out=table[1:, 1:])
    return table


def box_sums(
    table: NDArray[Any], top: Indices, left: Indices, bottom: Indices, right: Indices
) -> NDArray[Any]:
    """Sum the values inside of boxes, from a `summed_area_table`."""
    sums: NDArray[Any] = table[bottom, right] - table[top, right]
    sums -= table[bottom, left]
    sums += table[top, left]
    return sums


def _cover_plane(tiles: Boxes, height: int, width: int) -> bool:
    """Return whether tiles cover a plane; False without a check if there are too many cells."""
    plane = np.array([[0], [0], [width], [height]])
    if ((tiles[:2] <= 0) & (tiles[2:] >= plane[2:])).all(axis=0).any():
        return True
    n_x, n_y = (len(np.unique(tiles[axis::2])) for axis in (0, 1))
    return n_x * n_y <= MAX_NUMBERS and bool(_drawn_areas(tiles, plane)[0] == height * width)


def _covered_areas(tiles: Boxes, patches: Boxes) -> NDArray[np.int64]:
    """Return the area of each patch that tiles cover, where they overlap counted once.

    If there are many tiles, the patches are halved along the longer axis until each half meets few.
    """
    low, high = patches[:2].min(axis=1, keepdims=True), patches[2:].max(axis=1, keepdims=True)
    tiles = tiles[:, ((tiles[:2] < high) & (tiles[2:] > low)).all(axis=0)]
    extent = np.ptp(patches[:2], axis=1)
    if tiles.shape[1] <= MAX_RECTS or not extent.any():
        return _drawn_areas(tiles, patches)
    starts = patches[extent.argmax()]
    first = starts <= starts.min() + extent.max() // 2
    areas = np.empty(len(first), np.int64)
    for half in (first, ~first):
        areas[half] = _covered_areas(tiles, patches[:, half])
    return areas


def _drawn_areas(tiles: Boxes, patches: Boxes) -> NDArray[np.int64]:
    """Return the covered areas from a drawing of the tiles with one cell between two edges."""
    low, high = patches[:2].min(axis=1, keepdims=True), patches[2:].max(axis=1, keepdims=True)
    tiles = np.concatenate([np.clip(tiles[:2], low, high), np.clip(tiles[2:], low, high)])
    xs, ys = (np.unique([low[axis, 0], high[axis, 0], *tiles[axis::2].flat]) for axis in (0, 1))
    covered = _draw(tiles, xs, ys)
    gaps = summed_area_table(~covered)
    # The cell of the first pixel, and the one after that of the last.
    (j0, j1), (i0, i1) = (
        (_cells(edges, patches[axis]), _cells(edges, patches[axis + 2] - 1) + 1)
        for axis, edges in enumerate((xs, ys))
    )
    areas: NDArray[np.int64] = (patches[2] - patches[0]) * (patches[3] - patches[1])
    with_gaps = np.flatnonzero(box_sums(gaps, i0, j0, i1, j1))
    table = summed_area_table(covered * np.diff(ys)[:, np.newaxis] * np.diff(xs))
    areas[with_gaps] = _interpolated_sums(table, xs, ys, patches[:, with_gaps])
    return areas


def _cells(edges: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cell of each pixel; a table of all pixels is quicker than a search, but larger."""
    if edges[-1] - edges[0] > MAX_NUMBERS:
        return np.searchsorted(edges, pixels, side="right") - 1
    table = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    cells: NDArray[np.int64] = table[pixels - edges[0]]
    return cells


def _draw(tiles: Boxes, xs: NDArray[np.int64], ys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which cells between two edges a tile covers."""
    left, right = np.searchsorted(xs, tiles[::2])
    top, bottom = np.searchsorted(ys, tiles[1::2])
    depth = np.zeros((len(ys), len(xs)), np.int32)
    for sign, y, x in ((1, top, left), (-1, top, right), (-1, bottom, left), (1, bottom, right)):
        np.add.at(depth, (y, x), sign)
    covered: NDArray[np.bool_] = depth.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
    return covered


def _interpolated_sums(
    table: NDArray[np.int64], xs: NDArray[np.int64], ys: NDArray[np.int64], boxes: Boxes
) -> NDArray[np.int64]:
    """Sum areas inside of boxes: between two edges the table is linear, so it is interpolated."""
    lefts, tops, rights, bottoms = (
        _position(edges, pixels) for edges, pixels in zip((xs, ys, xs, ys), boxes, strict=True)
    )

    def before(y: _Position, x: _Position) -> NDArray[np.float64]:
        (i, v), (j, u) = y, x
        upper = table[i, j] * (1 - u) + table[i, j + 1] * u
        return upper * (1 - v) + (table[i + 1, j] * (1 - u) + table[i + 1, j + 1] * u) * v

    sums = before(bottoms, rights) - before(tops, rights)
    return np.rint(sums - before(bottoms, lefts) + before(tops, lefts)).astype(np.int64)


_Position = tuple[NDArray[np.intp], NDArray[np.float64]]


def _position(edges: NDArray[np.int64], pixels: NDArray[np.int64]) -> _Position:
    """Return the edge before each pixel, and its distance as a fraction of that to the next one."""
    index = np.minimum(np.searchsorted(edges, pixels, side="right") - 1, len(edges) - 2)
    return index, (pixels - edges[index]) / (edges[index + 1] - edges[index])
