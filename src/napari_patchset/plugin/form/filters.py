"""Filters: which patches are worth keeping, as rows or as the command's own text."""

import json
from abc import abstractmethod
from collections.abc import Sequence

from magicgui.widgets import ComboBox, LineEdit, PushButton, Widget
from psygnal import Signal

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters import FILTERS, Filter, parse_filter
from napari_patchset.plugin.form.rows import Part, Percent, Row, choices, choices_of

_KINDS = choices_of(
    FILTERS,
    std="contrast",
    mean="mean",
    max="brightest",
    shannon="entropy",
    saturation="saturated",
    mask="mask",
)
_KIND_TIP = (
    "What is measured: the contrast (standard deviation), the mean, the brightest pixel, the "
    "Shannon entropy in bits, the share of saturated pixels, or the share of pixels in the mask."
)
_LIMIT_TIP = (
    "A number; p10 for the value that a tenth of the patches lie below; otsu for the threshold "
    "that parts the patches best."
)
_ANY = "any"


class _FilterRow(Row):
    """One filter as text, and a button to take it away."""

    removed = Signal(object)

    def __init__(self, widgets: Sequence[Widget]) -> None:
        remove = PushButton(text="×", tooltip="Take this filter away.")
        remove.native.setFixedWidth(22)
        super().__init__([*widgets, remove], spacing=2)
        remove.changed.connect(lambda: self.removed.emit(self))

    @property
    @abstractmethod
    def text(self) -> str:
        """The filter, as the command takes it."""

    @property
    def said(self) -> str:
        """The filter as it stands in the table and in the summary."""
        try:
            return str(parse_filter(self.text))
        except ArgumentError:
            return self.text


class ChosenRow(_FilterRow):
    """A filter by choices: what is measured, in which channel, and the limit."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.kind = ComboBox(choices=_KINDS, value="std", tooltip=_KIND_TIP)
        named = [(_ANY, ""), *((name, name) for name in channels)]
        self.channel = ComboBox(
            choices=choices(*named),
            tooltip="The channel that is measured. Any: one of them is enough.",
        )
        self.side = ComboBox(
            choices=choices((">", ">"), ("<", "<")),
            tooltip="Keep patches above the limit, or below it.",
        )
        self.limit = LineEdit(value="p10", tooltip=_LIMIT_TIP)
        for field, width in ((self.kind, 106), (self.side, 52), (self.limit, 46)):
            field.native.setFixedWidth(width)
        super().__init__([self.kind, self.channel, self.side, self.limit])

    @property
    def text(self) -> str:
        """The filter, as the command takes it."""
        named = self.channel.value and self.kind.value != "mask"
        channel = f"[{json.dumps(self.channel.value)}]" if named else ""
        return f"{self.kind.value}{channel}{self.side.value}{self.limit.value}"

    def load(self, found: Filter) -> bool:
        """Set the fields from a filter, and say whether they hold all of it."""
        (channel, *_) = found.channels or ("",)
        if channel in self.channel.choices:
            self.channel.value = channel
        self.kind.value = found.kind
        self.side.value = "<" if found.above is None else ">"
        limit = found.below if found.above is None else found.above
        self.limit.value = limit if isinstance(limit, str) else f"{limit!r}"
        return parse_filter(self.text) == found


class TextRow(_FilterRow):
    """A filter that the choices can't say."""

    def __init__(self, text: str) -> None:
        self.line = LineEdit(value=text, tooltip="A filter, as the command takes it.")
        super().__init__([self.line])

    @property
    def text(self) -> str:
        """The filter, as the command takes it."""
        return str(self.line.value)


class FiltersSection(Part):
    """The filters, each of which a patch must pass."""

    def __init__(self) -> None:
        self.rows: list[ChosenRow | TextRow] = []
        self._channels: tuple[str, ...] = ()
        self.add = PushButton(text="Add filter", tooltip="Keep only patches worth training on.")
        self.text = LineEdit(tooltip="A filter as the command takes it. Enter adds it.")
        self.text.native.setPlaceholderText("std[DAPI]>p10")
        self.keep = Percent(
            max=100,
            label="Keep anyway %",
            tooltip="Of a hundred patches that a filter rejects, keep so many all the same.",
        )
        super().__init__([Row([self.add, self.text]), Part([self.keep])], labels=False)
        self.add.changed.connect(lambda: self._append(ChosenRow(self._channels)))
        self.text.native.returnPressed.connect(self._add_text)

    def offer(self, channels: Sequence[str]) -> None:
        """Offer channels by name; the filters stay."""
        if self._channels != tuple(channels):
            self._channels = tuple(channels)
            self._set([row.text for row in self.rows])

    @property
    def value(self) -> tuple[Filter, ...]:
        """The filters.

        Raises
        ------
        ArgumentError
            If one of them can't be understood.
        """
        return tuple(parse_filter(row.text) for row in self.rows)

    @property
    def keep_fraction(self) -> float:
        """The share of rejected patches that is kept all the same."""
        return self.keep.fraction

    def load(self, filters: Sequence[Filter], keep_fraction: float) -> None:
        """Set filters and the share that is kept all the same."""
        self.keep.load(keep_fraction)
        self._set([str(found) for found in filters])

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ", ".join(row.said for row in self.rows) or "none"

    def _set(self, texts: Sequence[str]) -> None:
        with self.changed.blocked():
            for row in list(self.rows):
                self._take_away(row)
            for text in texts:
                self._append(self._row(text))
        self.changed.emit(self)

    def _row(self, text: str) -> ChosenRow | TextRow:
        row = ChosenRow(self._channels)
        try:
            return row if row.load(parse_filter(text)) else TextRow(text)
        except ArgumentError:
            return TextRow(text)

    def _add_text(self) -> None:
        if text := str(self.text.value).strip():
            self._append(self._row(text))
            self.text.value = ""

    def _append(self, row: ChosenRow | TextRow) -> None:
        row.removed.connect(self._take_away)
        self.rows.append(row)
        self.insert(len(self.rows) - 1, row)
        self.changed.emit(self)

    def _take_away(self, row: ChosenRow | TextRow) -> None:
        self.rows.remove(row)
        self.remove(row)
        self.changed.emit(self)
