"""The picked patch: its picture, position and metrics, and the keys that act on it."""

from collections.abc import Sequence

import numpy as np
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_patchset.plugin.gallery.contact_sheet import RGBImage, patch_images, pixmap
from napari_patchset.plugin.navigation import DIRECTIONS
from napari_patchset.plugin.planning import PlanPreview
from napari_patchset.plugin.worker import Worker
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import Channel

_SIDE = 128

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
        self.pictures = Worker()
        self.pictures.returned.connect(self._on_read)
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
        self.text.setText(describe_patch(planned, row))
        self.picture.clear()
        self.show()
        self.pictures.run(patch_images, planned, [row], channels, depth)

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

    def _on_read(self, images: list[RGBImage]) -> None:
        keep, sharp = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
        self.picture.setPixmap(pixmap(images[0]).scaled(_SIDE, _SIDE, keep, sharp))


def describe_patch(planned: PlanPreview, row: int) -> str:
    """Describe a candidate as rich text: verdict, position and metrics."""
    spec = planned.grid[row]
    info = planned.sources[spec.source_index]
    axes = info.layout.spatial_axes
    first = {axis: info.starts.get(axis, 0) for axis in axes if axis not in "YX"}
    place = info.file_indices(spec.sample) | {
        axis: start + first.get(axis, 0)
        for axis, start in zip(axes, info.to_file(spec.start), strict=True)
    }
    lines = [
        f"<b>Patch {row:,}</b>: {_fate(planned, row)}",
        ", ".join(f"{axis.lower()} {n:,}" for axis, n in place.items()),
        f"{' × '.join(map(str, spec.size))} px",
    ]
    if info.ratio is not None:
        y, x = (f"{n * p:g}" for n, p in zip(spec.size[-2:], _yx(info.pixel_size), strict=True))
        lines[-1] += f" of {info.pixel_size.x:g} µm ({y} × {x} µm)"
    metrics = planned.verdicts.metrics.items()
    lines += [f"{name} {values[row]:.4g}" for name, values in metrics if np.isfinite(values[row])]
    return "<br>".join(lines)


def _yx(size: PixelSize) -> tuple[float, float]:
    return size.y or 0.0, size.x or 0.0


def _fate(planned: PlanPreview, row: int) -> str:
    verdicts = planned.verdicts
    if verdicts.reason[row] >= 0:
        return f"rejected: {verdicts.reasons[verdicts.reason[row]]}".replace("<", "&lt;")
    split = verdicts.splits[verdicts.split[row]]
    return split if planned.state.recipe.split else "kept"
