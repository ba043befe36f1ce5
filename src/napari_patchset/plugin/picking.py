"""Click a patch: it is framed on the image, and shown alone with its place and its metrics."""

from collections.abc import Iterator, Sequence
from typing import Any

from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_patchset.plugin.background import Background
from napari_patchset.plugin.pictures import Picture, patch_pictures, pixmap
from napari_patchset.plugin.planning import Planned
from napari_patchset.plugin.summary import describe_patch
from napari_patchset.stacks.metadata import Channel

_SIDE = 128
_STILL = 4
"""A mouse that moved fewer pixels than that did not drag."""


class Clicks:
    """Emit where the image is clicked, in world coordinates; a drag is no click."""

    clicked = Signal(tuple)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        viewer.mouse_drag_callbacks.append(self._on_press)

    def disconnect(self) -> None:
        """Listen no longer."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Viewer, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        # A layer that is drawn on takes the click for itself.
        if event.button != 1 or str(getattr(active, "mode", "pan_zoom")) != "pan_zoom":
            return
        began = event.pos
        yield
        while event.type == "mouse_move":
            yield
        if max(abs(event.pos - began)) < _STILL:
            self.clicked.emit(tuple(event.position))


class PatchView(QWidget):
    """One patch at full resolution, and what is known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.text = QLabel(), QLabel()
        self.picture.setFixedSize(_SIDE, _SIDE)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.text.setWordWrap(True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.picture)
        layout.addWidget(self.text, 1)
        self.row: int | None = None
        self.pictures = Background()
        self.pictures.yielded.connect(self._on_ready)
        self.pictures.failed.connect(lambda error: self.text.setText(str(error)))
        self.hide()

    def show_patch(
        self, planned: Planned, row: int, channels: Sequence[Channel], depth: int
    ) -> None:
        """Show a candidate; its picture follows."""
        self.row = row
        self.text.setText(describe_patch(planned, row))
        self.picture.clear()
        self.show()
        self.pictures.start(patch_pictures, planned, [row], channels, depth)

    def forget(self) -> None:
        """Show nothing."""
        self.row = None
        self.pictures.stop()
        self.hide()

    def _on_ready(self, pictures: list[Picture]) -> None:
        keep, sharp = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
        self.picture.setPixmap(pixmap(pictures[0]).scaled(_SIDE, _SIDE, keep, sharp))
