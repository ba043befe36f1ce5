"""The mouse over the image: where it is and clicks, and what the status bar says of it."""

from collections.abc import Iterator
from typing import Any

from napari.layers import Shapes
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.plugin.napari_compat import is_being_drawn
from napari_patchset.plugin.worker import outbox

_STILL = 4
"""A mouse that moved fewer pixels than this did not drag."""


class Pointer:
    """Emit where the mouse is on the image and where it clicks, in world coordinates."""

    clicked = Signal(tuple, bool)
    """The position, and whether Shift is held; drags are ignored."""
    moved = Signal(tuple)
    left = Signal()
    """The mouse is no longer on the image."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.events.mouse_over_canvas.connect(self._on_leave)

    def release(self) -> None:
        """Disconnect."""
        self._viewer.events.mouse_over_canvas.disconnect(self._on_leave)
        for callbacks, callback in (
            (self._viewer.mouse_drag_callbacks, self._on_press),
            (self._viewer.mouse_move_callbacks, self._on_move),
        ):
            if callback in callbacks:
                callbacks.remove(callback)

    def _on_move(self, viewer: Viewer, event: Any) -> None:
        self.moved.emit(tuple(event.position))

    def _on_leave(self, event: object) -> None:
        if not self._viewer.mouse_over_canvas:
            self.left.emit()

    def _on_press(self, viewer: Viewer, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        # A layer in a drawing mode handles the click itself.
        if event.button != 1 or str(getattr(active, "mode", "pan_zoom")) != "pan_zoom":
            return
        began = event.pos
        yield
        while event.type == "mouse_move":
            yield
        if max(abs(event.pos - began)) < _STILL:
            self.clicked.emit(tuple(event.position), "Shift" in event.modifiers)


def draw_by_drags_only(layer: Shapes) -> None:
    """Have a click without a drag draw nothing: napari draws a shape too small to be seen."""
    layer.mouse_drag_callbacks.append(_undo_click)


def _undo_click(layer: Shapes, event: Any) -> Iterator[None]:
    if event.button != 1 or str(layer.mode) not in ("add_rectangle", "add_ellipse"):
        return
    began = event.pos
    yield
    while event.type == "mouse_move":
        yield
    n = layer.nshapes

    def remove() -> None:
        if layer.nshapes == n:
            layer.selected_data = {n - 1}
            layer.remove_selected()

    if n and max(abs(event.pos - began)) < _STILL:
        if is_being_drawn(layer):
            outbox().post(remove)  # once napari has finished it
        else:
            remove()  # before anybody takes it for what was drawn


class StatusLine:
    """Put texts before what napari shows in the status bar, which comes back after them."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._patch, self._message = "", ""
        self._written, self._replaced = "", viewer.status
        # After napari's own callback, which would overwrite what this one sets.
        viewer.events.status.connect(self._on_status, position="last")

    @property
    def is_idle(self) -> bool:
        """Whether napari shows nothing of its own but where the mouse is, or was."""
        return isinstance(self._replaced, dict) or self._replaced in ("", "Ready")

    def describe(self, patch: str) -> None:
        """Show the patch under the mouse, "" for none."""
        self._patch = patch
        self._write()

    def tell(self, message: str) -> None:
        """Show a message instead, until this is called with ""."""
        self._message = message
        self._write()

    def release(self) -> None:
        """Disconnect."""
        self._viewer.events.status.disconnect(self._on_status)

    def _on_status(self, event: object) -> None:
        if self._viewer.status != self._written:
            self._replaced = self._viewer.status
            if not self.is_idle:
                # Until the mouse moves, or else napari's message would return later.
                self._patch = self._message = ""
            self._write()

    def _write(self) -> None:
        if text := self._message or self._patch:
            place = ""
            if isinstance(self._replaced, dict):
                place = self._replaced.get("coordinates", "")
            self._written = f"{text}    {place}"
            self._viewer.status = self._written
        elif self._viewer.status == self._written:
            self._viewer.status = self._replaced
