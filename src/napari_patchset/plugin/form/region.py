"""Region that must contain the patches: a layer drawn on the image, and ranges of Z, T, ...

How much of a patch must lie inside holds for classes of annotations, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from magicgui.widgets import ComboBox
from psygnal import Signal

from napari_patchset.patching.axis_ranges import AxisRange
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.plugin.form.fields import (
    Row,
    Section,
    description,
    small_button,
)
from napari_patchset.plugin.form.numbers import Percent, WholeNumber, without_buttons
from napari_patchset.source import SourceInfo


class Extent(NamedTuple):
    """First and last number of an axis, as the file counts."""

    first: int
    last: int

    def within(self, other: "Extent") -> "Extent":
        """Return the numbers that two extents share, or all of the other if none."""
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Extent(first, last) if first <= last else other


def extents(info: SourceInfo) -> dict[str, Extent]:
    """Return first and last number of each axis that has more than one, but for C, Y and X."""
    return {
        axis: Extent(start := info.starts.get(axis, 0), start + size - 1)
        for axis, size in info.layout.sizes.items()
        if axis not in "CYX" and size > 1
    }


class RangeRow(Row):
    """The first and the last number along an axis, typed or taken from the sliders."""

    shown_wanted = Signal(object)
    """Ask for the number that the slider shows; carries the field that it is for."""

    def __init__(self, axis: str, extent: Extent, value: Extent) -> None:
        self.axis, self.extent = axis, extent
        low, high = extent
        self.first, self.last = (
            WholeNumber(value=number, min=low, max=high, label=f"{name} {axis}", tooltip=tip)
            for name, number, tip in (
                ("First", value.first, f"The first {axis}."),
                ("Last", value.last, f"The last {axis}, included."),
            )
        )
        self.from_here = small_button("⇤", f"From the {axis} that the slider shows.", width=28)
        self.to_here = small_button("⇥", f"Up to the {axis} that the slider shows.", width=28)
        for field in (self.first, self.last):
            without_buttons(field)
        super().__init__(
            [self.from_here, self.first, self.last, self.to_here], label=axis, spacing=2
        )
        self.from_here.changed.connect(lambda: self.shown_wanted.emit(self.first))
        self.to_here.changed.connect(lambda: self.shown_wanted.emit(self.last))

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return f"{self.axis} {self.first.value} to {self.last.value}"

    @property
    def typed(self) -> Extent | None:
        """The numbers in the fields, None for the whole extent."""
        typed = Extent(int(self.first.value), int(self.last.value))
        return None if typed == self.extent else typed


_ALL = 100


class RegionSection(Section):
    """The part of the image that patches are cut from."""

    shown_wanted = Signal(str, object)
    """Ask for the number that the slider of an axis shows; carries the axis and the field."""

    def __init__(self) -> None:
        self._layers: list[tuple[str, Any]] = []
        self._typed: dict[str, Extent] = {}
        self.layer = ComboBox(
            label="Region",
            choices=lambda _: self._layers,
            nullable=True,
            tooltip="Only patches wholly inside a shape, or inside the labels, of this layer.",
        )
        self.draw = small_button("Draw…", "Draw the region on the image.")
        self.inside = Percent(
            value=_ALL,
            min=0.01,
            max=_ALL,
            label="Inside %",
            tooltip=description(PatchStrategy, "min_inside"),
        )
        self.has_classes = False
        """Whether patches lie inside or outside of classes of annotations, too."""
        self.rows: dict[str, RangeRow] = {}
        super().__init__([Row([self.layer, self.draw], label="Region"), self.inside])

    def offer(self, extents: Mapping[str, Extent]) -> None:
        """Offer a range along each axis of an image.

        A range that was typed for another image is limited to this one, and returns with the next
        that is large enough.
        """
        if {axis: row.extent for axis, row in self.rows.items()} == extents:
            return
        with self.changed.blocked():
            for row in self.rows.values():
                self.remove(row)
            self.rows = {axis: self._row(axis, extent) for axis, extent in extents.items()}
            self.extend(self.rows.values())

    def offer_layers(self, layers: Sequence[tuple[str, Any]]) -> None:
        """Offer layers by name as the region; the chosen one stays while it exists."""
        chosen, self._layers = self.layer.value, list(layers)
        with self.changed.blocked():
            self.layer.reset_choices()
        if chosen is not None and self.layer.value is not chosen:
            self.changed.emit(self)

    @property
    def select(self) -> dict[str, AxisRange]:
        """The half-open ranges that are less than the whole extent, by axis."""
        typed = {axis: row.typed for axis, row in self.rows.items()}
        return {axis: (each.first, each.last + 1) for axis, each in typed.items() if each}

    def load(self, select: Mapping[str, AxisRange], inside: float = 1) -> None:
        """Set the ranges, and the share of a patch that must lie inside."""
        self.inside.load(inside)
        for axis, row in self.rows.items():
            first, stop = select.get(axis, (None, None))
            row.first.value = row.extent.first if first is None else max(first, row.extent.first)
            row.last.value = row.extent.last if stop is None else min(stop - 1, row.extent.last)

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that patches must lie inside of."""
        return self.has_classes or self.layer.value is not None

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        layer = [self.layer.current_choice] if self.layer.value is not None else []
        ranges = [row.summary for row in self.rows.values() if row.typed]
        share = self.inside.fraction if self.is_limited else 1
        inside = [f"{100 * share:.4g}% inside"] if share < 1 else []
        return ", ".join(layer + inside + ranges) or "all"

    def _row(self, axis: str, extent: Extent) -> RangeRow:
        row = RangeRow(axis, extent, self._typed.get(axis, extent).within(extent))
        row.shown_wanted.connect(lambda field: self.shown_wanted.emit(axis, field))
        row.changed.connect(lambda: self._remember(row))
        return row

    def _remember(self, row: RangeRow) -> None:
        if row.typed is None:
            self._typed.pop(row.axis, None)
        else:
            self._typed[row.axis] = row.typed
