"""The pixel size that patches are resampled to, and the unit in which sizes are typed."""

import re
from collections.abc import Sequence

from magicgui.widgets import LineEdit, RadioButtons

from napari_patchset.exporting.plans.options import format_pixel_size
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.lengths import Length, Micrometres, Unit
from napari_patchset.plugin.form.fields import Section, description
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import parse_pixel_size


class PixelSizeSection(Section):
    """A pixel size in micrometres, empty for that of the file, and the unit of sizes."""

    def __init__(self) -> None:
        self.size = LineEdit(label="Pixel size (µm)", tooltip=description(Recipe, "pixel_size"))
        self.size.native.setPlaceholderText("as in the file")
        self.unit = RadioButtons(
            label="Sizes in",
            choices=["px", "µm"],
            orientation="horizontal",
            tooltip="Unit of a patch size and an overlap typed without one, along Y and X.",
        )
        self.unit.value = "px"
        self.unit.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0 }")
        super().__init__([self.size, self.unit])

    @property
    def value(self) -> PixelSize | None:
        """The pixel size, None for that of the file.

        Raises
        ------
        ArgumentError
            If the text is not a pixel size.
        """
        return parse_pixel_size(self._text) if self._text else None

    @property
    def unit_of_sizes(self) -> Unit:
        """The unit of a size that is typed without one."""
        return "um" if self.unit.value == "µm" else "px"

    def load(self, pixel_size: PixelSize | None, lengths: Sequence[Length]) -> None:
        """Set the pixel size, and the unit that sizes have."""
        text = "" if pixel_size is None else format_pixel_size(pixel_size)
        if pixel_size is not None and pixel_size.y == pixel_size.x:
            text = f"{pixel_size.y!r}".removesuffix(".0")
        self.size.value = text
        self.unit.value = "µm" if any(isinstance(n, Micrometres) for n in lengths) else "px"

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        size = f"{self._text} µm" if self._text else "as in the file"
        return f"{size}, sizes in µm" if self.unit_of_sizes == "um" else size

    @property
    def _text(self) -> str:
        """What is typed, without the unit that some type behind it."""
        return re.sub(r"\s*[uµμ]m$", "", self.size.value.strip())
