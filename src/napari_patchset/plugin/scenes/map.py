"""The map of a file's scenes: thumbnails as on the stage, with gaps closed, to click or key."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QEvent, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFocusEvent,
    QFontMetrics,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
)
from qtpy.QtWidgets import QToolTip, QWidget

from napari_patchset.plugin.layers.scene_layout import Cell, lay_out
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.navigation import DIRECTIONS, nearest_ahead
from napari_patchset.plugin.scenes.map_names import PlacedName, place_names
from napari_patchset.stacks.metadata import SceneSummary

_MARGIN = 3
_SMALL = 9
"""The height of the letters of a name on a small thumbnail, in pixels."""


class SceneMap(QWidget):
    """Draw the scenes, and emit the index of the one that is clicked, or chosen by keyboard."""

    picked = Signal(int)
    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.cells: list[Cell] = []
        self.shown_index = self.cursor_at = self.hovered = -1
        self.chosen: set[int] = set()
        self._scenes: Sequence[SceneSummary] = ()
        self._pictures: dict[int, QPixmap] = {}
        self._problems: dict[int, str] = {}
        self._names: list[PlacedName] | None = None
        """Where names are; None until they are placed, which takes the font."""
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Map of the scenes")

    def set_scenes(self, scenes: Sequence[SceneSummary], shown: int) -> None:
        """Draw these scenes, one of them marked as shown; thumbnails follow."""
        self._scenes, self._pictures, self._problems = scenes, {}, {}
        self.cells, self._names = [], None
        self.mark(shown)

    def mark(self, shown: int) -> None:
        """Mark a scene as the one that is shown."""
        self.shown_index = self.cursor_at = shown
        self.update()

    def mark_chosen(self, chosen: set[int]) -> None:
        """Mark the scenes that patches are cut from."""
        self.chosen = chosen
        self.update()

    def set_picture(self, index: int, picture: NDArray[np.uint8]) -> None:
        """Set the thumbnail of a scene, uint8 RGB, YXC."""
        height, width, _ = picture.shape
        image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        self._pictures[index] = QPixmap.fromImage(image)
        self.update()

    def set_problem(self, index: int, why: str) -> None:
        """Set the reason why a scene has no thumbnail."""
        self._problems[index] = why
        self.update()

    def picture(self, index: int) -> QPixmap | None:
        """Return the thumbnail of a scene, None before it is set."""
        return self._pictures.get(index)

    def fit(self, width: int, height: int) -> None:
        """Lay out the scenes for a width and height, and take the space that they need."""
        rects = [scene.rect for scene in self._scenes]
        cells = lay_out(rects, width - 2 * _MARGIN, height - 2 * _MARGIN)
        right = max((c.x + c.w for c in cells), default=0) + 2 * _MARGIN
        bottom = max((c.y + c.h for c in cells), default=0) + 2 * _MARGIN
        left = _MARGIN + max(0, width - right) / 2
        self.cells = [c._replace(x=c.x + left, y=c.y + _MARGIN) for c in cells]
        self._names = None
        self.setFixedSize(QSize(max(width, int(right)), int(bottom)))
        self.update()

    def index_at(self, x: float, y: float) -> int:
        """Return the index of the uppermost scene at a point, -1 for none."""
        for index in reversed(range(len(self.cells))):
            left, top, width, height = self.cells[index]
            if left <= x < left + width and top <= y < top + height:
                return index
        return -1

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw every scene, framed if patches are cut from it; a thick frame is the shown one's."""
        text, accent, _ = theme_colors()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        for index, cell in enumerate(self.cells):
            frame = QRectF(*cell)
            painter.fillRect(frame, Qt.GlobalColor.black)
            if (picture := self._pictures.get(index)) is not None:
                painter.drawPixmap(_fitted(picture, frame), picture, QRectF(picture.rect()))
            elif index in self._problems:
                painter.setPen(Qt.GlobalColor.white)
                painter.drawText(frame, Qt.AlignmentFlag.AlignCenter, "?")
        self._draw_names(painter, text)
        for index in self.chosen:
            if index < len(self.cells):
                _outline(painter, QRectF(*self.cells[index]), accent, 1)
        if 0 <= self.hovered < len(self.cells):
            _outline(painter, QRectF(*self.cells[self.hovered]), text, 1)
        if 0 <= self.shown_index < len(self.cells):
            _outline(painter, QRectF(*self.cells[self.shown_index]), accent, 3)
        if self.hasFocus() and 0 <= self.cursor_at < len(self.cells):
            _outline(painter, QRectF(*self.cells[self.cursor_at]), text, 1, Qt.PenStyle.DashLine)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pick the scene under the mouse."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            index = self.index_at(event.position().x(), event.position().y())
            if index >= 0:
                self.cursor_at = index
                self.picked.emit(index)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Highlight the scene under the mouse."""
        if event is not None:
            self._hover(self.index_at(event.position().x(), event.position().y()))

    def leaveEvent(self, event: QEvent | None) -> None:
        """Highlight no scene."""
        self._hover(-1)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Move the cursor with the arrow keys; pick with Enter or Space."""
        if event is None:
            return
        key = Qt.Key(event.key())
        if key in DIRECTIONS and self.cells:
            centers = [cell.center[::-1] for cell in self.cells]
            ahead = nearest_ahead(centers, centers[max(self.cursor_at, 0)], *DIRECTIONS[key])
            self.cursor_at = self.cursor_at if ahead is None else ahead
            self.moved.emit(self.cursor_at)
            self.update()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.picked.emit(self.cursor_at)
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Put the cursor on the shown scene."""
        self.cursor_at = self.shown_index
        super().focusInEvent(event)

    def event(self, event: QEvent | None) -> bool:
        """Show the name of the scene under the mouse as a tooltip."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            index = self.index_at(event.pos().x(), event.pos().y())
            QToolTip.showText(event.globalPos(), self.describe(index), self)
            return True
        return super().event(event)

    def describe(self, index: int) -> str:
        """Return the name and size of a scene, and why it has no thumbnail; else what is drawn."""
        if index < 0:
            return "The scenes in the order of the stage; gaps between them are closed."
        scene = self._scenes[index]
        lines = [f"{scene.label}: {scene.rect.w} × {scene.rect.h} px", self._problems.get(index)]
        return "\n".join(line for line in lines if line)

    def _hover(self, index: int) -> None:
        if index != self.hovered:
            self.hovered = index
            self.setCursor(
                Qt.CursorShape.PointingHandCursor if index >= 0 else Qt.CursorShape.ArrowCursor
            )
            self.update()

    def _draw_names(self, painter: QPainter, color: QColor) -> None:
        large, small = painter.font(), painter.font()
        small.setPixelSize(_SMALL)
        if self._names is None:
            labels = [scene.label for scene in self._scenes] if self.cells else []
            size, fonts = (self.width(), self.height()), map(QFontMetrics, (large, small))
            self._names = place_names(labels, self.cells, size, *fonts)
        for text, place, is_beside, is_small in self._names:
            painter.setFont(small if is_small else large)
            band = QRectF(*place)
            if text and not is_beside:
                painter.fillRect(band, QColor(0, 0, 0, 160))
            painter.setPen(color if is_beside else Qt.GlobalColor.white)
            painter.drawText(band, Qt.AlignmentFlag.AlignCenter, text)


def _fitted(picture: QPixmap, frame: QRectF) -> QRectF:
    """Return the largest rectangle of the picture's proportions in the middle of a frame."""
    scale = min(frame.width() / picture.width(), frame.height() / picture.height())
    fitted = QRectF(0, 0, picture.width() * scale, picture.height() * scale)
    fitted.moveCenter(frame.center())
    return fitted


def _outline(
    painter: QPainter,
    frame: QRectF,
    color: QColor,
    width: int,
    style: Qt.PenStyle = Qt.PenStyle.SolidLine,
) -> None:
    painter.setPen(QPen(color, width, style))
    painter.drawRect(frame)
