"""Who asks for pixels: napari, to draw its window, or somebody who needs them.

What napari imports as soon as it needs it, imported before that, beside the window.

Several changes of a layer, drawn once.

The colours of napari's theme, for what its style does not reach.

What the plugin asks of the window: dialogs, notifications, threads beside it, preferences.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from time import monotonic
from typing import NamedTuple

from napari.layers import Layer
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import QCoreApplication, QThread, QTimer
from qtpy.QtGui import QColor

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


NEEDED_SOON = ("scipy.ndimage", "pandas")
"""By napari: the one for the first image, the other for the first layer of lines, as the grid is.

To import them takes a few tenths of a second, in which the window would stand still.
"""


def import_beside() -> None:
    """Import what is needed soon and is not there yet."""
    missing = [name for name in NEEDED_SOON if name not in sys.modules]
    if missing:
        Thread(target=_import, args=(missing,), name="patchset-imports").start()


def _import(names: list[str]) -> None:
    for name in names:
        import_module(name)


@contextmanager
def drawn_once(layer: Layer) -> Iterator[None]:
    """Change settings of a layer, each of which would be drawn: a hidden layer is not."""
    was_visible = layer.visible
    with layer.events.visible.blocker():
        layer.visible = False
    try:
        yield
    finally:
        if was_visible:
            layer.visible = True


class Colors(NamedTuple):
    """Of text, of what is chosen, and of what is wrong; the last is legible on the background."""

    text: QColor
    accent: QColor
    error: QColor


def theme_colors() -> Colors:
    """Give the colours of the theme that a person prefers."""
    theme = get_theme(get_settings().appearance.theme)
    text = QColor(theme.text.as_hex())
    is_dark = text.lightnessF() > 0.5
    error = QColor("#ff8080") if is_dark else QColor("#b00020")
    return Colors(text, QColor(theme.current.as_hex()), error)
