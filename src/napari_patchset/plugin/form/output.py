"""Output: the format of the patch set, its compression and its pixel type."""

from collections.abc import Iterable
from typing import Any

from magicgui.widgets import ComboBox

from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.form.fields import (
    Choices,
    Section,
    choices,
    choices_of,
    description,
)
from napari_patchset.plugin.preferences import OutputDefaults

_FORMATS = choices_of(
    FORMATS,
    zarr="zarr",
    tiff="TIFF (one file per patch)",
    npz="npz (CSBDeep)",
    coordinates="coordinates, no pixels",
)
_CODECS = choices(("none", "none"), ("lz4 (fast)", "lz4"), ("zstd (small)", "zstd"))
_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


def _dtype_choices(names: Iterable[str]) -> Choices:
    return choices(("as in the image", ""), *((name, name) for name in names))


class OutputSection(Section):
    """The format of the patch set, its compression and its pixel type."""

    def __init__(self) -> None:
        self.format = ComboBox(
            label="Format",
            choices=_FORMATS,
            tooltip=f"{description(Recipe, 'format')} All hold the same patches, and a table.",
        )
        self.codec = ComboBox(
            label="Compression",
            choices=_CODECS,
            tooltip=f"{description(Recipe, 'codec')} Smaller, and slower to read at random.",
        )
        self.dtype = ComboBox(
            label="Pixel type",
            choices=_dtype_choices(_DTYPES),
            tooltip=description(Recipe, "dtype"),
        )
        super().__init__([self.format, self.codec, self.dtype])
        self.format.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> dict[str, Any]:
        """Format, codec and pixel type, as a plan has them."""
        codec = self.codec.value if self.format.value == "zarr" else "none"
        return {"format": self.format.value, "codec": codec, "dtype": self.dtype.value or None}

    @property
    def suffix(self) -> str:
        """The suffix of the patch set's name."""
        return FORMATS[self.format.value].suffix

    def prefer(self, output: OutputDefaults) -> None:
        """Set the format and the codec of the preferences."""
        self.format.value, self.codec.value = output

    def load(self, recipe: Recipe) -> None:
        """Set format, codec and pixel type from a recipe."""
        self.format.value, dtype = recipe.format, recipe.dtype or ""
        self.dtype.choices = _dtype_choices(dict.fromkeys([*_DTYPES, *filter(None, [dtype])]))
        self.dtype.value = dtype
        self.codec.value = recipe.codec

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return ", ".join(v for v in self.value.values() if v and v != "none")

    def _show(self) -> None:
        self.codec.visible = self.format.value == "zarr"
