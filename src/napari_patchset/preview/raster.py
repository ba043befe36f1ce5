"""Too many patches for outlines, as a picture: each cell in the colours of those that lie in it."""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.picture import rgb
from napari_patchset.preview.plane import Plane
from napari_patchset.preview.verdict_colors import COLORS

MOST_CELLS = 1024
"""Cells along an axis: about the resolution of a screen."""

_RGB = np.array([255 * rgb(color) for color in COLORS])


def _palette() -> NDArray[np.uint8]:
    """Give the colour of a cell by the categories in it, one bit each; mixed ones have none yet."""
    palette = np.zeros((1 << len(COLORS), 4), np.uint8)
    palette[1:, 3] = 255
    palette[1 << np.arange(len(COLORS)), :3] = _RGB
    return palette


_PALETTE = _palette().view(np.uint32)[:, 0]
_IS_MIXED = np.array([code.bit_count() > 1 for code in range(len(_PALETTE))])


class Raster(NamedTuple):
    """A picture and where it lies.

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


def raster_of(plane: Plane, step: tuple[int, int]) -> Raster:
    """Bin patches by their centres.

    Parameters
    ----------
    plane : Plane
        At least one patch.
    step : tuple of int
        Distance of neighbours along YX; a cell is a multiple of it, so that a lattice leaves
        no stripes.
    """
    rows, columns = (_binned(plane.start[:, axis], plane.size[axis], step[axis]) for axis in (0, 1))
    shape = (len(COLORS), rows.n_cells, columns.n_cells)
    flat = (plane.category * np.int64(rows.n_cells) + rows.cells) * columns.n_cells + columns.cells
    counts = np.bincount(flat, minlength=prod(shape)).reshape(shape)
    return Raster(_mixed(counts), (rows.low, columns.low), (rows.cell, columns.cell))


class _Bins(NamedTuple):
    """Cells along one axis: the one that each patch lies in, how many, where, and how large."""

    cells: NDArray[np.int32]
    n_cells: int
    low: float
    cell: float


def _binned(starts: NDArray[np.int32], size: int, step: int) -> _Bins:
    first, last = int(starts.min()), int(starts.max())
    n_steps = (last - first) // step + 1
    cell = step * -(-n_steps // MOST_CELLS)
    # The centre of the first patch is in the middle of a cell.
    low = first + (size - cell) / 2
    return _Bins((starts - first) // cell, (last - first) // cell + 1, low, float(cell))


def _mixed(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Mix the colours of the categories in each cell, (category, Y, X) to RGBA."""
    present = np.zeros(counts.shape[1:], np.uint8)
    for i, each in enumerate(counts):
        present |= (each > 0).view(np.uint8) << np.uint8(i)
    # Most cells hold patches of one category, which takes no arithmetic.
    picture = _PALETTE[present].view(np.uint8).reshape(*present.shape, 4)
    y, x = np.nonzero(_IS_MIXED[present])
    mixed = counts[:, y, x]
    picture[y, x, :3] = (_RGB.T @ mixed / mixed.sum(axis=0)).T
    return picture
