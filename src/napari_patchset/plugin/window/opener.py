"""The viewer that a reader opens a file for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_stack
from weakref import ref

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_patchset.plugin.window.asked import is_window_at_work
from napari_patchset.plugin.window.asking import show_offer
from napari_patchset.plugin.window.preferences import PLUGIN

_SOON_MS = 300
_READY = "Ready"


class Opener:
    """The viewer in whose `open` the caller is; napari does not tell a reader who asks."""

    def __init__(self) -> None:
        callers = (frame.f_locals.get("self") for frame, _ in walk_stack(sys._getframe(1)))
        self._viewer = next((each for each in callers if isinstance(each, Viewer)), None)

    @property
    def is_closed(self) -> bool:
        """Whether its window is closed by now."""
        if self._viewer is None:
            return False
        window = getattr(self._viewer.window, "_qt_window", None)
        return window is None or not isalive(window)  # type: ignore[no-untyped-call]  # as qtpy is

    def tell(self, text: str) -> None:
        """Notify of the scenes of a file, with a button that shows them in the widget.

        The window says so once the layers are there: to draw a notification takes as long as one.
        """
        if is_window_at_work():
            QTimer.singleShot(0, lambda: None if self.is_closed else self._tell(text))
        else:
            self._tell(text)

    def _tell(self, text: str) -> None:
        if self._viewer is None:
            show_info(text)
            return
        known = ref(self._viewer)  # napari keeps what it told, not the viewer
        show_offer(text, "Show the scenes", lambda: _show_patches(known()))

    @contextmanager
    def saying(self, text: str) -> Iterator[None]:
        """Say in the status bar what takes longer than a moment."""
        timer = QTimer()
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: self._say(text))
        timer.start(_SOON_MS)
        try:
            yield
        finally:
            timer.stop()
            if self._viewer is not None and self._viewer.status == text:
                self._say(_READY)

    def _say(self, text: str) -> None:
        if self._viewer is not None and not self.is_closed:
            self._viewer.status = text


def _show_patches(viewer: Viewer | None) -> None:
    """Dock the widget, or bring it to the fore where it is docked."""
    if viewer is not None:
        dock, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        dock.show()
        dock.raise_()
