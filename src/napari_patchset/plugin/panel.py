"""A column of widgets in a dock of napari: most of it scrolls, what matters most stays in sight.

Fields below each other begin at one place, however long their labels are.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

_DEEPEST = 40
"""A label further to the right is not the first of its row."""


def align_labels(columns: Sequence[QWidget]) -> None:
    """Give labels that begin at the same place the width of the widest of them."""
    below_each_other: dict[int, list[QLabel]] = defaultdict(list)
    for column in columns:
        for label in column.findChildren(QLabel):
            left = label.mapTo(column, QPoint(0, 0)).x()
            if left < _DEEPEST and label.isVisibleTo(column) and _is_beside_a_field(label):
                below_each_other[left].append(label)
    for labels in below_each_other.values():
        widest = max(label.sizeHint().width() for label in labels)
        for label in labels:
            label.setMinimumWidth(widest)


def _is_beside_a_field(label: QLabel) -> bool:
    parent = label.parentWidget()
    layout = None if parent is None else parent.layout()
    return isinstance(layout, QHBoxLayout) and layout.count() > 1 and bool(label.text())


WIDTH = 360

_BORDER = 2
"""The frame that napari's style draws around a scroll area."""


class Panel(QWidget):
    """Scroll up and down only, go through the parts by keyboard, and notice that the dock closes.

    Tab goes from part to part as they are laid out, also those that came later; Enter presses a
    button as the space bar does.
    """

    def fill(self, scrolled: Sequence[QWidget], fixed: Sequence[QWidget]) -> None:
        """Put widgets below each other: those that scroll, then those that are always in sight."""
        self._columns = content, foot = _column(scrolled), _column(fixed)
        self._area = _Area(content)
        foot.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._area)
        layout.addWidget(foot)
        layout.addStretch()
        self._area.laid_out.connect(lambda: align_labels(self._columns))
        self.setMinimumWidth(self._area.minimumWidth())
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Leave the room to the image."""
        return QSize(WIDTH, 2 * WIDTH)

    def ensureWidgetVisible(self, part: QWidget) -> None:
        """Scroll to a part."""
        self._area.ensureWidgetVisible(part)

    def event(self, event: QEvent | None) -> bool:
        """Notice that napari closes the panel: it only takes it out of its dock."""
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.on_closed()
        return super().event(event)

    def on_closed(self) -> None:
        """Let go of what outlives the panel."""

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Go through the parts as they are laid out, and bring the next one into sight."""
        stops = list(_stops(self))
        for before, after in pairwise(stops):
            QWidget.setTabOrder(before, after)
        moved = super().focusNextPrevChild(forward)
        window = self.window()
        now = window.focusWidget() if window is not None else None
        if now is not None and self._area.isAncestorOf(now):
            self._area.ensureWidgetVisible(now)
        return moved

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Press the button that has the focus with Enter too."""
        focused = QApplication.focusWidget()
        is_enter = event is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and isinstance(focused, QAbstractButton):
            focused.click()
        else:
            super().keyPressEvent(event)


class _Area(QScrollArea):
    """As high as its content where there is room."""

    laid_out = Signal()

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        bar = self.verticalScrollBar()
        content.setMinimumWidth(WIDTH)
        self.setMinimumWidth(WIDTH + (bar.sizeHint().width() if bar is not None else 0))

    def sizeHint(self) -> QSize:
        """Ask for the height of the content."""
        content = self.widget()
        if content is None:
            return super().sizeHint()
        hint, layout = content.sizeHint(), content.layout()
        height = hint.height()
        if layout is not None and layout.hasHeightForWidth():
            height = max(height, layout.totalHeightForWidth(content.width()))
        return QSize(hint.width(), height + _BORDER)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask anew when the content changes."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
            self.laid_out.emit()
        return super().eventFilter(watched, event)


def _column(parts: Sequence[QWidget]) -> QWidget:
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setSpacing(4)
    for part in parts:
        layout.addWidget(part)
    return column


def _stops(part: QWidget) -> Iterator[QWidget]:
    """Give what Tab stops at, in the order of the layout."""
    if not part.isVisible():
        return
    if part.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield part
    elif isinstance(part, QScrollArea):
        if (content := part.widget()) is not None:
            yield from _stops(content)
    elif (layout := part.layout()) is not None:
        yield from _laid_out(layout)


def _laid_out(layout: QLayout) -> Iterator[QWidget]:
    for index in range(layout.count()):
        item = layout.itemAt(index)
        if item is None:
            continue
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            yield from _stops(widget)
        elif inner is not None:
            yield from _laid_out(inner)
