"""The window does not wait for pixels: they are read in threads and drawn when they come."""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from qtpy.QtCore import Qt

from napari_patchset.errors import UnreadableFileError
from napari_patchset.plugin import dialogs
from napari_patchset.plugin.lazy import array as lazy_array
from napari_patchset.plugin.napari_compat import camera
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.stacks.czi.stack import CziImageStack
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import soon
from support.window import SCENES, Window


class Storage:
    """Storage that gives no pixel while it is closed, and notes who asks."""

    def __init__(self) -> None:
        self.opened, self.permits = threading.Event(), threading.Semaphore(0)
        self.in_window: list[bool] = []
        self.fault: Exception | None = None
        self.opened.set()

    def pass_through(self) -> None:
        is_window = threading.current_thread() is threading.main_thread()
        self.in_window.append(is_window)
        while not self.opened.is_set() and not self.permits.acquire(timeout=0.01):
            assert not is_window, "the window waits for storage"
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        self.opened.clear()
        self.in_window.clear()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    storage = Storage()
    read = CziImageStack._read_plane

    def slow(*args: Any) -> Any:
        storage.pass_through()
        return read(*args)

    monkeypatch.setattr(CziImageStack, "_read_plane", slow)
    yield storage
    storage.opened.set()


def drawn(layer: Any) -> np.ndarray:
    """Return what napari has to draw."""
    pixels: np.ndarray = layer._slice.image.raw
    return pixels


def test_a_layer_comes_with_its_contrast_and_its_first_picture_and_gives_any_pixels(
    window: Window, file: Path
) -> None:
    layers = window.viewer.open(str(file), plugin=PLUGIN)
    at_once = [(layer.contrast_limits, drawn(layer).copy()) for layer in layers]
    assert len(at_once) == 2
    for channel, (limits, picture) in enumerate(at_once):
        expected = SCENES[0].pixels({"T": 0, "Z": 1, "C": channel})
        np.testing.assert_array_equal(picture, expected)
        assert expected.min() <= limits[0] < limits[1] <= expected.max()
    dapi = layers[0]
    expected = SCENES[0].pixels({"T": 1, "Z": 2, "C": 0})
    for pixels in (dapi.data[1, 2], np.asarray(dapi.data)[1, 2]):
        np.testing.assert_array_equal(pixels, expected)


def write_pyramid(path: Path, tiles: NDArray[np.uint16], side: int, levels: int) -> None:
    """Write an OME-TIFF in which a tile of each channel is repeated, so that it is small."""
    count = side // tiles.shape[-1]

    def level(number: int) -> Iterator[bytes]:
        repeated = np.tile(tiles, (1, 2**number, 2**number))[:, :: 2**number, :: 2**number]
        for each in repeated:
            yield from [zlib.compress(each.tobytes(), 1)] * (count >> number) ** 2

    options: dict[str, Any] = {"tile": tiles.shape[1:], "compression": "zlib", "dtype": "uint16"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number in range(levels):
            shape = (len(tiles), side >> number, side >> number)
            kind = {"subfiletype": 1} if number else {"subifds": levels - 1}
            axes = {"axes": "CYX"}
            writer.write(
                level(number),
                shape=shape,
                photometric="minisblack",
                metadata=axes,
                **kind,
                **options,
            )


def test_no_channel_of_a_pyramid_is_black(window: Window, tmp_path: Path) -> None:
    """Opened within the window's loop, as by a menu; nothing of a finer level is read for it."""
    tiles = np.random.default_rng(0).integers(40, 1272, (2, 256, 256), np.uint16)
    write_pyramid(path := tmp_path / "pyramid.ome.tif", tiles, side=6144, levels=3)
    at_once, layers = list[list[float]](), window.viewer.layers.events
    layers.inserted.connect(note := lambda event: at_once.append(event.value.contrast_limits))
    soon(lambda: window.viewer.open(str(path), plugin=PLUGIN))
    window.until(lambda: len(window.viewer.layers) > 0)
    layers.inserted.disconnect(note)
    for channel, (layer, limits) in enumerate(zip(window.images, at_once, strict=True)):
        low, high = limits
        assert (40 <= low <= 45, 1265 <= high <= 1271) == (True, True)
        assert layer.contrast_limits == limits
        shown = np.tile(tiles[channel], (24, 24))[::4, ::4]
        np.testing.assert_array_equal(layer._slice.thumbnail.raw, shown)


def test_the_window_answers_while_no_pixel_comes_of_this_scene_or_the_next(
    window: Window, file: Path, storage: Storage
) -> None:
    window.open(file)
    window.until(lambda: window.is_idle)
    dapi = window.images[0]
    storage.close()
    canvas = window.viewer.window._qt_viewer.canvas.native
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right):  # napari's own: the next step of a slider
        window.qtbot.keyClick(canvas, key)
    window.viewer.dims.set_current_step((0, 1), (1, 2))
    camera(window.viewer).zoom = 5
    window.type_number(window.widget.patches.size.boxes[1], 24, settle=False)
    window.until(lambda: "patches" in window.summary)

    storage.opened.set()
    expected = SCENES[0].pixels({"T": 1, "Z": 2, "C": 0})
    window.until(lambda: np.array_equal(drawn(dapi), expected))
    assert storage.in_window
    assert not any(storage.in_window)

    window.until(lambda: window.is_idle)
    storage.close()
    window.click_scene(1, settle=False)
    window.until(lambda: bool(storage.in_window))
    assert window.state.source.scene == 0
    storage.opened.set()
    window.until(lambda: window.state is not None and window.state.source.scene == 1)
    _, egfp = window.images
    t, z = window.viewer.dims.current_step[:2]
    np.testing.assert_array_equal(drawn(egfp), SCENES[1].pixels({"T": t, "Z": z, "C": 1}))
    assert not any(storage.in_window)


def test_a_coarse_level_stands_in_for_a_fine_one(
    window: Window, czi: MakeCzi, storage: Storage
) -> None:
    scene = SceneSpec(rect=(0, 0, 1300, 1100), t=2, pyramid=True)
    window.open(czi(scene, tile=(256, 256)))
    window.viewer.layers.selection.clear()
    (layer,) = window.images
    coarse = layer.data[-1]
    window.until(lambda: window.is_idle)
    storage.close()
    camera(window.viewer).zoom = 4
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
    monkeypatch.setattr(dialogs, "show_error", said.append)
    storage.fault = UnreadableFileError(f"{czi}: the tile is damaged")
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64), c=2)))
    window.until(lambda: bool(said))
    window.until(lambda: not any(layer.data.slicer.is_reading for layer in window.images))
    assert said == [f"{czi}: the tile is damaged"]
    assert len(window.images) == 2
    assert not drawn(window.images[0]).any()
    assert window.images[0].contrast_limits == [0, 65535]


def test_nothing_is_read_for_a_layer_that_is_gone(
    window: Window, czi: MakeCzi, storage: Storage
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 2600, 2600), t=2), tile=(512, 512)))
    window.until(lambda: window.is_idle)
    data = window.images[0].data
    storage.close()
    window.viewer.dims.set_current_step(0, 1 - window.viewer.dims.current_step[0])
    window.until(lambda: len(storage.in_window) == 2)
    window.viewer.layers.clear()
    window.qtbot.wait(2 * round(1000 * lazy_array._REDRAW_SECONDS))
    storage.permits.release(2)  # a block for each thread, which are to be drawn
    window.until(lambda: not data.slicer._wanted)
    storage.opened.set()
    window.until(lambda: not data.slicer.is_reading)
    assert len(storage.in_window) <= 4
