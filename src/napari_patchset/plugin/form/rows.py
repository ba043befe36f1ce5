"""What several parts of the form are made of."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from magicgui.widgets import Container, PushButton, SpinBox, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_patchset.axes import DepthAxis

LARGEST = 2**31 - 1
_NO_MARGINS = (0, 0, 0, 0)


class Part(Container[Widget]):
    """A part of the form: a column of labelled fields without a margin of its own."""

    def __init__(self, widgets: Sequence[Widget], **options: Any) -> None:
        super().__init__(widgets=widgets, **{"labels": True, **options})
        self.margins = _NO_MARGINS

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ""


class Row(Part):
    """Some fields beside each other."""

    def __init__(self, widgets: Sequence[Widget], spacing: int = 6, **options: Any) -> None:
        super().__init__(widgets, **{"layout": "horizontal", "labels": False, **options})
        self.native.layout().setSpacing(spacing)


class SizeRow(Row):
    """Three numbers along Z (or T), Y and X; the first is hidden without a depth axis."""

    def __init__(self, label: str, value: tuple[int, int, int], minimum: int, tooltip: str) -> None:
        self.boxes = [
            SpinBox(value=n, min=minimum, max=LARGEST, label=axis, tooltip=tooltip)
            for n, axis in zip(value, "ZYX", strict=True)
        ]
        self._depth_axis: DepthAxis | None = None
        super().__init__(self.boxes, label=label, labels=True, spacing=4)

    @property
    def value(self) -> tuple[int, int, int]:
        """The numbers along Z (or T), Y, X."""
        z, y, x = (int(box.value) for box in self.boxes)
        return z, y, x

    def load(self, value: Sequence[int]) -> None:
        """Set as many numbers as there are, the last ones."""
        for box, n in zip(reversed(self.boxes), reversed(value), strict=False):
            box.value = n

    def fit(self, largest: Sequence[int]) -> None:
        """Lower the numbers to what an image allows."""
        with self.changed.blocked():
            for box, n in zip(self.boxes, largest, strict=True):
                box.value = min(box.value, n)

    def show_depth(self, depth_axis: DepthAxis) -> None:
        """Show the first number, under the name of the depth axis, only where there is one."""
        if depth_axis == self._depth_axis:
            return  # a style that is set anew takes milliseconds
        first, self._depth_axis = self.boxes[0], depth_axis
        first.visible = depth_axis != "none"
        first.label = depth_axis if depth_axis != "none" else "Z"
        for box in self.boxes:
            narrow(box, depth_axis != "none")


class Percent(SpinBox):
    """A share in per cent, which remembers the exact fraction that it was loaded with."""

    def __init__(self, **options: Any) -> None:
        self._exact = 0.0
        super().__init__(**{"value": 0, "min": 0, **options})

    @property
    def fraction(self) -> float:
        """The share as a fraction."""
        is_loaded = round(100 * self._exact) == self.value
        return self._exact if is_loaded else float(self.value) / 100

    def load(self, fraction: float) -> None:
        """Set the share."""
        self._exact = fraction
        self.value = round(100 * fraction)


class Fold(QWidget):
    """A part of the form that is folded away under its title, which says what is set in it.

    Parameters
    ----------
    title : str
        The name of the part.
    content : QWidget
        What is folded away.
    """

    def __init__(self, title: str, content: QWidget, tooltip: str = "") -> None:
        super().__init__()
        self._title = title
        self.button, self.content = QToolButton(), content
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolTip(tooltip)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.toggled.connect(self._toggle)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(*_NO_MARGINS)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        layout.addWidget(content)
        self.say("")
        self._toggle(False)

    def say(self, value: str) -> None:
        """Say beside the title what is set."""
        text = f"{self._title}: {value}" if value else self._title
        if text != self.button.text():  # else all of the form would be laid out anew
            self.button.setText(text)

    def open(self, opened: bool = True) -> None:
        """Unfold, or fold, it."""
        self.button.setChecked(opened)

    def _toggle(self, opened: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.content.setVisible(opened)


def keep_small(button: PushButton) -> None:
    """Leave the room of a row to the field beside a button."""
    button.native.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)


def narrow(box: SpinBox, on: bool = True) -> None:
    """Leave the room for the number alone: arrow keys and wheel change it without buttons."""
    symbols = QAbstractSpinBox.ButtonSymbols
    box.native.setButtonSymbols(symbols.NoButtons if on else symbols.UpDownArrows)
    box.native.setStyleSheet("min-width: 30px" if on else "")


def choices(*named: tuple[str, Any]) -> Callable[[Any], list[tuple[str, Any]]]:
    """Give choices in the form that survives docking: a list that is assigned vanishes."""
    return lambda _: list(named)


def choices_of(names: Iterable[str], **labels: str) -> Callable[[Any], list[tuple[str, Any]]]:
    """Give the names of a table as choices, in the order of their labels; others as they are."""
    order = [*labels, *(name for name in names if name not in labels)]
    return choices(*((labels.get(name, name), name) for name in order))
