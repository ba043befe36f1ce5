"""Another scene in place of one: the layers stay and take its pixels, and each is drawn once."""

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_patchset.plugin.napari_compat import CAN_CHANGE_AXES
from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.plugin.scenes import source_control as sourcing
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.tiff_maker import write_two_series
from support.window import Window

UM = {"X": 5e-7, "Y": 5e-7, "Z": 1e-6}
LARGE = (0, 0, 1300, 1100)
"""A scene that has a pyramid."""

PLANE = (range(80), range(64))
"""Of the second scene of `window.SCENES`."""


class Heard:
    """Note what napari does with the layers of a viewer."""

    def __init__(self, window: Window) -> None:
        self.counts: Counter[str] = Counter()
        self.fewest = len(window.images)
        layers = window.viewer.layers
        for name in ("inserted", "removed"):
            getattr(layers.events, name).connect(self._counting(name, window))
        for layer in window.images:
            for name in ("data", "set_data", "thumbnail"):
                getattr(layer.events, name).connect(self._counting(name, window))

    def _counting(self, name: str, window: Window) -> Callable[[Any], None]:
        def count(event: Any) -> None:
            self.counts[name] += 1
            self.fewest = min(self.fewest, len(window.images))

        return count


def pick(window: Window, scene: int) -> None:
    """Click a scene, and wait until its pixels are drawn."""
    window.click_scene(scene, settle=False)
    window.until(lambda: window.state is not None and window.state.source.scene == scene)
    window.until(lambda: not any(slicer(each).is_reading for each in window.images))
    window.until(lambda: all(each._slice.image.raw.any() for each in window.images))


def slicer(layer: Any) -> Any:
    return (layer.data[0] if layer.multiscale else layer.data).slicer


def stack_of(layer: Any) -> Any:
    return (layer.data[0] if layer.multiscale else layer.data).stack


def test_no_layer_is_added_or_removed_and_each_is_drawn_with_the_grid_in_its_new_place(
    window: Window, file: Path
) -> None:
    window.open(file)
    before, boxes = window.images, window.widget.form.channels.boxes
    heard, in_one_turn = Heard(window), Counter[str]()
    window.widget.source_control.known.connect(lambda *_: in_one_turn.update(heard.counts))
    pick(window, 1)
    assert window.images == before
    assert in_one_turn == {"data": 2, "set_data": 2, "thumbnail": 2}
    assert not heard.counts["inserted"] + heard.counts["removed"]
    assert window.widget.form.channels.boxes is boxes
    for layer in before:
        assert layer.data.shape == (2, 3, 80, 64)
        assert layer.scale.tolist() == [1, 1, 0.5, 0.5]
        assert layer.translate[-2:].tolist() == [15, 200]
        shown = tuple(window.viewer.dims.current_step[:2])
        np.testing.assert_array_equal(layer._slice.image.raw, layer.data.read((*shown, *PLANE)))
    assert 199 < window.viewer.dims.range[-1].start <= 200
    window.until(lambda: window.widget.preview.overlay.grid is not None)
    assert window.grid.translate.tolist() == [15, 200]
    assert len(window.grid.data)


def test_what_becomes_of_the_scene_before_is_no_edit_and_its_file_is_let_go(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    read_scene_context = sourcing.read_scene_context
    monkeypatch.setattr(
        sourcing, "read_scene_context", lambda *args: read.append(args) or read_scene_context(*args)
    )
    window.open(file)
    read.clear()
    stack = ref(stack_of(window.images[0]))
    pick(window, 1)
    window.until(lambda: window.widget.source_control.reading.at_rest)
    assert not read
    gc.collect()
    assert stack() is None


def test_a_hidden_channel_stays_hidden_and_what_was_turned_does_not_turn_another_scene(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.images[1].visible = False
    window.click_scene(1, settle=False)
    window.until(lambda: window.state is not None and window.state.source.scene == 1)
    egfp = window.images[1]
    assert not egfp.visible
    egfp.visible = True
    shown = tuple(window.viewer.dims.current_step[:2])
    np.testing.assert_array_equal(egfp._slice.image.raw, egfp.data.read((*shown, *PLANE)))
    window.images[0].rotate = 10
    pick(window, 0)
    assert [layer.rotate[-1][-1] for layer in window.images] == [1, 1]


def test_a_scene_of_other_axes_and_channels_brings_its_own_sliders(
    window: Window, czi: MakeCzi
) -> None:
    flat = SceneSpec(id=0, rect=(0, 0, 64, 48), c=3)
    deep = SceneSpec(id=1, rect=(100, 0, 64, 48), z=5, c=2)
    window.open(czi(flat, deep, xml=metadata_xml(pixel_size=UM, scenes={0: "A", 1: "B"})))
    dims = window.viewer.dims
    for scene, count, axes in ((1, 2, "zyx"), (0, 3, "yx"), (1, 2, "zyx")):
        pick(window, scene)
        assert [layer.axis_labels for layer in window.images] == [tuple(axes)] * count
        if CAN_CHANGE_AXES:  # older versions number the sliders
            assert dims.axis_labels == tuple(axes)
        if scene == 1:
            assert (dims.nsteps[0], dims.current_step[0]) == (5, 2)


def test_a_scene_of_other_units_brings_the_grid_along(window: Window, tmp_path: Path) -> None:
    window.open(write_two_series(tmp_path / "two.ome.tif"))
    window.viewer.layers.selection.active = window.images[1]  # which only one of them has
    told = len(notification_manager.records)
    for scene, count, unit in ((1, 1, "micrometer"), (0, 2, "pixel")):
        pick(window, scene)
        assert len(window.images) == count
        for layer in window.viewer.layers:
            assert [str(each) for each in layer.units[-2:]] == [unit, unit]
        assert window.viewer.layers.selection.active in window.images
    assert len(notification_manager.records) == told  # nothing of units that differ


def test_a_layer_that_cannot_become_a_pyramid_is_replaced_and_the_viewer_never_empty(
    window: Window, czi: MakeCzi
) -> None:
    small = SceneSpec(id=0, rect=(5000, 0, 64, 48), c=2)
    large = SceneSpec(id=1, rect=LARGE, c=2, pyramid=True)
    window.open(czi(small, large))
    look = window.images[0]
    look.contrast_limits, look.colormap = (100, 9000), "magenta"
    heard = Heard(window)
    pick(window, 1)
    assert [layer.multiscale for layer in window.images] == [True, True]
    assert window.images[0].contrast_limits == [100, 9000]
    assert window.images[0].colormap.name == "magenta"
    assert (heard.counts["inserted"], heard.counts["removed"], heard.fewest) == (2, 2, 2)


def test_a_pyramid_takes_another_and_shows_all_of_it(window: Window, czi: MakeCzi) -> None:
    other = SceneSpec(id=1, rect=(9000, 0, 1100, 700), pyramid=True)
    window.open(czi(SceneSpec(id=0, rect=LARGE, pyramid=True), other))
    (layer,) = window.images
    camera_of(window.viewer).zoom *= 30  # so that only a corner of the finest level is drawn
    camera_of(window.viewer).center = (0, 1000, 1200)
    window.until(lambda: layer.data_level == 0)
    pick(window, 1)
    assert window.images == [layer]
    pixels = layer._slice.image.raw
    rows, columns = (int(n) for n in layer.level_shapes[layer.data_level])
    assert pixels.shape == (rows, columns)
    np.testing.assert_array_equal(
        pixels, layer.data[layer.data_level].read((range(rows), range(columns)))
    )
