"""A picture of patches that are too many for outlines: each cell has the mean of their colours."""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.categories import CATEGORY_COLORS
from napari_patchset.preview.image import rgb
from napari_patchset.preview.outlines import PlanePatches

MAX_CELLS = 1024
"""Most cells along an axis: about the resolution of a screen."""

_RGB = np.array([255 * rgb(color) for color in CATEGORY_COLORS])


def _palette() -> NDArray[np.uint32]:
    """Return the colour, as RGBA, of a cell by the categories in it, one bit each.

    Cells with several categories are opaque black until they are mixed.
    """
    palette = np.zeros((1 << len(CATEGORY_COLORS), 4), np.uint8)
    palette[1:, 3] = 255
    palette[1 << np.arange(len(CATEGORY_COLORS)), :3] = _RGB
    return palette.view(np.uint32)[:, 0]


_PALETTE = _palette()


class PatchRaster(NamedTuple):
    """A picture and its position.

    Attributes
    ----------
    picture : uint8 array, YXC
        RGBA; transparent where no patch has its centre.
    low : tuple of float
        Its upper left corner in pixels of the image.
    cell : tuple of float
        Height and width of one of its pixels in pixels of the image.
    """

    picture: NDArray[np.uint8]
    low: tuple[float, float]
    cell: tuple[float, float]


def rasterize(patches: PlanePatches, step: tuple[int, int]) -> PatchRaster:
    """Bin patches by their centres.

    Parameters
    ----------
    patches : PlanePatches
        At least one patch.
    step : tuple of int
        Distance of neighbours along YX; a cell is a multiple of it, so that a regular grid leaves
        no stripes.
    """
    rows, columns = (
        _bin(patches.start[:, axis], patches.size[axis], step[axis]) for axis in (0, 1)
    )
    shape = rows.n_cells, columns.n_cells
    cells = rows.cells.astype(np.intp)
    cells *= columns.n_cells
    cells += columns.cells
    picture = _color_cells(cells, patches.category, prod(shape)).reshape(*shape, 4)
    return PatchRaster(picture, (rows.low, columns.low), (rows.cell, columns.cell))


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


def _color_cells(
    cells: NDArray[np.intp], category: NDArray[np.uint8], n_cells: int
) -> NDArray[np.uint8]:
    """Return the mean colour, RGBA, of the patches in each cell."""
    present, bits = np.zeros(n_cells, np.uint8), np.left_shift(np.uint8(1), category)
    present[cells] = bits
    others = np.flatnonzero(present.take(cells, mode="clip") != bits)
    np.bitwise_or.at(present, cells[others], bits[others])
    # Most cells have patches of one category, which takes no arithmetic.
    colors: NDArray[np.uint8] = _PALETTE.take(present).view(np.uint8).reshape(-1, 4)
    is_mixed = (present & (present - np.uint8(1))) != 0
    if len(others):
        _mix(colors, is_mixed, cells, category)
    return colors


def _mix(
    colors: NDArray[np.uint8],
    is_mixed: NDArray[np.bool_],
    cells: NDArray[np.intp],
    category: NDArray[np.uint8],
) -> None:
    """Set mixed cells to the mean colour of their patches."""
    number = np.cumsum(is_mixed) - 1
    within = np.flatnonzero(is_mixed.take(cells, mode="clip"))
    n = int(number[-1]) + 1
    flat = category[within] * np.int64(n) + number[cells[within]]
    n_colors = len(CATEGORY_COLORS)
    counts = np.bincount(flat, minlength=n_colors * n).reshape(n_colors, n)
    total = counts.sum(axis=0)
    for channel, weights in enumerate(_RGB.T):
        # Element by element: a matrix product would wait for threads of other cores.
        terms = (each * weight for each, weight in zip(counts, weights, strict=True))
        colors[is_mixed, channel] = sum(terms) / total
