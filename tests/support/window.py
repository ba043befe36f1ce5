"""The window as a person meets it: what the fixture `window` gives."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt, QThreadPool
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QRadioButton

from napari_patchset import PatchSet
from napari_patchset.plugin.canvas.overlay_layers import GRID_NAME
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


class Window:
    """A viewer with the widget docked, driven with real clicks and keys."""

    def __init__(self, viewer: napari.Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.dock, self.widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        assert isinstance(self.widget, PatchesWidget)

    def open(self, path: Path) -> None:
        self.viewer.open(str(path), plugin=PLUGIN)
        self.until(lambda: self.state is not None and self.state.path == path)
        self.qtbot.wait(20)  # until the form is laid out anew

    @property
    def state(self) -> Any:
        return self.widget.state

    def until(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=WAIT_MS)

    def click(self, part: Any) -> None:
        self.widget.ensureWidgetVisible(part.native)
        self.qtbot.mouseClick(part.native, Qt.MouseButton.LeftButton)

    def type_number(self, box: Any, number: int) -> None:
        field = box.native.findChild(QAbstractSpinBox) or box.native
        self.widget.ensureWidgetVisible(field)
        field.setFocus()
        field.selectAll()
        self.qtbot.keyClicks(field, str(number))
        self.qtbot.keyClick(field, Qt.Key.Key_Return)

    def choose(self, box: Any, value: Any) -> None:
        """Go through a list with the arrow keys until it says a value."""
        box.native.setFocus()
        self.qtbot.keyClick(box.native, Qt.Key.Key_Home)
        for _ in box.choices:
            if box.value == value:
                return
            self.qtbot.keyClick(box.native, Qt.Key.Key_Down)
        assert box.value == value

    def unfold(self, title: str) -> None:
        for fold in (self.widget.form.more, self.widget.form.folds[title]):
            self.widget.ensureWidgetVisible(fold.button)
            self.qtbot.mouseClick(fold.button, Qt.MouseButton.LeftButton)
            self.qtbot.wait(20)  # until the form is laid out anew

    def choose_depth(self, axis: str) -> None:
        buttons = self.widget.patches.depth_axis.native.findChildren(QRadioButton)
        (button,) = (b for b in buttons if b.text() == axis)
        self.tick(button)

    def tick(self, button: QAbstractButton) -> None:
        self.widget.ensureWidgetVisible(button)
        box = QPoint(8, button.height() // 2)
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=box)

    def click_scene(self, row: int) -> None:
        scene_map = self.widget.picker.map
        x, y = scene_map.cells[row].center
        position = QPoint(round(x), round(y))
        self.qtbot.mouseClick(scene_map, Qt.MouseButton.LeftButton, pos=position)

    def export_to(self, path: Path) -> PatchSet:
        self.widget.export.out.value = path
        self.click(self.widget.export.start)
        self.until(lambda: self.widget.export.open.enabled)
        return PatchSet(path)

    @property
    def images(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if layer.name != GRID_NAME]

    @property
    def grid(self) -> Any:
        return self.viewer.layers[GRID_NAME]

    @property
    def summary(self) -> str:
        return self.widget.summary.text()

    @property
    def is_idle(self) -> bool:
        """Whether the plugin does nothing any more."""
        widget = self.widget
        sourcing, plans, preview = widget.sourcing, widget.plans, widget.preview
        works = (
            *(sourcing.opening, sourcing.reading, sourcing.adding, widget.loading),
            *(plans.planning, plans.scoring, preview.view.pictures, preview.contact.pictures),
            *(widget.exporting.spooling, widget.preferring),
        )
        rests = all(work.at_rest for work in works) and not widget.picker.loading
        return rests and not widget.job.running

    def close(self) -> None:
        """Wait for what runs in the background to end."""
        self.widget.job.cancel()
        self.until(lambda: self.is_idle)
        # What was replaced by newer work is still at work until its next step.
        assert QThreadPool.globalInstance().waitForDone(WAIT_MS)
