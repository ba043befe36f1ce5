"""Patches side by side, as many in a row as fit: only those that are visible are asked for.

Pictures come one by one (`set_picture`). Patches are selected with mouse and keyboard, several at
once, and kept or rejected by hand.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QEvent, QPointF, QRect, Qt
from qtpy.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from qtpy.QtWidgets import QAbstractScrollArea, QScrollBar, QWidget

from napari_patchset.plugin.gallery.patches import GalleryPatches, RGBImage
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.navigation import DIRECTIONS

_SIDE, _GAP, _FRAME = 96, 8, 2
_MAX_PICTURES = 4000

_MARKS = {True: "✓", False: "✗"}
"""Drawn over what is kept or rejected by hand."""


class PatchGrid(QAbstractScrollArea):
    """Show patches in rows, and emit what is done with them."""

    picked = Signal(int)
    """A patch was clicked, or Enter pressed on it."""
    hovered = Signal(int)
    """The mouse is over a patch, or the cursor was moved to it; -1 for none."""
    decided = Signal(list, object)
    """Rows that are kept (True) or rejected (False) by hand, or neither (None)."""
    moved = Signal()
    """Others are visible."""

    def __init__(self) -> None:
        super().__init__()
        self.patches: GalleryPatches | None = None
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.selected: set[int] = set()
        """Rows."""
        self.by = ""
        """The column whose value is the caption; else the place is."""
        self._pictures: OrderedDict[int, QPixmap] = OrderedDict()
        self._cursor = self._anchor = 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setAccessibleName("Patches")
        self._view: QWidget = self.viewport() or QWidget()
        self._bar: QScrollBar = self.verticalScrollBar() or QScrollBar()
        self._view.setMouseTracking(True)
        self._mouse: QPointF | None = None
        self._bar.valueChanged.connect(self._on_scrolled)

    def _on_scrolled(self) -> None:
        self.moved.emit()
        self._hover()

    def _hover(self) -> None:
        """Emit the patch under the mouse as hovered."""
        if self._mouse is not None and self.patches is not None:
            index = self.index_at(self._mouse)
            self.hovered.emit(-1 if index < 0 else int(self.rows[index]))

    def width_of(self, columns: int) -> int:
        """Return the width of the widget in which that many are in a row."""
        around = 2 * self.frameWidth() + self._bar.sizeHint().width()
        return columns * self._pitch[0] + _GAP + around

    def show_rows(self, patches: GalleryPatches, rows: NDArray[np.int64], by: str = "") -> None:
        """Show patches from the first one on; pictures that were set stay."""
        self.rows, self.selected, self.by = rows, set(), by
        self._cursor = self._anchor = 0
        self.update_patches(patches)
        self._bar.setValue(0)
        self._lay_out()

    def update_patches(self, patches: GalleryPatches | None) -> None:
        """Take what else is known of the same patches, where they are."""
        self.patches = patches
        self._view.update()

    def forget_pictures(self) -> None:
        """Ask for all pictures again."""
        self._pictures.clear()
        self._view.update()

    def missing_rows(self) -> list[int]:
        """Return the visible patches that have no picture."""
        rows = self.rows[self._visible()].tolist()
        return [row for row in rows if row not in self._pictures]

    def set_picture(self, row: int, picture: RGBImage) -> None:
        """Set the picture of a patch, uint8 RGB, YXC."""
        keep, fast = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.FastTransformation
        smooth, image = Qt.TransformationMode.SmoothTransformation, pixmap(picture)
        side = round(_SIDE * self.devicePixelRatioF())
        is_large = max(image.width(), image.height()) > side
        self._pictures[row] = image.scaled(side, side, keep, smooth if is_large else fast)
        while len(self._pictures) > _MAX_PICTURES:
            self._pictures.popitem(last=False)
        self._view.update()

    def cell(self, index: int) -> QRect:
        """Return where a patch is drawn, by its index in `rows`."""
        width, height = self._pitch
        row, column = divmod(index, self._columns)
        return QRect(
            _GAP + column * width,
            _GAP + row * height - self._bar.value(),
            width - _GAP,
            height - _GAP,
        )

    def index_at(self, point: QPointF) -> int:
        """Return the index of the patch at a point of the viewport, -1 for none."""
        width, height = self._pitch
        column = int(point.x() - _GAP / 2) // width
        row = int(point.y() - _GAP / 2 + self._bar.value()) // height
        index = row * self._columns + column
        return index if 0 <= column < self._columns and 0 <= index < len(self.rows) else -1

    def decide(self, keep: bool | None) -> None:
        """Keep or reject the selected patches by hand; None for as the filters say."""
        if self.selected:
            self.decided.emit(sorted(self.selected), keep)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the visible patches."""
        if self.patches is None:
            return
        painter = QPainter(self._view)
        for index in range(*self._visible().indices(len(self.rows))):
            self._draw(painter, self.patches, index)
        painter.end()

    def _draw(self, painter: QPainter, patches: GalleryPatches, index: int) -> None:
        row, cell = int(self.rows[index]), self.cell(index)
        text, accent, _ = theme_colors()
        if row in self.selected:
            painter.fillRect(cell.adjusted(-4, -4, 4, 4), accent)
        square = QRect(cell.x(), cell.y(), cell.width(), cell.width())
        painter.setPen(QPen(QColor(patches.color(row)), _FRAME))
        painter.drawRect(square.adjusted(1, 1, -1, -1))
        inner = square.adjusted(_FRAME, _FRAME, -_FRAME, -_FRAME)
        if (picture := self._pictures.get(row)) is None:
            painter.fillRect(inner, Qt.GlobalColor.black)
        else:
            self._pictures.move_to_end(row)
            size = picture.size().scaled(inner.size(), Qt.AspectRatioMode.KeepAspectRatio)
            place = QRect(inner.topLeft(), size)
            place.moveCenter(inner.center())
            painter.fillRect(inner, Qt.GlobalColor.black)
            painter.drawPixmap(place, picture)
        metrics = painter.fontMetrics()
        below = QRect(cell.x(), square.bottom() + 1, cell.width(), metrics.height() + 2)
        painter.setPen(text)
        for caption in self.captions(patches, row):
            elided = metrics.elidedText(caption, Qt.TextElideMode.ElideLeft, below.width())
            painter.drawText(below, Qt.AlignmentFlag.AlignCenter, elided)
            below.translate(0, metrics.height())
        if (decided := patches.decided(row)) is not None:
            side = painter.fontMetrics().height()
            corner = QRect(square.right() - side + 1, square.top(), side, side)
            painter.fillRect(corner, QColor(patches.color(row)))
            painter.setPen(Qt.GlobalColor.black)
            painter.drawText(corner, Qt.AlignmentFlag.AlignCenter, _MARKS[decided])
        if index == self._cursor and self.hasFocus():
            painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
            painter.drawRect(cell.adjusted(-3, -3, 2, 2))

    def captions(self, patches: GalleryPatches, row: int) -> list[str]:
        """Return what is written below a patch: its metric or place; of several images, its own."""
        value = patches.metrics.get(self.by)
        source = [patches.source_name(row)] if patches.n_sources > 1 else []
        return [patches.place(row) if value is None else f"{value[row]:.4g}", *source]

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pick the patch under the mouse; with Ctrl or Shift, select further ones."""
        if self.patches is None or event is None or (index := self.index_at(event.position())) < 0:
            return
        self._go(index, event.modifiers())
        keys = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
        if not event.modifiers() & keys:
            self.picked.emit(int(self.rows[index]))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Emit the patch under the mouse as hovered."""
        if event is not None:
            self._mouse = event.position()
            self._hover()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Move the cursor, pick, keep or reject."""
        if self.patches is None or event is None or not len(self.rows):
            return
        key, keys = Qt.Key(event.key()), event.modifiers()
        steps = {
            Qt.Key.Key_Home: -len(self.rows),
            Qt.Key.Key_End: len(self.rows),
            Qt.Key.Key_PageUp: -self._page,
            Qt.Key.Key_PageDown: self._page,
        }
        if key in DIRECTIONS:
            right, down = DIRECTIONS[key]
            steps[key] = right + down * self._columns
        decisions = {Qt.Key.Key_K: True, Qt.Key.Key_X: False, Qt.Key.Key_Delete: None}
        if key in steps:
            index = min(max(self._cursor + steps[key], 0), len(self.rows) - 1)
            self._go(index, keys & Qt.KeyboardModifier.ShiftModifier)
            self.hovered.emit(int(self.rows[index]))
        elif key in decisions:
            self.decide(decisions[key])
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.picked.emit(int(self.rows[self._cursor]))
        elif key == Qt.Key.Key_A and keys & Qt.KeyboardModifier.ControlModifier:
            self.selected = set(self.rows.tolist())
            self._view.update()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Show as many in a row as fit, the first visible one still visible."""
        first = self._visible().start
        super().resizeEvent(event)
        self._lay_out()
        self._bar.setValue(first // self._columns * self._pitch[1])

    def viewportEvent(self, event: QEvent | None) -> bool:
        """Emit that no patch is hovered once the mouse leaves."""
        if event is not None and event.type() == QEvent.Type.Leave:
            self._mouse = None
            self.hovered.emit(-1)
        return super().viewportEvent(event)

    def _go(self, index: int, keys: Qt.KeyboardModifier) -> None:
        """Move the cursor, and select: from the last one with Shift, one more with Ctrl."""
        self._cursor, row = index, int(self.rows[index])
        if keys & Qt.KeyboardModifier.ShiftModifier:
            first, last = sorted((self._anchor, index))
            self.selected = set(self.rows[first : last + 1].tolist())
        else:
            self._anchor = index
            is_more = keys & Qt.KeyboardModifier.ControlModifier
            self.selected = self.selected ^ {row} if is_more else {row}
        cell = self.cell(index)
        if cell.top() < 0:
            self._bar.setValue(self._bar.value() + cell.top() - _GAP)
        elif cell.bottom() > self._view.height():
            self._bar.setValue(self._bar.value() + cell.bottom() + _GAP - self._view.height())
        self._view.update()

    def _lay_out(self) -> None:
        height = _GAP - (-len(self.rows) // self._columns) * self._pitch[1]
        self._bar.setRange(0, max(0, height - self._view.height()))
        self._bar.setPageStep(self._view.height())
        self._bar.setSingleStep(self._pitch[1] // 2)
        self._view.update()
        self.moved.emit()

    def _visible(self) -> slice:
        """Return the indices of the patches that are visible."""
        height = self._pitch[1]
        first = self._bar.value() // height * self._columns
        last = -(-(self._bar.value() + self._view.height()) // height) * self._columns
        return slice(min(first, len(self.rows)), min(last, len(self.rows)))

    @property
    def _columns(self) -> int:
        return max(1, (self._view.width() - _GAP) // self._pitch[0])

    @property
    def _page(self) -> int:
        return max(1, self._view.height() // self._pitch[1]) * self._columns

    @property
    def _pitch(self) -> tuple[int, int]:
        """Distance of neighbours along X and Y."""
        side = _SIDE + 2 * _FRAME + _GAP
        n_lines = 2 if self.patches is not None and self.patches.n_sources > 1 else 1
        return side, side + n_lines * self.fontMetrics().height() + 2


def pixmap(image: RGBImage) -> QPixmap:
    """Return an image as Qt's."""
    height, width, _ = image.shape
    converted = QImage(image.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(converted)
