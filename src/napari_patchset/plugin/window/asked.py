"""Who asks for pixels: napari, to draw its window, or somebody who needs them."""

import sys
import threading
from time import monotonic

from qtpy.QtCore import QCoreApplication, QThread, QTimer

_SLICING = "napari.layers._scalar_field."

_PATIENCE = 0.02
"""Seconds that the window waits, in one turn of its loop, for pixels that are nearly there."""


def asked_for_drawing() -> bool:
    """Whether napari asks the caller for a slice while its window is at work.

    napari slices images in the window's thread and has no hook to answer later. So the one who
    asks is looked at: all others need the pixels themselves, and so does a script that runs
    before the window does.
    """
    asks = sys._getframe(2).f_globals.get("__name__", "")
    return str(asks).startswith(_SLICING) and is_window_at_work()


def is_window_at_work() -> bool:
    """Whether this is the window's thread, called from its loop."""
    if threading.current_thread() is not threading.main_thread():
        return False
    thread = QThread.currentThread()
    return QCoreApplication.instance() is not None and thread is not None and thread.loopLevel() > 0


def is_beside_window() -> bool:
    """Whether this is another thread than that of a window."""
    is_main = threading.current_thread() is threading.main_thread()
    return not is_main and QCoreApplication.instance() is not None


class Patience:
    """What the window may wait before it is drawn without pixels; all layers share it."""

    def __init__(self) -> None:
        self._end: float | None = None

    def left(self) -> float:
        """Give the seconds that are left in this turn of the loop."""
        if self._end is None:
            self._end = monotonic() + _PATIENCE
            QTimer.singleShot(0, self._renew)
        return max(0.0, self._end - monotonic())

    def _renew(self) -> None:
        self._end = None


PATIENCE = Patience()
