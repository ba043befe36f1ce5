"""Split: which share of the patches is set apart for validation."""

from typing import Any

from magicgui.widgets import ComboBox, SpinBox

from napari_patchset.patching.splits.split import Split
from napari_patchset.plugin.form.rows import LARGEST, Part, Percent, choices

_BY = choices(
    ("what fits", "auto"), ("files", "file"), ("scenes", "scene"), ("blocks of the image", "block")
)


class SplitPart(Part):
    """Training and validation patches, which share no pixel."""

    def __init__(self) -> None:
        self.val = Percent(
            max=99,
            label="Validation %",
            tooltip="How many patches in a hundred are set apart for validation; 0 for no split.",
        )
        self.by = ComboBox(
            label="Kept together",
            choices=_BY,
            tooltip="What is never in both: whole files, whole scenes, or blocks of the image.",
        )
        self.seed = SpinBox(
            value=0,
            min=0,
            max=LARGEST,
            label="Seed",
            tooltip="Another number sets other patches apart.",
        )
        super().__init__([self.val, self.by, self.seed])
        self.val.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> dict[str, Any] | None:
        """The split, as it stands in a plan; None for no split."""
        if not self.val.fraction:
            return None
        return {"val": self.val.fraction, "by": self.by.value, "seed": self.seed.value}

    def load(self, split: Split | None) -> None:
        """Set the fields from a split."""
        self.val.load(split.val if split else 0)
        if split:
            self.by.value, self.seed.value = split.by, split.seed

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return f"{100 * self.val.fraction:.4g} % for validation" if self.val.fraction else "none"

    def _show(self) -> None:
        self.by.visible = self.seed.visible = bool(self.val.fraction)
