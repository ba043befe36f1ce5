"""The export: the run in a background thread, what it asks, and the plan as a file.

`ExportControl` turns buttons into actions. One worker runs an export at a time, which can be
cancelled within a patch; another one writes plans.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QApplication

from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.stages import Progress
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.plugin.canvas.summary import lost_choices
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_plan_name, in_window, message
from napari_patchset.plugin.export_check import find_problem, find_set
from napari_patchset.plugin.export_task import Order, Taken, run_export, save_plan, written_command
from napari_patchset.plugin.form.export_section import ExportSection
from napari_patchset.plugin.layers.plan_layers import has_layers
from napari_patchset.plugin.overrides import image_path
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.planning import PlanControl
from napari_patchset.plugin.preferences import chosen_memory, export_memory
from napari_patchset.plugin.scene_context import unused_name
from napari_patchset.plugin.state import FormState
from napari_patchset.plugin.worker import Worker

_STOPPED = "Stopped. Press Export to resume."

_SOURCE_STAGES = {
    "open": "Opening the images",
    "read": "Reading the annotations, MB",
    "compare": "Comparing images that may be copies, MB",
    "choose": "Looking at labels and outlines, %",
    "finalize": "Checking the images",
}
"""What an export does with its sources, by stage; in the others it counts patches."""


class ExportControl:
    """Carry out the actions of the export section.

    Parameters
    ----------
    section : ExportSection
        The buttons and the progress line.
    state : callable
        Return the current state of the form.
    plans : PlanControl
        The preview; an export reuses the metrics that it has measured.

    Attributes
    ----------
    exported : dict of Path to str
        The set that each image was last exported to.
    """

    opened = Signal(str)
    """The set that is to be shown."""

    def __init__(
        self,
        section: ExportSection,
        state: Callable[[], FormState],
        plans: PlanControl,
    ) -> None:
        self.exporting, self.writing = Worker(), Worker()
        self.checking, self.finding = Worker(), Worker()
        self.exported: dict[Path, str] = {}
        self._section = section
        self._state, self._plans = state, plans
        self._on_written: Callable[[Any], None] = self._copy_command
        self._order: Order | None = None
        self._found = ""
        """The set that is there at the destination, "" for none."""
        self._state_of_status: FormState | None = None
        self._cancelled = Event()
        self._began: tuple[float, int] | None = None
        section.start.changed.connect(lambda: self._try(self._start))
        section.cancel.changed.connect(self.cancel)
        section.open.changed.connect(self._open)
        section.copy_command.triggered.connect(lambda: self._try(self._copy))
        section.save_plan.triggered.connect(lambda: self._try(self._save))
        self.checking.returned.connect(section.allow)
        self.checking.failed.connect(self._on_failed)
        section.out.changed.connect(self._find)
        self.finding.returned.connect(self._offer)
        self.finding.failed.connect(self._on_failed)
        self.writing.returned.connect(lambda written: self._try(lambda: self._on_written(written)))
        self.writing.failed.connect(self._on_failed)
        self.exporting.yielded.connect(self._on_progress)
        self.exporting.returned.connect(self._on_exported)
        self.exporting.failed.connect(self._on_failed)

    def follow(self, planned: PlanPreview) -> None:
        """Find out whether a plan can be exported; what was said of another one goes."""
        if planned.state != self._state_of_status:
            self.forget()
        self._section.caution(lost_choices(planned))
        self._find()
        self.checking.run(find_problem, planned)

    def forbid(self) -> None:
        """Disable the export: there is no plan, and the reason is told above."""
        self.checking.stop()
        self.forget()
        self._section.caution("")
        self._section.allow(None)
        self._find()

    def forget(self) -> None:
        """Forget what came of the last export, unless one runs: it is about something else."""
        if not self.exporting.running:
            self._section.status.tooltip = ""
            self._section.show_status("")

    def _find(self) -> None:
        """Find out whether the destination is a set that can be opened, unless one is written."""
        if self.exporting.running:
            return
        # What was exported stays on offer although its image has gone meanwhile.
        out = self._section.destination or self._section.status.tooltip
        if out != self._found:
            self._offer("")
        if out:
            self.finding.run(find_set, out)

    def _offer(self, found: str) -> None:
        """Offer to open a set; "" for none."""
        self._found, self._section.open.enabled = found, bool(found)

    def cancel(self) -> None:
        """Stop the export within a patch; finished shards stay."""
        if self.exporting.running and self._order is not None:
            self._cancelled.set()
            WorkDir.for_set(self._order.plan.out).request_stop()

    def _try(self, act: Callable[[], None]) -> None:
        """Do something, and tell what went wrong."""
        try:
            act()
        except USER_ERRORS as error:
            self._tell(message(error), is_error=True)

    def _tell(self, text: str, is_error: bool = False) -> None:
        """Show a text in the status line, as one that holds for the form as it is now."""
        with suppress(*USER_ERRORS):
            self._state_of_status = self._state()
        self._section.show_status(text, is_error)

    def _start(self) -> None:
        state = self._state()
        state.plan()  # raises what is wrong with it
        self._run(Order(state))

    def _run(self, order: Order) -> None:
        self.forget()
        self.finding.stop()
        self._offer("")
        self._order, self._cancelled, self._began = order, Event(), None
        self._section.show_running(True)
        planned = self._plans.current if isinstance(order.plan, FormState) else None
        self.exporting.run(run_export, order, planned, export_memory(), self._cancelled)

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

    def _on_exported(self, event: Progress | None) -> None:
        if event is None or self._order is None:
            self._on_end(_STOPPED)
            return
        recipe, out = self._order.plan, self._order.plan.out
        if isinstance(recipe, FormState):
            self.exported[image_path(recipe.sources[recipe.shown_index])] = out
        is_shown = self._section.destination in ("", out)  # "" as the image has gone
        has_pixels = self._order.format.has_pixels
        self._offer(out if is_shown and has_pixels else "")  # before Cancel loses the focus
        self._section.status.tooltip = out
        self._on_end(f"Saved {event.path.name}{_left_out(event.failures)}")

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, Taken):
            self._on_end("")
            self._ask(error)
        elif isinstance(error, Stopped):
            self._on_end(_STOPPED)
        elif isinstance(error, USER_ERRORS):
            self._on_end(message(error), is_error=True)
        else:
            self._on_end(f"{type(error).__name__}: {error}", is_error=True)
            raise error

    def _on_end(self, status: str, is_error: bool = False) -> None:
        self._section.show_running(False)
        self._tell(status, is_error)
        self._find()

    def _ask(self, taken: Taken) -> None:
        """Ask what is to become of what has the name of the patch set."""
        order = self._order
        assert order is not None  # it has just been refused
        answers: dict[str, Callable[[], None]] = {}
        if taken.is_set:
            answers["Replace"] = lambda: self._run(replace(order, replaces=True))
            answers["Keep both"] = lambda: self._try(self._keep_both)
        else:
            if (other := taken.other) is not None:
                answers["Continue that one"] = lambda: self._run(replace(order, plan=other))
            answers["Start over"] = lambda: self._run(replace(order, starts_over=True))
        self._section.ask(str(taken), answers | {"Cancel": lambda: None})

    def _keep_both(self) -> None:
        self._section.rename(unused_name(Path(self._section.destination)))
        self._start()

    def _open(self) -> None:
        if self._found:
            self.opened.emit(self._found)

    def _copy(self) -> None:
        self._write(self._copy_command, written_command, self._state(), chosen_memory())

    def _copy_command(self, line: str) -> None:
        if (clipboard := QApplication.clipboard()) is not None:
            clipboard.setText(line)
        self._tell("The command is copied.")

    def _save(self) -> None:
        state = self._state()
        proposed = Path(state.plan().out).with_suffix(".json")
        if (path := ask_plan_name(self._section.native, str(proposed))) is not None:
            self._write(lambda saved: self._tell(f"Saved {saved.name}"), save_plan, state, path)

    def _write(
        self,
        on_written: Callable[[Any], None],
        work: Callable[..., Any],
        state: FormState,
        *args: Any,
    ) -> None:
        """Write a plan that names files only; layers are written into files first."""
        layers = has_layers(state.plan())
        self._tell("Writing the layers to files…" if layers else "Reading the files…")
        self._on_written = on_written
        self.writing.run(work, state, *args)


def _left_out(failures: Sequence[Failure]) -> str:
    """Return which sources an export has left out, as the end of a sentence."""
    if not failures:
        return ""
    images = "an image" if len(failures) == 1 else f"{len(failures)} images"
    return f", without {images} that can't be read: {in_window(str(failures[0]))}"


def time_left(done: int, left: int, seconds: float) -> str:
    """Return the rate and the time left as text; "" before there is a rate."""
    if not done or not seconds:
        return ""
    rate = done / seconds
    minutes, rest = divmod(round(left / rate), 60)
    return f"{rate:,.0f} patches/s, {minutes}:{rest:02} left"
