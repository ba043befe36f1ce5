"""The building blocks of the form: sections, rows, folds, texts.

The mouse wheel scrolls the form; it changes a field only while that has the keyboard focus.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from magicgui.widgets import Container, PushButton, Widget
from pydantic import BaseModel
from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt
from qtpy.QtGui import QFocusEvent, QHelpEvent, QPaintEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QLabel,
    QLineEdit,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionToolButton,
    QStylePainter,
    QToolButton,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from napari_patchset.plugin.form.long_choices import show_long_choices
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.worker import single_shot_timer

BORDER = 2
"""The frame that napari's style draws around a scroll area."""

SPACING = 4
"""Pixels between fields that stand below each other."""

_NO_MARGINS = (0, 0, 0, 0)
_PADDING = 6
"""What a title has free at its right, in pixels, at most."""

_INDENT = 16
"""A section begins where its title does, after the arrow."""


class Section(Container[Widget]):
    """A section of the form: a column of labelled fields without a margin of its own."""

    def __init__(self, widgets: Sequence[Widget], **options: Any) -> None:
        super().__init__(widgets=widgets, **{"labels": True, **options})
        self.margins = _NO_MARGINS
        for widget in widgets:
            scroll_past(widget.native)

    def insert(self, key: int, widget: Widget) -> None:
        """Insert a field; the wheel scrolls past it."""
        super().insert(key, widget)
        scroll_past(widget.native)

    @property
    def summary(self) -> str:
        """A short summary of the settings; the section's title shows it while it is folded."""
        return ""


class Row(Section):
    """Fields next to each other."""

    def __init__(self, widgets: Sequence[Widget], spacing: int = 6, **options: Any) -> None:
        super().__init__(widgets, **{"layout": "horizontal", "labels": False, **options})
        self.native.layout().setSpacing(spacing)


class _Title(QToolButton):
    """A button whose text is elided if it is longer than there is space; the tooltip has it all."""

    def minimumSizeHint(self) -> QSize:
        """Return a size that holds the arrow and a few letters."""
        return QSize(
            _INDENT + 6 * self.fontMetrics().averageCharWidth(), super().sizeHint().height()
        )

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the arrow and as much of the text as there is space for."""
        option, painter = QStyleOptionToolButton(), QStylePainter(self)
        self.initStyleOption(option)
        if (missing := self.sizeHint().width() - self.width() - _PADDING) > 0:
            metrics = self.fontMetrics()
            width = metrics.horizontalAdvance(option.text) - missing
            option.text = metrics.elidedText(option.text, Qt.TextElideMode.ElideRight, width)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ToolButton, option)
        painter.end()


class Fold(QWidget):
    """A section of the form that is folded under its title, which summarizes the settings.

    Its content becomes a part of the window when it is unfolded for the first time: styling what
    no one sees takes a third of the time in which the panel is docked.

    Parameters
    ----------
    title : str
        The name of the section.
    content : QWidget
        The widget to fold.
    """

    def __init__(self, title: str, content: QWidget, tooltip: str = "") -> None:
        super().__init__()
        self._title = title
        self.button, self.content = _Title(), content
        # As wide as the text, and narrower where there is no space for it.
        self.button.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._tooltip = tooltip
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.toggled.connect(self._toggle)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*_NO_MARGINS)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        content.setContentsMargins(_INDENT, 0, 0, 0)
        self.destroyed.connect(content.deleteLater)  # which has no parent yet
        self._laid_out = single_shot_timer(self, self._scroll)
        self.sum_up("")
        self._toggle(False)

    def sum_up(self, summary: str) -> None:
        """Show the summary after the title."""
        text = f"{self._title}: {summary}" if summary else self._title
        if text != self.button.text():  # a new text lays out the whole form again
            self.button.setText(text)
            self.button.setToolTip(f"{text}\n{self._tooltip}".strip())

    def put_button(self, row: QWidget) -> None:
        """Move the title into a row of other fields, above the section."""
        if (layout := row.layout()) is not None:
            layout.addWidget(self.button)

    def open(self, opened: bool = True) -> None:
        """Unfold or fold the section."""
        self.button.setChecked(opened)

    def _toggle(self, opened: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        if (layout := self.layout()) is not None and opened:
            layout.addWidget(self.content)  # once
            self._laid_out.start()
        self.content.setVisible(opened)

    def _scroll(self) -> None:
        """Scroll to what was unfolded: all of it, or else from its title on."""
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        content = None if area is None else area.widget()
        bar = None if area is None else area.verticalScrollBar()
        if content is not None and bar is not None and self.button.isChecked():
            top = self.mapTo(content, QPoint(0, 0)).y()
            bar.setValue(min(top, max(bar.value(), top + self.height() - bar.pageStep())))


def scroll_past(field: QWidget) -> None:
    """Let the mouse wheel scroll the form: it changes a field only while that has the focus."""
    if field.focusPolicy() == Qt.FocusPolicy.WheelFocus:
        field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    if isinstance(field, QAbstractSpinBox | QComboBox):
        field.installEventFilter(_WheelFilter(field))
    if isinstance(field, QComboBox) and not field.isEditable():
        show_long_choices(field)
    if isinstance(field, QAbstractSpinBox):
        select_when_entered(field)


class _WheelFilter(QObject):
    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ignore the wheel over a field without focus, so that its parents get it."""
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        event.ignore()
        return True


def select_when_entered(field: QLineEdit | QAbstractSpinBox) -> None:
    """Have the click that enters a field select its text, so that typing replaces it."""
    selects = _SelectFilter(field)
    for each in (field, *field.findChildren(QLineEdit)):
        each.installEventFilter(selects)


class _SelectFilter(QObject):
    def __init__(self, field: QWidget) -> None:
        super().__init__(field)
        self._is_entered = False

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Select all at the end of a click that gave the focus, unless it has selected a part."""
        if isinstance(event, QFocusEvent) and event.gotFocus():
            self._is_entered = event.reason() == Qt.FocusReason.MouseFocusReason
        elif event is not None and event.type() == QEvent.Type.MouseButtonRelease:
            is_entered, self._is_entered = self._is_entered, False
            if is_entered and isinstance(watched, QLineEdit) and not watched.hasSelectedText():
                watched.selectAll()
        return False


def with_points(text: str) -> str:
    """Return typed numbers with decimal points, separated by commas.

    Where decimals have a comma, "1,5" is one number, and a space or a semicolon separates two:
    "1,5" and "1,5, 2" are "1.5" and "1.5,2". Where there is a point, commas separate, and so they
    do in "1e-05,1e-05", as a number has one exponent.
    """
    parts = re.split(r"\s*[,;]\s+|\s*;|\s+(?=[\d,])", text.strip())
    is_list = text.count(",") > 1 or text.lower().count("e") > 1
    if "." in text or (len(parts) == 1 and is_list):
        return text
    return ",".join(part.replace(",", ".") for part in parts)


def small_button(text: str, tooltip: str, width: int | None = None) -> PushButton:
    """Return a button that takes no more of a row than it needs."""
    button = PushButton(text=text, tooltip=tooltip)
    if width is None:
        button.native.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    else:
        button.native.setFixedWidth(width)
    return button


class TextBox(QScrollArea):
    """Texts below each other in a box of constant height, so that nothing moves as they change.

    Longer texts scroll, also with the arrow keys once Tab has come to them, and the tooltip has all
    of them.
    """

    def __init__(self, labels: Sequence[QLabel], lines: int) -> None:
        super().__init__()
        self._labels, self._lines = labels, lines
        self._content = QWidget()
        layout = QVBoxLayout(self._content)
        layout.setContentsMargins(*_NO_MARGINS)
        layout.setSpacing(0)
        for label in labels:
            label.setWordWrap(True)
            # A long word must not widen the panel.
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            layout.addWidget(label)
        layout.addStretch()
        self.setWidget(self._content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self._stop_at(0, 0)
        if (bar := self.verticalScrollBar()) is not None:
            bar.rangeChanged.connect(self._stop_at)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def _stop_at(self, _: int, most: int) -> None:
        """Have Tab stop here while there is something to scroll to."""
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus if most else Qt.FocusPolicy.NoFocus)

    def reserve(self, lines: int) -> None:
        """Take the height of another number of lines."""
        if lines != self._lines:
            self._lines = lines
            self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Return the height of the lines."""
        line = self._labels[0].fontMetrics().lineSpacing() + 1  # as in rich text
        padding = BORDER * (1 + len(self._labels))  # that of each label is the same
        return QSize(super().sizeHint().width(), self._lines * line + padding)

    def minimumSizeHint(self) -> QSize:
        """Return the height of the lines."""
        return QSize(0, self.sizeHint().height())

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Frame the texts while the keyboard scrolls them."""
        super().focusInEvent(event)
        self.setStyleSheet(f"TextBox {{ border: 1px solid {theme_colors().accent.name()} }}")

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Take the frame away."""
        super().focusOutEvent(event)
        self.setStyleSheet("")

    @property
    def rich_text(self) -> str:
        """The texts that are not hidden, as rich text, which some of them are and others not."""
        texts = [_rich_text(label) for label in self._labels if label.isVisibleTo(self)]
        text = "<br>".join(filter(None, texts))
        return f"<qt>{text}</qt>" if text else ""  # Qt takes what has no tag for plain text

    def viewportEvent(self, event: QEvent | None) -> bool:
        """Show in a tooltip what is not in sight."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            is_longer = self._content.height() > self.height()
            QToolTip.showText(event.globalPos(), self.rich_text if is_longer else "", self)
            return True
        return super().viewportEvent(event)


def _rich_text(label: QLabel) -> str:
    if label.textFormat() != Qt.TextFormat.PlainText:
        return label.text()
    return escape(label.text()).replace("\n", "<br>")


def keep_height(label: QLabel) -> None:
    """Let a label grow with its text and not shrink, or what is below moves under the mouse."""
    needed = label.heightForWidth(label.width())
    label.setMinimumHeight(max(label.minimumHeight(), needed))


def description(model: type[BaseModel], field: str) -> str:
    """Return the description of a field of a plan, the same in help, documentation and tooltips."""
    return model.model_fields[field].description or ""


Choices = Callable[[Any], list[tuple[str, Any]]]


def choices(*named: tuple[str, Any]) -> Choices:
    """Return choices in the form that survives docking: magicgui resets a list."""
    return lambda _: list(named)


def choices_of(names: Iterable[str], **labels: str) -> Choices:
    """Return the names of a table as choices, those with a label first, in the labels' order."""
    order = [*labels, *(name for name in names if name not in labels)]
    return choices(*((labels.get(name, name), name) for name in order))
