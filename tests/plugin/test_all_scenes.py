"""A file that opens with all of its scenes, each where it lies, and the way to the scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.plugin import reader as opener
from napari_patchset.plugin.layers import scene_layout as all_scenes
from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.plugin.napari_compat import get_plugin_settings
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.reader import read_layers
from support.czi_maker import MakeCzi, SceneSpec
from support.window import Window


@pytest.fixture
def _all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefer to open all scenes."""
    monkeypatch.setattr(get_plugin_settings(PLUGIN).opening, "all_scenes", True)


def places(path: Path) -> dict[str, list[float]]:
    return {
        options["name"]: list(options["translate"][-2:]) for _, options, _ in read_layers(str(path))
    }


@pytest.mark.usefixtures("_all")
def test_each_scene_lies_where_it_was_on_the_stage(file: Path) -> None:
    assert places(file) == {
        "Left: DAPI": [0, -50],
        "Left: EGFP": [0, -50],
        "Right: DAPI": [15, 200],
        "Right: EGFP": [15, 200],
    }


@pytest.mark.usefixtures("_all")
def test_scenes_without_places_stand_beside_each_other(tmp_path: Path) -> None:
    for name in "abc":
        zarr.create_array(tmp_path / "series.zarr" / name, data=np.zeros((20, 30), np.uint8))
    zarr.open_group(tmp_path / "series.zarr", mode="a")
    found = list(places(tmp_path / "series.zarr").values())
    assert len({tuple(place) for place in found}) == 3
    assert {y for y, _ in found} == {0}
    assert np.diff(sorted(x for _, x in found)).min() >= 30


@pytest.mark.usefixtures("_all")
def test_scenes_have_the_axes_of_all(czi: MakeCzi) -> None:
    specs = (
        SceneSpec(id=0, rect=(0, 0, 20, 10), t=3, z=1),
        SceneSpec(id=1, rect=(100, 0, 20, 10), t=1, z=4),
        SceneSpec(id=2, rect=(200, 0, 20, 10), t=None, z=None),
    )
    layers = read_layers(str(czi(*specs)))
    assert [data.shape for data, _, _ in layers] == [(3, 1, 10, 20), (1, 4, 10, 20), (1, 1, 10, 20)]
    assert {tuple(options["axis_labels"]) for _, options, _ in layers} == {("t", "z", "y", "x")}
    for (data, _, _), spec, at in zip(layers, specs, ((2, 0), (0, 3), (0, 0)), strict=True):
        plane = dict(zip("TZ", at, strict=True)) if spec.t else {}
        np.testing.assert_array_equal(data[at], spec.pixels({**plane, "C": 0}))


@pytest.mark.usefixtures("_all")
def test_more_scenes_than_are_good_and_one_that_is_broken(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi(*(SceneSpec(id=i, rect=(100 * i, 0, 80, 60)) for i in range(3)))
    opened = all_scenes.scene_layers

    def open_two(ref: ImageRef, *others: Any) -> Any:
        if ref.scene == 1:
            raise UnreadableFileError("image.czi: scene 1 is damaged.")
        return opened(ref, *others)

    said: list[str] = []
    monkeypatch.setattr(all_scenes, "scene_layers", open_two)
    monkeypatch.setattr(opener, "show_info", said.append)
    assert len(read_layers(str(path))) == 2
    assert said == ["image.czi: 1 of 3 scenes is skipped: image.czi: scene 1 is damaged."]
    monkeypatch.setattr("napari_patchset.plugin.reader.MAX_SCENES", 2)
    assert len(read_layers(str(path))) == 1
    assert said[1] == "This is Scene 0, one of 3 scenes."


@pytest.mark.usefixtures("_all")
def test_the_picker_turns_from_scene_to_scene(window: Window, file: Path) -> None:
    window.open(file)
    viewer = window.viewer
    names = ["Left: DAPI", "Left: EGFP", "Right: DAPI", "Right: EGFP"]
    assert [layer.name for layer in window.images] == names
    assert window.state.source.scene == 0
    np.testing.assert_allclose(window.grid.translate, (0, -50), atol=1)
    window.click_scene(1)
    window.until(lambda: window.state.source.scene == 1)
    assert [layer.name for layer in window.images] == names
    np.testing.assert_allclose(window.grid.translate, (15, 200), atol=1)
    np.testing.assert_allclose(camera_of(viewer).center[-2:], (15 + 20, 200 + 16), atol=1)

    for name in names[2:]:
        viewer.layers.remove(name)
    window.until(lambda: window.widget.picker.map.shown_index == 0)
    assert window.state.source.scene == 0
    window.click_scene(1)  # the only scene that is left is replaced
    window.until(lambda: window.state.source.scene == 1)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]


@pytest.mark.usefixtures("_all")
def test_a_scene_that_was_taken_away_comes_back_beside_the_others(
    window: Window, czi: MakeCzi
) -> None:
    window.open(czi(*(SceneSpec(id=i, rect=(100 * i, 0, 80, 60)) for i in range(3))))
    window.viewer.layers.remove("Scene 1: Channel 0")
    window.images[0].colormap = "magenta"
    window.click_scene(1)
    window.until(lambda: window.state.source.scene == 1)
    shown = {layer.name: layer.translate[-1] for layer in window.images}
    assert shown == {f"Scene {i}: Channel 0": 100 * i for i in (0, 1, 2)}
    assert window.viewer.layers["Scene 1: Channel 0"].colormap.name == "magenta"


def test_the_notification_docks_the_widget_once(
    make_napari_viewer: Any, qtbot: Any, file: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.open(str(file), plugin=PLUGIN)

    def press() -> None:
        (said,) = (
            n
            for n in viewer.window._qt_window.findChildren(NapariQtNotification)
            if "2 scenes" in n.message.text()
        )
        (button,) = (b for b in said.findChildren(QPushButton) if b.text() == "Show the scenes")
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    press()
    (widget,) = viewer.window.dock_widgets.values()
    qtbot.waitUntil(widget.picker.isVisible)
    widget.parent().hide()
    opener._show_patches(viewer)
    assert list(viewer.window.dock_widgets.values()) == [widget]
    assert widget.isVisible()
    qtbot.waitUntil(lambda: widget.picker.loading.at_rest)


def test_a_file_that_lies_elsewhere_is_brought_into_sight(window: Window, czi: MakeCzi) -> None:
    def is_in_sight(left: int) -> bool:
        return abs(camera_of(window.viewer).center[-1] - left - 40) < 1

    near = czi(SceneSpec(rect=(0, 0, 80, 60)), name="near.czi")
    far = czi(SceneSpec(rect=(9000, 0, 80, 60)), name="far.czi")
    window.open(near)
    window.open(far)
    window.until(lambda: is_in_sight(9000))
    window.widget.source.file.value = near
    window.until(lambda: is_in_sight(0))
