"""Where the arrow keys point."""

from qtpy.QtCore import Qt

DIRECTIONS = {
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Down: (0, 1),
    Qt.Key.Key_Up: (0, -1),
}
"""Right and down, each -1, 0 or 1."""
