"""Label images beside an OME-Zarr: how they look, and what painting on them does."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from napari.layers import Labels
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import Qt

from napari_patchset import InMemoryImageStack
from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.lazy.channel import LazyChannel
from napari_patchset.plugin.reader import read_layers
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drag, place_on_screen
from support.window import Window
from support.zarr_maker import write_image

IMAGE_LABEL = {
    "colors": [
        {"label-value": 1, "rgba": [255, 0, 0, 255]},
        {"label-value": 2, "rgba": [0, 128, 255, 51]},
        {"label-value": 3},
        {"label-value": 4, "rgba": [256, 0, 0, 255]},
        {"label-value": 300, "rgba": [0, 0, 0, 255]},
        {"label-value": 1.5, "rgba": [0, 0, 0, 255]},
        "red",
    ],
    "properties": [
        {"label-value": 2, "class": "nucleus", "area": 12.5},
        {"label-value": 5, "class": "debris", "at": [1, 2]},
    ],
}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """An OME-Zarr of 64 x 64 with labels 0 to 6."""
    path = tmp_path / "cells.zarr"
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    write_image(path, "YX", pixels)
    write_image(path / "labels" / "nuclei", "YX", (pixels % 7).astype(np.uint8))
    group = zarr.open_group(path / "labels", mode="a")
    group.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    nuclei = zarr.open_group(path / "labels" / "nuclei", mode="a")
    nuclei.attrs["ome"] = {**nuclei.attrs["ome"], "image-label": IMAGE_LABEL}
    return path


def test_values_have_the_colours_and_properties_that_the_file_states(cells: Path) -> None:
    _, (data, options, _) = read_layers(str(cells))
    layer = Labels(data, **options)
    colors = [layer.get_color(value) for value in (1, 2)]
    np.testing.assert_allclose(colors, [[1, 0, 0, 1], [0, 128 / 255, 1, 0.2]], atol=1e-6)
    assert layer.get_color(0) is None or not layer.get_color(0)[3]
    others = [tuple(layer.get_color(value)) for value in (3, 4, 5)]
    assert len(set(others)) == 1
    assert list(layer.features["index"]) == [2, 5]
    assert list(layer.features["class"]) == ["nucleus", "debris"]
    assert layer.features["at"][1] == "[1, 2]"


@pytest.mark.parametrize("stated", [None, [], {"colors": 3, "properties": {"a": 1}}])
def test_values_of_which_nothing_is_stated_have_colours_of_their_own(
    cells: Path, stated: Any
) -> None:
    nuclei = zarr.open_group(cells / "labels" / "nuclei", mode="a")
    nuclei.attrs["ome"] = {**nuclei.attrs["ome"], "image-label": stated}
    _, (data, options, _) = read_layers(str(cells))
    layer = Labels(data, **options)
    assert len({tuple(layer.get_color(value)) for value in range(1, 7)}) == 6
    assert layer.features.empty


def test_painting_on_the_file_is_refused_once_and_a_copy_is_painted(
    window: Window, cells: Path
) -> None:
    window.open(cells)
    viewer = window.viewer
    nuclei = viewer.layers["nuclei"]
    viewer.layers.selection.active = nuclei
    window.qtbot.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_2)
    assert nuclei.mode == "paint"
    canvas, left = viewer.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton
    with window.qtbot.captureExceptions() as raised:
        window.qtbot.mouseClick(canvas, left, pos=place_on_screen(window, 10, 10))
    assert [str(error) for _, error, _ in raised] == [
        "nuclei shows the content of its file, which is never changed; right-click the layer, "
        "Duplicate, and paint on the copy."
    ]
    assert (nuclei.mode, nuclei.editable) == ("pan_zoom", False)
    _duplicate_layer(viewer.layers)
    copy = viewer.layers["nuclei copy"]
    np.testing.assert_array_equal(copy.data, nuclei.data[...])
    assert copy.colormap == nuclei.colormap
    viewer.layers.selection = {copy}
    copy.selected_label = 5
    window.qtbot.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_2)
    drag(window, (10, 10), (40, 40))
    assert copy.data[20:30, 25].tolist() == [5] * 10


def test_a_copy_of_an_image_is_lazy_and_keeps_its_levels(window: Window, czi: MakeCzi) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 1300, 700), pyramid=True)))
    (image,) = window.images
    window.viewer.layers.selection.active = image
    _duplicate_layer(window.viewer.layers)
    (_, copy) = window.images
    assert [level.shape for level in copy.data] == [level.shape for level in image.data]
    assert copy.data[0].slicer is copy.data[1].slicer is not image.data[0].slicer
    np.testing.assert_array_equal(copy.data[2][...], image.data[2][...])


def test_a_copy_that_memory_would_not_hold_is_refused() -> None:
    pixels = np.broadcast_to(np.uint8(1), (1, 1, 2**16, 2**16))
    labels = LazyChannel(InMemoryImageStack("large", pixels), 0, is_labels=True)
    with pytest.raises(ArgumentError, match=r"takes 4\.0 GB of memory, more than the 2 GB"):
        deepcopy(labels)
