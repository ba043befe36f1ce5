"""Too many patches for outlines, as a picture: each cell in the colours of those that lie in it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.picture import rgb
from napari_patchset.preview.plane import Plane
from napari_patchset.preview.verdict_colors import COLORS

MOST_CELLS = 1024
"""Cells along an axis: about the resolution of a screen."""


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
    first, last = plane.start.min(axis=0), plane.start.max(axis=0)
    n_steps = (last - first) // step + 1
    cell = np.array(step) * -(-n_steps // MOST_CELLS)
    height, width = (last - first) // cell + 1
    # The grid of cells lies such that the centre of the first patch is in the middle of one.
    y, x = ((plane.start - first) // cell).T
    flat = (plane.category * height + y) * width + x
    counts = np.bincount(flat, minlength=len(COLORS) * height * width)
    low = first + np.array(plane.size) / 2 - cell / 2
    picture = _mixed(counts.reshape(len(COLORS), height, width))
    return Raster(picture, (float(low[0]), float(low[1])), (float(cell[0]), float(cell[1])))


def _mixed(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Mix the colours of the categories in each cell, (category, Y, X) to RGBA."""
    total = counts.sum(axis=0)
    weight = np.float32(1) / np.maximum(total, 1).astype(np.float32)
    present = [i for i, each in enumerate(counts) if each.any()]
    shares = [(counts[i] * weight, 255 * rgb(COLORS[i])) for i in present]
    picture = np.zeros((*total.shape, 4), np.uint8)
    # Faster than a product of matrices so thin.
    for channel in range(3):
        picture[..., channel] = sum(share * color[channel] for share, color in shares)
    picture[..., 3] = 255 * (total > 0)
    return picture
