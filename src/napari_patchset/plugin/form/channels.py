"""Channels: which of them go into the patches, by name and colour."""

from collections.abc import Sequence

from magicgui.widgets import CheckBox
from qtpy.QtGui import QColor, QIcon, QPixmap

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.form.rows import Part
from napari_patchset.source import ChannelId

_SWATCH = 12


class ChannelsPart(Part):
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
