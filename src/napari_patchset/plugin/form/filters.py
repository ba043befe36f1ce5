"""Filters that patches must pass, as rows of choices or as text."""

import json
from abc import abstractmethod
from collections.abc import Sequence

from magicgui.widgets import ComboBox, LineEdit, PushButton, Widget
from psygnal import Signal

from napari_patchset.channels import ChannelId, channel_indices, check_bare_numbers
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.filter_syntax import channel_text
from napari_patchset.patching.filters import (
    FILTERS,
    Filter,
    ShareFilter,
    distinct_names,
    parse_filter,
)
from napari_patchset.patching.metric_words import filter_words, kind_word
from napari_patchset.plugin.form.fields import (
    Percent,
    Row,
    Section,
    choices,
    description,
    small_button,
)

_KIND_CHOICES = {kind_word(kind): kind for kind in ("std", "mean", "max", "focus")} | {
    kind_word(kind): kind
    for kind in FILTERS
    if kind != "share"  # which measures a class, not a channel
}
_KINDS = choices(*_KIND_CHOICES.items())
_KIND_TIP = "What is measured:\n" + "\n".join(
    f"{word} ({kind}): {FILTERS[kind].meaning}" for word, kind in _KIND_CHOICES.items()
)
_LIMIT_TIP = (
    "A number; p10 for the value that a tenth of the patches lie below; otsu for the value that "
    "separates the patches best."
)
_ANY = "any"


class ChannelNames:
    """The channels of the image, and those of them that go into the patches.

    A filter names channels of the patches: a number counts those. Channels of equal names are
    chosen by their number in the image.
    """

    def __init__(self, names: Sequence[str] = (), chosen: Sequence[int] | None = None) -> None:
        self.names = tuple(names)
        self.chosen = tuple(range(len(names)) if chosen is None else chosen)

    @property
    def exported(self) -> list[str]:
        """The names of those that go into the patches."""
        return [self.names[index] for index in self.chosen]

    @property
    def choices(self) -> list[tuple[str, ChannelId]]:
        """A label for each channel, and its name, or its number if there are several of that."""
        return [
            (label, name if self.names.count(name) == 1 else index)
            for index, (label, name) in enumerate(
                zip(distinct_names(self.names), self.names, strict=True)
            )
        ]

    def text(self, channel: ChannelId) -> str:
        """Return a choice as it is written in a filter."""
        if isinstance(channel, int) and channel in self.chosen:
            return f"#{self.chosen.index(channel)}"
        labels = {choice: label for label, choice in self.choices}
        return json.dumps(
            channel if isinstance(channel, str) else labels.get(channel, f"{channel}")
        )

    def choice(self, channel: ChannelId) -> ChannelId:
        """Return the choice that a channel of a filter is."""
        try:
            (index,) = channel_indices(self.exported, [channel])
        except ArgumentError:
            return str(channel)
        return self.choices[self.chosen[index]][1]


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
        """The filter in words."""
        try:
            return filter_words(parse_filter(self.text))
        except ArgumentError:
            return self.text


class ChoiceRow(_FilterRow):
    """A filter as choices: metric, channel and limit."""

    def __init__(self, channels: ChannelNames) -> None:
        self._channels = channels
        self._absent: ChannelId = ""
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

    def offer(self, channels: ChannelNames) -> None:
        """Offer the channels of an image; a chosen one that it lacks is marked as absent."""
        chosen = self.channel.value
        self._channels = channels
        with self.changed.blocked():
            self._choose(chosen)

    def follow(self, channels: ChannelNames) -> None:
        """Take the same channels, of which others go into the patches."""
        self._channels = channels

    @property
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""
        named = self.channel.value != "" and self.kind.value != "mask"
        channel = f"[{self._channels.text(self.channel.value)}]" if named else ""
        return f"{self.kind.value}{channel}{self.side.value}{self.limit.value}"

    def load(self, rule: Filter) -> bool:
        """Set the fields from a filter, and return whether they express all of it."""
        (channel, *_) = rule.channels or ("",)
        self._choose(channel if channel == "" else self._channels.choice(channel))
        self.kind.value = rule.kind
        self.side.value = "<" if rule.above is None else ">"
        limit = rule.below if rule.above is None else rule.above
        self.limit.value = limit if isinstance(limit, str) else f"{limit!r}"
        return self._means(rule)

    def _means(self, rule: Filter) -> bool:
        """Return whether the fields are a filter, however it names its channel."""
        own = parse_filter(self.text)
        named = [[self._channels.choice(c) for c in each.channels or ()] for each in (own, rule)]
        return named[0] == named[1] and own == rule.model_copy(update={"channels": own.channels})

    def _choose(self, channel: ChannelId) -> None:
        offered = [choice for _, choice in self._channels.choices]
        self._absent = "" if channel in ("", *offered) else channel
        self.channel.reset_choices()
        self.channel.value = channel

    def _channel_choices(self, _: object) -> list[tuple[str, ChannelId]]:
        is_absent = self._absent != ""
        absent = [(f"{self._absent} (not in this image)", self._absent)] if is_absent else []
        return [(_ANY, ""), *self._channels.choices, *absent]


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
        self._channels = ChannelNames()
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

    def offer(self, names: Sequence[str], chosen: Sequence[int] | None = None) -> None:
        """Offer the channels of an image by name; the filters stay.

        `chosen` are the indices of the channels that go into the patches, None for all.
        """
        before, self._channels = self._channels, ChannelNames(names, chosen)
        for row in self.rows:
            if isinstance(row, ChoiceRow):
                if before.names == self._channels.names:
                    row.follow(self._channels)
                else:
                    row.offer(self._channels)

    @property
    def value(self) -> tuple[Filter, ...]:
        """The filters.

        Raises
        ------
        ArgumentError
            If one cannot be read.
        """
        for row in self.rows:
            check_bare_numbers(channel_text(row.text), self._channels.exported)
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
                self._append(self._row(rule))
        self.changed.emit(self)

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return ", ".join(row.summary for row in self.rows) or "none"

    def _row(self, rule: Filter) -> ChoiceRow | TextRow:
        row = ChoiceRow(self._channels)
        is_of_channels = not isinstance(rule, ShareFilter)
        return row if is_of_channels and row.load(rule) else TextRow(str(rule))

    def _add_text(self) -> None:
        if text := str(self.text.value).strip():
            try:
                check_bare_numbers(channel_text(text), self._channels.exported)
                row = self._row(parse_filter(text))
            except ArgumentError:  # `value` raises it again
                row = TextRow(text)
            self._append(row)
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
