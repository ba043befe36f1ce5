"""Output and split: format of the set, and share of the patches for validation."""

from typing import Any

from magicgui.widgets import ComboBox, SpinBox

from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.splits import Split
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.form.fields import (
    MAX_INT,
    Percent,
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
            choices=choices(("as in the image", ""), *((name, name) for name in _DTYPES)),
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
        self.format.value, self.dtype.value = recipe.format, recipe.dtype or ""
        self.codec.value = recipe.codec

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return ", ".join(v for v in self.value.values() if v and v != "none")

    def _show(self) -> None:
        self.codec.visible = self.format.value == "zarr"


_BY = choices(
    ("automatic", "auto"), ("files", "file"), ("scenes", "scene"), ("blocks of the image", "block")
)


class SplitSection(Section):
    """Training and validation patches, which share no pixel."""

    def __init__(self) -> None:
        self.val = Percent(
            max=99,
            label="Validation %",
            tooltip=f"{description(Split, 'val')} 0 for no split.",
        )
        self.by = ComboBox(
            label="Split by",
            choices=_BY,
            tooltip=description(Split, "by"),
        )
        self.seed = SpinBox(
            value=0,
            min=0,
            max=MAX_INT,
            label="Seed",
            tooltip=description(Split, "seed"),
        )
        super().__init__([self.val, self.by, self.seed])
        self.val.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> dict[str, Any] | None:
        """The split, as a plan has it; None for no split."""
        if not self.val.fraction:
            return None
        return {"val": self.val.fraction, "by": self.by.value, "seed": self.seed.value}

    def load(self, split: Split | None) -> None:
        """Set the fields from a split."""
        self.val.load(split.val if split else 0)
        if split:
            self.by.value, self.seed.value = split.by, split.seed

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        return f"{100 * self.val.fraction:.4g} % for validation" if self.val.fraction else "none"

    def _show(self) -> None:
        self.by.visible = self.seed.visible = bool(self.val.fraction)
