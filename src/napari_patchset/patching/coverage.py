"""How much of a patch holds pixels, in a mosaic whose tiles leave gaps.

Sums over many boxes of a plane at once, from one table (Crow, 1984: summed areas).
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.source import SourceInfo

Indices = NDArray[np.integer[Any]]


def sum_table(values: NDArray[Any], dtype: DTypeLike = np.int64) -> NDArray[Any]:
    """Sum what lies above and to the left of each corner of the values, YX: one more each way."""
    table = np.zeros((len(values) + 1, values.shape[1] + 1), dtype)
    values.cumsum(axis=0, dtype=dtype).cumsum(axis=1, out=table[1:, 1:])
    return table


def sums_inside(
    table: NDArray[Any], top: Indices, left: Indices, bottom: Indices, right: Indices
) -> NDArray[Any]:
    """Sum inside of boxes, given by their corners."""
    found: NDArray[Any] = table[bottom, right] - table[top, right]
    found -= table[bottom, left]
    found += table[top, left]
    return found


MOST_RECTS = 600
"""So many rectangles are drawn at once: they take a table of at most 1200 x 1200 numbers."""

MOST_NUMBERS = 4_000_000
"""The largest table that is made, of the cells or of the pixels along one axis."""

Boxes = NDArray[np.int64]
"""Left, top, right and bottom edges, (4, n)."""


def covered_share(grid: PatchGrid, source: SourceInfo) -> NDArray[np.float32] | None:
    """Give the share of each patch that tiles cover, None if they cover the whole plane.

    What lies beyond the image is no part of the patch here: it is padding, not a gap.
    """
    if source.covered is None or not len(grid):
        return None
    *_, height, width = source.spatial_shape
    tiles = np.array(source.covered, np.int64).reshape(-1, 4).T
    tiles[2:] += tiles[:2]
    if _covers(tiles, height, width):
        return None
    y, x = grid.start[:, -2:].T.astype(np.int64)
    bottom, right = (np.minimum(grid.size[-2] + y, height), np.minimum(grid.size[-1] + x, width))
    areas = _areas(tiles, np.stack([x, y, right, bottom]))
    share: NDArray[np.float64] = areas / ((right - x) * (bottom - y))
    return share.astype(np.float32)


def _covers(tiles: Boxes, height: int, width: int) -> bool:
    """Whether tiles cover a plane; not asked of very many that lie on no lattice."""
    plane = np.array([[0], [0], [width], [height]])
    if ((tiles[:2] <= 0) & (tiles[2:] >= plane[2:])).all(axis=0).any():
        return True
    n_x, n_y = (len(np.unique(tiles[axis::2])) for axis in (0, 1))
    return n_x * n_y <= MOST_NUMBERS and bool(_drawn_areas(tiles, plane)[0] == height * width)


def _areas(tiles: Boxes, patches: Boxes) -> NDArray[np.int64]:
    """Measure the area of each patch that tiles cover, those that overlap once.

    Where tiles are many, patches are halved by their place until each half meets few.
    """
    low, high = patches[:2].min(axis=1, keepdims=True), patches[2:].max(axis=1, keepdims=True)
    tiles = tiles[:, ((tiles[:2] < high) & (tiles[2:] > low)).all(axis=0)]
    extent = np.ptp(patches[:2], axis=1)
    if tiles.shape[1] <= MOST_RECTS or not extent.any():
        return _drawn_areas(tiles, patches)
    along = patches[extent.argmax()]
    first = along <= along.min() + extent.max() // 2
    areas = np.empty(len(first), np.int64)
    for half in (first, ~first):
        areas[half] = _areas(tiles, patches[:, half])
    return areas


def _drawn_areas(tiles: Boxes, patches: Boxes) -> NDArray[np.int64]:
    """Measure areas on a drawing of the tiles whose pixels are what lies between their edges."""
    low, high = patches[:2].min(axis=1, keepdims=True), patches[2:].max(axis=1, keepdims=True)
    tiles = np.concatenate([np.clip(tiles[:2], low, high), np.clip(tiles[2:], low, high)])
    xs, ys = (np.unique([low[axis, 0], high[axis, 0], *tiles[axis::2].flat]) for axis in (0, 1))
    covered = _draw(tiles, xs, ys)
    gaps = sum_table(~covered)
    # The cell of the first pixel, and the one after that of the last.
    (j0, j1), (i0, i1) = (
        (_cells(edges, patches[axis]), _cells(edges, patches[axis + 2] - 1) + 1)
        for axis, edges in enumerate((xs, ys))
    )
    areas: NDArray[np.int64] = (patches[2] - patches[0]) * (patches[3] - patches[1])
    some = np.flatnonzero(sums_inside(gaps, i0, j0, i1, j1))
    table = sum_table(covered * np.diff(ys)[:, np.newaxis] * np.diff(xs))
    areas[some] = _areas_inside(table, xs, ys, patches[:, some])
    return areas


def _cells(edges: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find between which two edges a pixel lies; a table of all pixels is quicker, and larger."""
    if edges[-1] - edges[0] > MOST_NUMBERS:
        return np.searchsorted(edges, pixels, side="right") - 1
    table = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    cells: NDArray[np.int64] = table[pixels - edges[0]]
    return cells


def _draw(tiles: Boxes, xs: NDArray[np.int64], ys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of each cell between two edges whether a tile covers it."""
    left, right = np.searchsorted(xs, tiles[::2])
    top, bottom = np.searchsorted(ys, tiles[1::2])
    depth = np.zeros((len(ys), len(xs)), np.int32)
    for sign, y, x in ((1, top, left), (-1, top, right), (-1, bottom, left), (1, bottom, right)):
        np.add.at(depth, (y, x), sign)
    covered: NDArray[np.bool_] = depth.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
    return covered


def _areas_inside(
    table: NDArray[np.int64], xs: NDArray[np.int64], ys: NDArray[np.int64], patches: Boxes
) -> NDArray[np.int64]:
    """Sum areas inside of boxes: between two edges the table grows evenly, and is interpolated."""
    lefts, tops, rights, bottoms = (
        _position(edges, at) for edges, at in zip((xs, ys, xs, ys), patches, strict=True)
    )

    def before(y: _Position, x: _Position) -> NDArray[np.float64]:
        (i, v), (j, u) = y, x
        upper = table[i, j] * (1 - u) + table[i, j + 1] * u
        return upper * (1 - v) + (table[i + 1, j] * (1 - u) + table[i + 1, j + 1] * u) * v

    found = before(bottoms, rights) - before(tops, rights)
    return np.rint(found - before(bottoms, lefts) + before(tops, lefts)).astype(np.int64)


_Position = tuple[NDArray[np.intp], NDArray[np.float64]]


def _position(edges: NDArray[np.int64], at: NDArray[np.int64]) -> _Position:
    """Give the edge before each number, and how far it is on the way to the next one, 0 to 1."""
    index = np.minimum(np.searchsorted(edges, at, side="right") - 1, len(edges) - 2)
    return index, (at - edges[index]) / (edges[index + 1] - edges[index])
