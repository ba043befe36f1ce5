"""Patches: depth axis, size and overlap, what everybody sets.

Channels: which of them go into the patches, by name and colour.

Sensible first values, from what is known of the image.
"""

from collections.abc import Sequence
from pathlib import Path

from magicgui.widgets import CheckBox, Label, RadioButtons
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QRadioButton, QSizePolicy

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.form.rows import Part, SizeRow
from napari_patchset.plugin.form.where import Extent
from napari_patchset.plugin.layers.layer_files import file_name
from napari_patchset.plugin.layers.layer_stack import layer_at
from napari_patchset.sample import sample_path
from napari_patchset.source import ChannelId, SourceInfo


class PatchesSection(Part):
    """Depth axis, size and overlap of the patches."""

    def __init__(self) -> None:
        self.depth_axis = RadioButtons(
            label="Depth axis",
            choices=list(DEPTH_AXES),
            orientation="horizontal",
            tooltip="The third axis of a patch; along the others, each plane has its own patches.",
        )
        self.depth_axis.value = "none"
        self.depth_axis.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0 }")
        self.size = SizeRow("Size", (8, 64, 64), 1, "Pixels along each axis of a patch.")
        self.overlap = SizeRow("Overlap", (0, 0, 0), 0, "Pixels that neighbouring patches share.")
        self.hint = Label(value="")
        super().__init__([self.depth_axis, self.size, self.hint, self.overlap])
        self.hint.label = " "
        self.hint.native.setWordWrap(True)
        self.hint.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def offer_depth_axes(self, reasons: dict[DepthAxis, str]) -> None:
        """Disable the depth axes that have a reason against them, and say it."""
        for button in self.depth_axis.native.findChildren(QRadioButton):
            reason = reasons.get(button.text(), "")
            button.setEnabled(not reason)
            button.setToolTip(reason)
        if reasons.get(self.depth_axis.value):
            self.depth_axis.value = "none"

    def say(self, hint: str) -> None:
        """Say beneath the size what it comes to."""
        if hint != self.hint.value:  # else all of the form would be laid out anew
            self.hint.value = hint

    def show_fields(self, has_size: bool, has_overlap: bool) -> None:
        """Show what the strategy asks for."""
        self.size.visible = self.hint.visible = has_size
        self.overlap.visible = has_overlap
        for row in (self.size, self.overlap):
            row.show_depth(self.depth_axis.value)


_SWATCH = 12


class ChannelsSection(Part):
    """A box to tick for each channel."""

    def __init__(self) -> None:
        self.boxes: list[CheckBox] = []
        self._offered: Sequence[tuple[str, str]] = ()
        super().__init__([], labels=False)

    def offer(self, channels: Sequence[tuple[str, str]]) -> None:
        """Offer channels by name and colour, "#rrggbb"; those of the same names keep their tick."""
        if list(channels) == list(self._offered):
            return
        self._offered, ticked = channels, {box.text: box.value for box in self.boxes}
        with self.changed.blocked():
            self.clear()
            self.boxes = [_box(name, color, ticked.get(name, True)) for name, color in channels]
            self.extend(self.boxes)

    @property
    def value(self) -> tuple[int, ...] | None:
        """The ticked channels by index, None if all are.

        Raises
        ------
        ArgumentError
            If none is ticked.
        """
        ticked = [box.value for box in self.boxes]
        if all(ticked):
            return None
        if not any(ticked):
            raise ArgumentError("No channel is ticked; a patch needs at least one.")
        return tuple(i for i, on in enumerate(ticked) if on)

    def load(self, channels: Sequence[ChannelId] | None) -> None:
        """Tick channels, given by index or name."""
        for i, box in enumerate(self.boxes):
            box.value = channels is None or i in channels or box.text in channels

    @property
    def said(self) -> str:
        """What is set, in a word."""
        ticked = [box.text for box in self.boxes if box.value]
        return "all" if len(ticked) == len(self.boxes) else ", ".join(ticked) or "none"


def _box(name: str, color: str, ticked: bool) -> CheckBox:
    box = CheckBox(text=name, value=ticked, tooltip=f"Whether {name} goes into the patches.")
    swatch = QPixmap(_SWATCH, _SWATCH)
    swatch.fill(QColor(color))
    box.native.setIcon(QIcon(swatch))
    return box


def depth_choices(info: SourceInfo) -> dict[DepthAxis, str]:
    """Give each depth axis and why it can't be chosen; an empty reason if it can."""
    sizes = info.layout.sizes
    return {
        axis: ""
        if axis == "none" or sizes.get(axis, 1) > 1
        else f"The image has only one {'plane' if axis == 'Z' else 'time point'} along {axis}."
        for axis in DEPTH_AXES
    }


def fitting_size(info: SourceInfo) -> tuple[int, int, int]:
    """Give the largest patch that fits an image along Z (or T), Y, X: powers of two."""
    sizes = info.layout.sizes
    depth = max(sizes.get("Z", 1), sizes.get("T", 1))
    z, y, x = (1 << (n.bit_length() - 1) for n in (depth, sizes["Y"], sizes["X"]))
    return z, y, x


def extents(info: SourceInfo) -> dict[str, Extent]:
    """Give first and last number of each axis that ranges can be chosen along."""
    return {
        axis: Extent(start := info.starts.get(axis, 0), start + size - 1)
        for axis, size in info.layout.sizes.items()
        if axis not in "CYX" and size > 1
    }


def default_out(path: Path, suffix: str) -> str:
    """Propose a name that is not taken yet: beside the file, at home for the sample and a layer."""
    stem = file_name(path).split(".")[0]
    if path == sample_path() or layer_at(path) is not None:
        path = Path.home() / path.name
    name, number = f"{stem}{suffix}", 2
    while path.with_name(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return str(path.with_name(name))
