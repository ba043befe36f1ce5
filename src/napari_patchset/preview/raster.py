"""A picture of patches that are too many for outlines.

Training patches are transparent, so that the image can be seen; a cell with others has the mean of
their colours, the lighter the fewer they are. The outline of all patches tells what is covered.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory
from napari_patchset.preview.image import rgb
from napari_patchset.preview.outlines import PlanePatches

MAX_CELLS = 1024
"""Most cells along an axis: about the resolution of a screen."""

_RGB = np.array([255 * rgb(color) for color in CATEGORY_COLORS])

_ALPHA = 90
"""Opacity, of 255, of a cell without training patches."""

_PALETTE = np.zeros((1 << len(CATEGORY_COLORS), 4), np.uint8)
"""The colour, RGBA, of a cell by the categories in it, one bit each.

Training patches are transparent, as are cells of several categories until they are mixed.
"""
for _category in (PatchCategory.VAL, PatchCategory.TEST, PatchCategory.REJECTED):
    _PALETTE[1 << _category] = *_RGB[_category], _ALPHA

_MAX_LINES = 2000
"""Most lines of the outline of what is covered; a coarser one is drawn where it has more."""


class PatchRaster(NamedTuple):
    """A picture and its position."""

    picture: NDArray[np.uint8]
    """YX and RGBA; transparent where no patch, or only training ones, have their centre."""
    covered: NDArray[np.bool_]
    """Of YX, where patches have their centre."""
    low: tuple[float, float]
    """Its upper left corner in pixels of the image."""
    cell: tuple[float, float]
    """Height and width of one of its pixels in pixels of the image."""

    def outline(self) -> NDArray[np.float64]:
        """Return the lines around what is covered, (n, 2, 2): start and extent along YX."""
        covered, cell = self.covered, np.array(self.cell)
        while len(lines := _edges(covered)) > _MAX_LINES:
            covered, cell = _halved(covered), 2 * cell
        corner = np.array(self.low) - 0.5
        shifted: NDArray[np.float64] = lines * cell + np.stack([corner, np.zeros(2)])
        return shifted


def rasterize(
    patches: PlanePatches, step: tuple[int, int], colors: Sequence[str] = CATEGORY_COLORS
) -> PatchRaster:
    """Bin patches, at least one, by their centres.

    `step` is the distance of neighbours along YX; a cell is a multiple of it, so that a regular
    grid leaves no stripes. `colors` are those of the categories.
    """
    rows, columns = (
        _bin(patches.start[:, axis], patches.size[axis], step[axis]) for axis in (0, 1)
    )
    shape = rows.n_cells, columns.n_cells
    cells = rows.cells.astype(np.intp)
    cells *= columns.n_cells
    cells += columns.cells
    if tuple(colors) == CATEGORY_COLORS:
        present = _present(cells, patches.category, prod(shape))
        covered, picture = present > 0, _color_cells(cells, patches.category, present)
    else:
        covered = np.bincount(cells, minlength=prod(shape)) > 0
        picture = _mean_colors(cells, patches.category, colors, prod(shape))
    covered, picture = covered.reshape(shape), picture.reshape(*shape, 4)
    return PatchRaster(picture, covered, (rows.low, columns.low), (rows.cell, columns.cell))


def _mean_colors(
    cells: NDArray[np.intp], category: NDArray[np.uint8], colors: Sequence[str], n_cells: int
) -> NDArray[np.uint8]:
    """Return the mean colour, RGBA, of the patches in each cell, but for those of category 0."""
    n = np.bincount(cells, minlength=n_cells)
    colored = np.bincount(cells, category != 0, n_cells)
    picture = np.zeros((n_cells, 4), np.uint8)
    picture[:, 3] = _ALPHA * colored / np.maximum(n, 1)
    table = np.array([255 * rgb(color) for color in colors])
    table[0] = 0
    for channel, values in enumerate(table.T):
        total = np.bincount(cells, values[category], n_cells)
        picture[:, channel] = total / np.maximum(colored, 1)
    return picture


class _Bins(NamedTuple):
    """The cells along one axis: that of each patch, their number, their start and their extent."""

    cells: NDArray[np.int32]
    n_cells: int
    low: float
    cell: float


def _bin(starts: NDArray[np.int32], size: int, step: int) -> _Bins:
    first, last = int(starts.min()), int(starts.max())
    n_steps = (last - first) // step + 1
    cell = step * -(-n_steps // MAX_CELLS)
    # The first cell begins half a step before the first centre, as if each patch filled its step.
    before = step // 2
    cells = starts - np.int32(first - before)
    cells //= cell
    low = first + (size - step) / 2
    return _Bins(cells, (last - first + before) // cell + 1, low, float(cell))


def _present(
    cells: NDArray[np.intp], category: NDArray[np.uint8], n_cells: int
) -> NDArray[np.uint8]:
    """Return the categories of the patches in each cell, one bit each."""
    present, bits = np.zeros(n_cells, np.uint8), np.left_shift(np.uint8(1), category)
    present[cells] = bits
    others = np.flatnonzero(present.take(cells, mode="clip") != bits)
    np.bitwise_or.at(present, cells[others], bits[others])
    return present


def _color_cells(
    cells: NDArray[np.intp], category: NDArray[np.uint8], present: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the colour, RGBA, of each cell."""
    # Most cells have patches of one category, which takes no arithmetic.
    colors: NDArray[np.uint8] = _PALETTE.take(present, axis=0)
    is_mixed = (present & (present - np.uint8(1))) != 0
    if is_mixed.any():
        _mix(colors, is_mixed, cells, category)
    return colors


def _mix(
    colors: NDArray[np.uint8],
    is_mixed: NDArray[np.bool_],
    cells: NDArray[np.intp],
    category: NDArray[np.uint8],
) -> None:
    """Set mixed cells to the mean colour of their patches that are not for training."""
    number = np.cumsum(is_mixed) - 1
    within = np.flatnonzero(is_mixed.take(cells, mode="clip"))
    n = int(number[-1]) + 1
    flat = category[within] * np.int64(n) + number[cells[within]]
    n_colors = len(CATEGORY_COLORS)
    counts = np.bincount(flat, minlength=n_colors * n).reshape(n_colors, n)
    others = counts.sum(axis=0) - counts[PatchCategory.TRAIN]
    colors[is_mixed, 3] = _ALPHA * others / (others + counts[PatchCategory.TRAIN])
    counts[PatchCategory.TRAIN] = 0
    for channel, weights in enumerate(_RGB.T):
        # Element by element: a matrix product would wait for threads of other cores.
        terms = (each * weight for each, weight in zip(counts, weights, strict=True))
        colors[is_mixed, channel] = sum(terms) / others


def _edges(covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the lines between cells that are covered and others, in cells, (n, 2, 2)."""
    return np.concatenate([_runs(covered), _runs(covered.T)[..., ::-1]])


def _runs(covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the edges along the rows, neighbouring ones as one line."""
    changes = np.diff(np.pad(covered, ((1, 1), (0, 0))), axis=0)
    ends = np.diff(np.pad(changes, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (y, first), (_, stop) = np.nonzero(ends > 0), np.nonzero(ends < 0)
    lines = [[y, first], [np.zeros_like(y), stop - first]]
    return np.array(lines, np.float64).transpose(2, 0, 1)


def _halved(covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells of twice the size, covered where any part is."""
    rows, columns = covered.shape
    even = np.pad(covered, ((0, rows % 2), (0, columns % 2)))
    return even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
