"""Numbers that are typed: whole ones, and shares in per cent.

What is typed is never taken for another number: a box keeps what is none within its limits, such as
1.5 of a count or 150 %, and the form refuses it.
"""

import re
from typing import Any

# magicgui has no public way to name the Qt box of a number.
from magicgui.backends._qtpy.widgets import QBaseRangedWidget
from magicgui.widgets.bases import RangedWidget
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QDoubleSpinBox, QWidget

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.worker import single_shot_timer

MAX_INT = 2**31 - 1

PAUSE_MS = 600
"""Typing has paused, in milliseconds: longer than it takes to find "µ" on a keyboard."""

_DECIMALS = 2
"""Of a share in per cent."""

_WHOLE = re.compile(r"[+-]?([0-9]+|[1-9][0-9]{0,2}(,[0-9]{3})+)")
"""Thousands may be grouped, as a message of the box does."""

_DECIMAL = re.compile(r"[+-]?(?=\.?[0-9])[0-9]*(\.[0-9]*)?")


class _NumberBox(QDoubleSpinBox):
    """A box that keeps any text; where it has decimals, a comma is a point on every keyboard."""

    refused: str | None = None
    """The text, if it is no number that the box can have."""

    def validate(self, text: str | None, at: int) -> tuple[QValidator.State, str, int]:
        """Accept every key: without its point, 1.5 would be 15."""
        typed = text or ""
        if self.decimals():
            typed = typed.replace(",", ".")
        return QValidator.State.Acceptable, typed, at

    def valueFromText(self, text: str | None) -> float:
        """Return the number of a text, or the former one if it is none."""
        typed = (text or "").strip()
        is_it = (_DECIMAL if self.decimals() else _WHOLE).fullmatch(typed) is not None
        is_it = is_it and len(typed.partition(".")[2].rstrip("0")) <= self.decimals()
        value = float(typed.replace(",", "")) if is_it else self.value()
        is_within = is_it and self.minimum() <= value <= self.maximum()
        self.refused = None if is_within else typed
        return value if is_within else self.value()

    def textFromValue(self, value: float) -> str:
        """Return a number with the decimals that it has, or what was typed in its place."""
        if self.refused is not None:
            return self.refused
        text = f"{value:.{self.decimals()}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    def setValue(self, value: float) -> None:
        """Show a number in place of what was typed."""
        self.refused = None
        super().setValue(value)

    def stepBy(self, steps: int) -> None:
        """Step from the former number where the text is none."""
        if self.refused is not None:
            self.setValue(self.value())
        super().stepBy(steps)

    def check(self) -> None:
        """Raise an ArgumentError if the text is no number that the box can have."""
        if self.refused is not None:
            kind = "number" if self.decimals() else "whole number"
            digits = f" with at most {self.decimals()} decimals" if self.decimals() else ""
            raise ArgumentError(
                f"{self.accessibleName()}: {self.refused!r} is not a {kind} from "
                f"{self.minimum():,.10g} to {self.maximum():,.10g}{digits}."
            )


def check_numbers(section: QWidget) -> None:
    """Check the numbers of the fields that a section shows.

    Raises
    ------
    ArgumentError
        If the text of one is no number within its limits.
    """
    for box in section.findChildren(_NumberBox):
        if box.isVisibleTo(section):
            box.check()


class _NumberBackend(QBaseRangedWidget):
    """What magicgui has for its own FloatSpinBox, with the box that is meant here."""

    _qwidget: QDoubleSpinBox

    def __init__(self, **options: Any) -> None:
        super().__init__(_NumberBox, **options)
        self._qwidget.setDecimals(_DECIMALS)


class _WholeNumberBackend(_NumberBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._qwidget.setDecimals(0)

    def _post_get_hook(self, value: float) -> int:
        return int(value)


class _Number(RangedWidget[Any]):
    """A number that is typed; `value` is the last one within the limits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"value": 0, "min": 0, "step": 1, **options})
        self._told: str | None = None
        self.native.setAccessibleName(self.label)
        self._pause = single_shot_timer(self.native, self._judge, PAUSE_MS)
        self.native.lineEdit().textEdited.connect(lambda _: self._pause.start())
        self.native.editingFinished.connect(self._judge)

    def _judge(self) -> None:
        """Emit `changed` for a text that is refused, and for the first one after it that is not."""
        if self.native.refused != self._told:
            self._told = self.native.refused
            self.changed.emit(self.value)


class WholeNumber(_Number):
    """A whole number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget_type=_WholeNumberBackend, **{"step": None, **options})


class Percent(_Number):
    """A share in per cent, which remembers the exact fraction that a plan set."""

    def __init__(self, **options: Any) -> None:
        self._shown = self._exact = 0.0
        super().__init__(widget_type=_NumberBackend, **options)

    @property
    def fraction(self) -> float:
        """The share as a fraction."""
        is_loaded = self.value == self._shown
        return self._exact if is_loaded else round(self.value / 100, _DECIMALS + 2)

    def load(self, fraction: float) -> None:
        """Set the share; it is shown within the limits, as rounding may lead out of them."""
        self._exact = fraction
        self._shown = min(max(round(100 * fraction, _DECIMALS), self.min), self.max)
        self.value = self._shown


_WITHOUT_BUTTONS = """
QAbstractSpinBox { min-width: 30px }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0 }
QAbstractSpinBox::up-arrow, QAbstractSpinBox::down-arrow { width: 0; image: none }
"""
"""Not `NoButtons`: with napari's style, Qt 6.12 then leaves one pixel for the number."""


def without_buttons(box: WholeNumber) -> None:
    """Leave the space of a spin box to its number; the arrow keys still step it."""
    box.native.setStyleSheet(_WITHOUT_BUTTONS)
