"""Output and split: format of the set, and share of the patches for validation."""

from collections.abc import Iterable
from typing import Any

from magicgui.widgets import ComboBox, SpinBox

from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.splits import Split
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.form.fields import (
    MAX_INT,
    Choices,
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


_BY = (
    ("automatic", "auto"),
    ("files", "file"),
    ("scenes", "scene"),
    ("blocks of the image", "block"),
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
            choices=choices(*_BY),
            tooltip=description(Split, "by"),
        )
        self.seed = SpinBox(
            value=0,
            min=0,
            max=MAX_INT,
            label="Seed",
            tooltip=description(Split, "seed"),
        )
        self._others: dict[str, Any] = {}
        """What a loaded plan has besides: test, folds, stratify."""
        self._stated_by: str | None = None
        """The column of a loaded plan that states the splits, without shares."""
        super().__init__([self.val, self.by, self.seed])
        self.val.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> dict[str, Any] | None:
        """The split, as a plan has it; None for no split."""
        if not self._is_split:
            return None
        shown = {"val": self.val.fraction or None, "by": self.by.value, "seed": self.seed.value}
        others = dict(self._others)
        if self.val.fraction:  # a share takes the place of folds
            others.pop("folds", None)
        return shown | others

    @property
    def _is_split(self) -> bool:
        has_shares = self.val.fraction or self._others.keys() & {"test", "folds"}
        return bool(has_shares or self._is_stated)

    @property
    def _is_stated(self) -> bool:
        return self._stated_by is not None and self.by.value == self._stated_by

    def load(self, split: Split | None) -> None:
        """Set the fields from a split."""
        self.val.load((split.val or 0) if split else 0)
        shown = {"val", "by", "seed"}
        self._others = split.model_dump(exclude=shown, exclude_defaults=True) if split else {}
        has_shares = split is None or split.val or self._others.keys() & {"test", "folds"}
        self._stated_by = None if split is None or has_shares else split.by
        if split:
            is_column = split.by not in dict(_BY).values()
            self.by.choices = choices(*_BY, *([(split.by, split.by)] if is_column else []))
            self.by.value, self.seed.value = split.by, split.seed
        self._show()

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        shares = {"validation": self.val.fraction, "a test": self._others.get("test")}
        texts = [f"{100 * share:.4g} % for {what}" for what, share in shares.items() if share]
        if "folds" in self._others and not self.val.fraction:
            texts.append(f"{self._others['folds']} folds")
        if not texts and self._is_stated:
            return f"as the column {self._stated_by} states"
        return ", ".join(texts) or "none"

    def _show(self) -> None:
        self.by.visible = self.seed.visible = self._is_split
