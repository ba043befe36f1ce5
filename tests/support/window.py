"""The window as the user meets it: what the fixture `window` returns.

Every gesture waits until what follows from it has happened: the workers are at rest, no timer is
running and the pixels are there. No test waits for a time.
"""

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import napari
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari._qt.qt_viewer import QtViewer
from napari.plugins import _initialize_plugins
from pytestqt.qtbot import QtBot
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QPoint, Qt, QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QRadioButton

from napari_patchset import PatchSet
from napari_patchset.plugin.canvas.overlay_layers import GRID_NAME, OVERLAYS
from napari_patchset.plugin.lazy.array import LazyArray, finest
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.widget import PatchesWidget
from support.czi_maker import SceneSpec, metadata_xml

WAIT_MS = 120_000
"""How long a test waits for what is to come: no test is quicker for a shorter time."""

SCENES = (
    SceneSpec(id=0, rect=(-100, 0, 96, 64), t=2, z=3, c=2),
    SceneSpec(id=1, rect=(400, 30, 64, 80), t=2, z=3, c=2),
)
XML = metadata_xml(
    pixel_size={"X": 5e-7, "Y": 5e-7, "Z": 1e-6},
    channels={"Channel:0": "DAPI", "Channel:1": "EGFP"},
    scenes={0: "Left", 1: "Right"},
)


def digests(folder: Path) -> dict[str, str]:
    """Digest all of a patch set but its provenance."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (*files, folder / "patches.parquet")
    }
    return found | {"manifest": PatchSet(folder).manifest.model_dump_json()}


@contextmanager
def shared_viewer() -> Iterator[napari.Viewer]:
    """Open a viewer that several tests use one after the other: opening one takes a second."""
    _initialize_plugins.cache_clear()  # napari's own fixture registers them in an app of its own
    init_qactions.cache_clear()
    with patch("napari._qt.threads.status_checker.StatusChecker.start", lambda *_: None):
        viewer = napari.Viewer(show=True, show_welcome_screen=False)
    # napari's own fixture, which another test may use meanwhile, takes it for a leak.
    QtViewer._instances.discard(viewer.window._qt_viewer)
    _warm_up(viewer)
    try:
        yield viewer
    finally:
        gc.unfreeze()
        with patch.object(viewer.window._qt_window, "_save_current_window_settings"):
            viewer.close()


def _warm_up(viewer: napari.Viewer) -> None:
    """Import and build once what every window has, and hide it from the garbage collector.

    napari collects garbage whenever layers are removed.
    """
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
    viewer.window.remove_dock_widget(dock)
    widget.deleteLater()
    gc.collect()
    gc.freeze()


class Window:
    """A viewer with the widget docked, driven with real clicks and keys."""

    def __init__(self, viewer: napari.Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.dock_widget()

    def dock_widget(self) -> None:
        self.dock, self.widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        assert isinstance(self.widget, PatchesWidget)

    def open(self, path: Path) -> None:
        self.viewer.open(str(path), plugin=PLUGIN)
        self.until(lambda: self.state is not None and self.state.source.path == str(path))
        self.settle()

    @property
    def state(self) -> Any:
        return self.widget.state

    def until(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=WAIT_MS)

    def settle(self) -> None:
        """Wait until all that a gesture causes has happened; thumbnails may still be missing."""
        self.qtbot.wait(0)
        self.until(self._is_settled)
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)

    def click(self, part: Any, settle: bool = True) -> None:
        native = getattr(part, "native", part)
        self.widget.ensureWidgetVisible(native)
        self.qtbot.mouseClick(native, Qt.MouseButton.LeftButton)
        if settle:
            self.settle()

    def type_number(self, box: Any, number: object, settle: bool = True) -> None:
        native = getattr(box, "native", box)
        field = native.findChild(QAbstractSpinBox) or native
        self.widget.ensureWidgetVisible(field)
        field.setFocus()
        field.selectAll()
        self.qtbot.keyClicks(field, str(number))
        self.qtbot.keyClick(field, Qt.Key.Key_Return)
        if settle:
            self.settle()

    def type_size(self, *size: object) -> None:
        """Type the size of a patch along Y and X, or Z (or T), Y and X."""
        boxes = self.widget.patches.size.boxes[-len(size) :]
        for box, n in zip(boxes, size, strict=True):
            if box.text() != str(n):  # X follows Y
                self.type_number(box, n)

    def choose(self, box: Any, value: Any, settle: bool = True) -> None:
        """Move through a list with the arrow keys until it has a value."""
        box.native.setFocus()
        self.qtbot.keyClick(box.native, Qt.Key.Key_Home)
        for _ in box.choices:
            if box.value == value:
                break
            self.qtbot.keyClick(box.native, Qt.Key.Key_Down)
        assert box.value == value
        if settle:
            self.settle()

    def unfold(self, title: str) -> None:
        for fold in (self.widget.form.more, self.widget.form.folds[title]):
            if not fold.content.isVisible():
                self.click(fold.button)

    def choose_depth(self, axis: str) -> None:
        buttons = self.widget.patches.depth_axis.native.findChildren(QRadioButton)
        (button,) = (b for b in buttons if b.text() == axis)
        self.tick(button)

    def tick(self, button: QAbstractButton) -> None:
        self.widget.ensureWidgetVisible(button)
        box = QPoint(8, button.height() // 2)
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=box)
        self.settle()

    def click_scene(self, row: int, settle: bool = True) -> None:
        scene_map = self.widget.picker.map
        x, y = scene_map.cells[row].center
        position = QPoint(round(x), round(y))
        self.qtbot.mouseClick(scene_map, Qt.MouseButton.LeftButton, pos=position)
        if settle:
            self.settle()

    def export_to(self, path: Path) -> PatchSet:
        self.widget.export.out.value = path
        self.click(self.widget.export.start)
        self.until(lambda: self.widget.export.open.enabled)
        return PatchSet(path)

    @property
    def images(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if layer.name not in OVERLAYS]

    @property
    def grid(self) -> Any:
        return self.viewer.layers[GRID_NAME]

    @property
    def summary(self) -> str:
        return self.widget.texts.summary.text()

    @property
    def is_idle(self) -> bool:
        """Whether the plugin does nothing any more."""
        return self._is_settled() and self.widget.picker.loading.at_rest

    def _is_settled(self) -> bool:
        widget, preview = self.widget, self.widget.preview
        workers = {*widget.workers, preview.view.pictures}
        workers.discard(widget.picker.loading)
        timers = (widget._refresh_soon, preview._soon, preview._hover_soon, preview.overlay._soon)
        timers += (preview.gallery._soon, preview.overlay._still)
        timers += (widget.annotations.soon, widget.scroll_soon)
        arrays = (finest(layer) for layer in self.viewer.layers)
        is_reading = any(each.slicer.is_reading for each in arrays if isinstance(each, LazyArray))
        is_waiting = is_reading or any(timer.isActive() for timer in timers)
        return not is_waiting and all(each.at_rest for each in workers)

    def close(self) -> None:
        """Wait for what runs to end, and leave the viewer empty, for the next test."""
        if not isalive(self.widget):
            self.dock_widget()
        self.widget.export_control.cancel()
        self.until(lambda: self.is_idle)
        # What was replaced by newer work is still at work until its next step.
        assert QThreadPool.globalInstance().waitForDone(WAIT_MS)
        if getattr(self.viewer.window, "_qt_window", None) is None:
            return
        for note in self.viewer.window._qt_window.findChildren(NapariQtNotification):
            note.close()
        self.viewer.layers.clear()
        self.settle()
        if self.dock in self.viewer.window._qt_window.findChildren(type(self.dock)):
            self.viewer.window.remove_dock_widget(self.dock)
        self.widget.deleteLater()
        self.viewer.dims.reset()
        self.viewer.status = "Ready"
