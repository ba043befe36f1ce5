"""A column of widgets in a dock of napari: most of it scrolls, the most important stay visible.

Those stand at the bottom, where nothing that changes above moves them.

Labels in a column have the same width, so that their fields line up.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt
from qtpy.QtGui import QKeyEvent, QResizeEvent
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

from napari_patchset.plugin.form.fields import SPACING

WIDTH = 360

_MARGIN = 6

_DEEPEST = 60
"""A label further to the right, in pixels, is not the first of its row."""


class Panel(QWidget):
    """Scroll vertically, move through the fields by keyboard, and notice when the dock closes.

    Tab moves from field to field as they are laid out, also through those that were added later;
    Enter presses a button as the space bar does.
    """

    escaped = Signal()
    """Escape was pressed, and no field has a use for it."""

    def fill(self, scrolled: Sequence[QWidget], fixed: Sequence[QWidget]) -> None:
        """Stack widgets: those that scroll, then those that are always visible."""
        content, self._foot = _column(scrolled), _column(fixed, is_at_bottom=True)
        columns = content, self._foot
        self._area = _Area(content)
        # In no layout of the panel's, or else napari's whole window is laid out again with it.
        self._body = QWidget(self)
        layout = QVBoxLayout(self._body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._area, 1)
        layout.addWidget(self._foot)
        self._area.laid_out.connect(lambda: align_labels(columns))
        self.setMinimumSize(self._area.minimumWidth(), WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the content to the panel."""
        super().resizeEvent(event)
        self._body.resize(self.size())

    def room_left_by(self, widgets: Iterable[QWidget]) -> QSize:
        """Return the size of a further widget that can be seen with others, unscrolled.

        It has space beside a scroll bar, whether there is one or not.
        """
        used = [each.sizeHint().height() + SPACING for each in widgets]
        height = self.height() - self._foot.sizeHint().height() - sum(used)
        bar = self._area.minimumWidth() - WIDTH
        return QSize(self.width() - bar - 2 * _MARGIN, height - 2 * _MARGIN)

    def sizeHint(self) -> QSize:
        """Prefer a size that leaves most of the window to the image."""
        return QSize(WIDTH, 2 * WIDTH)

    def ensureWidgetVisible(self, widget: QWidget) -> None:
        """Scroll to a widget."""
        self._area.ensureWidgetVisible(widget)

    def event(self, event: QEvent | None) -> bool:
        """Notice when napari closes the panel, which only takes it out of its dock."""
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.on_closed()
        return super().event(event)

    def on_closed(self) -> None:
        """Release resources that would outlive the panel."""

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Move the focus through the fields as they are laid out, and scroll to the next one."""
        stops = list(_tab_stops(self._body))
        for before, after in pairwise(stops):
            QWidget.setTabOrder(before, after)
        moved = super().focusNextPrevChild(forward)
        window = self.window()
        focused = window.focusWidget() if window is not None else None
        if focused is not None and self._area.isAncestorOf(focused):
            self._area.ensureWidgetVisible(focused)
        return moved

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Press the button that has the focus with Enter too."""
        focused, key = QApplication.focusWidget(), 0 if event is None else event.key()
        is_enter = key in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and isinstance(focused, QAbstractButton):
            focused.click()
        elif key == Qt.Key.Key_Escape:
            self.escaped.emit()
        else:
            super().keyPressEvent(event)


class _Area(QScrollArea):
    """A scroll area that tells when its content is laid out again."""

    laid_out = Signal()

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bar = self.verticalScrollBar()
        content.setMinimumWidth(WIDTH)
        self.setMinimumWidth(WIDTH + (bar.sizeHint().width() if bar is not None else 0))

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the field in sight that is worked in, as when a patch is shown below."""
        super().resizeEvent(event)
        focused = QApplication.focusWidget()
        if focused is not None and self.isAncestorOf(focused):
            self.ensureWidgetVisible(focused)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Notice that the content is laid out again."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.laid_out.emit()
        return super().eventFilter(watched, event)


def align_labels(columns: Sequence[QWidget]) -> None:
    """Set labels that begin at the same place to the width of the widest of them."""
    by_left: dict[int, list[QLabel]] = defaultdict(list)
    for column in columns:
        for label in column.findChildren(QLabel):
            left = label.mapTo(column, QPoint(0, 0)).x()
            if left < _DEEPEST and label.isVisibleTo(column) and _is_label_of_field(label):
                by_left[left].append(label)
    for labels in by_left.values():
        widest = max(label.sizeHint().width() for label in labels)
        for label in labels:
            label.setMinimumWidth(widest)


def _is_label_of_field(label: QLabel) -> bool:
    """Return whether a label begins a row; a text beside it, too, is at its left at first."""
    parent = label.parentWidget()
    layout = None if parent is None else parent.layout()
    if not isinstance(layout, QHBoxLayout) or layout.count() < 2 or not label.text():
        return False
    first = layout.itemAt(0)
    return first is not None and first.widget() is label


def _column(widgets: Sequence[QWidget], is_at_bottom: bool = False) -> QWidget:
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
    layout.setSpacing(SPACING)
    for widget in widgets:
        layout.addWidget(widget)
    # Where the last widget stays, nothing moves while one of the others goes.
    layout.insertStretch(0 if is_at_bottom else len(widgets))
    return column


def _tab_stops(widget: QWidget) -> Iterator[QWidget]:
    """Yield the widgets that Tab stops at, in the order of the layout."""
    if not widget.isVisible():
        return
    if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield widget
    elif isinstance(widget, QScrollArea):
        if (content := widget.widget()) is not None:
            yield from _tab_stops(content)
    elif (layout := widget.layout()) is not None:
        yield from _tab_stops_in(layout)


def _tab_stops_in(layout: QLayout) -> Iterator[QWidget]:
    for index in range(layout.count()):
        item = layout.itemAt(index)
        if item is None:
            continue
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            yield from _tab_stops(widget)
        elif inner is not None:
            yield from _tab_stops_in(inner)
