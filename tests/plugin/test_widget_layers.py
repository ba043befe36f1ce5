"""Layers of other origin in the widget: as images, as labels, and what is exported of them."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from qtpy.QtWidgets import QFileDialog
from typer.testing import CliRunner

from napari_patchset.cli.app import app
from napari_patchset.plugin.canvas.overlay_layers import OVERLAYS
from napari_patchset.plugin.layers.viewer_images import plane_space
from support.czi_maker import MakeCzi, SceneSpec
from support.window import Window, digests

PIXELS = np.random.default_rng(0).integers(1, 60_000, (3, 96, 128), dtype=np.uint16)
SCALE = (1, 0.5, 0.5)


def add_image(window: Window, pixels: np.ndarray = PIXELS) -> None:
    window.viewer.add_image(pixels, name="in memory", scale=SCALE[-pixels.ndim :], units="um")
    window.settle()
    window.type_size(32, 32)


def test_a_layer_in_memory_is_planned_and_exported_changed_and_removed(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(window)
    assert window.widget.source.file.current_choice == "in memory"
    assert window.widget.patches.hint.value == "16.0 × 16.0 µm"
    assert f"<b>{3 * 3 * 4}</b> patches" in window.summary
    np.testing.assert_array_equal(window.grid.scale, (0.5, 0.5))
    window.choose_depth("Z")
    window.type_number(window.widget.patches.size.boxes[0], 3)
    saved = tmp_path / "plan.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    window.widget.export.out.value = tmp_path / "made.patches.zarr"
    window.widget.export.save_plan.trigger()
    window.until(saved.exists)
    again = tmp_path / "command.patches.zarr"
    ran = CliRunner().invoke(app, ["export", "--plan", str(saved), "--out", str(again)])
    assert ran.exit_code == 0, ran.output
    assert len(list((tmp_path / "made.layers").iterdir())) == 1
    made = window.export_to(tmp_path / "made.patches.zarr")
    assert digests(again) == digests(tmp_path / "made.patches.zarr")
    expected = PIXELS.reshape(3, 3, 32, 4, 32).transpose(1, 3, 0, 2, 4).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(made["all"][:][:, 0], expected)
    made.close()
    assert len(list((tmp_path / "made.layers").iterdir())) == 1

    window.choose_depth("none")
    window.viewer.layers["in memory"].data = PIXELS[:, :64, :64]
    window.settle()
    assert f"<b>{3 * 2 * 2}</b> patches" in window.summary
    window.viewer.layers.remove("in memory")
    window.until(lambda: "Open a CZI" in window.summary)
    assert window.state is None
    assert {layer.name for layer in window.viewer.layers} <= set(OVERLAYS)


def test_labels_that_are_painted_are_exported_beside_the_image(
    window: Window, tmp_path: Path
) -> None:
    add_image(window)
    labels = window.viewer.add_labels((PIXELS % 3).astype(np.int32), scale=(1, 0.5, 0.5))
    box = window.widget.form.pairs.boxes["labels"]
    window.until(lambda: len(box.choices) == 2)
    box.value = window.widget.source_control.others[0]
    labels.data[0, :32, :32] = 7
    window.export_to(tmp_path / "made.patches.zarr").close()
    made = zarr.open_array(tmp_path / "made.patches.zarr" / "all" / "labels", mode="r")
    assert (made[0] == 7).all()
    np.testing.assert_array_equal(made[1][0], PIXELS[0, :32, 32:64] % 3)


def test_files_of_one_name_are_told_apart_and_a_layer_beside_them_is_offered_but_not_chosen(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        window.open(czi(SceneSpec(rect=(0, 0, 64, 64)), name=f"{folder}/image.czi"))
    box = window.widget.source.file
    for folder in ("first", "second"):
        box.value = tmp_path / folder / "image.czi"
        assert box.current_choice == f"{folder}/image.czi"
    window.settle()

    window.viewer.add_image(PIXELS, name="filtered")
    window.until(lambda: len(window.widget.source.offered) == 3)
    assert window.state.source.path == str(tmp_path / "second" / "image.czi")
    (box.value,) = {*window.widget.source_control.others} - {tmp_path / "first" / "image.czi"}
    window.settle()
    assert box.current_choice == "filtered"
    assert "patches" in window.summary


def test_a_painted_labels_layer_is_the_region(window: Window, tmp_path: Path) -> None:
    add_image(window)
    labels = window.viewer.add_labels(np.zeros(PIXELS.shape, np.uint8), name="good")
    region = window.widget.form.region.layer
    window.until(lambda: len(region.choices) == 2)
    labels.data[1, :64, 32:] = 1
    region.value = labels
    window.until(lambda: f"<b>{3 * 2 * 3}</b> patches" in window.summary)
    labels.brush_size = 200
    with labels.block_history():
        labels.paint((0, 80, 48), 2)
    window.until(lambda: f"<b>{3 * 3 * 4}</b> patches" in window.summary)
    made = window.export_to(tmp_path / "made.patches.zarr")
    assert len(made["all"]) == 3 * 3 * 4
    made.close()


@pytest.mark.parametrize("kind", ["shape", "labels"])
def test_a_loaded_plan_brings_its_region_along(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    window.open(file)
    window.type_size(16, 16)
    space = plane_space(window.images[0])
    if kind == "shape":
        corners = np.array([[16, 0], [16, 32], [64, 32], [64, 0]]) - 0.5
        layer = window.viewer.add_shapes([corners], shape_type="polygon", **space)
    else:
        mask = np.zeros((64, 96), np.uint8)
        mask[16:64, :32] = 1
        layer = window.viewer.add_labels(mask, **space)
    region = window.widget.form.region.layer
    window.until(lambda: layer in region.choices)
    region.value = layer
    window.until(lambda: f"<b>{6 * 3 * 2}</b> patches" in window.summary)
    saved = tmp_path / "plan.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.save_plan.trigger()
    window.until(saved.exists)
    window.viewer.layers.clear()
    window.settle()
    window.widget.export.load_plan.trigger()
    window.until(lambda: f"<b>{6 * 3 * 2}</b> patches" in window.summary)
    assert "Patch region" in window.viewer.layers


def test_an_ellipse_is_a_region(window: Window) -> None:
    add_image(window, PIXELS[0])
    window.type_size(8, 8)
    box = [[-0.5, -0.5], [-0.5, 95.5], [95.5, 95.5], [95.5, -0.5]]
    shapes = window.viewer.add_shapes([box], shape_type="ellipse", scale=(0.5, 0.5))
    window.until(lambda: len(window.widget.form.region.layer.choices) == 2)
    window.widget.form.region.layer.value = shapes
    window.settle()
    inside = [
        max((a - 6) ** 2 for a in (y, y + 1)) + max((a - 6) ** 2 for a in (x, x + 1)) <= 36
        for y in range(12)
        for x in range(12)
    ]
    assert f"<b>{sum(inside)}</b> patches" in window.summary
