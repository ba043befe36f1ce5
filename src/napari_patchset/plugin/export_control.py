"""The export part at work: start, progress with time left, what came of it, and the plan's file.

An export in the background of the window.

The export: in the background, with progress and cancel, and its plan as a file or a command.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from napari.qt.threading import GeneratorWorker, thread_worker
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtWidgets import QApplication

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.command_line import command_line
from napari_patchset.exporting.destination import check_destination
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.exporting.run import Progress, iter_export
from napari_patchset.exporting.stages import refuse_taken
from napari_patchset.exporting.workdir import ExportStopped, PartialExport
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.dialogs import ask_plan_name, message, notifying, show_remedy
from napari_patchset.plugin.form.output import ExportSection
from napari_patchset.plugin.layers.layer_files import has_layers, spooled
from napari_patchset.plugin.preferences import PLUGIN, chosen_memory, export_memory
from napari_patchset.plugin.state import FormState, with_fresh_region
from napari_patchset.plugin.worker import Background


class BackgroundExport:
    """Run one export at a time in a thread; its signals come in the window's own thread."""

    progressed = Signal(Progress)
    finished = Signal(Path)
    stopped = Signal()
    failed = Signal(Exception)

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None
        self._plan: ExportPlan | None = None
        self._cancelled = Event()
        self._outcome: Progress | Exception | None = None

    @property
    def running(self) -> bool:
        """Whether an export runs."""
        return self._worker is not None

    def start(
        self, plan: ExportPlan, renew: Callable[[], ExportPlan], metrics: Callable[[], Metrics]
    ) -> None:
        """Start an export; exactly one of finished, stopped and failed will end it.

        Parameters
        ----------
        plan : ExportPlan
            What to export.
        renew : callable
            Gives the same plan by its files as they are now; it is called in the thread.
        metrics : callable
            Gives what was measured already, see `iter_export`; likewise.
        """
        self._plan, self._outcome, self._cancelled = plan, None, Event()
        worker: GeneratorWorker = thread_worker(_events)(
            plan, renew, metrics, export_memory(), self._cancelled
        )
        worker.yielded.connect(self._on_event)
        worker.finished.connect(self._on_end)
        self._worker = worker
        worker.start()

    def cancel(self) -> None:
        """Stop the export within a patch; what is written stays."""
        if self._worker is not None and self._plan is not None:
            self._cancelled.set()
            PartialExport.of(self._plan).request_stop()

    def close(self) -> None:
        """Cancel, and report to nobody any more: the window is going away."""
        self.cancel()
        for signal in (self.progressed, self.finished, self.stopped, self.failed):
            signal.disconnect()

    def _on_event(self, event: Progress | Exception) -> None:
        self._outcome = event
        if isinstance(event, Progress):
            self.progressed.emit(event)

    def _on_end(self) -> None:
        self._worker = None
        outcome = self._outcome
        if isinstance(outcome, Exception) and not isinstance(outcome, ExportStopped):
            self.failed.emit(outcome)
        elif isinstance(outcome, Progress) and outcome.stage == "done":
            self.finished.emit(outcome.path)
        else:
            self.stopped.emit()


def _events(
    plan: ExportPlan,
    renew: Callable[[], ExportPlan],
    metrics: Callable[[], Metrics],
    memory: int,
    cancelled: Event,
) -> Iterator[Progress | Exception]:
    """Yield what goes wrong too: a worker takes a RuntimeError for its own deletion.

    A worker that is told to quit leaves its generator as it is, and with it the folder locked. So
    the export is ended here, in its own thread.
    """
    try:

        def check_cancelled() -> None:
            if cancelled.is_set():
                raise ExportStopped("The export was cancelled.")

        check_destination(plan, overwrite=False)  # before layers are written
        refuse_taken(PartialExport.of(plan), plan)
        named, known = spooled(renew(), check_cancelled), metrics()
        with closing(iter_export(named, metrics=known, memory=memory)) as events:
            for event in events:
                yield event
                if cancelled.is_set():
                    break
    except Exception as error:
        yield error


class ExportControl:
    """Carry out what the buttons of the export part say.

    Parameters
    ----------
    part : ExportPart
        The buttons, and what says how it is going.
    viewer : Viewer
        Where the result is opened.
    state : callable
        Gives the form as it is now.
    metrics : callable
        Gives what gives, in the background, what was measured of its candidates already.
    """

    def __init__(
        self,
        part: ExportSection,
        viewer: Viewer,
        state: Callable[[], FormState],
        metrics: Callable[[], Callable[[], Metrics]],
    ) -> None:
        self.job = BackgroundExport()
        self._part, self._viewer = part, viewer
        self._state, self._metrics = state, metrics
        self.spooling = Background()
        self._then: Callable[[Any], None] = self._copy_command
        self._exported: ExportPlan | None = None
        self._began: tuple[float, int] | None = None
        part.start.changed.connect(self._start)
        part.cancel.changed.connect(self.job.cancel)
        part.open.changed.connect(self._open)
        part.copy_command.triggered.connect(lambda: self._copy())
        part.save_plan.triggered.connect(lambda: self._save())
        self.spooling.yielded.connect(lambda written: self._then(written))
        self.spooling.failed.connect(self._on_failed)
        self.job.progressed.connect(self._on_progress)
        self.job.finished.connect(self._on_finished)
        self.job.stopped.connect(lambda: self._on_end("Stopped. Export again to go on."))
        self.job.failed.connect(self._on_failed)

    @notifying
    def _start(self) -> None:
        state = self._state()
        plan = self._exported = state.plan()
        self._part.say("")
        self._part.open.enabled = False
        self._part.show_running(True)
        self._began = None
        self.job.start(plan, partial(_fresh_plan, state), self._metrics())

    def _on_progress(self, event: Progress) -> None:
        now = monotonic()
        began, first = self._began = self._began or (now, event.done)
        self._part.progress.max, self._part.progress.value = event.total, event.done
        self._part.say(time_left(event.done - first, event.total - event.done, now - began))

    def _on_finished(self, path: Path) -> None:
        plan = self._exported
        self._part.open.enabled = plan is not None and FORMATS[plan.format].has_pixels
        self._on_end(f"Saved {path.name}")
        show_info(f"The patch set is in {path}")

    def _on_failed(self, error: Exception) -> None:
        self._on_end("Failed.")
        plan, said = self._exported, message(error)
        if plan is not None and _is_about_the_destination(said, plan):
            show_remedy(said, "Choose another name…", self._part.choose)
        else:
            show_error(said)

    def _on_end(self, said: str) -> None:
        self._part.show_running(False)
        self._part.say(said)

    @notifying
    def _open(self) -> None:
        if self._exported is not None:
            self._viewer.open(self._exported.out, plugin=PLUGIN)

    @notifying
    def _copy(self) -> None:
        self._write(self._copy_command, _named, self._state())

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
        self._part.say("The command is copied.")

    @notifying
    def _save(self) -> None:
        state = self._state()
        proposed = Path(state.plan().out).with_suffix(".json")
        if (path := ask_plan_name(self._part.native, str(proposed))) is not None:
            self._write(lambda saved: self._part.say(f"Saved {saved.name}"), _saved, state, path)

    def _write(
        self,
        then: Callable[[Any], None],
        work: Callable[..., Iterator[Any]],
        state: FormState,
        *args: Path,
    ) -> None:
        """Write what names files only, in the background; layers get theirs there."""
        layers = has_layers(state.plan())
        self._part.say("Writing the layers to files…" if layers else "Looking at the files…")
        self._then = then
        self.spooling.begin(work, state, *args)


def _fresh_plan(state: FormState) -> ExportPlan:
    return with_fresh_region(state).plan()


def _named(state: FormState) -> Iterator[ExportPlan]:
    yield spooled(_fresh_plan(state))


def _saved(state: FormState, path: Path) -> Iterator[Path]:
    plan = spooled(_fresh_plan(state)).resolved()
    path.write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
    yield path


def _is_about_the_destination(said: str, plan: ExportPlan) -> bool:
    return any(str(path) in said for path in (plan.out, PartialExport.of(plan).root))


def time_left(done: int, left: int, seconds: float) -> str:
    """Say the rate, and how long the rest takes at it; "" before there is one."""
    if not done or not seconds:
        return ""
    rate = done / seconds
    minutes, rest = divmod(round(left / rate), 60)
    return f"{rate:,.0f} patches/s, {minutes}:{rest:02} left"
