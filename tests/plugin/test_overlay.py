"""The drawn grid as a guest in napari: what it does to the window, and what it leaves alone."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from napari_patchset.plugin.canvas import overlay
from napari_patchset.plugin.canvas.overlay_layers import MAP_NAME
from napari_patchset.plugin.napari_compat import camera as camera_of
from support.czi_maker import MakeCzi, SceneSpec
from support.window import Window

LEAVE_OPEN = """
import napari, numpy as np
from napari_patchset.plugin.preferences import PLUGIN
viewer = napari.Viewer(show=False)
viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
viewer.add_image(np.ones((64, 64), np.uint8))
"""


@pytest.mark.gui
def test_a_program_that_ends_with_its_window_open_ends_quietly() -> None:
    command = [sys.executable, "-c", LEAVE_OPEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode != -signal.SIGABRT, done.stderr


@contextmanager
def uploads(window: Window, name: str) -> Iterator[list[str]]:
    """Collect how often the pixels or lines of a layer are redrawn."""
    seen: list[str] = []

    def note(event: object) -> None:
        seen.append(name)

    events = window.viewer.layers[name].events
    for event in (events.set_data, *([events.edge_color] if "edge_color" in events else [])):
        event.connect(note)
    yield seen
    window.qtbot.wait(100)  # whatever follows the camera or the sliders has done so
    for event in (events.set_data, *([events.edge_color] if "edge_color" in events else [])):
        event.disconnect(note)


def test_what_stays_the_same_is_not_drawn_again(window: Window, file: Path) -> None:
    window.open(file)
    grid, camera = window.grid.name, camera_of(window.viewer)
    window.type_size(8, 8)
    with uploads(window, grid) as drawn:
        camera.zoom *= 8
        window.until(lambda: bool(drawn))
    with uploads(window, grid) as drawn:
        window.viewer.dims.set_point(0, 1)
        window.viewer.dims.set_point(1, 2)
        y, x = camera.center[-2:]
        camera.center = (0, y + 0.5, x)
        window.qtbot.wait(100)
    assert drawn == []
    assert window.widget.preview.drawn.sample == 5

    with uploads(window, grid) as drawn:
        camera.center = (0, y + 10, x)
        window.until(lambda: bool(drawn))
    assert drawn == [grid]

    before = len(window.grid.data)
    window.grid.visible = False
    with uploads(window, grid) as drawn:
        window.type_number(window.widget.patches.size.boxes[1], 16)
    assert (drawn, len(window.grid.data)) == ([], before)
    window.grid.visible = True
    assert len(window.grid.data) < before

    with uploads(window, grid) as drawn:
        window.viewer.layers.remove(window.images[0])
    assert drawn == []


def test_a_changed_value_draws_the_map_once(
    window: Window, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "MAX_OUTLINES", 10)
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128))))
    _, y, x = window.widget.patches.size.boxes
    window.type_number(y, 8)
    window.type_number(x, 16)
    shown = window.viewer.layers[MAP_NAME]
    assert (shown.data.shape[:2], shown.visible, len(window.grid.data)) == ((16, 8), True, 0)
    with uploads(window, MAP_NAME) as mapped, uploads(window, window.grid.name) as lined:
        window.type_number(y, 4)
    assert (mapped, lined) == ([MAP_NAME], [])
    image = window.images[0]
    np.testing.assert_allclose(
        shown._extent_augmented.world, image._extent_augmented.world, atol=1e-9
    )
    assert window.viewer.layers.units == image.units[-2:]
