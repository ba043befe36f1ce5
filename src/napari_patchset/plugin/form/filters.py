"""Filters that patches must pass, a row each, and what becomes of near-duplicates."""

from collections.abc import Mapping, Sequence

from magicgui.widgets import ComboBox, LineEdit, PushButton
from psygnal import Signal

from napari_patchset.channels import check_bare_numbers
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.duplicates import ALIKE
from napari_patchset.patching.filters.patch_filters import (
    Filter,
    PatchFilter,
    ShareFilter,
    parse_filter,
)
from napari_patchset.patching.filters.syntax import channel_text
from napari_patchset.plugin.form.fields import (
    Row,
    Section,
    description,
)
from napari_patchset.plugin.form.filter_rows import ChannelNames, ChoiceRow, TextRow
from napari_patchset.plugin.form.numbers import Percent
from napari_patchset.plugin.history import GONE, Edit
from napari_patchset.plugin.metric_histogram import MetricHistogram

_ALIKE: Mapping[int | None, str] = {
    None: "keep all",
    0: "keep one of equal ones (0)",
    ALIKE: f"keep one of those alike ({ALIKE})",
    8: "keep one of similar ones (8)",
}
"""What becomes of patches that look alike, by the largest distance of their hashes."""


class FiltersSection(Section):
    """The filters, each of which a patch must pass."""

    done = Signal(Edit)
    """A limit is set in a histogram."""

    def __init__(self) -> None:
        self.rows: list[ChoiceRow | TextRow] = []
        self._channels = ChannelNames()
        self.colors: Mapping[str, str] = {}
        """The colours of the channels by name."""
        self.add = PushButton(text="Add filter", tooltip="Keep only patches worth training on.")
        self.text = LineEdit(tooltip="A filter such as std[DAPI]>p10. Enter adds it.")
        self.text.native.setPlaceholderText("std[DAPI]>p10")
        self.keep = Percent(
            max=100,
            label="Export rejected %",
            tooltip=description(Recipe, "keep_fraction"),
        )
        self._dedupe: int | None = None
        self.alike = ComboBox(
            choices=self._alike_choices,
            label="Near-duplicates",
            tooltip=description(Recipe, "dedupe"),
        )
        fields = Section([self.keep, self.alike])
        super().__init__([Row([self.add, self.text]), fields], labels=False)
        self.add.changed.connect(self._add_row)
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
    def notices(self) -> list[str]:
        """Which filters measure another channel than in the image before."""
        return [row.notice for row in self.rows if isinstance(row, ChoiceRow) and row.notice]

    def forget(self) -> None:
        """Draw no histograms until filters are measured in another image."""
        for row in self.rows:
            row.forget()

    def show_nothing(self) -> None:
        """Show nothing of what filters reject, as there is no plan."""
        for row in self.rows:
            row.rejects.setText("")

    def draw(
        self,
        filters: Sequence[PatchFilter],
        histograms: Sequence[MetricHistogram | None],
        is_measured: bool = False,
    ) -> None:
        """Draw the histograms of filters that were planned, in the order of the rows.

        `is_measured` is set if no more is going to be measured.
        """
        for row, rule, histogram in zip(self.rows, filters, histograms, strict=False):
            row.draw(rule, histogram, self.colors)
            if histogram is None and is_measured:
                row.rejects.setText("nothing to\nmeasure")

    @property
    def keep_fraction(self) -> float:
        """The share of rejected patches to export nevertheless."""
        return self.keep.fraction

    @property
    def dedupe(self) -> int | None:
        """The largest distance of near-duplicates, None if all are exported."""
        distance: int | None = self.alike.value
        return distance

    def load(
        self, filters: Sequence[Filter], keep_fraction: float, dedupe: int | None = None
    ) -> None:
        """Set the filters, the share of rejected patches to export, and near-duplicates."""
        self.keep.load(keep_fraction)
        self._dedupe = dedupe
        self.alike.reset_choices()
        self.alike.value = dedupe
        with self.changed.blocked():
            for row in list(self.rows):
                self._remove(row)
            for rule in filters:
                self._append(self._row(rule))
        self.changed.emit(self)

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        alike = [] if self.dedupe is None else ["no near-duplicates"]
        return ", ".join([*(row.summary for row in self.rows), *alike]) or "none"

    def _alike_choices(self, _: object) -> list[tuple[str, int | None]]:
        """Return the distances that are offered, and that of a plan."""
        offered = dict(_ALIKE)
        if self._dedupe not in offered:
            offered[self._dedupe] = f"keep one ({self._dedupe} bits)"
        return [(text, distance) for distance, text in offered.items()]

    def _row(self, rule: Filter) -> ChoiceRow | TextRow:
        row = ChoiceRow(self._channels)
        is_of_channels = not isinstance(rule, ShareFilter)
        return row if is_of_channels and row.load(rule) else TextRow(str(rule))

    def _add_row(self) -> None:
        row = ChoiceRow(self._channels)
        row.propose_channel()
        row.propose_kind([each for each in self.rows if isinstance(each, ChoiceRow)])
        self._append(row)

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
        row.grabbed.connect(lambda: self.done.emit(self._edit_of(row)))
        self.rows.append(row)
        self.insert(len(self.rows) - 1, row)
        self.changed.emit(self)

    def _edit_of(self, row: ChoiceRow | TextRow) -> Edit:
        limit = row.limit
        return Edit(
            "the limit of a filter",
            lambda: limit.value if row in self.rows else GONE,
            lambda value: setattr(limit, "value", value),
            limit.value,
        )

    def _remove(self, row: ChoiceRow | TextRow) -> None:
        self.rows.remove(row)
        self.remove(row)
        self.changed.emit(self)
