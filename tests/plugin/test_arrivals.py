"""The window does not wait for pixels: they are read in threads and drawn when they come."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer

from napari_patchset.errors import UnreadableFileError
from napari_patchset.plugin import scene_context as facts
from napari_patchset.plugin import state as descriptions
from napari_patchset.plugin.lazy import redraw as redrawing
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.stacks.czi.tiles import CziPixels
from support.czi_maker import MakeCzi, SceneSpec
from support.window import SCENES, Window


class Storage:
    """Storage that gives no pixel until it is opened, and notes who asks."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.in_window: list[bool] = []
        self.fault: Exception | None = None

    def pass_through(self) -> None:
        self.in_window.append(threading.current_thread() is threading.main_thread())
        assert self.opened.wait(timeout=60), "the window waits for storage"
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    found = Storage()
    read = CziPixels.read

    def slow(*args: Any) -> Any:
        found.pass_through()
        return read(*args)

    monkeypatch.setattr(CziPixels, "read", slow)
    yield found
    found.opened.set()


def in_loop(window: Window, action: Callable[[], object]) -> None:
    """Do something as the window's loop does it, not as a script that could wait."""
    done: list[object] = []
    QTimer.singleShot(0, lambda: done.append(action()))
    window.until(lambda: bool(done))


def open_in_loop(window: Window, path: Path) -> None:
    in_loop(window, lambda: window.viewer.open(str(path), plugin=PLUGIN))
    window.until(lambda: window.state is not None)


def drawn(layer: Any) -> np.ndarray:
    """Give what napari has to draw."""
    found: np.ndarray = layer._slice.image.raw
    return found


def test_the_window_answers_while_no_pixel_comes(
    window: Window, file: Path, storage: Storage
) -> None:
    open_in_loop(window, file)
    dapi = window.images[0]
    assert not drawn(dapi).any()
    assert dapi.contrast_limits == [0, 65535]

    canvas = window.viewer.window._qt_viewer.canvas.native
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right):  # napari's own: the next step of a slider
        in_loop(window, lambda key=key: window.qtbot.keyClick(canvas, key))
    in_loop(window, lambda: window.viewer.dims.set_current_step((0, 1), (1, 2)))
    in_loop(window, lambda: setattr(window.viewer.scene.camera, "zoom", 5))
    in_loop(window, lambda: window.type_number(window.widget.patches.size.boxes[1], 24))
    assert "patches" in window.summary
    assert not drawn(dapi).any()

    storage.opened.set()
    expected = SCENES[0].pixels({"T": 1, "Z": 2, "C": 0})
    window.until(lambda: np.array_equal(drawn(dapi), expected))
    window.until(lambda: dapi.contrast_limits != [0, 65535])
    assert storage.in_window
    assert not any(storage.in_window)


def test_another_scene_is_shown_before_its_pixels_come(
    window: Window, file: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_by: list[threading.Thread] = []
    for module, name in ((facts, "scene_layers"), (descriptions, "open_image")):
        call = getattr(module, name)

        def noted(*args: Any, call: Callable[..., Any] = call) -> Any:
            opened_by.append(threading.current_thread())
            return call(*args)

        monkeypatch.setattr(module, name, noted)
    storage.opened.set()
    open_in_loop(window, file)
    window.until(lambda: not window.widget.picker.loading)
    storage.opened.clear()
    opened_by.clear()
    in_loop(window, lambda: window.click_scene(1))
    window.until(lambda: window.state.scene == 1)
    _, egfp = window.images
    assert egfp.data.shape == (2, 3, 80, 64)
    storage.opened.set()
    t, z = window.viewer.dims.current_step[:2]
    expected = SCENES[1].pixels({"T": t, "Z": z, "C": 1})
    window.until(lambda: np.array_equal(drawn(egfp), expected))
    assert not any(storage.in_window)
    assert len(opened_by) == 2
    assert threading.main_thread() not in opened_by


def test_who_needs_pixels_gets_them(window: Window, file: Path, storage: Storage) -> None:
    open_in_loop(window, file)
    dapi, got = window.images[0], []
    expected = SCENES[0].pixels({"T": 1, "Z": 2, "C": 0})
    threading.Timer(0.1, storage.opened.set).start()
    in_loop(window, lambda: got.extend((dapi.data[1, 2], np.asarray(dapi.data)[1, 2])))
    for pixels in got:
        np.testing.assert_array_equal(pixels, expected)


def test_a_coarse_level_stands_in_for_a_fine_one(
    window: Window, czi: MakeCzi, storage: Storage
) -> None:
    storage.opened.set()
    scene = SceneSpec(rect=(0, 0, 1300, 1100), t=2, pyramid=True)
    open_in_loop(window, czi(scene, tile=(256, 256)))
    window.viewer.layers.selection.clear()
    (layer,) = window.images
    coarse = layer.data[-1]
    window.until(lambda: layer._slice.thumbnail.raw.any())
    storage.opened.clear()
    in_loop(window, lambda: setattr(window.viewer.scene.camera, "zoom", 4))
    window.until(lambda: layer.data_level == 0)
    t = window.viewer.dims.current_step[0]
    (top, left), (bottom, right) = layer.corner_pixels[:, 1:]
    guess = drawn(layer)
    assert guess.shape == (bottom - top + 1, right - left + 1)
    storage.opened.set()
    y, x = (np.arange(a, b + 1) for a, b in ((top, bottom), (left, right)))
    rows, columns = (
        (n + 0.5) * m / k for n, m, k in zip((y, x), coarse.shape[1:], (1100, 1300), strict=True)
    )
    enlarged = coarse[t][np.ix_(rows.astype(int), columns.astype(int))]
    expected = scene.pixels({"T": t, "Z": 0, "C": 0})[top : bottom + 1, left : right + 1]
    assert np.array_equal(guess, enlarged) or np.array_equal(guess, expected)
    window.until(lambda: np.array_equal(drawn(layer), expected))


def test_what_cannot_be_read_is_said_once(
    window: Window, czi: MakeCzi, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(redrawing, "show_error", said.append)
    storage.fault = UnreadableFileError("image.czi: the tile is damaged")
    storage.opened.set()
    open_in_loop(window, czi(SceneSpec(rect=(0, 0, 64, 64), c=2)))
    window.until(lambda: bool(said))
    dapi = window.images[0]
    window.until(lambda: not any(layer.data.arrivals.is_reading for layer in window.images))
    assert said == ["image.czi: the tile is damaged"]
    assert not drawn(dapi).any()


def test_nothing_is_read_for_a_layer_that_is_gone(
    window: Window, czi: MakeCzi, storage: Storage
) -> None:
    scene = SceneSpec(rect=(0, 0, 2600, 2600))
    open_in_loop(window, czi(scene, tile=(512, 512)))
    data = window.images[0].data
    in_loop(window, window.viewer.layers.clear)
    window.qtbot.wait(2 * redrawing._EVERY_MS)
    storage.opened.set()
    window.until(lambda: not data.arrivals.is_reading)
    assert len(storage.in_window) < 10
