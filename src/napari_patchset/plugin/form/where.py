"""Where: a drawn region, and ranges of Z, T and the like."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from magicgui.widgets import ComboBox, PushButton, SpinBox
from psygnal import Signal

from napari_patchset.patching.axis_ranges import AxisRange
from napari_patchset.plugin.form.rows import Part, Row, keep_small, narrow


class Extent(NamedTuple):
    """First and last number of an axis, as the file counts."""

    first: int
    last: int


class RangeRow(Row):
    """The first and the last number along an axis, typed or taken from the sliders."""

    shown_wanted = Signal(object)
    """Asks for the number that is shown now; carries the field that it is for."""

    def __init__(self, axis: str, extent: Extent) -> None:
        self.axis, self.extent = axis, extent
        low, high = extent
        self.first = SpinBox(value=low, min=low, max=high, tooltip=f"The first {axis}.")
        self.last = SpinBox(value=high, min=low, max=high, tooltip=f"The last {axis}.")
        self.from_here = PushButton(text="⇤", tooltip=f"From the {axis} that the slider shows.")
        self.to_here = PushButton(text="⇥", tooltip=f"Up to the {axis} that the slider shows.")
        for button in (self.from_here, self.to_here):
            button.native.setFixedWidth(28)
        for field in (self.first, self.last):
            narrow(field)
        super().__init__(
            [self.from_here, self.first, self.last, self.to_here], label=axis, spacing=2
        )
        self.from_here.changed.connect(lambda: self.shown_wanted.emit(self.first))
        self.to_here.changed.connect(lambda: self.shown_wanted.emit(self.last))

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return f"{self.axis} {self.first.value} to {self.last.value}"

    @property
    def value(self) -> AxisRange | None:
        """The half-open range, None if it is all there is."""
        first, last = int(self.first.value), int(self.last.value)
        return None if (first, last) == self.extent else (first, last + 1)


class RegionSection(Part):
    """Which part of the image patches are cut from."""

    shown_wanted = Signal(str, object)
    """Asks for the number that is shown along an axis; carries the axis and the field."""

    def __init__(self) -> None:
        self._layers: list[tuple[str, Any]] = []
        self.region = ComboBox(
            label="Region",
            choices=lambda _: self._layers,
            nullable=True,
            tooltip="Only patches wholly inside of a shape, or of the labels, of this layer.",
        )
        self.draw = PushButton(text="Draw…", tooltip="Draw the region on the image.")
        keep_small(self.draw)
        self.rows: dict[str, RangeRow] = {}
        super().__init__([Row([self.region, self.draw], label="Region")])

    def offer(self, extents: Mapping[str, Extent]) -> None:
        """Offer a range along each of some axes; those of the same extent keep theirs."""
        if {axis: row.extent for axis, row in self.rows.items()} == extents:
            return
        with self.changed.blocked():
            for row in self.rows.values():
                self.remove(row)
            self.rows = {axis: RangeRow(axis, extent) for axis, extent in extents.items()}
            for axis, row in self.rows.items():
                row.shown_wanted.connect(lambda field, a=axis: self.shown_wanted.emit(a, field))
                self.append(row)

    def offer_regions(self, layers: Sequence[tuple[str, Any]]) -> None:
        """Offer layers by name; what is chosen stays while it is there."""
        chosen, self._layers = self.region.value, list(layers)
        with self.changed.blocked():
            self.region.reset_choices()
        if chosen is not None and self.region.value is not chosen:
            self.changed.emit(self)

    @property
    def select(self) -> dict[str, AxisRange]:
        """The ranges that are less than all, by axis."""
        ranges = {axis: row.value for axis, row in self.rows.items()}
        return {axis: found for axis, found in ranges.items() if found}

    def load(self, select: Mapping[str, AxisRange]) -> None:
        """Set the ranges."""
        for axis, row in self.rows.items():
            first, stop = select.get(axis, (None, None))
            row.first.value = row.extent.first if first is None else max(first, row.extent.first)
            row.last.value = row.extent.last if stop is None else min(stop - 1, row.extent.last)

    @property
    def said(self) -> str:
        """What is set, in a word."""
        region = [self.region.current_choice] if self.region.value is not None else []
        ranges = [row.said for row in self.rows.values() if row.value]
        return ", ".join(region + ranges) or "all"
