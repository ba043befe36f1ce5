"""The window, driven with real clicks and keys."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_patchset.exporting.run import Progress
from napari_patchset.plugin import dialogs as asking
from napari_patchset.plugin import export_task, reader
from napari_patchset.plugin.canvas.overlay_layers import GRID_NAME
from napari_patchset.plugin.preferences import PLUGIN
from support.czi_maker import MakeCzi, SceneSpec
from support.window import SCENES, WAIT_MS, Window


def errors_said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the errors that are notified."""
    said: list[str] = []
    for module in (asking, reader):
        monkeypatch.setattr(module, "show_error", said.append)
    return said


def lines_of(layer: Any) -> set[tuple[float, ...]]:
    """Return the drawn lines as y, x, height, width in pixels from the image's corner."""
    lines = layer.data[layer.edge_color[:, :3].any(axis=1)]  # the others are dark edges of these
    return {
        tuple(float(v) for v in (*(start + 0.5), *extent))
        for start, extent in zip(lines[:, 0], lines[:, 1], strict=True)
    }


def test_the_main_job(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open, pick another scene, change the size, see the grid, export one scene, then all."""
    assert "Open a CZI" in window.summary
    assert not window.widget.export.start.enabled
    assert not window.widget.patches.size.boxes[0].isVisible()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    window.click(window.widget.source.open)
    window.until(lambda: window.state is not None)
    window.settle()
    assert window.state.source.path == str(file)
    assert window.widget.export.destination.endswith("image.patches.zarr")
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]
    assert window.images[0].data.shape == (2, 3, 64, 96)
    assert f"<b>{2 * 3 * 2}</b> patches" in window.summary

    window.click_scene(1)
    window.until(lambda: window.state.source.scene == 1)
    assert window.images[0].data.shape == (2, 3, 80, 64)

    _, y, x = window.widget.patches.size.boxes
    window.type_number(y, 32)
    window.type_number(x, 16)
    assert f"<b>{2 * 3 * 3 * 4}</b> patches" in window.summary
    hints = "16.0 × 8.0 µm<br>Overlap at the border: Y 16 px"
    assert window.widget.patches.hint.value == hints
    rows, columns = {0.0, 32.0, 48.0, 64.0, 80.0}, {0.0, 16.0, 32.0, 48.0, 64.0}
    drawn = lines_of(window.grid)
    assert {y for y, _, height, _ in drawn if height == 0} == rows
    assert {x for _, x, _, width in drawn if width == 0} == columns
    np.testing.assert_allclose(window.grid.scale, [0.5, 0.5])

    made = window.export_to(tmp_path / "made.patches.zarr")
    assert (made["all"].shape, made["all"].dtype) == ((72, 2, 32, 16), np.uint16)
    for patch, row in zip(made["all"], made.table.to_pylist(), strict=True):
        where = (row["y_start"], row["x_start"], 32, 16)
        expected = [SCENES[1].pixels({"T": row["t"], "Z": row["z"], "C": c}, where) for c in (0, 1)]
        np.testing.assert_array_equal(patch, np.stack(expected))
    made.close()

    window.click(window.widget.export.open)
    gallery = window.widget.preview.gallery
    window.until(lambda: gallery.count.text() == "72 patches")
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]

    assert window.widget.picker.map.chosen == {1}
    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    assert window.widget.picker.map.chosen == {0, 1}
    made = window.export_to(tmp_path / "all.patches.zarr")
    assert set(made.table["scene"].to_pylist()) == {"0", "1"}
    made.close()


def test_depth_axis_makes_volumes_and_follows_the_slider(
    window: Window, file: Path, tmp_path: Path
) -> None:
    window.open(file)
    first = window.widget.patches.size.boxes[0]
    assert not first.isVisible()
    window.choose_depth("Z")
    assert first.isVisible()
    window.type_number(first, 2)
    assert window.state.recipe.strategy.size == (2, 64, 64)
    assert f"<b>{2 * 2 * 2}</b> patches" in window.summary
    for z in range(3):
        window.viewer.dims.set_point(1, z * 1.0)
        assert len(window.grid.data) > 0
    made = window.export_to(tmp_path / "volumes.patches.zarr")
    assert made["all"].shape == (8, 2, 2, 64, 64)
    made.close()


def test_what_cannot_be_opened_is_notified_and_what_cannot_be_planned_replaces_the_count(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = errors_said(monkeypatch)
    text = tmp_path / "text.czi"
    text.write_text("this is no image")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(text), ""))
    window.click(window.widget.source.open)
    assert len(said) == 1
    assert "text.czi: not a CZI file" in said[0]
    assert len(window.viewer.layers) == 0

    window.open(file)
    window.type_number(window.widget.patches.size.boxes[1], 500)
    assert "500 x 500 is larger than image.czi, Left, which is" in window.summary
    assert "pad small images (More options > Strategy > Small image)." in window.summary
    assert window.widget.patches.hint.value == ""
    assert len(window.grid.data) == 0
    window.type_number(window.widget.patches.size.boxes[1], 32)
    window.type_number(window.widget.patches.overlap.boxes[1], 32)
    assert "overlap along Y is 32; it must be at least 0 and less than" in window.summary
    window.type_number(window.widget.patches.overlap.boxes[1], 8)
    assert "patches" in window.summary
    assert len(window.grid.data) > 0


def test_a_pyramid_is_shown_and_its_scene_changed(window: Window, czi: MakeCzi) -> None:
    left = SceneSpec(id=0, rect=(0, 0, 1300, 700), pyramid=True)
    right = SceneSpec(id=1, rect=(90_000, 0, 800, 1100), pyramid=True)
    window.open(czi(left, right))
    (layer,) = window.images
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(700, 1300), (350, 650), (175, 325)]
    window.click_scene(1)
    window.until(lambda: window.state.source.scene == 1)
    (layer,) = window.images
    assert layer.data[0].shape == (1100, 800)
    assert f"<b>{18 * 13}</b> patches" in window.summary
    assert lines_of(window.grid) >= {(1036.0, 0.0, 0.0, 800.0), (0.0, 736.0, 1100.0, 0.0)}


def test_two_files_are_told_apart_and_without_layers_the_form_is_empty(
    window: Window, file: Path, czi: MakeCzi
) -> None:
    other = czi(SceneSpec(rect=(0, 0, 32, 40)), name="other.czi")
    window.open(file)
    window.open(other)
    choices = {choice.name for choice in window.widget.source.file.choices if choice}
    assert choices == {"image.czi", "other.czi"}
    assert not window.widget.picker.isVisible()
    window.widget.source.file.value = file
    window.settle()
    assert window.state.source.scene == 0
    assert window.widget.picker.isVisible()
    window.widget.source.file.value = None
    window.until(lambda: window.summary == "Choose the image to cut patches from.")

    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    assert window.state is None
    assert not window.widget.export.start.enabled
    window.open(file)
    assert window.widget.export.start.enabled


def test_a_closed_panel_takes_its_grid_along_and_listens_no_longer(
    window: Window, file: Path
) -> None:
    window.open(file)
    title, widget = window.dock.titleBarWidget(), window.widget
    window.qtbot.mouseClick(title.close_button, Qt.MouseButton.LeftButton)
    assert [layer.name for layer in window.viewer.layers] == ["DAPI", "EGFP"]
    window.until(lambda: not isalive(widget))
    window.viewer.dims.set_point(1, 2.0)
    window.viewer.layers.clear()
    window.dock_widget()
    window.open(file)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]


def test_a_flat_image_and_its_grid_can_be_taken_away(window: Window, czi: MakeCzi) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64), kind="Bgr24")))
    window.viewer.layers.remove(window.grid)
    assert GRID_NAME not in window.viewer.layers
    window.type_number(window.widget.patches.size.boxes[1], 32)
    assert GRID_NAME in window.viewer.layers
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    assert len(window.viewer.layers) == 0


def test_closing_the_window_during_an_export_leaves_nothing_running(
    make_napari_viewer: Any,
    qtbot: QtBot,
    czi: MakeCzi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed, iter_export = Event(), export_task.iter_export

    def goes_on_once_it_is_closed(*args: Any, **options: Any) -> Iterator[Progress]:
        for event in iter_export(*args, **options):
            if event.stage == "write":
                closed.wait(WAIT_MS / 1000)
            yield event

    monkeypatch.setattr(export_task, "iter_export", goes_on_once_it_is_closed)
    window = Window(make_napari_viewer(show=True), qtbot)
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.widget.export.out.value = tmp_path / "long.patches.zarr"
    window.click(window.widget.export.start, settle=False)
    worker = window.widget.export_control.exporting
    window.until(lambda: (tmp_path / "long.partial").exists())
    window.viewer.close()
    assert not worker.at_rest
    closed.set()
    qtbot.waitUntil(lambda: worker.at_rest, timeout=WAIT_MS)
    assert not (tmp_path / "long.patches.zarr").exists()


def test_the_sample_opens_from_the_menu_that_is_named(
    window: Window, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_patchset.sample.sample_path", lambda: sample)  # no second drawing
    manifest = PluginManifest.from_distribution(PLUGIN)
    (contributed,) = manifest.contributions.sample_data
    menu = f"File > Open Sample > {contributed.display_name} ({manifest.display_name})"
    assert menu in window.summary
    window.viewer.open_sample(PLUGIN, "cells")
    window.until(lambda: window.state is not None)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]
    assert window.widget.picker.names.count() == 3
