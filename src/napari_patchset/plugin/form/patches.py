"""Patches and channels: depth axis, size and overlap, and which channels go in.

A size too large for an image is limited for that image alone: the fields show the largest size that
fits, the line below says so, and the typed size returns with the next image.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from magicgui.widgets import CheckBox, Label, RadioButtons
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QRadioButton, QSizePolicy

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.strategies.base import Length
from napari_patchset.plugin.form.fields import Section, SizeRow
from napari_patchset.source import ChannelId, channel_indices


class PatchesSection(Section):
    """Depth axis, size and overlap of the patches."""

    def __init__(self) -> None:
        self.depth_axis = RadioButtons(
            label="Depth axis",
            choices=list(DEPTH_AXES),
            orientation="horizontal",
            tooltip="none: 2-D patches from every plane. Z or T: 3-D patches along that axis.",
        )
        self.depth_axis.value = "none"
        self.depth_axis.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0 }")
        unit = "Whole pixels, or micrometres as chosen under Pixel size."
        self.size = SizeRow("Size", (8, 64, 64), 1, f"Extent of a patch along each axis. {unit}")
        self.overlap = SizeRow("Overlap", (0, 0, 0), 0, f"Shared by neighbours. {unit}")
        self.hint = Label(value="")
        self._hint, self._extent = "", dict[str, int]()
        self._typed_depth_axis: DepthAxis = "none"
        self.depth_axis.changed.connect(self._on_depth_axis)  # before listeners of the section
        super().__init__([self.depth_axis, self.size, self.hint, self.overlap])
        self.hint.label = " "
        self.hint.native.setWordWrap(True)
        self.hint.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def fit(self, extent: Mapping[str, int]) -> None:
        """Limit depth axis, size and overlap to the extent of an image.

        Parameters
        ----------
        extent : dict of str to int
            Pixels, planes and time points of the image, by axis. For the same extent as before
            nothing changes: a size that was typed since is an error, not a size to correct.
        """
        if extent == self._extent:
            return
        self._extent = dict(extent)
        self._offer_depth_axes()
        self._limit()
        self._show_hint()

    def load(
        self, depth_axis: DepthAxis, size: Sequence[Length], overlap: Sequence[Length]
    ) -> None:
        """Set the fields as if they were typed."""
        self.depth_axis.value = depth_axis
        self.size.load(size)
        self.overlap.load(overlap)

    def forget_loaded(self) -> None:
        """Take all numbers as typed: their unit has changed."""
        self.size.forget_loaded()
        self.overlap.forget_loaded()

    def show_hint(self, hint: str) -> None:
        """Show the size in micrometres below the fields."""
        self._hint = hint
        self._show_hint()

    def show_fields(self, has_size: bool, has_overlap: bool) -> None:
        """Show the fields of the strategy."""
        self.size.visible = self.hint.visible = has_size
        self.overlap.visible = has_overlap
        for row in (self.size, self.overlap):
            row.show_depth(self.depth_axis.value)

    def _on_depth_axis(self, depth_axis: DepthAxis) -> None:
        self._typed_depth_axis = depth_axis
        self._limit(range(1))
        self._show_hint()

    def _offer_depth_axes(self) -> None:
        """Disable the depth axes that the image does not have, with the reason as a tooltip."""
        for button in self.depth_axis.native.findChildren(QRadioButton):
            missing = button.text() != "none" and self._extent.get(button.text(), 1) < 2
            noun = "plane" if button.text() == "Z" else "time point"
            button.setEnabled(not missing)
            reason = f"The image has only one {noun} along {button.text()}."
            button.setToolTip(reason if missing else "")
        typed = self._typed_depth_axis
        fits = typed == "none" or self._extent.get(typed, 1) > 1
        with self.depth_axis.changed.blocked():
            self.depth_axis.value = typed if fits else "none"

    def _limit(self, axes: range = range(3)) -> None:
        """Limit the numbers along Z (or T), Y, X, or along some of them."""
        names = (self.depth_axis.value, "Y", "X")
        size, overlap = list(self.size.value), list(self.overlap.value)
        for i in axes:
            typed = self.size.typed[i]
            size[i] = _fitting(typed, self._extent.get(names[i], typed))
            # In proportion, so that it stays below the size.
            overlap[i] = self.overlap.typed[i] * size[i] // typed
        self.size.limit(size)
        self.overlap.limit(overlap)

    def _show_hint(self) -> None:
        lines = [line for line in (self._limit_hint, self._hint) if line]
        if (text := "<br>".join(lines)) != self.hint.value:  # a new one lays out the form again
            self.hint.value = text

    @property
    def _limit_hint(self) -> str:
        """A notice of the limits set by the image, "" for none."""
        if self._typed_depth_axis != self.depth_axis.value:
            return f"This image has no {self._typed_depth_axis}: 2-D patches."
        if not self.size.is_limited:
            return ""
        first = 0 if self.depth_axis.value != "none" else 1
        typed = " × ".join(map(str, self.size.typed[first:]))
        return f"This image is too small for {typed}."


def _fitting(typed: int, extent: int) -> int:
    """Return a size, or the largest power of two that fits where the size does not."""
    return typed if typed <= extent else 1 << (extent.bit_length() - 1)


_SWATCH = 12


class ChannelsSection(Section):
    """A box to tick for each channel."""

    def __init__(self) -> None:
        self.boxes: list[CheckBox] = []
        self._offered: Sequence[tuple[str, str]] = ()
        self._unticked: set[str] = set()
        super().__init__([], labels=False)

    def offer(self, channels: Sequence[tuple[str, str]]) -> None:
        """Offer channels by name and colour, "#rrggbb"; a name that was unticked stays so."""
        if list(channels) == list(self._offered):
            return
        self._offered = channels
        self.boxes = [_box(name, color, name not in self._unticked) for name, color in channels]
        for box in self.boxes:
            box.changed.connect(self._remember)
        with self.changed.blocked():
            self.clear()
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

    @property
    def names(self) -> list[str]:
        """The names of the ticked channels."""
        return [box.text for box in self.boxes if box.value]

    @property
    def unticked(self) -> list[str]:
        """The names of the other channels."""
        return [box.text for box in self.boxes if not box.value]

    def load(self, channels: Sequence[ChannelId] | None) -> None:
        """Tick channels, by index or name; those that the image lacks are ignored."""
        names, ticked = [box.text for box in self.boxes], set[int]()
        for channel in channels or range(len(names)):
            with suppress(ArgumentError):
                ticked.update(channel_indices(names, [channel]))
        for i, box in enumerate(self.boxes):
            box.value = i in ticked

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return "all" if len(self.names) == len(self.boxes) else ", ".join(self.names) or "none"

    def _remember(self) -> None:
        ticked, all_names = set(self.names), {box.text for box in self.boxes}
        self._unticked = (self._unticked | all_names) - ticked


def _box(name: str, color: str, ticked: bool) -> CheckBox:
    box = CheckBox(text=name, value=ticked, tooltip=f"Whether {name} goes into the patches.")
    swatch = QPixmap(_SWATCH, _SWATCH)
    swatch.fill(QColor(color))
    box.native.setIcon(QIcon(swatch))
    return box
