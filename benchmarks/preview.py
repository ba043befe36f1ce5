"""The preview: from a changed value to a drawn frame, with a million patches planned.

Run it on a display, real or virtual: `tools/display python benchmarks/preview.py`.
"""

import json
import tempfile
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep, thread_time

import dask.array as da
import napari
import zarr
from qtpy.QtCore import QEvent, QEventLoop, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_patchset.patching.strategies import Tiled
from napari_patchset.plugin.napari_compat import scale_bar
from napari_patchset.plugin.planning import PlanPreview
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.widget import PatchesWidget

SIDE = 48_000
"""Pixels along each side of the image: a million patches of 64 px that overlap by 16."""

_REPEATS, _MOVES = 7, 12
_PATIENCE_S = 60
_OUTLINED = 1500
"""Patches in view in the row of outlines, whatever the size of the window."""


def make_image(path: Path, frames: int = 0) -> Path:
    """Make a pyramidal OME-Zarr that stores no pixel, with a T axis if there are frames."""
    factors = [2**i for i in range(7)]
    group = zarr.create_group(path)
    outer = (frames,) if frames else ()
    for i, factor in enumerate(factors):
        n = SIDE // factor
        chunks = (1,) * len(outer) + (1024, 1024)
        group.create_array(str(i), shape=(*outer, n, n), chunks=chunks, dtype="uint16")
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    time = [{"name": "t", "type": "time"}] if frames else []
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*(1.0 for _ in outer), 0.5 * f, 0.5 * f]}
            ],
        }
        for i, f in enumerate(factors)
    ]
    multiscale = {"name": "large", "axes": [*time, *axes], "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def measure_preview() -> dict[str, float]:
    """Measure, in ms, the median from a changed value to the frame that shows it.

    Returns
    -------
    dict of str to float
        "map" with all of the image in view, "outlines" with as much of it as has outlines,
        "split" as "map" with a validation split, and "patches", their number. "hover" is from the
        mouse on a patch to its highlight in the scene. "pan", "zoom" and "slide" are what it takes
        to move with the preview, and with "_plain" what it takes plain napari with the same image.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = make_image(Path(folder) / "large.zarr")
        times = _with_preview(path, _measured)
        movie = make_image(Path(folder) / "movie.zarr", frames=4)
        plain, ours = _plain(movie), _with_preview(movie, lambda viewer, _: _moves(viewer))
        return times | ours | {f"{name}_plain": value for name, value in plain.items()}


def _with_preview(path: Path, measure: Callable[..., dict[str, float]]) -> dict[str, float]:
    viewer = napari.Viewer()
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
    viewer.open(str(path), plugin=PLUGIN)
    # Or else napari's sign of progress turns on, and is drawn with each frame: it goes with this.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    try:
        _change(viewer, widget, (16, 16))
        return measure(viewer, widget)
    finally:
        viewer.close()


def _plain(path: Path) -> dict[str, float]:
    """Measure napari alone, with its own lazy pyramid, as wide as next to the widget."""
    viewer = napari.Viewer()
    viewer.window.add_dock_widget(QLabel(" " * 90), area="right")
    levels = [da.from_zarr(path / str(i)) for i in range(7)]
    viewer.add_image(levels, multiscale=True, scale=(1, 0.5, 0.5), contrast_limits=(0, 65535))
    scale_bar(viewer).visible = True  # as with the widget: it takes napari most of a zoom
    _draw(viewer)
    try:
        return _moves(viewer)
    finally:
        viewer.close()


def _measured(viewer: napari.Viewer, widget: PatchesWidget) -> dict[str, float]:
    times = {"map": _median(viewer, widget)}
    height, width = viewer.canvas.size
    viewer.scene.camera.zoom = sqrt(height * width / _OUTLINED) / (0.5 * 48)  # 48 px of 0.5 µm
    _draw(viewer)
    times["outlines"] = _median(viewer, widget)
    viewer.reset_view()
    _draw(viewer)
    widget.form.split.val.value = 10
    times["split"] = _median(viewer, widget)
    times["hover"] = _hover(viewer, widget)
    return times | {"patches": len(widget.preview.overlay.grid.planned.grid)}


def _moves(viewer: napari.Viewer) -> dict[str, float]:
    """Measure the turns of the loop after each move: where outlines are drawn, and sliding."""
    camera, times = viewer.scene.camera, {}
    times["slide"] = _turns(viewer, lambda i: viewer.dims.set_point(0, i % 4))
    camera.zoom *= 40
    _rest(viewer)
    _, y, x = camera.center
    times["pan"] = _turns(viewer, lambda i: setattr(camera, "center", (0, y + 20 * i, x)))
    zoom = camera.zoom
    times["zoom"] = _turns(viewer, lambda i: setattr(camera, "zoom", zoom * 1.1**i))
    return times


def _turns(viewer: napari.Viewer, move: Callable[[int], object]) -> float:
    """Return the ms that a move takes the window's thread, the median of some."""
    taken = []
    for i in range(1, _MOVES + 1):
        began = thread_time()
        move(i)
        taken.append(thread_time() - began + _rest(viewer))
    return 1000 * median(taken)


def _rest(viewer: napari.Viewer) -> float:
    """Run everything that follows a move; return the seconds of computing."""
    began = thread_time()
    for _ in range(4):
        _draw(viewer)
        sleep(0.02)
    return thread_time() - began


def _median(viewer: napari.Viewer, widget: PatchesWidget) -> float:
    taken = []
    for i in range(_REPEATS):
        began = perf_counter()
        _change(viewer, widget, (16, 17 - i % 2))
        taken.append(perf_counter() - began)
    _change(viewer, widget, (16, 16))
    return 1000 * median(taken)


def _hover(viewer: napari.Viewer, widget: PatchesWidget) -> float:
    """Move the mouse from patch to patch; return the ms until each is highlighted."""
    canvas, overlay, taken = viewer.window._qt_viewer.canvas.native, widget.preview.overlay, []
    viewer.scene.camera.zoom *= 40
    _rest(viewer)
    for i in range(_MOVES):
        before = overlay.hovered
        spot = QPointF(canvas.width() / 2 + 20 * i, canvas.height() / 2)
        none, buttons = Qt.MouseButton.NoButton, Qt.MouseButton.NoButton
        keys = Qt.KeyboardModifier.NoModifier
        move = QMouseEvent(
            QEvent.Type.MouseMove, spot, canvas.mapToGlobal(spot), none, buttons, keys
        )
        began, end = perf_counter(), monotonic() + _PATIENCE_S
        QApplication.sendEvent(canvas, move)
        while overlay.hovered in (None, before):
            if monotonic() > end:
                raise TimeoutError(f"no patch is highlighted within {_PATIENCE_S} s")
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        taken.append(perf_counter() - began)
        _rest(viewer)
    return 1000 * median(taken)


def _change(viewer: napari.Viewer, widget: PatchesWidget, overlap: tuple[int, int]) -> None:
    """Set the overlap, and draw until its patches are on the screen."""
    widget.patches.overlap.load(overlap)
    end = monotonic() + _PATIENCE_S
    while (grid := widget.preview.overlay.grid) is None or _overlap(grid.planned) != overlap:
        if monotonic() > end:
            raise TimeoutError(f"no patches within {_PATIENCE_S} s: {widget.summary.text()}")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
    _draw(viewer)


def _overlap(planned: PlanPreview) -> tuple[int, ...]:
    strategy = planned.state.recipe.strategy
    assert isinstance(strategy, Tiled)
    return tuple(strategy.overlap)


def _draw(viewer: napari.Viewer) -> None:
    """Draw what is shown now, until the last pixel is there."""
    QApplication.processEvents()
    viewer.window._qt_viewer.canvas._scene_canvas.context.finish()


if __name__ == "__main__":
    print(json.dumps(measure_preview()))
