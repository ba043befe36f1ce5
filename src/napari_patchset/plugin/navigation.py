"""Navigation with the arrow keys: between scenes on a map, and between patches of a plane."""

import numpy as np
from numpy.typing import ArrayLike
from qtpy.QtCore import Qt

from napari_patchset.preview.outlines import PlanePatches

DIRECTIONS = {
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Down: (0, 1),
    Qt.Key.Key_Up: (0, -1),
}
"""Right and down, each -1, 0 or 1."""


def nearest_ahead(points: ArrayLike, start: ArrayLike, right: int, down: int) -> int | None:
    """Return the index of the nearest point in a direction, None if there is none.

    Points straight ahead count as nearer: the cost is the distance ahead plus twice the distance to
    the side. A point more than twice as far to the side as ahead is not considered.

    Parameters
    ----------
    points : array_like, (n, 2)
        The points, YX.
    start : array_like, (2,)
        Where to start from, YX.
    right, down : int
        The direction, each -1, 0 or 1.
    """
    y, x = (np.asarray(points, float).reshape(-1, 2) - start).T
    ahead, aside = x * right + y * down, np.abs(x * down) + np.abs(y * right)
    distance = np.where((ahead > 0) & (aside <= 2 * ahead), ahead + 2 * aside, np.inf)
    return int(distance.argmin()) if np.isfinite(distance).any() else None


def neighbour_patch(
    plane: PlanePatches, start: tuple[int, int], right: int, down: int
) -> int | None:
    """Return the row of the nearest patch in a direction from a start YX, None if there is none."""
    index = nearest_ahead(plane.start, start, right, down)
    return None if index is None else int(plane.rows[index])


def nearest_patch(plane: PlanePatches, y: float, x: float) -> int | None:
    """Return the row of the patch whose centre is nearest to a point, None if there is none."""
    if not len(plane):
        return None
    away = plane.start + np.array(plane.size) / 2 - (y, x)
    return int(plane.rows[np.abs(away).max(axis=1).argmin()])
