"""Patches and channels: depth axis, size and overlap, and which channels go in.

A size too large for an image is limited for that image alone: the fields show the largest size that
fits, the line below says so until a size is typed, and the typed size returns with the next image.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from math import floor, log2

from magicgui.widgets import CheckBox, Label, RadioButtons, Widget
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QRadioButton, QSizePolicy

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.channels import ChannelId, channel_indices
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.lengths import Length, Micrometres, Unit
from napari_patchset.plugin.form.fields import SPACING, Section, keep_height, small_button
from napari_patchset.plugin.form.size_row import SizeRow, count, format_length, number_of
from napari_patchset.source import PixelSize


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
        self.size = SizeRow("Size", (8, 64, 64), 1, "Extent of a patch along each axis.")
        self.overlap = SizeRow("Overlap", (0, 0, 0), 0, "Shared by neighbours.")
        self.hint = Label(value="")
        self._hint, self._limited = "", dict[str, str]()
        self._extent, self._pixel_size = dict[str, int](), PixelSize()
        self._typed_depth_axis: DepthAxis = "none"
        self.depth_axis.changed.connect(self._on_depth_axis)  # before listeners of the section
        for row in (self.size, self.overlap):
            row.changed.connect(self._on_typed)
        # Below the fields, which so stay where they are clicked.
        super().__init__([*self.fields, self.hint])
        self.hint.label = " "
        self.hint.native.setWordWrap(True)
        self.hint.native.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.hint.native.setIndent(0)
        self.hint.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.native.layout().setSpacing(SPACING)
        self._reserve()

    @property
    def fields(self) -> tuple[Widget, ...]:
        """The fields, without the line below them."""
        return self.depth_axis, self.size, self.overlap

    def set_unit(self, unit: Unit, pixel_size: PixelSize) -> None:
        """Show size and overlap in another unit."""
        for row in (self.size, self.overlap):
            row.set_unit(unit, pixel_size)

    def fit(self, extent: Mapping[str, int], pixel_size: PixelSize) -> None:
        """Limit depth axis, size and overlap to the extent of an image.

        Parameters
        ----------
        extent : dict of str to int
            Pixels, planes and time points of the image, by axis. For the same extent as before
            nothing changes: a size that was typed since is an error, not a size to correct.
        pixel_size : PixelSize
            That of these pixels.
        """
        if (extent, pixel_size) == (self._extent, self._pixel_size):
            return
        self._extent, self._pixel_size = dict(extent), pixel_size
        self._reserve()
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

    def show_hint(self, hint: str) -> None:
        """Show the size in micrometres below the fields."""
        self._hint = hint
        self._show_hint()

    def show_fields(self, has_size: bool, has_overlap: bool) -> None:
        """Show the fields of the strategy."""
        self.size.visible = self.hint.visible = has_size
        self.overlap.visible = has_overlap

    def judge(self) -> None:
        """Take over what is being typed, without waiting for a pause."""
        self.size.judge()
        self.overlap.judge()

    def _reserve(self) -> None:
        """Reserve two lines for the hint."""
        self.hint.native.setMinimumHeight(2 * self.hint.native.fontMetrics().lineSpacing())

    def _on_typed(self) -> None:
        self._limited = {}
        self._show_hint()

    def _on_depth_axis(self, depth_axis: DepthAxis) -> None:
        self._typed_depth_axis = depth_axis
        self._show_depth()
        self._limit(range(1))
        self._show_hint()

    def _show_depth(self) -> None:
        for row in (self.size, self.overlap):
            row.show_depth(self.depth_axis.value)

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
        self._show_depth()

    def _limit(self, axes: range = range(3)) -> None:
        """Limit the lengths along Z (or T), Y, X, or along some of them."""
        names = (self.depth_axis.value, "Y", "X")
        pixel_sizes = (self._pixel_size.z, self._pixel_size.y, self._pixel_size.x)
        limits = {axis: text for axis, text in self._limited.items() if axis in names}
        for i in axes:
            typed, overlap = self.size.typed[i], self.overlap.typed[i]
            size = _fitting(typed, self._extent.get(names[i]), pixel_sizes[i])
            if size != typed:  # in proportion, so that it stays below the size
                overlap = _times(overlap, Fraction(number_of(size)) / Fraction(number_of(typed)))
                limits[names[i]] = format_length(size)
            else:
                limits.pop(names[i], None)
            self.size.limit(i, size)
            self.overlap.limit(i, overlap)
        self._limited = limits

    def _show_hint(self) -> None:
        lines = [line for line in (self._limit_hint, self._hint) if line]
        if (text := "<br>".join(lines)) != self.hint.value:  # a new one lays out the form again
            self.hint.value = text
            keep_height(self.hint.native)

    @property
    def _limit_hint(self) -> str:
        """A notice of the limits set by the image, "" for none."""
        lines, limited = [], self._limited
        if self._typed_depth_axis != self.depth_axis.value:
            lines.append(f"This image has no {self._typed_depth_axis}: 2-D patches.")
        is_square = "Y" in limited and limited["Y"] == limited.get("X")
        of_plane = ["YX"] if is_square else ["Y", "X"]
        lines += [self._limit_text(axes) for axes in ("T", "Z", *of_plane) if axes[0] in limited]
        return "<br>".join(lines)

    def _limit_text(self, axes: str) -> str:
        """Return the size along some axes, all the same, and what limits it."""
        size, extent = self._limited[axes[0]], [self._extent[axis] for axis in axes]
        has = f"{extent[0]} × {extent[1]} px" if axes == "YX" else count(axes, extent[0])
        along = f" along {axes}" if axes in ("Y", "X") else ""
        are = "are" if len(axes) > 1 else "is"
        power = "" if size in map(str, extent) else ", a power of two"
        return f"{' and '.join(axes)} {are} {size} here{power}: the image has only {has}{along}."


def _fitting(typed: Length, extent: int | None, pixel_size: float | None) -> Length:
    """Return a length, or the largest power of two that fits where the length does not."""
    if extent is None:
        return typed
    if isinstance(typed, int):
        return typed if typed <= extent else 1 << (extent.bit_length() - 1)
    if pixel_size is None or typed.to_pixels(pixel_size) <= extent:
        return typed
    return Micrometres.from_number(2.0 ** floor(log2(extent * pixel_size)))


def _times(length: Length, share: Fraction) -> Length:
    if isinstance(length, int):
        return floor(length * share)
    return Micrometres.from_number(float(length.number * share))


_SWATCH = 12


class ChannelsSection(Section):
    """A box to tick for each channel."""

    def __init__(self) -> None:
        self.boxes: list[CheckBox] = []
        self._offered: Sequence[tuple[str, str]] = ()
        self._unticked: set[str] = set()
        self._loaded: tuple[list[str], Sequence[ChannelId] | None] = [], None
        """The channels of a loaded plan, in its order, and those of the image it was for."""
        self._hidden: set[int] = set()
        self._is_carried = False
        """Whether the ticks are those of another image."""
        self.visible_ones = small_button(
            "Visible ones", "Tick the channels that are visible in the viewer, and no others."
        )
        self.visible_ones.changed.connect(self._tick_visible)
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
            self.extend([*self.boxes, *([self.visible_ones] if len(channels) > 1 else [])])

    def turn_to_other_image(self) -> None:
        """Keep the ticks for another image, and say so where they leave channels out."""
        self._is_carried = True

    @property
    def notices(self) -> list[str]:
        """Which channels of this image are left out only since they were in the one before."""
        names = ", ".join(self.unticked)
        return (
            [f"Not exported, as in the image before: {names}"] if names and self._is_carried else []
        )

    @property
    def offered(self) -> list[str]:
        """The names of all channels of the image."""
        return [box.text for box in self.boxes]

    @property
    def value(self) -> tuple[ChannelId, ...] | None:
        """The ticked channels, None if all are; those of a loaded plan as the plan has them.

        Raises
        ------
        ArgumentError
            If none is ticked.
        """
        loaded, ticked = self._loaded_order, self.ticked
        if loaded is not None:
            return tuple(self._loaded[1] or ())
        if self.boxes and not ticked:
            raise ArgumentError("No channel is ticked; a patch needs at least one.")
        return None if len(ticked) == len(self.boxes) else tuple(ticked)

    @property
    def ticked(self) -> list[int]:
        """The ticked channels by index, in the order in which they are exported."""
        loaded = self._loaded_order
        return loaded or [i for i, box in enumerate(self.boxes) if box.value]

    @property
    def _loaded_order(self) -> list[int] | None:
        """The channels of the loaded plan by index, None if others are ticked."""
        names, channels = self._loaded
        if not channels or names != self.offered:
            return None
        with suppress(ArgumentError):
            order = channel_indices(names, channels)
            if sorted(order) == [i for i, box in enumerate(self.boxes) if box.value]:
                return order
        return None

    def set_hidden(self, channels: set[int]) -> None:
        """Set which channels are hidden in the viewer."""
        self._hidden = channels

    @property
    def hidden_names(self) -> list[str]:
        """The names of channels that are ticked, though hidden in the viewer."""
        hidden = (self.boxes[i] for i in sorted(self._hidden) if i < len(self.boxes))
        return [box.text for box in hidden if box.value]

    @property
    def names(self) -> list[str]:
        """The names of the ticked channels, in the order in which they are exported."""
        return [self.boxes[i].text for i in self.ticked]

    @property
    def unticked(self) -> list[str]:
        """The names of the other channels."""
        return [box.text for box in self.boxes if not box.value]

    def load(self, channels: Sequence[ChannelId] | None) -> None:
        """Tick channels, by index or name; those that the image lacks are ignored."""
        names, ticked = self.offered, set[int]()
        self._loaded = names, channels
        for channel in channels or range(len(names)):
            with suppress(ArgumentError):
                ticked.update(channel_indices(names, [channel]))
        for i, box in enumerate(self.boxes):
            box.value = i in ticked
        self._is_carried = False

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        named = "all" if self.names == self.offered else ", ".join(self.names) or "none"
        return f"{named}, also hidden ones" if self.hidden_names else named

    def _tick_visible(self) -> None:
        for i, box in enumerate(self.boxes):
            box.value = i not in self._hidden

    def _remember(self) -> None:
        self._is_carried = False
        ticked, all_names = set(self.names), {box.text for box in self.boxes}
        self._unticked = (self._unticked | all_names) - ticked


def _box(name: str, color: str, ticked: bool) -> CheckBox:
    box = CheckBox(text=name, value=ticked, tooltip=f"Whether {name} goes into the patches.")
    swatch = QPixmap(_SWATCH, _SWATCH)
    swatch.fill(QColor(color))
    box.native.setIcon(QIcon(swatch))
    return box
