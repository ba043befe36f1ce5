"""Output: the compression of the set and its pixel type."""

from typing import Any

from magicgui.widgets import ComboBox

from napari_patchset.plugin.form.rows import Part, choices
from napari_patchset.plugin.preferences import compression

_CODECS = choices(("none", "none"), ("lz4 (fast)", "lz4"), ("zstd (small)", "zstd"))
_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


class OutputPart(Part):
    """What is written."""

    def __init__(self) -> None:
        self.codec = ComboBox(
            label="Compression",
            choices=_CODECS,
            value=compression(),
            tooltip="Smaller files, that are slower to read at random.",
        )
        self.dtype = ComboBox(
            label="Pixel type",
            choices=choices(("as in the image", ""), *((name, name) for name in _DTYPES)),
            tooltip="What pixels are cast to; refused where it would lose something.",
        )
        super().__init__([self.codec, self.dtype])

    @property
    def value(self) -> dict[str, Any]:
        """Codec and pixel type, as they stand in a plan."""
        return {"codec": self.codec.value, "dtype": self.dtype.value or None}

    def load(self, codec: str, dtype: str | None) -> None:
        """Set codec and pixel type."""
        self.codec.value, self.dtype.value = codec, dtype or ""

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return ", ".join(v for v in self.value.values() if v and v != "none") or "as it is"
