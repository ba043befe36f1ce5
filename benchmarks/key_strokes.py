"""How long a key stroke waits in the window while each read of a file takes 200 ms.

Opening through napari blocks the window while the reader reads a file's structure and, of its first
plane, the lowest resolution: these reads are counted, and the wait is measured without them.

Run it on a display, real or virtual: `tools/display python benchmarks/key_strokes.py IMAGE.czi`.
"""

import builtins
import io
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from threading import current_thread, main_thread
from time import sleep
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QLabel
from strokes import Journey, Keys

from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.widget import PatchesWidget

_READ_S = 0.2
_REPEATS = 3

DOCKING, OPENING, SCENE, REMOVING = "dock", ("drop", "open it"), "another scene", "remove layers"
"""The steps that are compared with napari's own: they dock a widget, or add or remove layers."""


def plain(keys: Keys) -> dict[str, float]:
    """Add, replace and remove in napari alone the layers that a journey does, from memory."""
    journey = Journey(keys)
    layers = journey.viewer.layers
    window = journey.viewer.window
    journey.step("dock", lambda: window.add_dock_widget(QLabel("Patches"), area="right"))
    pixels = np.random.default_rng(0).integers(0, 500, (3, 1024, 1024)).astype("u2")

    def add() -> None:
        for color in ("blue", "green"):
            options = {"blending": "additive", "contrast_limits": (0, 500), "scale": (1, 0.5, 0.5)}
            journey.viewer.add_image(pixels, colormap=color, units=("um",) * 3, **options)

    def replace() -> None:
        layers.clear()
        add()

    journey.step("first layer", add)
    journey.step("clear", layers.clear)
    journey.step("opening", add)
    lines, space = np.zeros((4, 2, 2)), {"scale": (0.5, 0.5), "units": ("um", "um")}
    journey.step("lines", lambda: journey.viewer.add_vectors(lines, **space))
    journey.step("lines away", lambda: layers.pop(-1))
    journey.step("another scene", replace)
    for name in ("more", "still more"):
        journey.step(name, add)
    journey.step("remove layers", layers.clear)
    journey.viewer.close()
    return journey.waits


def ours(keys: Keys, storage: "SlowStorage", path: Path, out: Path) -> dict[str, float]:
    """Go through an image with the plugin, from docking its widget to opening what was exported."""
    journey = Journey(keys)
    viewer, docked = journey.viewer, list[PatchesWidget]()
    journey.step("dock", lambda: docked.append(dock(viewer)))
    (widget,) = docked

    def is_at_rest() -> bool:
        return is_idle(widget)

    def step(name: str, action: Callable[[], object]) -> None:
        journey.step(name, action, is_at_rest)

    form, preview, export = widget.form, widget.preview, widget.export
    storage.reads_in_window = 0
    journey.step("drop", lambda: drop(viewer, path), lambda: has_image(widget) and is_at_rest())
    journey.waits["drop"] -= 1000 * _READ_S * storage.reads_in_window
    step("depth axis", lambda: setattr(widget.patches.depth_axis, "value", "Z"))
    step("strategy", lambda: setattr(form.strategy.kind, "value", "whole"))
    step("strategy again", lambda: setattr(form.strategy.kind, "value", "tiled"))
    step("depth axis again", lambda: setattr(widget.patches.depth_axis, "value", "none"))
    step("filter", form.filters.add.native.click)
    step("another scene", lambda: widget.picker.picked.emit(1))
    step("slide", lambda: viewer.dims.set_current_step(0, 2))
    step("zoom", lambda: setattr(viewer.scene.camera, "zoom", 2 * viewer.scene.camera.zoom))
    step("gallery", preview.gallery_button.click)
    step("patch", preview.pick_button.click)
    export.out.value = out
    journey.step("export", export.start.native.click, lambda: export.open.enabled and is_at_rest())
    step("open it", export.open.native.click)
    step("remove layers", viewer.layers.clear)
    viewer.close()
    return journey.waits


def dock(viewer: napari.Viewer) -> PatchesWidget:
    """Dock the widget."""
    widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")[1]
    assert isinstance(widget, PatchesWidget)
    return widget


def drop(viewer: napari.Viewer, path: Path) -> None:
    """Drop a file on the window as the file manager does."""
    target, data = viewer.window._qt_viewer, QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    copy, buttons = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    keys, at = Qt.KeyboardModifier.NoModifier, target.rect().center()
    QApplication.sendEvent(target, QDragEnterEvent(at, copy, data, buttons, keys))
    QApplication.sendEvent(target, QDropEvent(QPointF(at), copy, data, buttons, keys))


def has_image(widget: PatchesWidget) -> bool:
    """Whether it is known what is shown."""
    return widget.source_control.context is not None


def is_idle(widget: PatchesWidget) -> bool:
    """Whether the plugin does nothing any more."""
    preview = widget.preview
    workers = (*widget.workers, preview.view.pictures)
    return all(worker.at_rest for worker in workers)


class SlowStorage:
    """Delay each access to the files of a folder, and each read, from now on.

    Attributes
    ----------
    reads_in_window : int
        How many of them the window has waited for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.reads_in_window = str(folder), 0
        for module, name in ((os, "pread"), (os, "open"), (builtins, "open"), (io, "open")):
            setattr(module, name, self._slow(getattr(module, name)))

    def _slow(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            path = args[0] if args else None
            is_path = isinstance(path, (str, os.PathLike))
            if not is_path or os.fspath(path).startswith(self._folder):
                self.reads_in_window += current_thread() is main_thread()
                sleep(_READ_S)
            return call(*args, **options)

        return called


def measure(path: Path) -> dict[str, float]:
    """Measure the waits in turn, napari's and ours; the median of some journeys.

    Returns
    -------
    dict of str to float
        In ms: "docking", "opening", "scene", "removing" and, of all other steps, the "longest";
        with "_plain" those of napari alone. "reads" is the number of reads that the window waits
        for while it opens a file, and "opening" the longest wait without them.
    """
    keys, taken = Keys(), defaultdict[str, list[float]](list)
    try:
        with tempfile.TemporaryDirectory() as folder:
            plains, storage = [plain(keys)], SlowStorage(path.parent)
            for number in range(_REPEATS):
                out = Path(folder) / f"{number}.patches.zarr"
                for name, wait in ours(keys, storage, path, out).items():
                    taken[name].append(wait)
                plains.append(plain(keys))
    finally:
        keys.end()
    print({name: [round(wait) for wait in waits] for name, waits in taken.items()}, file=sys.stderr)
    waits_by_step = {name: median(waits) for name, waits in taken.items()}
    waits_by_step[DOCKING] = taken[DOCKING][0]  # as it is met: the first time in a session
    plain_by_step = {name: median(each[name] for each in plains[1:]) for name in plains[0]}
    opening = max(waits_by_step.pop(name) for name in OPENING)
    steps = {"docking": DOCKING, "scene": SCENE, "removing": REMOVING}
    waits = {"opening": opening} | {kind: waits_by_step.pop(name) for kind, name in steps.items()}
    waits |= {"longest": max(waits_by_step.values()), "reads": storage.reads_in_window}
    steps |= {"opening": "opening"}
    return waits | {f"{kind}_plain": plain_by_step[name] for kind, name in steps.items()}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
