"""Click a patch: it is framed on the image, and shown alone with its place and its metrics."""

from collections.abc import Iterator, Sequence
from typing import Any

from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_patchset.plugin.canvas.summary import describe_patch
from napari_patchset.plugin.gallery.contact_sheet import Picture, patch_pictures, pixmap
from napari_patchset.plugin.navigation import DIRECTIONS
from napari_patchset.plugin.planning import Planned
from napari_patchset.plugin.worker import Background
from napari_patchset.stacks.metadata import Channel

_SIDE = 128
_STILL = 4
"""A mouse that moved fewer pixels than that did not drag."""

_KEYS = (
    "Arrow keys: the next patch in that direction. Enter: zoom to it. Esc: put it away.\n"
    "Where patches are clicked on the image: Shift + arrow keys move it by a quarter of its size, "
    "with Ctrl by a pixel; Del takes it away."
)


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
    """One patch at full resolution, and what is known of it; the way to others by keyboard."""

    stepped = Signal(int, int)
    """To the next patch: right and down, each -1, 0 or 1."""
    nudged = Signal(int, int, bool)
    """The patch is to be moved: right and down, and whether by as little as can be."""
    removed = Signal()
    zoomed = Signal()
    closed = Signal()

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
        self._acts = {
            Qt.Key.Key_Return: self.zoomed,
            Qt.Key.Key_Enter: self.zoomed,
            Qt.Key.Key_Escape: self.closed,
            Qt.Key.Key_Delete: self.removed,
            Qt.Key.Key_Backspace: self.removed,
        }
        self.pictures = Background()
        self.pictures.yielded.connect(self._on_ready)
        self.pictures.failed.connect(lambda error: self.text.setText(str(error)))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Patch")
        self.setToolTip(_KEYS)
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

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to another patch, or do something with this one."""
        if event is None:
            return
        key, modifiers = Qt.Key(event.key()), event.modifiers()
        shift, ctrl = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
        if key in DIRECTIONS and modifiers & shift:
            self.nudged.emit(*DIRECTIONS[key], bool(modifiers & ctrl))
        elif key in DIRECTIONS:
            self.stepped.emit(*DIRECTIONS[key])
        elif key in self._acts:
            self._acts[key].emit()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Say where the keys go."""
        super().paintEvent(event)
        if self.hasFocus():
            painter = QPainter(self)
            painter.setPen(QPen(self.palette().text().color(), 1, Qt.PenStyle.DashLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
            painter.end()

    def _on_ready(self, pictures: list[Picture]) -> None:
        keep, sharp = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
        self.picture.setPixmap(pixmap(pictures[0]).scaled(_SIDE, _SIDE, keep, sharp))
