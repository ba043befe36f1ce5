"""The "Patches" widget: it wires the parts to each other; what they show is computed elsewhere."""

from pathlib import Path

from napari.layers import Labels
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtWidgets import QLabel

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.canvas.placing import PlaceControl
from napari_patchset.plugin.canvas.preview import PreviewControl
from napari_patchset.plugin.canvas.regions import RegionControl
from napari_patchset.plugin.canvas.summary import size_hint, summarize
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_plan, message, notifying
from napari_patchset.plugin.export_control import ExportControl
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.form.output import ExportSection
from napari_patchset.plugin.form.patches import depth_choices, extents, fitting_size
from napari_patchset.plugin.layers.layer_files import file_name
from napari_patchset.plugin.layers.layer_stack import layer_at
from napari_patchset.plugin.layers.shown import channels_of, require_straight
from napari_patchset.plugin.napari_compat import (
    call_when_closing,
    import_beside,
    is_window_at_work,
    theme_colors,
)
from napari_patchset.plugin.panel import Panel
from napari_patchset.plugin.planning import PlanControl, Planned
from napari_patchset.plugin.preferences import Output, read_output
from napari_patchset.plugin.scene_context import LoadedPlan, SceneContext, load_plan
from napari_patchset.plugin.scenes.source import SourceControl
from napari_patchset.plugin.state import DESCRIPTIONS, FormState, plan_pairs, with_pairs
from napari_patchset.plugin.worker import Background, later

_PAUSE_MS = 10
"""Between filling the form and drawing the grid, each a lot to do: keys are answered there."""

_NOTHING_OPEN = (
    "Open a CZI or TIFF file, drop a zarr folder on the window, or File > Open Sample > Patchset."
)


class PatchesWidget(Panel):
    """Pick the scene and the depth axis, see the grid on the image, export the patch set."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._released = False
        self._viewer = napari_viewer
        # napari's layer list may not be changed from within its own events.
        self._refresh_soon = later(self, self._refresh)
        self._plan_soon = later(self, self._plan, _PAUSE_MS)
        self.form = RecipeForm()
        self.sourcing = SourceControl(napari_viewer, lambda: self.form.output.suffix)
        self.regions = RegionControl(napari_viewer, self.form.where, lambda: self.sourcing.shown)
        self.source, self.picker = self.sourcing.part, self.sourcing.picker
        self.patches, self.export, self.summary = self.form.patches, ExportSection(), QLabel()
        self.preview = PreviewControl(napari_viewer, self)
        self.placing = PlaceControl(self.preview, self.form.strategy)
        self.plans = PlanControl(lambda: self.preview.rows_in_view)
        self.exporting = ExportControl(
            self.export, napari_viewer, self._form_state, lambda: self.plans.metrics
        )
        self.job, self.loading, self.preferring = self.exporting.job, Background(), Background()
        self.summary.setWordWrap(True)
        self.fill(
            (
                *(self.source.native, self.picker, self.sourcing.more.native),
                *(self.patches.native, self.form.more),
            ),
            (
                *(self.summary, self.preview.buttons),
                *(self.preview.view, self.export.native),
            ),
        )
        self._connect()
        self._on_format()
        self._on_file()
        self._refresh()
        self.preferring.begin(read_output)

    @property
    def state(self) -> FormState | None:
        """The form as one value, None while no file is open, or what it is is still read.

        Raises
        ------
        ArgumentError, ValidationError
            If its values do not fit each other.
        """
        found, facts = self.sourcing.shown, self.sourcing.facts
        if found is None or facts is None:
            return None
        require_straight(found.layers[-1])
        sources, shown = self.sourcing.sources(facts)
        recipe = self.form.recipe(self.regions.region(found))
        sources = with_pairs(sources, found.path, self.form.pairs.value)
        return FormState(sources, shown, recipe, self.export.destination)

    def on_closed(self) -> None:
        """Stop what runs and take the grid away."""
        if not self._released:
            self._release()
            self.preview.overlay.remove()

    def _release(self) -> None:
        """Let go of the viewer and of what runs; also when napari deletes the widget unasked."""
        if not self._released:
            self._released = True
            self._plan_soon.stop()
            self.job.close()
            self.plans.stop()
            self.exporting.spooling.stop()
            self.preview.release()
            self.sourcing.stop()
            self.loading.stop()
            self.preferring.stop()
            layers, dims = self._viewer.layers.events, self._viewer.dims.events
            layers.inserted.disconnect(self._on_layers)
            layers.removed.disconnect(self._on_layers)
            dims.current_step.disconnect(self.preview.follow)

    def _connect(self) -> None:
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        # No method: napari compares callbacks, and older pydantic looks into a deleted widget.
        self._on_layers = lambda: self._refresh_soon.start()
        layers.inserted.connect(self._on_layers)
        layers.removed.connect(self._on_layers)
        dims.current_step.connect(self.preview.follow)
        self.destroyed.connect(lambda: self._release())
        call_when_closing(self._viewer, self, self._release)
        self.sourcing.file_changed.connect(self._on_file)
        self.sourcing.known.connect(self._on_known)
        self.sourcing.failed.connect(self._on_failed)
        self.sourcing.changed.connect(self._plan)
        self.sourcing.edits.made.connect(self._on_edit)
        self.sourcing.replaced.connect(self.preview.clear)
        self.form.changed.connect(self._plan)
        self.form.output.format.changed.connect(self._on_format)
        self.preferring.yielded.connect(self._on_preferred)
        self.form.output.changed.connect(self.preferring.stop)  # what a person chose stands
        self.regions.changed.connect(self._plan)
        self.regions.painted.connect(self._on_paint)
        self.plans.changed.connect(self._show)
        self.plans.waiting.connect(lambda: self._say("Planning…"))
        self.plans.failed.connect(self._on_failed)
        self.export.load_plan.triggered.connect(lambda: self._load())
        self.loading.yielded.connect(self._on_loaded)
        for work in (self.loading, self.preferring):
            work.failed.connect(lambda error: show_error(message(error)))

    def _refresh(self) -> None:
        self.regions.refresh()
        self.sourcing.refresh()
        self.form.pairs.offer(self.sourcing.others)
        self.preview.overlay.lift()

    def _on_file(self) -> None:
        self._forget()  # a file that is opened again may be another
        self._show_parts()
        self._plan()

    def _on_known(self, facts: SceneContext, is_new: bool) -> None:
        """Offer what the shown scene has, and plan anew."""
        self._show_parts()
        if is_new:
            self.export.out.value = Path(facts.out)
            self._on_format()  # that may have changed since the name was proposed
            self.patches.size.fit(fitting_size(facts.info))
        if (found := self.sourcing.shown) is not None:
            named = [(c.name, c.color or "#ffffff") for c in channels_of(found, facts.info)]
            self.form.offer(depth_choices(facts.info), extents(facts.info), named)
        if is_window_at_work():
            self._plan_soon.start()
        else:
            self._plan()

    def _show_parts(self) -> None:
        found = self.sourcing.shown
        self.export.start.enabled = self.sourcing.facts is not None and not self.job.running
        self.form.more.setVisible(found is not None)
        self.sourcing.more.visible = found is not None

    def _on_preferred(self, output: Output) -> None:
        self.form.output.prefer(output)
        import_beside()  # one after the other, as each holds up the drawing of the widget

    def _on_format(self) -> None:
        self.export.end_in(self.form.output.suffix)

    def _on_edit(self) -> None:
        self._forget()
        self.sourcing.read()

    def _forget(self) -> None:
        """Look anew at what may have changed."""
        DESCRIPTIONS.forget()
        self.plans.forget()

    def _on_paint(self, labels: Labels) -> None:
        beside = [layer_at(path) for path in self.form.pairs.value.values()]
        if labels in (self.form.where.region.value, *beside):
            self.plans.forget()
            self._plan()

    def _plan(self) -> None:
        """Plan the patches anew and draw them; what can't be planned is said in their place."""
        try:
            state = self.state
        except USER_ERRORS as error:
            self._on_failed(error)
            return
        if state is not None:
            self.plans.follow(state)
        elif (path := self.source.file.value) is not None:
            self._show_nothing(f"Reading {file_name(path)}…")
        else:
            self._show_nothing(_NOTHING_OPEN)

    def _show(self, planned: Planned) -> None:
        if (found := self.sourcing.shown) is not None:
            self.patches.say(size_hint(planned.grid.size, planned.shown))
            self._say(summarize(planned))
            self.preview.show(found, planned)
            self.placing.follow(planned)

    def _on_failed(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self._show_nothing(message(error), is_error=True)

    def _show_nothing(self, why: str, is_error: bool = False) -> None:
        self.plans.stop()
        self.preview.clear()
        self.patches.say("")
        self._say(why, is_error)

    def _say(self, text: str, is_error: bool = False) -> None:
        style = f"color: {theme_colors().error.name()}" if is_error else ""
        if style != self.summary.styleSheet():
            self.summary.setStyleSheet(style)
        self.summary.setText(text)

    def _form_state(self) -> FormState:
        if (state := self.state) is not None:
            return state
        path = self.source.file.value
        raise ArgumentError(
            f"{path} is still being read; wait a moment." if path else _NOTHING_OPEN
        )

    def _load(self) -> None:
        if (path := ask_plan(self)) is not None:
            self.loading.begin(load_plan, path, self.sourcing.scenes_shown)

    @notifying
    def _on_loaded(self, loaded: LoadedPlan) -> None:
        plan = loaded.plan
        self.preferring.stop()
        self.plans.forget()
        self.sourcing.load(loaded)
        self.form.load(plan.recipe)
        self.regions.load(plan.strategy, loaded.masks)
        self.form.pairs.load(plan_pairs(plan))
        self.export.out.value = Path(plan.out)
