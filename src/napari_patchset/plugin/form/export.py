"""Export: where to, go, how far, stop, and open what came out."""

from pathlib import Path

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit, Label, ProgressBar, PushButton
from qtpy.QtGui import QAction  # type: ignore[attr-defined]  # qtpy adds it while running
from qtpy.QtWidgets import QMenu, QPushButton

from napari_patchset.patchset.layout import stem_of
from napari_patchset.plugin.form.rows import Part, Row


class ExportPart(Part):
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
