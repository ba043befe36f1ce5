"""The histogram beside a filter, with its limits as lines to drag."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_patchset.patching.filters.measurements import limit_words
from napari_patchset.plugin.metric_histogram import MARKS, MetricHistogram
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory

Limits = Mapping[str, float | str]
"""The limits of a filter, "above" and "below"."""

_TIP = (
    "How many patches of this scene have which value. Drag the line to move the limit, or click a "
    "mark: lowest 10 % (p10), or automatic (otsu), which separates two groups best, such as "
    "background and structures. Keys: arrows (with Shift faster), Home, End; P and O for the marks."
)
_STEP = 0.01
_KEY_STEPS = {Qt.Key.Key_Left: -_STEP, Qt.Key.Key_Right: _STEP}
_KEY_ENDS = {Qt.Key.Key_Home: 0.0, Qt.Key.Key_End: 1.0}
_KEY_MARKS = {Qt.Key.Key_P: "p10", Qt.Key.Key_O: "otsu"}


class ThresholdHistogram(QWidget):
    """Draw the metric of a filter, and let a limit be dragged, typed or set to a mark."""

    chosen = Signal(str, object)
    """Which limit is set, "above" or "below", and to what: a number, "p10" or "otsu"."""
    grabbed = Signal()
    """A limit is about to be set; while a line is dragged, more than once."""

    def __init__(self) -> None:
        super().__init__()
        self._histogram: MetricHistogram | None = None
        self._newer: MetricHistogram | None = None
        self._limits: Limits = {}
        self._colors: Mapping[str, str] = {}
        self._active = "above"
        self._is_dragged = False
        self.setToolTip(_TIP)
        self.setAccessibleName("Histogram of the filter's metric, with its limits")
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return a size that holds the labels and bars, whatever the font."""
        metrics = self.fontMetrics()
        return QSize(12 * metrics.averageCharWidth(), 3 * metrics.height())

    def minimumSizeHint(self) -> QSize:
        """Return `sizeHint`."""
        return self.sizeHint()

    def follow(self, histogram: MetricHistogram | None, colors: Mapping[str, str]) -> None:
        """Draw another histogram; the bars stand still while a line is dragged.

        `colors` are those of channels by name, used where there are several.
        """
        self._colors = colors
        if self._is_dragged and histogram is not None:
            self._newer = histogram
        else:
            self._histogram = histogram
            self.update()

    def set_limits(self, limits: Limits) -> None:
        """Draw the lines at the limits of the filter."""
        self._limits = limits
        if self._active not in limits:
            self._active = next(iter(limits), self._active)
        self.update()

    def place_of(self, limit: float | str) -> QPointF | None:
        """Return the place of a limit on the widget, None if it has none."""
        places = [] if self._histogram is None else self._histogram.places(limit)
        plot = self._plot
        return QPointF(self._x(places[0]), plot.center().y()) if places else None

    def label_of(self, mark: str) -> QRectF | None:
        """Return where a mark can be clicked, None if it is not drawn."""
        return self._label_rects().get(mark)

    @property
    def _plot(self) -> QRectF:
        top = self.fontMetrics().height()
        return QRectF(self.rect()).adjusted(4, top, -4, -2)

    def _x(self, place: float) -> float:
        return self._plot.left() + place * self._plot.width()

    def _place(self, x: float) -> float:
        return (x - self._plot.left()) / max(1.0, self._plot.width())

    def _label_rects(self) -> dict[str, QRectF]:
        """Return where the label of each mark is written: beside the others."""
        histogram, metrics = self._histogram, self.fontMetrics()
        if histogram is None:
            return {}
        places = {mark: where[0] for mark in MARKS if (where := histogram.places(mark))}
        rects, end = dict[str, QRectF](), 0.0
        for mark in sorted(places, key=lambda mark: places[mark]):
            width = metrics.horizontalAdvance(limit_words(mark)) + 6
            left = max(end, min(self._x(places[mark]) - width / 2, self.width() - width))
            rects[mark] = QRectF(left, 0, width, metrics.height())
            end = left + width
        if (over := end - self.width()) > 0:  # the last ones make room to the left
            for rect in rects.values():
                rect.translate(-min(over, rect.left()), 0)
        return rects

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw bars, marks and lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colors = theme_colors()
        plot, histogram = self._plot, self._histogram
        painter.fillRect(plot, _faint(colors.text, 22))
        if histogram is None or histogram.is_flat:
            why = "measuring…" if histogram is None else "all the same"
            painter.setPen(_faint(colors.text, 170))
            painter.drawText(plot, Qt.AlignmentFlag.AlignCenter, why)
        else:
            self._draw_bars(painter, histogram, colors.text)
            self._draw_marks(painter, histogram, colors.text)
            self._draw_lines(painter, histogram, colors.text)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colors.accent, 1.5))
            painter.drawRect(plot.adjusted(-1, 0, 1, 1))
        painter.end()

    def _draw_bars(self, painter: QPainter, histogram: MetricHistogram, text: QColor) -> None:
        red = QColor(CATEGORY_COLORS[PatchCategory.REJECTED])
        is_one = len(histogram.counts) == 1
        highest = max(int(counts.max()) for counts in histogram.counts)
        painter.setPen(Qt.PenStyle.NoPen)
        drawn = zip(histogram.channels, histogram.counts, histogram.rejected, strict=True)
        for channel, counts, rejected in drawn:
            own = QColor(self._colors.get(channel, text.name())) if not is_one else text
            for i in np.flatnonzero(counts).tolist():
                is_kept = not is_one or self._keeps(histogram, (i + 0.5) / len(counts))
                painter.setBrush(_faint(own, 150) if is_kept else red)
                painter.drawRect(self._bar(i, counts, highest))
                if rejected[i] and not is_one:
                    painter.setBrush(red)
                    painter.drawRect(self._bar(i, rejected, highest))

    def _bar(self, i: int, counts: NDArray[np.int64], highest: int) -> QRectF:
        """Return a bar; its height is the root of the count, so that single patches are seen."""
        plot, n = self._plot, len(counts)
        left, right = self._x(i / n), self._x((i + 1) / n)
        height = max(1.0, plot.height() * float(counts[i] / highest) ** 0.5)
        return QRectF(left, plot.bottom() - height, right - left, height)

    def _keeps(self, histogram: MetricHistogram, place: float) -> bool:
        for side, limit in self._limits.items():
            for line in histogram.places(limit):
                if (place < line) == (side == "above"):
                    return False
        return True

    def _draw_marks(self, painter: QPainter, histogram: MetricHistogram, text: QColor) -> None:
        plot, is_one = self._plot, len(histogram.channels) == 1
        for mark, rect in self._label_rects().items():
            is_set = mark in self._limits.values()
            painter.setPen(text if is_set else _faint(text, 190))
            font = painter.font()
            font.setUnderline(is_set)
            painter.setFont(font)
            painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, limit_words(mark))
            for channel, place in zip(histogram.channels, histogram.places(mark), strict=False):
                own = text if is_one else QColor(self._colors.get(channel, text.name()))
                painter.setPen(QPen(_faint(own, 200), 1, Qt.PenStyle.DotLine))
                x = self._x(place)
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))

    def _draw_lines(self, painter: QPainter, histogram: MetricHistogram, text: QColor) -> None:
        plot = self._plot
        for limit in self._limits.values():
            for place in histogram.places(limit):
                x = self._x(place)
                painter.setPen(QPen(text, 2))
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(text)
                corners = [QPointF(x + dx, plot.top() + dy) for dx, dy in _HANDLE]
                painter.drawPolygon(QPolygonF(corners))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Set a limit to the mark that is clicked, or to the place under the mouse."""
        if event is None or event.button() != Qt.MouseButton.LeftButton or not self._can_move:
            return
        self.grabbed.emit()
        self._active = self._nearest_side(event.position().x())
        if (mark := self._mark_at(event.position())) is not None:
            self.chosen.emit(self._active, mark)
        else:
            self._is_dragged = True
            self._move_to(self._place(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Drag the line, or show what can be clicked."""
        if event is None:
            return
        if self._is_dragged:
            self._move_to(self._place(event.position().x()))
            return
        shape = Qt.CursorShape.SplitHCursor
        if not self._can_move:
            shape = Qt.CursorShape.ArrowCursor
        elif self._mark_at(event.position()) is not None:
            shape = Qt.CursorShape.PointingHandCursor
        self.setCursor(shape)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Stop dragging."""
        self._is_dragged = False
        if self._newer is not None:
            self._histogram, self._newer = self._newer, None
            self.update()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Move the limit, or set it to a mark."""
        if event is None:
            return
        histogram, key = self._histogram, Qt.Key(event.key())
        keys = {*_KEY_MARKS, *_KEY_ENDS, *_KEY_STEPS}
        if histogram is None or not self._can_move or key not in keys:
            super().keyPressEvent(event)
            return
        if not event.isAutoRepeat():
            self.grabbed.emit()
        if key in _KEY_MARKS:
            self.chosen.emit(self._active, _KEY_MARKS[key])
        elif key in _KEY_ENDS:
            self._move_to(_KEY_ENDS[key])
        else:
            is_fast = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
            places = histogram.places(self._limits[self._active]) or (0.5,)
            self._move_to(places[0] + _KEY_STEPS[key] * (10 if is_fast else 1))

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Show the focus."""
        self.update()

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Show the focus no more."""
        self.update()

    @property
    def _can_move(self) -> bool:
        histogram = self._histogram
        return bool(self._limits) and histogram is not None and not histogram.is_flat

    def _move_to(self, place: float) -> None:
        if self._histogram is not None:
            value = self._histogram.value_at(place)
            if value != self._limits.get(self._active):
                self.set_limits({**self._limits, self._active: value})
                self.chosen.emit(self._active, value)

    def _nearest_side(self, x: float) -> str:
        """Return the limit whose line is nearest to the mouse."""
        distances = {
            side: abs(point.x() - x)
            for side, limit in self._limits.items()
            if (point := self.place_of(limit)) is not None
        }
        return min(distances, key=lambda side: distances[side], default=self._active)

    def _mark_at(self, position: QPointF) -> str | None:
        rects = self._label_rects().items()
        return next((mark for mark, rect in rects if rect.contains(position)), None)


_HANDLE = ((-4, 0), (4, 0), (0, 6))
"""Corners of the triangle at the top of a line."""


def _faint(color: QColor, alpha: int) -> QColor:
    faint = QColor(color)
    faint.setAlpha(alpha)
    return faint
