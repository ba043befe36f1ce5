"""Patches as outlines: lines in pixels of the image, measured from the centre of the first one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.plane import Plane
from napari_patchset.preview.verdict_colors import Category


class Lines(NamedTuple):
    """Lines and the category of what they outline.

    Attributes
    ----------
    data : float64 array, (n, 2, 2)
        Start and extent along YX.
    category : uint8 array
        The `Category` of each line.
    """

    data: NDArray[np.float64]
    category: NDArray[np.uint8]


def outlines(plane: Plane, inset: float = 0) -> Lines:
    """Give the outlines of patches.

    Patches of one category that form a lattice share their lines, so a million of them take a few
    thousand. Else each has its own, drawn `inset` pixels inside of its border so that neighbours
    don't hide each other, and a rejected one is struck through.
    """
    low = plane.start.astype(np.float64) - 0.5
    if plane.is_uniform:
        ys, xs = (_distinct(plane.start[:, axis]) - 0.5 for axis in (0, 1))
        n_depths = len(plane) // max(1, len(ys) * len(xs))
        if len(plane) == len(ys) * len(xs) * n_depths:
            data = _lattice_lines(ys, xs, np.array(plane.size, float))
            return Lines(data, np.resize(plane.category[:1], len(data)))
        inset = 0
    size = np.maximum(np.array(plane.size) - 2 * inset, 0)
    return _boxes(low + inset, size, plane.category)


def _boxes(
    low: NDArray[np.float64], size: NDArray[np.float64], category: NDArray[np.uint8]
) -> Lines:
    """Give four lines a patch, and one across each that is rejected."""
    down, right = np.array([size[0], 0]), np.array([0, size[1]])
    struck = low[category == Category.REJECTED]
    corners = np.concatenate([low, low, low + down, low + right, struck])
    repeats = [len(low)] * 4 + [len(struck)]
    along = np.repeat([right, down, right, down, down + right], repeats, axis=0)
    rejected = np.full(len(struck), Category.REJECTED, np.uint8)
    return Lines(np.stack([corners, along], axis=1), np.append(np.tile(category, 4), rejected))


def _distinct(starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Give the different values in order, without sorting all of them."""
    first = starts.min(initial=0)
    present = np.zeros(starts.max(initial=0) - first + 1, bool)
    present[starts - first] = True
    found: NDArray[np.float64] = np.flatnonzero(present).astype(np.float64) + first
    return found


def _lattice_lines(
    ys: NDArray[np.float64], xs: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not len(ys):
        return np.empty((0, 2, 2))
    height, width = ys[-1] + size[0] - ys[0], xs[-1] + size[1] - xs[0]
    rows, columns = np.union1d(ys, ys + size[0]), np.union1d(xs, xs + size[1])
    starts = [(y, xs[0]) for y in rows] + [(ys[0], x) for x in columns]
    extents = [(0.0, width)] * len(rows) + [(height, 0.0)] * len(columns)
    return np.stack([np.array(starts), np.array(extents)], axis=1)
