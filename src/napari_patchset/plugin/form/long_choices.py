"""Combo boxes whose texts are longer than there is space for.

The text in the box is elided in its middle, since names of files and layers differ at their ends,
and the tooltip has all of it. The list is as wide as its longest text.
"""

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import (
    QComboBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
)

_MIN_ELIDED = 6
"""Characters that a text has at least when it is elided."""

_WIDEST = 600
"""The maximum width of a list, in pixels."""


def show_long_choices(box: QComboBox) -> None:
    """Show the texts of a combo box, which is not editable, as well as there is space for."""
    box.installEventFilter(_LongChoices(box))


class _LongChoices(QObject):
    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Draw the box, show its tooltip, and widen its list before that opens."""
        if not isinstance(watched, QComboBox) or event is None:
            return False
        kind = event.type()
        if kind == QEvent.Type.Paint:
            _draw(watched)
            return True
        if kind == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            text, tip = watched.currentText(), watched.toolTip()
            width = watched.fontMetrics().horizontalAdvance(text)
            is_cut = width > _space(watched, _option(watched))
            texts = (text if is_cut and text not in tip else "", tip)
            QToolTip.showText(event.globalPos(), "\n".join(filter(None, texts)), watched)
            return True
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress):
            _widen_list(watched)
        return False


def _draw(box: QComboBox) -> None:
    option, painter = _option(box), QStylePainter(box)
    option.currentText = _elided(box, option)
    painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
    painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
    painter.end()


def _option(box: QComboBox) -> QStyleOptionComboBox:
    option = QStyleOptionComboBox()
    box.initStyleOption(option)
    return option


def _elided(box: QComboBox, option: QStyleOptionComboBox) -> str:
    """Return as much of the text as there is space for."""
    text, middle = option.currentText or "", Qt.TextElideMode.ElideMiddle
    elided = box.fontMetrics().elidedText(text, middle, _space(box, option))
    return elided if len(elided) >= _MIN_ELIDED else text  # a cut text says more than dots


def _space(box: QComboBox, option: QStyleOptionComboBox) -> int:
    """Return the width that a box has for its text, in pixels."""
    style, kind = box.style(), QStyle.ComplexControl.CC_ComboBox
    if style is None:
        return box.width()
    return (
        style.subControlRect(kind, option, QStyle.SubControl.SC_ComboBoxEditField, box).width() - 2
    )


def _widen_list(box: QComboBox) -> None:
    view = box.view()
    if view is not None and (bar := view.verticalScrollBar()) is not None:
        width = view.sizeHintForColumn(0) + bar.sizeHint().width()
        view.setMinimumWidth(min(width, _WIDEST))
