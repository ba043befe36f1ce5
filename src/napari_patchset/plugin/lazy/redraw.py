"""Draw layers again when more of their pixels are there.

Black and white for a plane of pixels.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from napari.layers import Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QObject, QTimer

from napari_patchset.plugin.dialogs import message
from napari_patchset.preview import display_limits

Limits = tuple[float, float]

MIDDLE = 1024
"""Pixels along a side of what contrast is estimated from, where a plane is larger."""


def middle_limits(pixels: NDArray[Any]) -> Limits:
    """Estimate contrast from the middle of a plane, its last two axes."""
    height, width = pixels.shape[-2:]
    y, x = (slice(max(0, (n - MIDDLE) // 2), (n + MIDDLE) // 2) for n in (height, width))
    return display_limits(pixels[..., y, x])


_EVERY_MS = 60


class Awaited(Protocol):
    """What the pixels of a layer come from: see `arrivals.AsyncSlicer`."""

    provisional: Limits | None
    limits: Limits | None

    def news(self) -> tuple[bool, list[Exception], bool]:
        """Tell whether pixels came, what went wrong, and whether there is more to come."""

    def give_up(self) -> None:
        """Read nothing more."""


class Redraw(QTimer):
    """Look every now and then whether pixels came, and draw their layers again."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.setInterval(_EVERY_MS)
        self.timeout.connect(self._look)
        self._awaited: set[Awaited] = set()
        self._told: set[str] = set()

    def watch(self, awaited: Awaited) -> None:
        """Look until all is there."""
        self._awaited.add(awaited)
        if not self.isActive():
            self._told.clear()
            self.start()

    def _look(self) -> None:
        awaited, self._awaited = self._awaited, set()
        shown = list(_shown())
        for each in awaited:
            came, errors, is_more = each.news()
            layers = [layer for layer, arrivals in shown if arrivals is each]
            if is_more and not layers:
                each.give_up()
            elif is_more:
                self._awaited.add(each)
            for error in errors:
                self._tell(message(error))
            for layer in layers if came else ():
                _settle_contrast(layer, each)
                layer.refresh(extent=False, highlight=False)
        if not self._awaited:
            self.stop()

    def _tell(self, text: str) -> None:
        """Say what is wrong, once for all channels and tiles."""
        if text not in self._told:
            self._told.add(text)
            show_error(text)


def redraw() -> Redraw:
    """Give the application's one `Redraw`; in the window's thread."""
    app = QCoreApplication.instance()
    assert app is not None  # nothing is drawn without one
    return next(iter(app.findChildren(Redraw)), None) or Redraw(app)


def layers_of(awaited: Awaited) -> list[Layer]:
    """Give the layers whose pixels come from there."""
    return [layer for layer, arrivals in _shown() if arrivals is awaited]


def _shown() -> Iterator[tuple[Layer, Any]]:
    """Give the layers whose pixels may come later, in every window."""
    for viewer in list(Viewer._instances):  # napari names the current one only
        for layer in list(viewer.layers):
            data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
            if hasattr(data, "arrivals"):
                yield layer, data.arrivals


def _settle_contrast(layer: Any, awaited: Awaited) -> None:
    """Choose contrast by the first pixels, unless somebody was quicker."""
    if awaited.provisional is not None and awaited.limits is not None:
        if tuple(layer.contrast_limits) == awaited.provisional:
            layer.contrast_limits = awaited.limits
        awaited.provisional = None
