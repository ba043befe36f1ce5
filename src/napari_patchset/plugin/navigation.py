"""Where the arrow keys point.

From patch to patch of a plane, in the direction of an arrow key.
"""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt

from napari_patchset.preview.outlines import PlanePatches

DIRECTIONS = {
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Down: (0, 1),
    Qt.Key.Key_Up: (0, -1),
}
"""Right and down, each -1, 0 or 1."""


def neighbour_patch(
    plane: PlanePatches, start: tuple[int, int], right: int, down: int
) -> int | None:
    """Give the row of the nearest patch in a direction, None if there is none.

    What lies straight ahead is nearer than what lies aside.

    Parameters
    ----------
    plane : PlanePatches
        The patches.
    start : tuple of int
        Where the patch begins that is left, YX.
    right, down : int
        -1, 0 or 1.
    """
    y, x = (plane.start.astype(np.int64) - start).T
    ahead, aside = x * right + y * down, np.abs(x * down) + np.abs(y * right)
    distance = np.where((ahead > 0) & (aside <= 2 * ahead), ahead + 2.0 * aside, np.inf)
    return _least(plane, distance)


def nearest_patch(plane: PlanePatches, y: float, x: float) -> int | None:
    """Give the row of the patch whose middle is the nearest to a point, None if there is none."""
    away = plane.start + np.array(plane.size) / 2 - (y, x)
    return _least(plane, np.abs(away).max(axis=1, initial=0))


def _least(plane: PlanePatches, distance: NDArray[np.float64]) -> int | None:
    if not len(distance) or not np.isfinite(distance.min()):
        return None
    return int(plane.rows[distance.argmin()])
