"""The export: its section of the panel, the run in a background thread, and the plan as a file.

`ExportControl` turns buttons into actions. One worker runs an export at a time, which can be
cancelled within a patch; another one writes plans.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit, Label, ProgressBar, PushButton
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtGui import QAction  # type: ignore[attr-defined]  # qtpy adds it while running
from qtpy.QtWidgets import QApplication, QMenu, QPushButton

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.command_line import command_line
from napari_patchset.exporting.destination import check_destination
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.exporting.run import Progress, iter_export
from napari_patchset.exporting.stages import check_not_taken
from napari_patchset.exporting.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.patchset.layout import stem_of
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.dialogs import ask_plan_name, message, notifying, show_remedy
from napari_patchset.plugin.form.fields import Row, Section
from napari_patchset.plugin.layers.plan_layers import has_layers, spool_layers
from napari_patchset.plugin.planning import PlanControl, PlanPreview, known_metrics
from napari_patchset.plugin.preferences import chosen_memory, export_memory
from napari_patchset.plugin.reader import FileOpener
from napari_patchset.plugin.state import FormState, refresh_region
from napari_patchset.plugin.worker import Worker

_STOPPED = "Stopped. Press Export to resume."


class ExportSection(Section):
    """Destination, start and progress of an export, and buttons to copy, save and load the plan."""

    def __init__(self) -> None:
        self.out = FileEdit(label="Save to", mode=FileDialogMode.OPTIONAL_FILE, nullable=True)
        self.out.choose_btn.text, self.out.choose_btn.tooltip = "…", "Choose where to save."
        self.out.choose_btn.native.setFixedWidth(28)
        self.start = PushButton(
            text="Export", tooltip="Write the patch set. An image must be open."
        )
        self.cancel = PushButton(
            text="Cancel",
            tooltip="Stop the export that runs. The next one resumes where it stopped.",
            enabled=False,
        )
        self.open = PushButton(
            text="Open patch set",
            tooltip="Show what was exported as layers, unless it is coordinates only.",
            enabled=False,
        )
        buttons = Row([self.start, self.cancel, self.open])
        self.progress = ProgressBar(value=0, min=0, max=1, visible=False)
        self.status = Label(value="", visible=False)
        super().__init__([Section([self.out]), buttons, self.progress, self.status], labels=False)
        self.menu = QMenu()
        self.copy_command = QAction("Copy as command")
        self.save_plan, self.load_plan = QAction("Save plan…"), QAction("Load plan…")
        self.menu.addActions([self.copy_command, self.save_plan, self.load_plan])
        self.more = QPushButton("Plan")
        self.more.setToolTip("The form as a command or as a plan file: copy, save, load.")
        self.more.setMenu(self.menu)
        buttons.native.layout().addWidget(self.more)

    @property
    def destination(self) -> str:
        """The path to write, "" if none is chosen."""
        value = self.out.value
        return "" if value is None or value == Path() else str(value)

    def choose(self) -> None:
        """Open the dialog for another destination."""
        self.out.choose_btn.native.click()

    def end_in(self, suffix: str) -> None:
        """Change the suffix of the destination to that of a format."""
        self.out.filter, self.out.tooltip = f"*{suffix}", f"The folder to write, NAME{suffix}."
        if self.destination:
            out = Path(self.destination)
            self.out.value = out.with_name(f"{stem_of(out)}{suffix}")

    def show_running(self, running: bool) -> None:
        """Enable the buttons that apply while an export runs, or while none does.

        The keyboard focus moves from a button that is disabled to the next one, so what becomes
        enabled goes first: from Export to Cancel and back.
        """
        buttons = [(self.start, not running), (self.cancel, running)]
        for button, enabled in sorted(buttons, key=lambda each: not each[1]):
            button.enabled = enabled
        self.out.enabled, self.progress.visible = not running, running

    def show_status(self, text: str) -> None:
        """Show the progress of the export."""
        self.status.value = text
        self.status.visible = bool(text)


_SOURCE_STAGES = {"open": "Opening the images", "finalize": "Checking the images"}
"""What an export does with each source, by stage; in the others it counts patches."""


def _export(
    state: FormState, planned: PlanPreview | None, memory: int, cancelled: Event
) -> Generator[Progress, None, Path | None]:
    """Export the current content of the files; runs in a background thread.

    Layers are written into files first. The metrics that the preview has measured are reused.

    Returns
    -------
    Path or None
        The patch set, None if the export was cancelled.
    """

    def check_cancelled() -> None:
        if cancelled.is_set():
            raise Stopped("The export was cancelled.")

    plan, path = state.plan(), None
    check_destination(plan, overwrite=False)  # before layers are written
    check_not_taken(WorkDir.for_set(plan.out), plan)
    named, metrics = spool_layers(_fresh_plan(state), check_cancelled), known_metrics(planned)
    with closing(iter_export(named, metrics=metrics, memory=memory)) as events:
        for event in events:
            yield event
            path = event.path if event.stage == "done" else None
            if cancelled.is_set():
                break
    return path


class ExportControl:
    """Carry out the actions of the export section.

    Parameters
    ----------
    section : ExportSection
        The buttons and the progress line.
    viewer : Viewer
        Where the patch set is opened.
    state : callable
        Return the current state of the form.
    plans : PlanControl
        The preview; an export reuses the metrics that it has measured.
    """

    def __init__(
        self,
        section: ExportSection,
        viewer: Viewer,
        state: Callable[[], FormState],
        plans: PlanControl,
    ) -> None:
        self.exporting, self.writing = Worker(), Worker()
        self.opener = FileOpener(viewer)
        self._section = section
        self._state, self._plans = state, plans
        self._on_written: Callable[[Any], None] = self._copy_command
        self._exported: ExportPlan | None = None
        self._cancelled = Event()
        self._began: tuple[float, int] | None = None
        section.start.changed.connect(self._start)
        section.cancel.changed.connect(self.cancel)
        section.open.changed.connect(self._open)
        section.copy_command.triggered.connect(lambda: self._copy())
        section.save_plan.triggered.connect(lambda: self._save())
        self.writing.returned.connect(lambda written: self._on_written(written))
        self.writing.failed.connect(self._on_failed)
        self.exporting.yielded.connect(self._on_progress)
        self.exporting.returned.connect(self._on_exported)
        self.exporting.failed.connect(self._on_failed)

    def cancel(self) -> None:
        """Stop the export within a patch; finished shards stay."""
        if self.exporting.running and self._exported is not None:
            self._cancelled.set()
            WorkDir.for_set(self._exported.out).request_stop()

    @notifying
    def _start(self) -> None:
        state = self._state()
        self._exported, self._cancelled = state.plan(), Event()
        self._section.show_status("")
        self._section.open.enabled = False
        self._section.show_running(True)
        self._began = None
        planned, memory = self._plans.current, export_memory()
        self.exporting.run(_export, state, planned, memory, self._cancelled)

    def _on_progress(self, event: Progress) -> None:
        if event.stage in _SOURCE_STAGES:
            self._section.progress.max, self._section.progress.value = event.total, event.done
            text = _SOURCE_STAGES[event.stage]
            self._section.show_status(f"{text}: {event.done:,} of {event.total:,}")
            return
        now = monotonic()
        began, first = self._began = self._began or (now, event.done)
        self._section.progress.max, self._section.progress.value = event.total, event.done
        left = time_left(event.done - first, event.total - event.done, now - began)
        self._section.show_status(left)

    def _on_exported(self, path: Path | None) -> None:
        plan = self._exported
        if path is None or plan is None:
            self._on_end(_STOPPED)
            return
        self._section.open.enabled = FORMATS[plan.format].has_pixels
        self._on_end(f"Saved {path.name}")
        show_info(f"The patch set is in {path}")

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            self._on_end(_STOPPED)
            return
        self._on_end("Failed.")
        plan, text = self._exported, message(error)
        if plan is not None and _is_about_the_destination(text, plan):
            show_remedy(text, "Choose another name…", self._section.choose)
        else:
            show_error(text)

    def _on_end(self, status: str) -> None:
        self._section.show_running(False)
        self._section.show_status(status)

    def _open(self) -> None:
        if self._exported is not None:
            self.opener.open(self._exported.out)

    @notifying
    def _copy(self) -> None:
        self._write(self._copy_command, _written_plan, self._state())

    @notifying
    def _copy_command(self, plan: ExportPlan) -> None:
        line = command_line(plan, chosen_memory())
        if line is None:
            raise ArgumentError(
                "The command has no options for all that is set here; save the plan instead, "
                "and run patchset export --plan FILE."
            )
        if (clipboard := QApplication.clipboard()) is not None:
            clipboard.setText(line)
        self._section.show_status("The command is copied.")

    @notifying
    def _save(self) -> None:
        state = self._state()
        proposed = Path(state.plan().out).with_suffix(".json")
        if (path := ask_plan_name(self._section.native, str(proposed))) is not None:
            show = self._section.show_status
            self._write(lambda saved: show(f"Saved {saved.name}"), _save_plan, state, path)

    def _write(
        self,
        on_written: Callable[[Any], None],
        work: Callable[..., Any],
        state: FormState,
        *args: Path,
    ) -> None:
        """Write a plan that names files only; layers are written into files first."""
        layers = has_layers(state.plan())
        self._section.show_status(
            "Writing the layers to files…" if layers else "Reading the files…"
        )
        self._on_written = on_written
        self.writing.run(work, state, *args)


def _fresh_plan(state: FormState) -> ExportPlan:
    return refresh_region(state).plan()


def _written_plan(state: FormState) -> ExportPlan:
    return spool_layers(_fresh_plan(state))


def _save_plan(state: FormState, path: Path) -> Path:
    plan = _written_plan(state).resolved()
    path.write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def _is_about_the_destination(text: str, plan: ExportPlan) -> bool:
    return any(str(path) in text for path in (plan.out, WorkDir.for_set(plan.out).root))


def time_left(done: int, left: int, seconds: float) -> str:
    """Return the rate and the time left as text; "" before there is a rate."""
    if not done or not seconds:
        return ""
    rate = done / seconds
    minutes, rest = divmod(round(left / rate), 60)
    return f"{rate:,.0f} patches/s, {minutes}:{rest:02} left"
