"""The picked patch: its picture, position and metrics, and the keys that act on it."""

from collections.abc import Sequence
from html import escape

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QLabel, QToolButton, QWidget

from napari_patchset.plugin.captions import patch_lines
from napari_patchset.plugin.form.fields import TextBox
from napari_patchset.plugin.gallery.grid import pixmap
from napari_patchset.plugin.gallery.patches import PlannedPatches, RGBImage
from napari_patchset.plugin.navigation import DIRECTIONS
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.worker import Worker
from napari_patchset.stacks.metadata import Channel

_SIDE = 80
"""Pixels of the screen, few enough that the form can still be seen above."""

_KEYS = (
    "Arrow keys: the next patch in that direction. Enter: zoom to it. Esc: close it.\n"
    "Where patches are clicked on the image: Shift + arrow keys move it by a quarter of its size, "
    "with Ctrl by a pixel; Del takes it away."
)


class PatchView(QWidget):
    """Show one patch at full resolution with its metrics; step to others by keyboard."""

    stepped = Signal(int, int)
    """To the next patch: right and down, each -1, 0 or 1."""
    nudged = Signal(int, int, bool)
    """Move the patch: right and down, and whether by one pixel only."""
    removed = Signal()
    zoomed = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.text = QLabel(), QLabel()
        self.picture.setFixedSize(_SIDE, _SIDE)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.picture)
        layout.addWidget(TextBox([self.text], lines=5), 1)
        self.close_button = QToolButton()
        self.close_button.setText("×")
        self.close_button.setToolTip("Show no patch alone (Esc).")
        self.close_button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys are for the patch
        self.close_button.clicked.connect(lambda: self.closed.emit())
        layout.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.row: int | None = None
        self._acts = {
            Qt.Key.Key_Return: self.zoomed,
            Qt.Key.Key_Enter: self.zoomed,
            Qt.Key.Key_Escape: self.closed,
            Qt.Key.Key_Delete: self.removed,
            Qt.Key.Key_Backspace: self.removed,
        }
        self.pictures = Worker()
        self.pictures.yielded.connect(self._on_read)
        self.pictures.failed.connect(lambda error: self.text.setText(str(error)))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Patch")
        self.setToolTip(_KEYS)
        self.hide()

    def show_patch(
        self, planned: PlanPreview, row: int, channels: Sequence[Channel], depth: int
    ) -> None:
        """Show a candidate; its picture follows."""
        self.row = row
        self.describe(planned)
        self.picture.clear()
        self.show()
        self.pictures.run(PlannedPatches(planned, channels).read, [row], depth)

    def describe(self, planned: PlanPreview) -> None:
        """Show the place, size, metrics and verdict of the candidate in a plan."""
        if self.row is not None:
            first, *others = map(escape, patch_lines(planned, self.row))
            # As few lines as there are, since what is above has the less space.
            self.text.setText(f"<b>{first}</b><br>{', '.join(others)}")

    def clear(self) -> None:
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
        """Draw a frame while it has the keyboard focus."""
        super().paintEvent(event)
        if self.hasFocus():
            painter = QPainter(self)
            painter.setPen(QPen(self.palette().text().color(), 1, Qt.PenStyle.DashLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
            painter.end()

    def _on_read(self, read: tuple[int, RGBImage]) -> None:
        keep, sharp = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
        self.picture.setPixmap(pixmap(read[1]).scaled(_SIDE, _SIDE, keep, sharp))
