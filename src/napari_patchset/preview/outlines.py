"""The patches of one plane, and their outlines: line segments, and a mesh for the highlighted one.

Coordinates are pixels of the image; the centre of the first pixel is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid, take_starts
from napari_patchset.preview.categories import PatchCategory
from napari_patchset.source import Ratio

Point = tuple[float, float]
"""Y and X in pixels of the image."""

Box = NDArray[np.float64]
"""The start and the stop of a part of the plane, (2, 2), YX."""

_RUN = 1024
"""Patches whose extent is known, so that all of them are skipped if none is in view."""

_MAX_EXAMPLES = 64
"""Patches among which an example is looked for: each is compared with each."""

_SHADE = (0.35, 0.47, 1.0)
"""Visible on black, white, grey and saturated green, and no colour of a category."""

_HALO, _FRAME = (0.0, 0.0, 0.0, 0.8), (1.0, 1.0, 1.0, 1.0)
_LEAST = 9.0
"""Pixels of the screen that a frame encloses at least."""

_MOST_CUTS = 64
"""Most borders of overlaps along an axis; beyond, their hull is shaded."""


@dataclass(frozen=True, eq=False)
class PlanePatches:
    """The patches of one plane."""

    rows: NDArray[np.int64]
    """Their indices in the grid, ascending."""
    start: NDArray[np.int32]
    """Of shape (n, 2): start of each along YX."""
    size: tuple[int, int]
    """Size of every patch along YX."""
    category: NDArray[np.uint8]
    """The `PatchCategory` of each."""

    @classmethod
    def from_grid(
        cls,
        grid: PatchGrid,
        category: NDArray[np.uint8],
        source_index: int,
        sample: int,
        depth: int | None = None,
    ) -> Self:
        """Return the patches of one sample, with a depth axis only those that contain `depth`.

        A grid is sorted, so that those of a million take milliseconds.
        """
        first, last = _find_run(grid.source_index, source_index)
        low, high = (first + n for n in _find_run(grid.sample[first:last], sample))
        height, width = grid.size[-2:]
        start = grid.start[low:high, -2:]
        patches = cls(np.arange(low, high), start, (height, width), category[low:high])
        if len(grid.size) == 2 or depth is None:
            return patches
        z = grid.start[low:high, 0]
        return patches[np.flatnonzero((z <= depth) & (depth < z + grid.size[0]))]

    def scaled(self, ratio: Ratio | None) -> Self:
        """Return the patches in pixels of which so many, along YX, make one of theirs."""
        if ratio is None:
            return self
        factors = np.array(ratio, np.float64)
        start = np.floor(self.start * factors + 0.5).astype(np.int32)
        height, width = np.floor(np.array(self.size) * factors + 0.5).astype(int).tolist()
        return type(self)(self.rows, start, (height, width), self.category)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: NDArray[np.integer]) -> Self:
        start = take_starts(self.start, index)
        return type(self)(self.rows[index], start, self.size, self.category[index])

    def looks_like(self, other: Self) -> bool:
        """Return whether another plane's patches have the same positions and categories.

        This is so in all frames of a movie.
        """
        return self is other or (
            self.size == other.size
            and np.array_equal(self.start, other.start)
            and np.array_equal(self.category, other.category)
        )

    def in_view(self, low: Point, high: Point) -> NDArray[np.int64]:
        """Return the indices of the patches that a rectangle, from `low` to `high`, touches."""
        first, last = self._find_near(np.array(low) - self.size, high)
        y, x = self.start[first:last].T
        seen = (y < high[0]) & (y > low[0] - self.size[0])
        seen &= (x < high[1]) & (x > low[1] - self.size[1])
        return first + np.flatnonzero(seen)

    def _find_near(self, low: NDArray[np.floating], high: Point) -> tuple[int, int]:
        """Return the first and last + 1 of a run with all patches that start in a rectangle.

        Patches follow each other tile by tile, so that those in view are near each other.
        """
        lowest, highest = self._extents
        near = np.flatnonzero((lowest < high).all(axis=1) & (highest > low).all(axis=1))
        return (int(near[0]) * _RUN, int(near[-1] + 1) * _RUN) if len(near) else (0, 0)

    @cached_property
    def _extents(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The lowest and the highest start along YX in each run of `_RUN` patches, (n, 2)."""
        runs = np.arange(0, len(self), _RUN)
        lowest, highest = (
            np.stack([each.reduceat(self.start[:, axis], runs) for axis in (0, 1)], axis=1)
            if len(runs)
            else np.empty((0, 2), np.int32)
            for each in (np.minimum, np.maximum)
        )
        return lowest, highest

    def row_at(self, y: float, x: float) -> int | None:
        """Return the row of the patch at a point, the one with the nearest centre; else None.

        Of those at one place, in several depths, it is one that is kept, as that is seen.
        """
        near = self[self.in_view((y, x), (y + 1e-6, x + 1e-6))]
        if not len(near):
            return None
        is_rejected = near.category == PatchCategory.REJECTED
        return int(near.rows[np.lexsort((is_rejected, near._distance(y, x)))[0]])

    def box_of(self, row: int) -> Box | None:
        """Return the box of the patch with a row, None if it does not lie on the plane."""
        index = int(np.searchsorted(self.rows, row))
        if index == len(self.rows) or self.rows[index] != row:
            return None
        low = self.start[index].astype(np.float64)
        return np.stack([low, low + self.size])

    def row_on(self, other: "PlanePatches", row: int | None) -> int | None:
        """Return the row of the same place on another plane with the same positions."""
        index = -1 if row is None else int(np.searchsorted(self.rows, row))
        is_here = 0 <= index < len(self.rows) and self.rows[index] == row
        return int(other.rows[index]) if is_here else None

    def overlaps(self, box: Box) -> NDArray[np.float64]:
        """Return what the other patches have in common with one of them, (n, 2, 2), as boxes."""
        others = self[self.in_view(*box.tolist())].start.astype(np.float64)
        others = others[(others != box[0]).any(axis=1)]
        return np.stack(
            [np.maximum(others, box[0]), np.minimum(others + self.size, box[1])], axis=1
        )

    def example(self, y: float, x: float) -> int | None:
        """Return the row of a patch that overlaps others, near a point; None if none does."""
        near = self[np.sort(self._distance(y, x).argsort(kind="stable")[:_MAX_EXAMPLES])]
        away = np.abs(near.start[:, np.newaxis] - near.start)
        overlap = (away < near.size).all(axis=2) & (away > 0).any(axis=2)
        rows = near[np.flatnonzero(overlap.any(axis=1))]
        return int(rows.rows[rows._distance(y, x).argmin()]) if len(rows) else None

    def _distance(self, y: float, x: float) -> NDArray[np.float64]:
        """Return the distance of each patch's centre from a point, along the farther axis."""
        away = np.abs(self.start + np.array(self.size) / 2 - (y, x))
        distance: NDArray[np.float64] = away.max(axis=1)
        return distance

    @cached_property
    def axes(self) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
        """The starts along Y and X if the patches are a complete grid of these, else None."""
        ys, xs = (_unique(self.start[:, axis]) for axis in (0, 1))
        n_depths = len(self) // max(1, len(ys) * len(xs))
        is_complete = len(self) > 0 and len(self) == len(ys) * len(xs) * n_depths
        return (ys, xs) if is_complete else None

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all patches have one category, and none is struck out as rejected."""
        if not len(self):
            return True
        first = self.category[0]
        return bool(first != PatchCategory.REJECTED and (self.category == first).all())


def _find_run(ascending: NDArray[np.int32], number: int) -> tuple[int, int]:
    """Return the first index of a number and the one after its last.

    The number is searched as the array's own type; for another one NumPy would copy the array.
    """
    first, last = np.searchsorted(ascending, np.array([number, number + 1], ascending.dtype))
    return int(first), int(last)


class LineSegments(NamedTuple):
    """Line segments, and the category of the patch that each outlines."""

    data: NDArray[np.float64]
    """Of shape (n, 2, 2): start and extent along YX."""
    category: NDArray[np.uint8]


def outline_segments(patches: PlanePatches, inset: float | NDArray[np.float64] = 0) -> LineSegments:
    """Return the outlines of patches.

    Patches of one category on a complete grid share their lines, so a million of them take a few
    thousand. Otherwise each has its own, `inset` pixels (along YX) inside of its border so that
    neighbours do not hide each other. One that is rejected has a diagonal. Those that are kept come
    last, above the others: at a place where one is kept in one depth and rejected in another, the
    diagonal is seen in the outline of the one that is kept.
    """
    if patches.is_uniform:
        if patches.axes is not None:
            ys, xs = (starts - 0.5 for starts in patches.axes)
            data = _grid_lines(ys, xs, np.array(patches.size, float))
            if len(patches) and patches.category[0] == PatchCategory.REJECTED:
                data = np.concatenate([data, _diagonals(patches.start - 0.5, patches.size)])
            return LineSegments(data, np.resize(patches.category[:1], len(data)))
        inset = 0
    size = np.maximum(np.array(patches.size) - 2 * inset, 0)
    low, is_kept = patches.start - 0.5 + inset, patches.category != PatchCategory.REJECTED
    rejected = low[~is_kept]
    below = np.concatenate([_boxes(rejected, size), _diagonals(rejected, size)])
    above = _boxes(low[is_kept], size)
    category = np.full(len(below), PatchCategory.REJECTED, np.uint8)
    category = np.append(category, np.tile(patches.category[is_kept], 4))
    return LineSegments(np.concatenate([below, above]), category)


def hull_segments(patches: PlanePatches) -> NDArray[np.float64]:
    """Return the four lines around all patches, (4, 2, 2)."""
    low: NDArray[np.float64] = patches.start.min(axis=0).astype(np.float64)
    size = patches.start.max(axis=0) - low + patches.size
    return _grid_lines(low[:1] - 0.5, low[1:] - 0.5, size)


def volume_segments(start: NDArray[np.int32], size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the twelve edges, (n, 2, 3), of patches with a depth axis that start at (n, 3)."""
    low, edges = start.astype(np.float64) - 0.5, []
    for axis in range(3):
        extent = np.where(np.arange(3) == axis, size, 0)
        for corner in np.ndindex(2, 2):
            edges.append((np.insert(corner, axis, 0) * size, extent))
    starts = np.concatenate([low + corner for corner, _ in edges])
    extents = np.repeat([extent for _, extent in edges], len(low), axis=0)
    return np.stack([starts, extents], axis=1)


def halo(lines: NDArray[np.float64], offset: float) -> NDArray[np.float64]:
    """Return two lines for each line, (n, 2, 2), so many pixels to its sides.

    They stay within the hull of all lines, as napari's home view shows the middle of all that is
    drawn.
    """
    along = lines[:, 1]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * offset
    across /= np.maximum(np.hypot(*along.T), 1e-9)[:, np.newaxis]
    ends = np.stack([lines[:, 0], lines.sum(axis=1)], axis=1)
    low, high = ends.min(axis=(0, 1)), ends.max(axis=(0, 1))
    aside = np.concatenate([ends + across[:, np.newaxis], ends - across[:, np.newaxis]])
    start, stop = np.clip(aside, low, high).swapaxes(0, 1)
    return np.stack([start, stop - start], axis=1)


def _boxes(low: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return four segments, (4 n, 2, 2), for each patch."""
    down, right = np.array([size[0], 0]), np.array([0, size[1]])
    starts = np.concatenate([low, low, low + down, low + right])
    extents = np.repeat([right, down, right, down], len(low), axis=0)
    return np.stack([starts, extents], axis=1)


def _diagonals(
    low: NDArray[np.floating], size: NDArray[np.floating] | tuple[int, int]
) -> NDArray[np.float64]:
    """Return a segment, (n, 2, 2), from the first to the last corner of each patch."""
    return np.stack([low, np.broadcast_to(np.asarray(size, np.float64), low.shape)], axis=1)


def _unique(starts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the different values in order, without sorting or copying all of them."""
    first, last = min(0, starts.min(initial=0)), starts.max(initial=0)
    present = np.zeros(last - first + 1, bool)
    present[starts] = True  # those before 0 count from its end
    values = np.flatnonzero(np.roll(present, -first)).astype(np.int32)
    values += np.int32(first)
    return values


def _grid_lines(
    ys: NDArray[np.floating], xs: NDArray[np.floating], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    height, width = ys[-1] + size[0] - ys[0], xs[-1] + size[1] - xs[0]
    rows, columns = np.union1d(ys, ys + size[0]), np.union1d(xs, xs + size[1])
    starts = [(y, xs[0]) for y in rows] + [(ys[0], x) for x in columns]
    extents = [(0.0, width)] * len(rows) + [(height, 0.0)] * len(columns)
    return np.stack([np.array(starts), np.array(extents)], axis=1)


class Mesh(NamedTuple):
    """Rectangles, each as two triangles of one colour: lines of any width, and areas."""

    vertices: NDArray[np.float64]
    """Of shape (n, 2): the corners, YX, measured from the centre of the first pixel."""
    faces: NDArray[np.int64]
    """Of shape (m, 3): the corners of each triangle, the lowest one first."""
    colors: NDArray[np.float32]
    """Of shape (n, 4): RGBA of each corner."""

    def equals(self, other: "Mesh") -> bool:
        """Return whether another mesh looks the same."""
        return (
            np.array_equal(self.vertices, other.vertices)
            and np.array_equal(self.faces, other.faces)
            and np.array_equal(self.colors, other.colors)
        )


def highlight_mesh(
    shaded: NDArray[np.float64],
    frames: Sequence[tuple[Box, float]],
    pixel: float | NDArray[np.float64],
    shade: float,
) -> Mesh:
    """Return shaded overlaps below framed boxes.

    Parameters
    ----------
    shaded : float64 array, (n, 2, 2)
        The start and the stop of each overlap.
    frames : sequence of tuple of Box and float
        The boxes, and the width of the line of each on the screen.
    pixel : float or float64 array, (2,)
        Pixels of the image per pixel of the screen, along YX.
    shade : float
        Opacity of the overlaps.
    """
    areas = _union(shaded)
    colors = [(*_SHADE, shade)] * len(areas)
    for box, width in frames:
        low, high = box
        middle, half = (low + high) / 2, np.maximum((high - low) / 2, _LEAST * pixel / 2)
        for inset, color, thickness in ((0, _HALO, width + 2), (1, _FRAME, width)):
            sides = _sides(middle - half, middle + half, inset * pixel, thickness * pixel)
            areas += sides
            colors += [color] * len(sides)
    corners = np.array(areas, float).reshape(-1, 2, 2)
    y, x = np.moveaxis(corners, 2, 0) - 0.5
    vertices = np.stack([y[:, [0, 0, 1, 1]], x[:, [0, 1, 1, 0]]], axis=2).reshape(-1, 2)
    first = 4 * np.arange(len(corners))[:, np.newaxis]
    faces = (first + np.array([0, 1, 2, 0, 2, 3])).reshape(-1, 3)
    return Mesh(vertices, faces, np.repeat(np.array(colors, np.float32).reshape(-1, 4), 4, axis=0))


def _sides(
    low: Box,
    high: Box,
    inset: float | NDArray[np.float64],
    thickness: float | NDArray[np.float64],
) -> list[Box]:
    """Return the four sides of a frame that lies within a box."""
    (top, left), (bottom, right) = low, high = low + inset, high - inset
    high_side, wide_side = np.minimum(thickness, (high - low) / 2)
    sides = (
        ((top, left), (top + high_side, right)),
        ((bottom - high_side, left), (bottom, right)),
        ((top + high_side, left), (bottom - high_side, left + wide_side)),
        ((top + high_side, right - wide_side), (bottom - high_side, right)),
    )
    return [np.array(side) for side in sides]


def _union(boxes: NDArray[np.float64]) -> list[Box]:
    """Cut boxes into parts that do not overlap."""
    if not len(boxes):
        return []
    ys, xs = (np.unique(boxes[..., axis]) for axis in (0, 1))
    if max(len(ys), len(xs)) > _MOST_CUTS:
        return [np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])]
    inside = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for low, high in boxes:
        (top, bottom), (left, right) = (
            np.searchsorted(cuts, ends)
            for cuts, ends in ((ys, (low[0], high[0])), (xs, (low[1], high[1])))
        )
        inside[top:bottom, left:right] = True
    return [np.array([(ys[i], xs[j]), (ys[i + 1], xs[j + 1])]) for i, j in np.argwhere(inside)]
