"""The export part at work: start, progress with time left, what came of it, and the plan's file."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QApplication

from napari_patchset.errors import ArgumentError
from napari_patchset.export.engine import Progress
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.plan import ExportPlan
from napari_patchset.options.command import command_line
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.plugin.exporting.background import BackgroundExport
from napari_patchset.plugin.form.export import ExportPart
from napari_patchset.plugin.layers.named import has_layers, spooled
from napari_patchset.plugin.planning.form_state import FormState, with_fresh_region
from napari_patchset.plugin.window.asking import ask_plan_name, message, notifying, show_remedy
from napari_patchset.plugin.window.background import Background
from napari_patchset.plugin.window.preferences import PLUGIN, chosen_memory


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
        part: ExportPart,
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
