"""Filters that patches must pass, as rows of choices or as text."""

import json
from abc import abstractmethod
from collections.abc import Sequence

from magicgui.widgets import ComboBox, LineEdit, PushButton, Widget
from psygnal import Signal

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.filters import FILTERS, Filter, parse_filter
from napari_patchset.plugin.form.fields import (
    Percent,
    Row,
    Section,
    choices,
    choices_of,
    description,
    small_button,
)

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
    "A number; p10 for the value that a tenth of the patches lie below; otsu for the value that "
    "separates the patches best."
)
_ANY = "any"


class _FilterRow(Row):
    """One filter as text, and a button to remove it."""

    removed = Signal(object)

    def __init__(self, widgets: Sequence[Widget]) -> None:
        remove = small_button("×", "Remove this filter.", width=22)
        super().__init__([*widgets, remove], spacing=2)
        remove.changed.connect(lambda: self.removed.emit(self))

    @property
    @abstractmethod
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""

    @property
    def summary(self) -> str:
        """The filter as the patch table names it."""
        try:
            return str(parse_filter(self.text))
        except ArgumentError:
            return self.text


class ChoiceRow(_FilterRow):
    """A filter as choices: metric, channel and limit."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels, self._absent = tuple(channels), ""
        self.kind = ComboBox(choices=_KINDS, value="std", tooltip=_KIND_TIP)
        self.channel = ComboBox(
            choices=self._channel_choices,
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

    def offer(self, channels: Sequence[str]) -> None:
        """Offer the channels of an image; a chosen one that it lacks is marked as absent."""
        chosen = self.channel.value
        self._channels = tuple(channels)
        with self.changed.blocked():
            self._choose(chosen)

    @property
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""
        named = self.channel.value and self.kind.value != "mask"
        channel = f"[{json.dumps(self.channel.value)}]" if named else ""
        return f"{self.kind.value}{channel}{self.side.value}{self.limit.value}"

    def load(self, rule: Filter) -> bool:
        """Set the fields from a filter, and return whether they express all of it."""
        (channel, *_) = rule.channels or ("",)
        self._choose(channel if isinstance(channel, str) else "")
        self.kind.value = rule.kind
        self.side.value = "<" if rule.above is None else ">"
        limit = rule.below if rule.above is None else rule.above
        self.limit.value = limit if isinstance(limit, str) else f"{limit!r}"
        return parse_filter(self.text) == rule

    def _choose(self, channel: str) -> None:
        self._absent = channel if channel and channel not in self._channels else ""
        self.channel.reset_choices()
        self.channel.value = channel

    def _channel_choices(self, _: object) -> list[tuple[str, str]]:
        absent = [(f"{self._absent} (not in this image)", self._absent)] if self._absent else []
        return [(_ANY, ""), *((name, name) for name in self._channels), *absent]


class TextRow(_FilterRow):
    """A filter that the choices cannot express."""

    def __init__(self, text: str) -> None:
        self.line = LineEdit(value=text, tooltip="A filter such as std[DAPI]>p10.")
        super().__init__([self.line])

    @property
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""
        return str(self.line.value)


class FiltersSection(Section):
    """The filters, each of which a patch must pass."""

    def __init__(self) -> None:
        self.rows: list[ChoiceRow | TextRow] = []
        self._channels: tuple[str, ...] = ()
        self.add = PushButton(text="Add filter", tooltip="Keep only patches worth training on.")
        self.text = LineEdit(tooltip="A filter such as std[DAPI]>p10. Enter adds it.")
        self.text.native.setPlaceholderText("std[DAPI]>p10")
        self.keep = Percent(
            max=100,
            label="Keep rejected %",
            tooltip=description(Recipe, "keep_fraction"),
        )
        super().__init__([Row([self.add, self.text]), Section([self.keep])], labels=False)
        self.add.changed.connect(lambda: self._append(ChoiceRow(self._channels)))
        self.text.native.returnPressed.connect(self._add_text)

    def offer(self, channels: Sequence[str]) -> None:
        """Offer the channels of an image by name; the filters stay."""
        self._channels = tuple(channels)
        for row in self.rows:
            if isinstance(row, ChoiceRow):
                row.offer(channels)

    @property
    def value(self) -> tuple[Filter, ...]:
        """The filters.

        Raises
        ------
        ArgumentError
            If one cannot be read.
        """
        return tuple(parse_filter(row.text) for row in self.rows)

    @property
    def keep_fraction(self) -> float:
        """The share of rejected patches to export nevertheless."""
        return self.keep.fraction

    def load(self, filters: Sequence[Filter], keep_fraction: float) -> None:
        """Set the filters, and the share of rejected patches to export."""
        self.keep.load(keep_fraction)
        with self.changed.blocked():
            for row in list(self.rows):
                self._remove(row)
            for rule in filters:
                self._append(self._row(str(rule)))
        self.changed.emit(self)

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return ", ".join(row.summary for row in self.rows) or "none"

    def _row(self, text: str) -> ChoiceRow | TextRow:
        row = ChoiceRow(self._channels)
        try:
            return row if row.load(parse_filter(text)) else TextRow(text)
        except ArgumentError:
            return TextRow(text)

    def _add_text(self) -> None:
        if text := str(self.text.value).strip():
            self._append(self._row(text))
            self.text.value = ""

    def _append(self, row: ChoiceRow | TextRow) -> None:
        row.removed.connect(self._remove)
        self.rows.append(row)
        self.insert(len(self.rows) - 1, row)
        self.changed.emit(self)

    def _remove(self, row: ChoiceRow | TextRow) -> None:
        self.rows.remove(row)
        self.remove(row)
        self.changed.emit(self)
