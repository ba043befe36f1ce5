"""One filter as a row of the form: choices or text, and the histogram of what it measures."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from magicgui.widgets import ComboBox, LineEdit, Widget
from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_patchset.channels import ChannelId, channel_indices, distinct_names
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.measurements import filter_words, kind_word
from napari_patchset.patching.filters.patch_filters import (
    FILTERS,
    Filter,
    PatchFilter,
    parse_filter,
)
from napari_patchset.patching.filters.syntax import format_limit
from napari_patchset.plugin.form.fields import (
    Row,
    Section,
    choices,
    small_button,
    with_points,
)
from napari_patchset.plugin.form.threshold import ThresholdHistogram
from napari_patchset.plugin.metric_histogram import MetricHistogram

_KIND_CHOICES = {kind_word(kind): kind for kind in ("std", "mean", "max", "focus")} | {
    kind_word(kind): kind
    for kind in FILTERS
    if kind != "share"  # which measures a class, not a channel
}
_KINDS = choices(*_KIND_CHOICES.items())
_PROPOSED = [kind for kind in _KIND_CHOICES.values() if kind != "mask"]
"""What a new filter may measure: a mask would need an image of it."""

_KIND_TIP = "What is measured:\n" + "\n".join(
    f"{word} ({kind}): {FILTERS[kind].meaning}" for word, kind in _KIND_CHOICES.items()
)
_LIMIT_TIP = (
    "A number, or p10 for the lowest 10 % of the patches (p20 for 20 %), or otsu for the value "
    "that separates two groups best, such as background and structures."
)
_ANY = "any"

_COMPACT = """
QComboBox { padding: 3px 2px 3px 6px }
QComboBox::drop-down { width: 16px }
QComboBox::down-arrow { width: 10px; height: 10px }
"""
"""With napari's own style, arrows and margins leave a channel three letters."""


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


class FilterRow(Section):
    """One filter as text, a button to remove it, and the histogram of what it measures."""

    removed = Signal(object)
    grabbed = Signal()
    """A limit is about to be set in the histogram."""

    def __init__(self, widgets: Sequence[Widget], limit: LineEdit) -> None:
        self.limit = limit
        """The field that has the limit."""
        self.remove_button = small_button("×", "Remove this filter.", width=22)
        super().__init__([Row([*widgets, self.remove_button], spacing=2)], labels=False)
        self.histogram, self.rejects = ThresholdHistogram(), QLabel()
        self.rejects.setFixedWidth(self.rejects.fontMetrics().horizontalAdvance("rejects 999,999 "))
        self.native.layout().addLayout(_in_a_row(self.histogram, self.rejects))
        self._drawn: PatchFilter | None = None
        self.remove_button.changed.connect(lambda: self.removed.emit(self))
        self.changed.connect(self._follow_fields)
        self.histogram.chosen.connect(self.set_limit)
        self.histogram.grabbed.connect(lambda: self.grabbed.emit())
        self._follow_fields()

    @abstractmethod
    def set_limit(self, side: str, limit: float | str) -> None:
        """Set the limit above or below which patches are kept."""

    def draw(
        self, rule: PatchFilter, histogram: MetricHistogram | None, colors: Mapping[str, str]
    ) -> None:
        """Draw the histogram of a filter, if it is still that of this row.

        The former one stays until the same metric is measured anew, but its numbers do not.
        """
        if (own := self._rule) is None or not _measures(own, rule):
            return
        self.rejects.setText("measuring…" if histogram is None else histogram.summary)
        if histogram is not None:
            self._drawn = rule
            self.histogram.follow(histogram, colors)

    def forget(self) -> None:
        """Draw nothing until a filter is measured."""
        self._drawn = None
        self.histogram.follow(None, {})
        self.rejects.setText("")

    @property
    def _rule(self) -> PatchFilter | None:
        try:
            return parse_filter(self.text)
        except ArgumentError:
            return None

    def _follow_fields(self) -> None:
        """Draw the limits that the fields have; forget the bars of another metric."""
        rule, limits = self._rule, dict[str, float | str]()
        if rule is not None:
            sides = (("above", rule.above), ("below", rule.below))
            limits = {side: limit for side, limit in sides if limit is not None}
        self.histogram.set_limits(limits)
        if rule is None or self._drawn is None or not _measures(rule, self._drawn):
            self.rejects.setText("")
        if rule is not None and self._drawn is not None and not _measures(rule, self._drawn):
            self.forget()

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


class ChoiceRow(FilterRow):
    """A filter as choices: metric, channel and limit."""

    def __init__(self, channels: ChannelNames) -> None:
        self._channels = channels
        self._absent: ChannelId = ""
        self._replaced = ""
        """The proposed channel of the image before, which this one lacks."""
        self._is_proposed = False
        """Whether the channel is the one that was proposed; another image has another one."""
        self.kind = ComboBox(choices=_KINDS, value="std", tooltip=_KIND_TIP)
        self.channel = ComboBox(
            choices=self._channel_choices,
            tooltip="The channel that is measured. Any: one of them is enough.",
        )
        self.side = ComboBox(
            choices=choices((">", ">"), ("<", "<")),
            tooltip="Keep patches above the limit, or below it.",
        )
        limit = LineEdit(value="p10", tooltip=_LIMIT_TIP)
        for box in (self.kind, self.channel, self.side):
            box.native.setStyleSheet(_COMPACT)
        for field, width in ((self.kind, 102), (self.side, 36), (limit, 46)):
            field.native.setFixedWidth(width)
        self.channel.native.setMinimumWidth(60)  # or it would cover a part of the metric
        super().__init__([self.kind, self.channel, self.side, limit], limit)
        self.channel.changed.connect(self._on_channel)

    def propose_channel(self) -> None:
        """Measure the first channel of the patches, if they have several."""
        chosen = self._channels.chosen
        if len(chosen) > 1:
            self._choose(self._channels.choices[chosen[0]][1])
        self._is_proposed = True

    def propose_kind(self, others: Sequence["ChoiceRow"]) -> None:
        """Measure what none of the other rows measures of the same channel, if anything is left."""
        taken = {row.kind.value for row in others if row.channel.value == self.channel.value}
        self.kind.value = next((kind for kind in _PROPOSED if kind not in taken), _PROPOSED[0])

    def _on_channel(self) -> None:
        self._is_proposed, self._replaced = False, ""

    def offer(self, channels: ChannelNames) -> None:
        """Offer the channels of an image; a chosen one that it lacks is marked as absent."""
        chosen, was_proposed = self.channel.value, self._is_proposed
        self._channels = channels
        with self.changed.blocked():
            self._choose(chosen)
            self._replaced = ""
            if was_proposed and self._absent != "":
                self._choose("")
                self.propose_channel()
                self._replaced = str(chosen)
            self._is_proposed = was_proposed

    @property
    def notice(self) -> str:
        """What it measures in this image, if that has not the channel of the one before."""
        if not self._replaced:
            return ""
        labels = {choice: label for label, choice in self._channels.choices}
        channel = labels.get(self.channel.value, "all channels")
        return (
            f"The filter of {kind_word(self.kind.value)} measures {channel} here: this image has "
            f"no {self._replaced}"
        )

    def follow(self, channels: ChannelNames) -> None:
        """Take the same channels, of which others go into the patches."""
        self._channels = channels

    @property
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""
        named = self.channel.value != "" and self.kind.value != "mask"
        channel = f"[{self._channels.text(self.channel.value)}]" if named else ""
        return f"{self.kind.value}{channel}{self.side.value}{with_points(self.limit.value)}"

    def set_limit(self, side: str, limit: float | str) -> None:
        """Set the limit; the side is that of the field."""
        self.limit.value = format_limit(limit)

    def load(self, rule: Filter) -> bool:
        """Set the fields from a filter, and return whether they express all of it."""
        (channel, *_) = rule.channels or ("",)
        self._choose(channel if channel == "" else self._channels.choice(channel))
        self.kind.value = rule.kind
        self.side.value = "<" if rule.above is None else ">"
        limit = rule.below if rule.above is None else rule.above
        self.limit.value = format_limit(limit)
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


class TextRow(FilterRow):
    """A filter that the choices cannot express."""

    def __init__(self, text: str) -> None:
        line = LineEdit(value=text, tooltip="A filter such as std[DAPI]>p10.")
        super().__init__([line], line)

    def set_limit(self, side: str, limit: float | str) -> None:
        """Set one of the limits in the text."""
        if (rule := self._rule) is not None:
            self.limit.value = str(rule.model_copy(update={side: limit}))

    @property
    def text(self) -> str:
        """The filter, as `parse_filter` reads it."""
        return str(self.limit.value)


def _measures(one: PatchFilter, other: PatchFilter) -> bool:
    """Return whether two filters differ in their limits at most."""
    no_limits = {"above": 0.0, "below": None}
    return one.model_copy(update=no_limits) == other.model_copy(update=no_limits)


def _in_a_row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
