"""Output: the format of the set, its compression and its pixel type."""

from typing import Any

from magicgui.widgets import ComboBox

from napari_patchset.export.plan import Recipe
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.plugin.form.rows import Part, choices, choices_of
from napari_patchset.plugin.window.preferences import Output

_FORMATS = choices_of(
    FORMATS,
    zarr="zarr",
    tiff="TIFF, one a patch",
    npz="npz, for CSBDeep",
    coordinates="coordinates, no pixels",
)
_CODECS = choices(("none", "none"), ("lz4 (fast)", "lz4"), ("zstd (small)", "zstd"))
_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


class OutputPart(Part):
    """What is written."""

    def __init__(self) -> None:
        self.format = ComboBox(
            label="Format",
            choices=_FORMATS,
            tooltip="What is written: all formats hold the same patches, and a table of them.",
        )
        self.codec = ComboBox(
            label="Compression",
            choices=_CODECS,
            tooltip="A compressed set is smaller, and slower to read at random.",
        )
        self.dtype = ComboBox(
            label="Pixel type",
            choices=choices(("as in the image", ""), *((name, name) for name in _DTYPES)),
            tooltip="What pixels are cast to; refused where it would lose something.",
        )
        super().__init__([self.format, self.codec, self.dtype])
        self.format.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> dict[str, Any]:
        """Format, codec and pixel type, as they stand in a plan."""
        codec = self.codec.value if self.format.value == "zarr" else "none"
        return {"format": self.format.value, "codec": codec, "dtype": self.dtype.value or None}

    @property
    def suffix(self) -> str:
        """What the name of the set ends in."""
        return FORMATS[self.format.value].suffix

    def prefer(self, output: Output) -> None:
        """Begin with what a person prefers."""
        self.format.value, self.codec.value = output

    def load(self, recipe: Recipe) -> None:
        """Set format, codec and pixel type."""
        self.format.value, self.dtype.value = recipe.format, recipe.dtype or ""
        self.codec.value = recipe.codec

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ", ".join(v for v in self.value.values() if v and v != "none")

    def _show(self) -> None:
        self.codec.visible = self.format.value == "zarr"
