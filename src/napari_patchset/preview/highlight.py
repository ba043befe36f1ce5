"""One patch as it is highlighted on the image: a frame, and what it has in common with others.

It is a mesh of rectangles, each of one colour, so that lines have any width and overlaps are areas.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.preview.outlines import Box

_SHADE = (0.35, 0.47, 1.0)
"""Visible on black, white, grey and saturated green, and no colour of a category."""

_HALO, _FRAME = (0.0, 0.0, 0.0, 0.8), (1.0, 1.0, 1.0, 1.0)
_LEAST = 9.0
"""Pixels of the screen that a frame encloses at least."""

_MOST_CUTS = 64
"""Most borders of overlaps along an axis; beyond, their hull is shaded."""


class Mesh(NamedTuple):
    """Triangles."""

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
    shaded: NDArray[np.float64], frames: Sequence[tuple[Box, float]], pixel: float, shade: float
) -> Mesh:
    """Return shaded overlaps below framed boxes.

    Parameters
    ----------
    shaded : float64 array, (n, 2, 2)
        The start and the stop of each overlap.
    frames : sequence of tuple of Box and float
        The boxes, and the width of the line of each on the screen.
    pixel : float
        Pixels of the image per pixel of the screen.
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


def _sides(low: Box, high: Box, inset: float, thickness: float) -> list[Box]:
    """Return the four sides of a frame that lies within a box."""
    (top, left), (bottom, right) = low + inset, high - inset
    thick = min(thickness, (bottom - top) / 2, (right - left) / 2)
    sides = (
        ((top, left), (top + thick, right)),
        ((bottom - thick, left), (bottom, right)),
        ((top + thick, left), (bottom - thick, left + thick)),
        ((top + thick, right - thick), (bottom - thick, right)),
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
