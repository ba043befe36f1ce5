"""Output: the format of the set, its compression and its pixel type.

Split: which share of the patches is set apart for validation.

Export: where to, go, how far, stop, and open what came out.
"""

from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, FileEdit, Label, ProgressBar, PushButton, SpinBox
from qtpy.QtGui import QAction  # type: ignore[attr-defined]  # qtpy adds it while running
from qtpy.QtWidgets import QMenu, QPushButton

from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.splits import Split
from napari_patchset.patchset.layout import stem_of
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.form.rows import LARGEST, Part, Percent, Row, choices, choices_of
from napari_patchset.plugin.preferences import Output

_FORMATS = choices_of(
    FORMATS,
    zarr="zarr",
    tiff="TIFF, one a patch",
    npz="npz, for CSBDeep",
    coordinates="coordinates, no pixels",
)
_CODECS = choices(("none", "none"), ("lz4 (fast)", "lz4"), ("zstd (small)", "zstd"))
_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


class OutputSection(Part):
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


_BY = choices(
    ("what fits", "auto"), ("files", "file"), ("scenes", "scene"), ("blocks of the image", "block")
)


class SplitSection(Part):
    """Training and validation patches, which share no pixel."""

    def __init__(self) -> None:
        self.val = Percent(
            max=99,
            label="Validation %",
            tooltip="How many patches in a hundred are set apart for validation; 0 for no split.",
        )
        self.by = ComboBox(
            label="FileCache together",
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


class ExportSection(Part):
    """Destination, start, progress, and what else can be done with the plan."""

    def __init__(self) -> None:
        self.out = FileEdit(label="Save as", mode=FileDialogMode.OPTIONAL_FILE, nullable=True)
        self.out.choose_btn.text, self.out.choose_btn.tooltip = "…", "Choose where to save."
        self.out.choose_btn.native.setFixedWidth(28)
        self.start = PushButton(
            text="Export", tooltip="Write the patch set. An image must be open."
        )
        self.cancel = PushButton(
            text="Cancel",
            tooltip="Stop the export that runs. Exporting again goes on where it stopped.",
            enabled=False,
        )
        self.open = PushButton(
            text="Open it",
            tooltip="Show what was exported as layers, unless it is coordinates only.",
            enabled=False,
        )
        buttons = Row([self.start, self.cancel, self.open])
        self.progress = ProgressBar(value=0, min=0, max=1, visible=False)
        self.status = Label(value="", visible=False)
        super().__init__([Part([self.out]), buttons, self.progress, self.status], labels=False)
        self.menu = QMenu()
        self.copy_command = QAction("Copy as command")
        self.save_plan, self.load_plan = QAction("Save plan…"), QAction("Load plan…")
        self.menu.addActions([self.copy_command, self.save_plan, self.load_plan])
        self.more = QPushButton("Plan")
        self.more.setToolTip("What the form says, as a command or as a file: copy, save, load.")
        self.more.setMenu(self.menu)
        buttons.native.layout().addWidget(self.more)

    @property
    def destination(self) -> str:
        """The path to write, "" if none is chosen."""
        value = self.out.value
        return "" if value is None or value == Path() else str(value)

    def choose(self) -> None:
        """Ask for another destination."""
        self.out.choose_btn.native.click()

    def end_in(self, suffix: str) -> None:
        """Give the destination the suffix of a format."""
        self.out.filter, self.out.tooltip = f"*{suffix}", f"The folder to write, NAME{suffix}."
        if self.destination:
            out = Path(self.destination)
            self.out.value = out.with_name(f"{stem_of(out)}{suffix}")

    def show_running(self, running: bool) -> None:
        """Enable what makes sense while an export runs, or does not.

        The keyboard goes from a button that is disabled to the next one: from Export to Cancel.
        """
        buttons = [(self.start, not running), (self.cancel, running)]
        for button, enabled in sorted(buttons, key=lambda each: not each[1]):
            button.enabled = enabled
        self.out.enabled, self.progress.visible = not running, running

    def say(self, text: str) -> None:
        """Say how the export is getting on."""
        self.status.value = text
        self.status.visible = bool(text)
