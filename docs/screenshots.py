"""Make the pictures of the window, and the README's animation.

tools/display .venv/bin/python docs/screenshots.py
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")

import napari
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from PIL import Image, ImageDraw, ImageQt
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.widget import PatchesWidget
from napari_patchset.preview.categories import CATEGORY_COLORS
from napari_patchset.sample import ensure_sample

IMAGES = Path(__file__).with_name("images")
WIDTH, HEIGHT = 1240, 740
PATIENCE = 120
"""Seconds until a step is given up."""

ANIMATION_WIDTH = 900
ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (13, 12))
"""The corners of the mouse pointer, which a picture of the screen does not show."""


class Tour:
    """The window on the sample, taken through the steps of the README's tour."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames: list[Image.Image] = []
        self.seconds: list[float] = []
        self.viewer = napari.Viewer(title="napari")
        self.viewer.window.resize(WIDTH, HEIGHT)
        _, self.widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        assert isinstance(self.widget, PatchesWidget)

    def open(self) -> None:
        """Open the sample: its first scene is shown, and a map of all."""
        path = shutil.copy(ensure_sample(), self.folder / "cells.czi")
        self.viewer.open(str(path), plugin=PLUGIN)
        # napari's sign of progress, which only a running loop takes away
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        picker = self.widget.picker
        self.until(lambda: len(picker.map.cells) == 3 and picker.loading.at_rest)
        self.viewer.canvas.overlays.scale_bar.visible = True
        self.viewer.reset_view()  # the sliders came after napari had fitted the image

    def choose_scene(self, scene: int) -> None:
        """Show another scene, as a click on its thumbnail does, and its middle plane."""
        self.widget.picker.map.picked.emit(scene)
        self.until(lambda: self.widget.source_control.shown_scene.scene == scene)
        self.viewer.dims.current_step = (1, 2, 0, 0)
        self.viewer.reset_view()

    def choose_patches(self) -> None:
        """Set depth axis, size and overlap."""
        patches = self.widget.form.patches
        patches.depth_axis.value = "Z"
        patches.size.load((3, 64, 64))
        patches.overlap.load((0, 16, 16))
        self.save("tour-patches")

    def filter_and_split(self, text: str) -> None:
        """Reject what is dark, and set some aside."""
        form = self.widget.form
        form.more.open()
        for title in ("Filters", "Split"):
            form.folds[title].open()
        form.filters.text.value = text
        form.filters.text.native.returnPressed.emit()
        form.split.val.value = 20
        self.settle()
        self.widget.ensureWidgetVisible(self.widget.preview.gallery_button)

    def look_closer(self) -> None:
        """Click a patch, and show some of them."""
        self.widget.preview.pointer.clicked.emit(
            (*self.viewer.dims.point[:-2], *self.middle), False
        )
        self.widget.preview.gallery_button.click()
        gallery = self.widget.preview.gallery
        self.until(lambda: not gallery.grid.missing_rows())
        gallery.move(self.main_window.mapToGlobal(QPoint(0, 0)))
        self.save("tour-gallery")
        gallery.close()

    def export(self) -> None:
        """Export the set, and open it."""
        export = self.widget.export
        export.start.native.click()
        self.until(lambda: export.open.enabled)
        self.widget.ensureWidgetVisible(export.native)
        self.save("tour-export")

    def show_all(self) -> None:
        """Show what the plugin does in one picture."""
        form = self.widget.form
        form.filters.load((), 0)
        form.patches.depth_axis.value = "none"
        form.patches.overlap.load((0, 0))
        self.choose_scene(0)
        self.filter_and_split("std[DAPI]>p20")
        for fold in form.folds.values():
            fold.open(False)
        self.widget.ensureWidgetVisible(self.widget.source.native)
        self.save("window")

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the image, in micrometres."""
        low, high = np.asarray(self.viewer.layers[0].extent.world)[:, -2:]
        y, x = (low + high) / 2
        return float(y), float(x)

    @property
    def main_window(self) -> QWidget:
        """The window of napari."""
        return self.viewer.window._qt_window

    def save(self, name: str) -> None:
        """Save what is on the screen, in 256 colours."""
        path = IMAGES / f"{name}.png"
        picture = self.picture()
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, path.stat().st_size // 1024, "KB")

    def picture(self) -> Image.Image:
        """Return what is on the screen, where the window is."""
        self.settle()
        for notification in self.main_window.findChildren(NapariQtNotification):
            notification.close()
        QApplication.processEvents()
        window = self.main_window
        corner = window.mapToGlobal(QPoint(0, 0))
        area = corner.x(), corner.y(), window.width(), window.height()
        pixmap = QApplication.primaryScreen().grabWindow(0, *area)
        return ImageQt.fromqpixmap(pixmap).convert("RGB")

    def show(self, seconds: float, at: QWidget | QPoint | None = None) -> None:
        """Add what is on the screen to the animation, with the mouse over a part of it."""
        if isinstance(at, QWidget):
            self.settle()
            self.widget.ensureWidgetVisible(at)
        picture = self.picture()
        if isinstance(at, QWidget):
            at = at.mapToGlobal(at.rect().center())
        if at is not None:
            offset = at - self.main_window.mapToGlobal(QPoint(0, 0))
            x, y = offset.x(), offset.y()
            corners = [(x + dx, y + dy) for dx, dy in ARROW]
            ImageDraw.Draw(picture).polygon(corners, fill="white", outline="black", width=1)
        size = ANIMATION_WIDTH, round(picture.height * ANIMATION_WIDTH / picture.width)
        self.frames.append(picture.resize(size, Image.Resampling.LANCZOS))
        self.seconds.append(seconds)

    def click(self, part: QWidget, seconds: float) -> None:
        """Show the mouse over a part, click it, and show what comes of it."""
        self.show(0.8, part)
        QTest.mouseClick(part, Qt.MouseButton.LeftButton)
        self.show(seconds, part)

    def animate(self) -> None:
        """Show the main job: from a file to a filtered, split patch set."""
        form, export = self.widget.form, self.widget.export
        self.open()
        self.show(1.5)
        self.choose_scene(1)
        scene_map = self.widget.picker.map
        x, y = scene_map.cells[1].center
        self.show(1.2, scene_map.mapToGlobal(QPoint(round(x), round(y))))
        form.patches.size.load((96, 96))
        self.show(1.2, form.patches.size.boxes[1])
        form.patches.overlap.load((16, 16))
        self.show(1.8, form.patches.overlap.boxes[1])
        self.click(form.more.button, 1.0)
        self.click(form.folds["Filters"].button, 0.8)
        self.click(form.filters.add.native, 1.2)
        (row,) = form.filters.rows
        row.limit.value = "p30"
        self.show(1.8, row.limit.native)
        self.click(form.folds["Split"].button, 0.6)
        form.split.val.value = 20
        self.show(1.8, form.split.val.native)
        self.click(self.widget.preview.gallery_button, 2.2)
        self.widget.preview.gallery.close()
        QTest.mouseClick(export.start.native, Qt.MouseButton.LeftButton)
        self.until(lambda: export.open.enabled)
        self.show(2.5, export.start.native)

    def save_animation(self, name: str) -> None:
        """Save the frames as a GIF, all in the same few colours."""
        path, first = IMAGES / f"{name}.gif", self.frames[0]
        strip = Image.new("RGB", (first.width, first.height * (len(self.frames) + 1)))
        for i, frame in enumerate(self.frames):
            strip.paste(frame, (0, i * first.height))
        for i, color in enumerate(CATEGORY_COLORS):  # which few pixels have
            strip.paste(color, (i * 100, strip.height - first.height, (i + 1) * 100, strip.height))
        palette = strip.quantize(256, dither=Image.Dither.NONE)
        images = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in self.frames]
        durations = [round(1000 * seconds) for seconds in self.seconds]
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
            optimize=False,
        )
        print(path, path.stat().st_size // 1024, "KB")

    def settle(self) -> None:
        """Wait until everything is planned, scored and drawn."""
        plans = self.widget.plans
        self.until(lambda: not plans.planning.running and not plans.scoring.running)
        done = time.monotonic() + 1.5
        self.until(lambda: time.monotonic() > done)

    def until(self, condition: Callable[[], bool]) -> None:
        """Run the window's event loop until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            QApplication.processEvents()
            if time.monotonic() > deadline:
                sys.exit("screenshots: the window did not get there in time")
            time.sleep(0.01)


def main() -> None:
    """Take the tour."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(Path(folder))
        try:
            tour.open()
            tour.save("tour-open")
            tour.choose_scene(1)
            tour.choose_patches()
            tour.filter_and_split("std[DAPI]>p25")
            tour.save("tour-filters")
            tour.look_closer()
            tour.export()
            tour.show_all()
        finally:
            tour.viewer.close()
    with tempfile.TemporaryDirectory() as folder:
        tour = Tour(Path(folder))
        try:
            tour.animate()
            tour.save_animation("tour")
        finally:
            tour.viewer.close()


if __name__ == "__main__":
    main()
