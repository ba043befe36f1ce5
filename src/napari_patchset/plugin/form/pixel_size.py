"""The pixel size that patches are resampled to, and the unit in which sizes are typed."""

import re

from magicgui.widgets import LineEdit, RadioButtons

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.options import format_pixel_size
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.lengths import Unit
from napari_patchset.plugin.form.fields import Section, description, with_points
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import parse_pixel_size


class PixelSizeSection(Section):
    """A pixel size in micrometres, empty for that of the file, and the unit of sizes."""

    def __init__(self) -> None:
        self.size = LineEdit(
            label="Pixel size (µm)",
            tooltip=f"{description(Recipe, 'pixel_size')} Two numbers need a space between them.",
        )
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
        return typed_pixel_size(self.size.value)

    @property
    def unit_of_sizes(self) -> Unit:
        """The unit of a size that is typed without one."""
        return "um" if self.unit.value == "µm" else "px"

    def load(self, pixel_size: PixelSize | None) -> None:
        """Set the pixel size; a number without a unit means what it meant before."""
        text = "" if pixel_size is None else format_pixel_size(pixel_size)
        if pixel_size is not None and pixel_size.y == pixel_size.x:
            text = f"{pixel_size.y!r}".removesuffix(".0")
        self.size.value = text

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        try:
            size = self.value
        except ArgumentError:
            text = self.size.value.strip()
        else:
            text = "as in the file" if size is None else pixel_size_words(size)
        return f"{text}, sizes in µm" if self.unit_of_sizes == "um" else text


def typed_pixel_size(text: str) -> PixelSize | None:
    """Return a typed pixel size, perhaps with its unit, None for nothing.

    Raises
    ------
    ArgumentError
        If the text is not a pixel size.
    """
    number = re.sub(r"\s*[uµμ]m$", "", text.strip())
    return parse_pixel_size(with_points(number)) if number else None


def pixel_size_words(size: PixelSize) -> str:
    """Return a pixel size as it was read: "0.2 µm", "Y 1, X 5 µm"."""
    if size.z is None and size.y == size.x:
        return f"{size.x:g} µm"
    known = {"Z": size.z, "Y": size.y, "X": size.x}
    return f"{', '.join(f'{axis} {n:g}' for axis, n in known.items() if n is not None)} µm"
