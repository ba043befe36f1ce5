"""Export: destination, buttons and progress, and a line that tells, or asks, how things stand."""

from collections.abc import Callable, Mapping
from pathlib import Path

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit, Label, ProgressBar, PushButton
from qtpy.QtCore import Qt
from qtpy.QtGui import QAction  # type: ignore[attr-defined]  # qtpy adds it while running
from qtpy.QtWidgets import QMenu, QPushButton, QSizePolicy, QStackedWidget

from napari_patchset.patchset.layout import stem_of
from napari_patchset.plugin.form.fields import Row, Section, TextBox, small_button
from napari_patchset.plugin.napari_compat import theme_colors


class ExportSection(Section):
    """Destination, start and progress of an export, and buttons to copy, save and load the plan.

    One row holds the buttons, while an export runs its progress, and the answers to a question:
    what is clicked does not move. The line below tells why an export is impossible, asks, or tells
    what came of the last one.
    """

    def __init__(self) -> None:
        self.out = FileEdit(label="Save to", mode=FileDialogMode.OPTIONAL_FILE, nullable=True)
        self.out.choose_btn.text, self.out.choose_btn.tooltip = "…", "Choose where to save."
        self.out.choose_btn.native.setFixedWidth(28)
        self.start = PushButton(
            text="Export", tooltip="Write the patch set. An image must be open.", enabled=False
        )
        self.open = PushButton(
            text="Open patch set",
            tooltip="Show the patches of the set in Save to, unless it is coordinates only.",
            enabled=False,
        )
        self.stitch = PushButton(
            text="Stitch…", tooltip="Put predictions for the patches of a set back into an image."
        )
        self._idle = Row([self.start, self.open, self.stitch])
        self.more = QPushButton("Plan")
        self.more.setToolTip("The form as a command or as a plan file: copy, save, load.")
        self.menu = QMenu(self.more)  # whose style it takes
        self.copy_command = QAction("Copy as command")
        self.save_plan, self.load_plan = QAction("Save plan…"), QAction("Load plan…")
        self.menu.addActions([self.copy_command, self.save_plan, self.load_plan])
        self.more.setMenu(self.menu)
        self._idle.native.layout().addWidget(self.more)
        self.progress = ProgressBar(value=0, min=0, max=1)
        self.cancel = small_button(
            "Cancel", "Stop the export that runs. The next one resumes where it stopped."
        )
        self._running = Row([self.progress, self.cancel])
        self.answers: list[QPushButton] = []
        self._question = Row([])
        self._question.native.layout().addStretch()  # no answer lies where Export was
        self._row = QStackedWidget()  # as high as the highest of them
        self._row.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        for each in (self._idle, self._running, self._question):
            self._row.addWidget(each.native)
        self.status = Label(value="")
        self.status.native.setTextFormat(Qt.TextFormat.PlainText)
        super().__init__([Section([self.out])], labels=False)
        self.native.layout().addWidget(self._row)
        self.native.layout().addWidget(TextBox([self.status.native], lines=2))
        self._tip = ""
        self._image: Path | None = None
        self._chosen: dict[Path | None, Path] = {}
        """The destination of each image for which the user, or a plan, has chosen one."""
        self.out.changed.connect(self._on_out)
        self._problem: str | None = None
        self._outcome, self._is_error = "", False
        self._caution = ""
        """What is to be known before an export, "" for nothing."""
        self._is_running = False

    @property
    def destination(self) -> str:
        """The path to write, "" if none is chosen."""
        value = self.out.value
        return "" if value is None or value == Path() else str(value)

    def turn_to(self, image: Path | None) -> None:
        """Show the destination that was chosen for an image, none if that is still to be proposed.

        What is chosen while no image is shown is meant for the next one.
        """
        if image is not None and None in self._chosen:
            self._chosen[image] = self._chosen.pop(None)
        self._image = image
        self.rename(self._chosen.get(image))

    def propose(self, out: str) -> None:
        """Propose a destination; one that the user has chosen for the shown image stays."""
        if self._image not in self._chosen:
            self.rename(Path(out))

    def rename(self, out: Path | None) -> None:
        """Change the destination; it is chosen by the user if the one before was."""
        is_chosen = self._image in self._chosen
        self.out.value = out
        self._remember(out if is_chosen else None)
        self._show_path()  # here too, as `changed` may be blocked

    def _on_out(self) -> None:
        """Take a destination for the choice of the user, and show it."""
        self._remember(Path(self.destination) if self.destination else None)
        self._show_path()

    def _remember(self, chosen: Path | None) -> None:
        """Remember what is chosen for the shown image, None for nothing."""
        if chosen is None:
            self._chosen.pop(self._image, None)
        else:
            self._chosen[self._image] = chosen

    def _show_path(self) -> None:
        """Show the whole path in the tooltip, as the field is often too short for it."""
        out = str(Path(self.destination).absolute()) if self.destination else ""
        self.out.tooltip = f"{self._tip}\n{out}".strip()

    def end_in(self, suffix: str) -> None:
        """Change the suffix of the destination to that of a format."""
        self.out.filter = f"*{suffix}"
        self._tip = f"The folder to write, NAME{suffix}."
        self._show_path()
        if self.destination:
            out = Path(self.destination)
            self.rename(out.with_name(f"{stem_of(out)}{suffix}"))

    def allow(self, problem: str | None) -> None:
        """Enable the export, or tell what stands in its way; None if that is told elsewhere."""
        self._problem = problem
        self._show()

    def caution(self, text: str) -> None:
        """Show what is to be known before an export, also with its questions; "" for nothing."""
        self._caution = text
        self._show()

    def show_running(self, running: bool) -> None:
        """Enable the buttons that apply while an export runs, or while none does."""
        self._is_running = running
        self._show()

    def show_status(self, text: str, is_error: bool = False) -> None:
        """Show the progress of the export, or what came of it."""
        self._outcome, self._is_error = text, is_error
        self._withdraw()
        self._show()

    def ask(self, question: str, answers: Mapping[str, Callable[[], None]]) -> None:
        """Ask a question, with a button for each answer; the last one changes nothing."""
        self.show_status(question)
        for text, act in answers.items():
            button = QPushButton(text)
            button.clicked.connect(lambda _=False, act=act: self._answer(act))
            self._question.native.layout().addWidget(button)
            self.answers.append(button)
        self._show()
        self.answers[-1].setFocus()  # Enter pressed twice must not replace anything

    def dismiss(self) -> None:
        """Answer a question so that nothing changes."""
        if self.answers:
            self.answers[-1].click()

    def _answer(self, act: Callable[[], None]) -> None:
        self.show_status("")
        self.start.native.setFocus()
        act()

    def _withdraw(self) -> None:
        """Take back the question."""
        for button in self.answers:
            button.hide()
            button.deleteLater()
        self.answers.clear()

    def _show(self) -> None:
        """Show what is known; the focus stays in the row of the buttons."""
        running, problem = self._is_running, self._problem
        has_focus = self.start.native.hasFocus() or self.cancel.native.hasFocus()
        self.start.enabled = problem == "" and not running
        self.out.enabled = not running
        shown = self._running if running else self._question if self.answers else self._idle
        self._row.setCurrentWidget(shown.native)
        if has_focus and not self.answers:
            done = self.open if self.open.enabled else self.start
            (self.cancel if running else done).native.setFocus()
        is_hindered = bool(problem) and not running
        is_error = is_hindered or self._is_error
        color = theme_colors().error.name()
        self.status.native.setStyleSheet(f"color: {color}" if is_error else "")
        texts = [problem if is_hindered else self._outcome]
        if not (running or is_hindered) and (self.answers or not self._outcome):
            texts.insert(0, self._caution and f"{self._caution}.")
        self.status.value = " ".join(filter(None, texts))
