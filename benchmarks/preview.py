"""The preview: from a changed value to a drawn frame, with a million patches planned.

Run it on a display, real or virtual: `tools/display python benchmarks/preview.py`.
"""

import json
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import napari
import zarr
from qtpy.QtWidgets import QApplication

from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.widget import PatchesWidget

SIDE = 48_000
"""Pixels along each side of the image: a million patches of 64 px that overlap by 16."""

_REPEATS = 7


def make_image(path: Path) -> Path:
    """Make a pyramidal OME-Zarr that stores no pixel."""
    factors = [2**i for i in range(7)]
    group = zarr.create_group(path)
    for i, factor in enumerate(factors):
        n = SIDE // factor
        group.create_array(str(i), shape=(n, n), chunks=(1024, 1024), dtype="uint16")
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [{"type": "scale", "scale": [0.5 * f, 0.5 * f]}],
        }
        for i, f in enumerate(factors)
    ]
    multiscale = {"name": "large", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def measure_preview() -> dict[str, float]:
    """Measure, in ms, the median from a changed value to the frame that shows it.

    Returns
    -------
    dict of str to float
        "map" with all of the image in view, "outlines" with as much of it as has outlines,
        "split" as "map" with a validation split, and "patches", their number.
    """
    with tempfile.TemporaryDirectory() as folder:
        viewer = napari.Viewer()
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        viewer.open(str(make_image(Path(folder) / "large.zarr")), plugin=PLUGIN)
        widget.patches.overlap.load((16, 16))
        _draw(viewer)
        try:
            return _measured(viewer, widget)
        finally:
            viewer.close()


def _measured(viewer: napari.Viewer, widget: PatchesWidget) -> dict[str, float]:
    found = {"map": _median(viewer, widget)}
    viewer.scene.camera.zoom *= 25
    _draw(viewer)
    found["outlines"] = _median(viewer, widget)
    viewer.reset_view()
    _draw(viewer)
    widget.form.split.val.value = 10
    found["split"] = _median(viewer, widget)
    return found | {"patches": len(widget.plans.current.grid)}


def _median(viewer: napari.Viewer, widget: PatchesWidget) -> float:
    taken = []
    for i in range(_REPEATS):
        began = perf_counter()
        widget.patches.overlap.boxes[2].value = 16 + i % 2
        _draw(viewer)
        taken.append(perf_counter() - began)
    return 1000 * median(taken)


def _draw(viewer: napari.Viewer) -> None:
    """Draw what is shown now, until the last pixel is there."""
    QApplication.processEvents()
    viewer.window._qt_viewer.canvas._scene_canvas.context.finish()


if __name__ == "__main__":
    print(json.dumps(measure_preview()))
