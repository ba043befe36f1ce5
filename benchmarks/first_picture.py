"""A slide of 100 000 px in the window: its first picture, and memory while panning and zooming.

Run it on a display, real or virtual: `tools/display python benchmarks/first_picture.py SLIDE.czi`.
"""

import json
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import napari
import numpy as np
from child import peak_memory
from qtpy.QtCore import QEventLoop, QTimer

from napari_patchset.plugin.preferences import PLUGIN

_PANS = ((0.5, 0.5), (0.1, 0.2), (0.8, 0.4), (0.3, 0.9))
"""The centre of the view at each level, as shares of the slide."""

_PATIENCE_S = 60


class Tour:
    """Open a slide and view every level, in the window's event loop."""

    def __init__(self, path: str) -> None:
        self._path, self._stall = path, 0.0
        self.viewer = napari.Viewer()
        self._finish_start()

    def _finish_start(self) -> None:
        """Have napari load what it loads with the first layer of any kind."""
        self.viewer.add_image(np.eye(64), scale=(2, 2), units=("um", "um"))
        _reuse_layers()
        self.viewer.layers.clear()
        _reuse_layers()

    def run(self) -> dict[str, float]:
        """Return the first picture's time and memory, and those of a tour through all levels.

        Returns
        -------
        dict of str to float
            "first_s" and of that "first_cpu_s", what this process computed; "idle_mb" before, and
            "peak_mb" after all; "stall_ms", the longest turn of the loop; "levels" that were seen.
        """
        idle = peak_memory()
        began, began_cpu = perf_counter(), process_time()
        _in_loop(lambda: self.viewer.open(self._path, plugin=PLUGIN))
        self._wait(self._shows_pixels)
        first, first_cpu = perf_counter() - began, process_time() - began_cpu
        self._wait(self._is_loaded)
        levels = self._look_everywhere()
        return {
            "first_s": first,
            "first_cpu_s": first_cpu,
            "idle_mb": idle / 1e6,
            "peak_mb": peak_memory() / 1e6,
            "stall_ms": 1000 * self._stall,
            "levels": len(levels),
        }

    @property
    def _layer(self) -> Any:
        return self.viewer.layers[-1]

    def _look_everywhere(self) -> set[int]:
        camera, seen = self.viewer.scene.camera, set()
        for _ in self._layer.data:
            for y, x in _PANS:
                low, high = self._layer.extent.world
                place = (0, *(low + (high - low) * (y, x)))
                _in_loop(lambda place=place: setattr(camera, "center", place))
                self._wait(self._is_loaded)
            seen.add(self._layer.data_level)
            _in_loop(lambda: setattr(camera, "zoom", 2 * camera.zoom))
        return seen | {self._layer.data_level}

    def _shows_pixels(self) -> bool:
        return bool(self._layer._slice.image.raw.any())

    def _is_loaded(self) -> bool:
        return not self._layer.data[0].slicer.is_reading

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until something is so and is drawn; note the longest turn."""
        end = perf_counter() + _PATIENCE_S
        while not condition():
            began = perf_counter()
            if began > end:
                raise TimeoutError(f"{self._path}: not drawn within {_PATIENCE_S} s")
            _reuse_layers()
            self._stall = max(self._stall, perf_counter() - began)
        _reuse_layers()
        self.viewer.window._qt_viewer.canvas._scene_canvas.context.finish()


def _in_loop(action: Callable[[], object]) -> None:
    """Do something as a key or the mouse does it: the plugin answers without waiting."""
    done: list[object] = []
    QTimer.singleShot(0, lambda: done.append(action()))
    while not done:
        _reuse_layers()


def _reuse_layers() -> None:
    """Run the window's event loop once."""
    loop = QEventLoop()
    QTimer.singleShot(0, loop.quit)
    loop.exec()


if __name__ == "__main__":
    tour = Tour(sys.argv[1])
    measured = tour.run()
    tour.viewer.close()
    print(json.dumps(measured))
