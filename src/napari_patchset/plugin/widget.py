"""The "Patches" widget: it wires the parts to each other; what they show is computed elsewhere."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from pydantic import ValidationError
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_patchset.errors import PatchsetError
from napari_patchset.export.engine import Progress
from napari_patchset.export.plan import user_message
from napari_patchset.plugin.exporting import BackgroundExport
from napari_patchset.plugin.form import ExportPart, PatchesPart, SourcePart
from napari_patchset.plugin.overlay import Grid, GridOverlay
from napari_patchset.plugin.scenes import ScenePicker
from napari_patchset.plugin.shown import plane_of, show_scene, shown, shown_files
from napari_patchset.plugin.state import (
    FormState,
    default_out,
    depth_choices,
    fitting_size,
    summarize,
)
from napari_patchset.preview import Plane
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.opening import FORMATS, list_scenes

if TYPE_CHECKING:
    from napari_patchset.patching.grid import PatchGrid

PLUGIN = "napari-patchset"
WIDTH = 340


_Slot = TypeVar("_Slot", bound=Callable[..., None])


def notifying(slot: _Slot) -> _Slot:
    """Turn what a user can mend into a notification; whatever else goes wrong is raised."""

    @wraps(slot)
    def notified(*args: Any) -> None:
        try:
            slot(*args)
        except (PatchsetError, ValidationError, OSError) as error:
            show_error(_message(error))

    return cast("_Slot", notified)


class PatchesWidget(QScrollArea):
    """Pick the scene and the depth axis, see the grid on the image, export the patch set."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._released = False
        self._viewer = napari_viewer
        self._grid: tuple[PatchGrid, SourceInfo] | None = None
        self._result: Path | None = None
        # napari's layer list may not be changed from within its own events.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._refresh_files)
        self.source, self.picker = SourcePart(), ScenePicker()
        self.patches, self.export = PatchesPart(), ExportPart()
        self.summary = QLabel()
        self.overlay, self.job = GridOverlay(napari_viewer), BackgroundExport()
        self._lay_out()
        self._connect()
        self._on_file()
        self._refresh_files()

    @property
    def state(self) -> FormState | None:
        """The form as one value, None while no file is open."""
        path = self.source.file.value
        found = shown(self._viewer, path) if path else None
        if found is None:
            return None
        return FormState(
            path=found.path,
            scene=found.scene,
            depth_axis=self.patches.depth_axis.value,
            size=self.patches.size.value,
            overlap=self.patches.overlap.value,
            edge=self.patches.edge.value,
            all_scenes=self.export.all_scenes.value,
            out=self.export.destination,
        )

    def sizeHint(self) -> QSize:
        """Leave the room to the image."""
        return QSize(WIDTH, 2 * WIDTH)

    def event(self, event: QEvent | None) -> bool:
        """Stop what runs and take the grid away when the panel is closed.

        napari's "close this panel" closes no widget: it takes it out of its dock.
        """
        closed = event is not None and event.type() == QEvent.Type.ParentChange
        if closed and self.parent() is None and not self._released:
            self._release()
            self.overlay.remove()
        return super().event(event)

    def _release(self) -> None:
        """Let go of the viewer and of what runs; also when napari deletes the widget unasked."""
        if not self._released:
            self._released = True
            self.job.close()
            self.picker.stop()
            self.overlay.disconnect()
            layers, dims = self._viewer.layers.events, self._viewer.dims.events
            layers.inserted.disconnect(self._refresh_soon)
            layers.removed.disconnect(self._refresh_soon)
            dims.current_step.disconnect(self._follow)

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        self.summary.setWordWrap(True)
        parts = (self.source.native, self.picker, self.patches.native, self.summary)
        for part in (*parts, self.export.native):
            layout.addWidget(part)
        layout.addStretch()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        content.setMinimumWidth(WIDTH)
        self.setMinimumWidth(WIDTH)
        self.picker.hide()

    def _connect(self) -> None:
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        layers.inserted.connect(self._refresh_soon)
        layers.removed.connect(self._refresh_soon)
        dims.current_step.connect(self._follow)
        self.destroyed.connect(lambda: self._release())
        self.source.file.changed.connect(self._on_file)
        self.source.open.changed.connect(self._open_file)
        self.picker.picked.connect(self._on_scene)
        for part in (self.patches.depth_axis, self.patches.size, self.patches.overlap):
            part.changed.connect(self._plan)
        self.patches.edge.changed.connect(self._plan)
        self.export.start.changed.connect(self._start)
        self.export.cancel.changed.connect(self.job.cancel)
        self.export.open.changed.connect(self._open_result)
        self.job.progressed.connect(self._on_progress)
        self.job.finished.connect(self._on_finished)
        self.job.stopped.connect(self._on_stopped)
        self.job.failed.connect(self._on_failed)

    def _refresh_soon(self) -> None:
        self._soon.start()

    def _refresh_files(self) -> None:
        """Offer the files that are open, and choose the newest one if another went or came."""
        files = shown_files(self._viewer)
        box = self.source.file
        known, chosen = [value for value in box.choices if value], box.value
        new = [path for path in files if path not in known]
        with box.changed.blocked():
            box.choices = [(path.name, path) for path in files]
            box.value = new[0] if new else chosen if chosen in files else next(iter(files), None)
        if box.value != chosen:
            self._on_file()

    @notifying
    def _on_file(self) -> None:
        state = self.state
        self.picker.setVisible(False)
        if state is None:
            self.export.start.enabled = self.export.all_scenes.visible = False
            self._plan()
            return
        self.export.start.enabled = not self.job.running
        scenes = list_scenes(state.path)
        self.picker.show_scenes(state.path, scenes, state.scene)
        self.export.all_scenes.visible = len(scenes) > 1
        self.export.out.value = Path(default_out(state.path))
        self.patches.size.fit(fitting_size(state.info()))
        self._plan()

    @notifying
    def _on_scene(self, scene: SceneId) -> None:
        state = self.state
        if state is None or scene == state.scene:
            return
        show_scene(self._viewer, state.path, scene)
        self._plan()

    def _plan(self) -> None:
        """Plan the grid anew and draw it; what can't be planned is said in its place."""
        state, self._grid = self.state, None
        if state is None:
            for row in (self.patches.size, self.patches.overlap):
                row.show_depth("none")
            self._say(
                "Open a CZI or TIFF file, drop a zarr folder on the window, or "
                "File > Open Sample > Patchset."
            )
            return
        flat = FormState(state.path, state.scene).info()
        self.patches.offer_depth_axes(depth_choices(flat))
        state = self.state or state
        for row in (self.patches.size, self.patches.overlap):
            row.show_depth(state.depth_axis)
        try:
            self._grid = state.grid(), state.info()
        except (PatchsetError, ValidationError) as error:
            self._say(_message(error), is_error=True)
            return
        self._say(summarize(*self._grid))

    def _say(self, text: str, is_error: bool = False) -> None:
        color = "color: #ff8080" if is_error else ""
        self.summary.setStyleSheet(color)
        self.summary.setText(text)
        self._draw()

    def _follow(self) -> None:
        """Draw anew when the sliders move; a grid that was taken away stays away."""
        if self.overlay.is_shown:
            self._draw()

    def _draw(self) -> None:
        """Draw the patches of the plane that the sliders show."""
        path = self.source.file.value
        found = shown(self._viewer, path) if path else None
        if self._grid is None or found is None:
            self.overlay.clear()
            return
        grid, info = self._grid
        image = found.layers[-1]
        plane = Plane.of(
            grid, np.zeros(len(grid), np.uint8), 0, *plane_of(self._viewer, image, info)
        )
        step = (grid.size[-2], grid.size[-1])
        self.overlay.draw(Grid(plane, step, image))

    @notifying
    def _open_file(self) -> None:
        patterns = " ".join(f"*{suffix}" for form in FORMATS for suffix in form.suffixes)
        name, _ = QFileDialog.getOpenFileName(self, "Open file", "", f"Images ({patterns})")
        if name:
            self._viewer.open(name, plugin=PLUGIN)

    @notifying
    def _start(self) -> None:
        state = self.state
        if state is None:
            return
        plan = state.plan()
        self.export.status.value = ""
        self.export.open.enabled = False
        self.export.show_running(True)
        self.job.start(plan)

    def _on_progress(self, event: Progress) -> None:
        self.export.progress.max = event.total
        self.export.progress.value = event.done

    def _on_finished(self, path: Path) -> None:
        self.export.show_running(False)
        self.export.status.value = f"Saved {path.name}"
        self.export.open.enabled = True
        self._result = path
        show_info(f"The patch set is in {path}")

    def _on_stopped(self) -> None:
        self.export.show_running(False)
        self.export.status.value = "Stopped. Export again to go on."

    def _on_failed(self, error: Exception) -> None:
        self.export.show_running(False)
        self.export.status.value = "Failed."
        show_error(_message(error))

    @notifying
    def _open_result(self) -> None:
        if self._result is not None:
            self._viewer.open(str(self._result), plugin=PLUGIN)


def _message(error: Exception) -> str:
    return user_message(error) if isinstance(error, ValidationError) else str(error)
