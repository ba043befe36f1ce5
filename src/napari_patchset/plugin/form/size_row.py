"""Lengths along the axes of a patch, in pixels or micrometres.

A number without a unit is in that of the row; "64 px", "12.5 µm" and "0.5 mm" mean what they say in
either. A field shows the length that the user typed, and its unit unless all is pixels. If it is
too large for an image, the field shows less for that image alone, and the typed length again with
the next image that is large enough. Text is judged once typing pauses or the field is left; what is
no length then stays, and is refused.
"""

from collections.abc import Sequence
from contextlib import suppress

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QLabel, QLineEdit

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.lengths import Length, Micrometres, Unit, parse_length
from napari_patchset.plugin.form.fields import Row, select_when_entered, with_points
from napari_patchset.plugin.form.numbers import PAUSE_MS
from napari_patchset.plugin.worker import single_shot_timer
from napari_patchset.source import PixelSize

_Y, _X = 1, 2


class LengthBox(QLineEdit):
    """A length along one axis; the arrow keys step it.

    Parameters
    ----------
    least : int
        The smallest number, 0 or 1.
    """

    edited = Signal()
    """The user has typed another text, and has paused or left the field."""

    def __init__(self, length: Length, least: int, tooltip: str) -> None:
        super().__init__()
        self.unit: Unit = "px"
        self.least = least
        self.setToolTip(tooltip)
        self._is_judged = True
        self._pause = single_shot_timer(self, self.judge, PAUSE_MS)
        self.length = length
        self.textEdited.connect(self._on_text)
        self.editingFinished.connect(self._on_finished)
        select_when_entered(self)

    @property
    def length(self) -> Length:
        """The length that the text is.

        Raises
        ------
        ArgumentError
            If it is none.
        """
        text = self.text().strip()
        try:
            length = parse_length(with_points(text), self.unit)
        except ValueError:
            raise ArgumentError(
                f"{text!r} is not a length; write it like 64 px, 12.5 µm or 0.5 mm."
            ) from None
        number = number_of(length)
        if number < 0 or (self.least and not number):
            raise ArgumentError(f"{text} is too small; a patch has at least one pixel.")
        return length if number else 0

    @length.setter
    def length(self, length: Length) -> None:
        unit = " px" if length and isinstance(length, int) and self.unit == "um" else ""
        self._is_judged = True
        self.setText(f"{format_length(length)}{unit}")
        if not self.hasFocus():
            self.setCursorPosition(0)  # of what is too long, the first digits are seen

    @property
    def is_understood(self) -> bool:
        """Whether the text is a length."""
        with suppress(ArgumentError):
            return self.length is not None
        return False

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Step the number with the arrow keys."""
        key = None if event is None else event.key()
        if key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self._step(1 if key == Qt.Key.Key_Up else -1)
        else:
            super().keyPressEvent(event)

    def _step(self, step: int) -> None:
        if not self.is_understood:
            return
        length, number = self.length, number_of(self.length) + step
        if number > 0 or number == self.least:
            in_pixels = isinstance(length, int) and (length or self.unit == "px")
            self.length = int(number) if in_pixels else Micrometres.from_number(number)
            self.edited.emit()

    def judge(self) -> None:
        """Emit `edited` for what was typed since it was last emitted, if anything was."""
        if not self._is_judged:
            self._is_judged = True
            self.edited.emit()

    def _on_text(self) -> None:
        self._is_judged = False
        self._pause.start()

    def _on_finished(self) -> None:
        self.judge()
        if self.isModified():
            self.setModified(False)
            if self.is_understood:
                self.length = self.length


class SizeRow(Row):
    """Lengths along Z (or T), Y and X; the first is hidden without a depth axis.

    Attributes
    ----------
    typed : list of Length
        The lengths typed or loaded from a plan; `value` may be less, see `limit`.
    """

    def __init__(self, label: str, value: tuple[int, int, int], least: int, what: str) -> None:
        super().__init__([], label=label, spacing=4)
        self.typed: list[Length] = list(value)
        self._is_square = True
        tooltip = (
            f"{what} Pixels, or a length like 12.5 µm or 0.5 mm. X follows Y while they are the "
            "same."
        )
        self.boxes = [LengthBox(n, least, tooltip) for n in value]
        self._titles = [QLabel(axis) for axis in "ZYX"]
        self._depth_axis: DepthAxis = "none"
        for axis, (title, box) in enumerate(zip(self._titles, self.boxes, strict=True)):
            self.native.layout().addWidget(title)
            self.native.layout().addWidget(box, 1)
            box.edited.connect(lambda axis=axis: self._on_edited(axis))
            box.editingFinished.connect(self._see_square)
        self.show_depth("none")

    @property
    def value(self) -> tuple[Length, ...]:
        """The lengths along the axes of a patch.

        Raises
        ------
        ArgumentError
            If a text is not a length.
        """
        return tuple(box.length for box in self.boxes[self._first :])

    def judge(self) -> None:
        """Take over what is being typed, without waiting for a pause."""
        for box in self.boxes:
            box.judge()

    def set_unit(self, unit: Unit, pixel_size: PixelSize) -> None:
        """Show the lengths in another unit; where no pixel size is known, the numbers stay."""
        for axis, box in enumerate(self.boxes):
            if axis == 0 or unit == box.unit:
                continue  # planes are counted
            size = (pixel_size.y, pixel_size.x)[axis - 1]
            shown = box.length if box.is_understood else None
            box.unit = unit
            self.typed[axis] = _in_unit(self.typed[axis], unit, size, box.least)
            if shown is not None:
                box.length = _in_unit(shown, unit, size, box.least)

    def load(self, value: Sequence[Length]) -> None:
        """Set the last lengths, as many as `value` has, as if they were typed."""
        first = len(self.boxes) - len(value)
        for axis, length in enumerate(value, first):
            self.typed[axis] = self.boxes[axis].length = length
        self._see_square()
        self.changed.emit(self)

    def limit(self, axis: int, length: Length) -> None:
        """Show another length than was typed; the typed one is remembered."""
        if self.boxes[axis].is_understood:
            self.boxes[axis].length = length

    def show_depth(self, depth_axis: DepthAxis) -> None:
        """Show the first length, under the name of the depth axis, only where there is one."""
        self._depth_axis = depth_axis
        for part in (self._titles[0], self.boxes[0]):
            part.setVisible(depth_axis != "none")
        self._titles[0].setText(depth_axis if depth_axis != "none" else "Z")

    @property
    def _first(self) -> int:
        return 0 if self._depth_axis != "none" else 1

    def _on_edited(self, axis: int) -> None:
        with suppress(ArgumentError):  # `value` raises it
            self.typed[axis] = self.boxes[axis].length
            if axis == _Y and self._is_square:
                self.typed[_X] = self.boxes[_X].length = self.typed[_Y]
        self.changed.emit(self)

    def _see_square(self) -> None:
        """Notice whether X is the same as Y, and follows it; not while a number is typed."""
        self._is_square = self.typed[_Y] == self.typed[_X]


def number_of(length: Length) -> float:
    """Return the number of a length in its own unit."""
    return length if isinstance(length, int) else length.number


def format_length(length: Length) -> str:
    """Return a length with its unit, unless that is pixels: "64", "12.5 µm"."""
    return str(length) if isinstance(length, int) else f"{length.removesuffix('um')} µm"


def count(axis: str, n: int) -> str:
    """Return a number of what an axis counts: "3 planes", "1 time point", "38 px"."""
    nouns = {"Z": "plane", "T": "time point"}
    return f"{n} {nouns[axis]}{'s' * (n != 1)}" if axis in nouns else f"{n} px"


def _in_unit(length: Length, unit: Unit, pixel_size: float | None, least: int) -> Length:
    if isinstance(length, Micrometres) and unit == "px":
        return max(least, length.to_pixels(pixel_size or 1.0))
    if isinstance(length, int) and unit == "um" and length:
        return Micrometres.from_number(length * (pixel_size or 1.0))
    return length
