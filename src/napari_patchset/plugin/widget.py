"""The "Patches" widget: it only connects the parts.

State flows one way. The form and the viewer make a `FormState`; `PlanControl` turns the latest one
into a `PlanPreview` in a background thread; `PreviewControl` draws that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Labels
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtGui import QResizeEvent

from napari_patchset.errors import ArgumentError, SplitError
from napari_patchset.patching.splits.sheet_columns import WELL
from napari_patchset.plugin.canvas.annotations import AnnotationControl
from napari_patchset.plugin.canvas.placing import PlaceControl
from napari_patchset.plugin.canvas.plan_texts import PlanTexts
from napari_patchset.plugin.canvas.preview import PreviewControl
from napari_patchset.plugin.canvas.regions import RegionControl
from napari_patchset.plugin.canvas.summary import border_hint, size_hint
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_plan, folder_of, message, notifying
from napari_patchset.plugin.export_control import ExportControl
from napari_patchset.plugin.form.export_section import ExportSection
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.form.scroll_panel import Panel
from napari_patchset.plugin.history import Edit, History
from napari_patchset.plugin.layers.layer_stack import file_name, layer_at
from napari_patchset.plugin.layers.viewer_images import channels_of, lie_elsewhere
from napari_patchset.plugin.napari_compat import call_when_closing, import_ahead
from napari_patchset.plugin.plan_form import PlanForm
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.planning import PlanControl
from napari_patchset.plugin.preferences import OutputDefaults, read_output_defaults
from napari_patchset.plugin.scene_context import LoadedPlan, SceneContext, load_plan
from napari_patchset.plugin.scenes.source_control import SourceControl
from napari_patchset.plugin.state import FormState
from napari_patchset.plugin.worker import Worker, single_shot_timer

if TYPE_CHECKING:
    from napari_patchset.plugin.stitching import StitchControl

_NOTHING_OPEN = (
    "Open a CZI, a TIFF, a zarr or a folder of images: drop it on the window. Or try File > Open "
    "Sample > Cells in three scenes (Patchset)."
)


class PatchesWidget(Panel):
    """Pick the scene and the depth axis, see the grid on the image, export the patch set."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._released = False
        self._viewer = napari_viewer
        # napari's layer list may not be changed from within its own events.
        self._refresh_soon = single_shot_timer(self, self._refresh)
        # What has grown is laid out by then.
        self.scroll_soon = single_shot_timer(self, self._show_annotations)
        self.form = RecipeForm()
        self.source_control = SourceControl(napari_viewer, lambda: self.form.output.suffix)
        self.region_control = RegionControl(
            napari_viewer, self.form.region, lambda: self.source_control.shown_scene
        )
        self.annotations = AnnotationControl(
            napari_viewer, self.form.annotations, lambda: self.source_control.shown_scene, self
        )
        self._plan_form = PlanForm(
            napari_viewer, self.form, self.source_control, self.region_control, self.annotations
        )
        self.source, self.picker = self.source_control.section, self.source_control.picker
        self.patches, self.export = self.form.patches, ExportSection()
        self.preview = PreviewControl(napari_viewer, self)
        self.placing = PlaceControl(self.preview, self.form.strategy)
        self.plans = PlanControl(self, lambda: self.preview.rows_in_view)
        self.export_control = ExportControl(self.export, self._form_state, self.plans)
        self._stitching: StitchControl | None = None
        self.loading, self.preferences = Worker(), Worker()
        self.history = History()
        self.texts = PlanTexts(self.preview.plane)
        self.fill(
            (
                *(self.source.native, self.picker, self.source_control.extra_files.native),
                *(self.source_control.fold, self.patches.native, self.form.more),
            ),
            (
                *(self.preview.view, self.texts),
                *(self.preview.buttons, self.export.native),
            ),
        )
        self._connect()
        self._on_format()
        self._on_file()
        self._refresh()
        self.preferences.run(read_output_defaults)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the texts and the map of scenes into the height that the main fields leave."""
        super().resizeEvent(event)
        self.texts.fit(self.height())
        parts = (self.source, self.source_control.extra_files.row, *self.patches.fields)
        used = (self.picker.names, *(each.native for each in parts))
        self.picker.take(self.room_left_by(used))

    @property
    def state(self) -> FormState | None:
        """The form as one value, None while no file is open or it is still being read.

        Raises
        ------
        ArgumentError, ValidationError
            If its values do not fit each other.
        """
        return self._plan_form.read(self.export.destination)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of the form and the export."""
        source, plans, export = self.source_control, self.plans, self.export_control
        return (
            *(self.loading, self.preferences, plans.planning, plans.scoring),
            self.form.split.samples.reading,
            *(source.file_opener.worker, source.opening, source.reading, source.adding),
            *(source.overriding, self.annotations.reading),
            *(self.picker.loading, export.exporting, export.writing),
            *(export.checking, export.finding),
            *self.preview.gallery.workers,
            *(self._stitching.workers if self._stitching else ()),
        )

    @property
    def stitching(self) -> "StitchControl":
        """The dialog for predictions; made, and what it needs imported, when first asked for."""
        if self._stitching is None:
            from napari_patchset.plugin.stitching import StitchControl

            self._stitching = StitchControl(self, self._viewer, lambda: self.export.destination)
        return self._stitching

    def open_outlines(self, path: str) -> None:
        """Take a file of outlines as the annotations of the shown scene, and draw these."""
        self._refresh()
        self.form.more.open()
        self.form.folds["Annotations"].open()
        self.annotations.open(path)

    def add_files(self, paths: Sequence[Path]) -> None:
        """Add files to the set of the image that was opened last."""
        self._refresh()
        self.source_control.add_files(paths)

    def _show_annotations(self) -> None:
        self.ensureWidgetVisible(self.form.annotations.native)

    def on_closed(self) -> None:
        """Remove the grid from the image, stop the workers, and be deleted.

        napari only takes a panel out of its dock. Python would own it then, and keep it until it
        exits, as its own slots refer to it: PyQt, which deletes all such widgets in the end, goes
        on with the next one from the memory of the one that is deleted, and may crash.
        """
        if not self._released:
            self.preview.overlay.remove()  # before `_release`: see `draw_in_own_context`
            self._release()
            self.deleteLater()

    def _release(self) -> None:
        """Release the viewer and the workers, also when napari deletes the widget."""
        if not self._released:
            self._released = True
            self._refresh_soon.stop()
            self.annotations.release()
            self.scroll_soon.stop()
            self.plans.stop()
            self.export_control.cancel()
            if self._stitching is not None:
                self._stitching.close()
            for worker in self.workers:
                worker.release()
            self.preview.release()
            layers, dims = self._viewer.layers.events, self._viewer.dims.events
            layers.inserted.disconnect(self._on_layers)
            layers.removed.disconnect(self._on_layers)
            dims.current_step.disconnect(self.preview.follow)
            self._unbind_keys()

    def _connect(self) -> None:
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        # No method: napari compares callbacks, and older pydantic looks into a deleted widget.
        self._on_layers = lambda: self._refresh_soon.start()
        layers.inserted.connect(self._on_layers)
        layers.removed.connect(self._on_layers)
        dims.current_step.connect(self.preview.follow)
        self.destroyed.connect(lambda: self._release())
        call_when_closing(self._viewer, self._release, self)
        self.source_control.file_changed.connect(self._on_file)
        self.source_control.known.connect(self._on_known)
        self.source_control.failed.connect(self._on_failed)
        self.source_control.changed.connect(self._plan)
        self.source_control.edits.made.connect(self._on_edit)
        self.source_control.visibility.made.connect(self._show_hidden)
        self.source_control.replaced.connect(self.preview.clear)
        self.source_control.replaced.connect(self.annotations.put_away)
        self.form.changed.connect(self._on_form)
        self.preview.gallery.decided.connect(self.form.decide)
        self._connect_history()
        self.preview.scene_wanted.connect(self.picker.picked.emit)
        self.export_control.opened.connect(self.preview.gallery.open_set)
        self.form.output.format.changed.connect(self._on_format)
        self.form.output.changed.connect(self.preferences.stop)  # the user's choice has priority
        self.region_control.changed.connect(self._plan)
        self.region_control.painted.connect(self._on_paint)
        self.annotations.replaced.connect(self._on_other_outlines)
        self.annotations.changed.connect(self._plan)
        self.annotations.opened.connect(lambda: self.scroll_soon.start())
        self.export.out.changed.connect(self._plan)
        self.plans.changed.connect(self._show)
        self.plans.waiting.connect(lambda text: self.texts.tell(text))
        self.plans.failed.connect(self._on_failed)
        self.export.load_plan.triggered.connect(lambda: self._load())
        self.escaped.connect(self.export.dismiss)
        self.export.stitch.changed.connect(lambda: self.stitching.show())
        self.loading.returned.connect(self._on_loaded)
        self.preferences.returned.connect(self._on_preferred)
        for worker in (self.loading, self.preferences):
            worker.failed.connect(lambda error: show_error(message(error)))

    def _connect_history(self) -> None:
        """Record what is done by hand, and have keys undo it."""
        windows = self, self.preview.gallery
        self._unbind_keys = self.history.bind_keys(self._viewer, windows, self.preview.status.tell)
        for part in (self.form, self.form.strategy, self.form.filters, self.annotations):
            part.done.connect(self._record)

    def _record(self, edit: Edit) -> None:
        self.history.record(edit)
        self.preview.status.tell("")

    def _refresh(self) -> None:
        """Offer the current layers; what depends on layers that are gone goes with them."""
        notices = self._plan_form.refresh()
        self.preview.overlay.lift()
        if self.source.file.value is None:
            self.texts.tell(self._nothing_chosen)
        self._show_hidden()
        if notices:
            self.texts.notify(notices)
            self._plan()

    def _on_form(self) -> None:
        self.texts.notify(())
        self._plan()

    @property
    def _is_alone(self) -> bool:
        """Whether the set has no other images or scenes, which may have other classes."""
        extra = self.source_control.extra_files
        return not (extra.files or extra.all_scenes.value)

    def _on_other_outlines(self) -> None:
        if self._is_alone:
            self.form.expect_other_classes()

    def _on_file(self) -> None:
        self.history.forget()
        self._forget()  # a file that is opened again may have changed
        self.form.turn_to(self.source.file.value, self._is_alone)
        if self.source.file.value is not None:
            self.texts.notify(())
        self.form.filters.forget()
        self.form.split.samples.image = self.source.file.value
        self.export_control.forget()
        with self.export.out.changed.blocked():  # the form does not fit the image yet
            self.export.turn_to(self.source.file.value)
        self._plan_form.offer_pairs()
        self._show_parts()
        self._plan()

    def _on_known(self, context: SceneContext, is_new: bool) -> None:
        """Offer the options of the shown scene, and plan."""
        self._show_parts()
        if is_new:
            with self.export.out.changed.blocked():  # the form does not fit the image yet
                self.export.turn_to(context.path)
                self.export.propose(self.export_control.exported.get(context.path, context.out))
                self._on_format()  # that may have changed since the name was proposed
        if (shown := self.source_control.shown_scene) is not None:
            channels = channels_of(shown, context.info)
            self.form.offer(context.info, [(c.name, c.color or "#ffffff") for c in channels])
            self.form.channels.set_hidden(self.source_control.hidden_channels)
        self.annotations.refresh()
        self.form.split.offer(WELL, any(scene.well for scene in context.scenes))
        self._plan()

    def _show_parts(self) -> None:
        is_open = self.source_control.shown_scene is not None
        self.form.more.setVisible(is_open)
        self.source_control.extra_files.enabled = is_open

    def _on_preferred(self, output: OutputDefaults) -> None:
        self.form.output.prefer(output)
        import_ahead()  # one after the other, as each holds up the drawing of the widget

    def _on_format(self) -> None:
        self.export.end_in(self.form.output.suffix)

    def _on_edit(self) -> None:
        self._forget()
        self.source_control.read()

    def _forget(self) -> None:
        """Read again files and layers that may have changed."""
        DESCRIPTIONS.forget()
        self.plans.forget()

    def _on_paint(self, labels: Labels) -> None:
        chosen = [self.form.region.layer.value, self.form.annotations.outlines.value]
        chosen += [layer_at(path) for path in self.form.pairs.value.values()]
        if any(labels is each for each in chosen):
            self.plans.forget()
            self._plan()

    def _plan(self) -> None:
        """Plan the current form, or show why that is impossible."""
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
            self._show_nothing(self._nothing_chosen)

    def _show(self, planned: PlanPreview) -> None:
        if (shown := self.source_control.shown_scene) is not None:
            typed = getattr(planned.state.recipe.strategy, "size", ())
            hints = size_hint(planned.grid.size, planned.shown_source, typed), border_hint(planned)
            self.patches.show_hint("<br>".join(filter(None, hints)))
            self.form.split.show_error("")
            self._sum_up(planned)
            self.form.filters.draw(
                planned.state.recipe.filters, planned.histograms, planned.is_measured
            )
            self.source_control.extra_files.show_counts(planned.counts)
            self.form.pairs.show_elsewhere(
                lie_elsewhere(self._viewer, self.form.pairs.value.values(), shown.layers[-1])
            )
            self.preview.show(shown, planned)
            self.placing.follow(planned)
            self.export_control.follow(planned)

    def _sum_up(self, planned: PlanPreview) -> None:
        self.texts.sum_up(planned, self.form.channels.hidden_names, self.form.notices)

    def _show_hidden(self) -> None:
        """Show which of the exported channels are hidden in the viewer."""
        self.form.show_hidden(self.source_control.hidden_channels)
        if (planned := self.plans.current) is not None:
            self._sum_up(planned)

    def _on_failed(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self._show_nothing(message(error), is_error=True)
        self.form.split.show_error(message(error) if isinstance(error, SplitError) else "")

    def _show_nothing(self, why: str, is_error: bool = False) -> None:
        self.plans.stop()
        self.export_control.forbid()
        self.preview.clear()
        self.preview.gallery.clear()
        self.form.filters.show_nothing()
        self.patches.show_hint("")
        self.source_control.extra_files.show_counts({})
        self.texts.tell(why, is_error)

    def _form_state(self) -> FormState:
        self.patches.judge()  # a click on a button of macOS leaves the field its focus
        if (state := self.state) is not None:
            return state
        path = self.source.file.value
        raise ArgumentError(f"Still reading {file_name(path)}…" if path else self._nothing_chosen)

    @property
    def _nothing_chosen(self) -> str:
        return "Choose the image to cut patches from." if self.source.offered else _NOTHING_OPEN

    def _load(self) -> None:
        if (path := ask_plan(self, folder_of(self.source.file.value))) is not None:
            self.loading.run(load_plan, path, self.source_control.scenes_shown)

    @notifying
    def _on_loaded(self, loaded: LoadedPlan) -> None:
        self.preferences.stop()
        self.plans.forget()
        self.history.forget()
        self._plan_form.load(loaded)
        self.export.out.value = Path(loaded.plan.out)
