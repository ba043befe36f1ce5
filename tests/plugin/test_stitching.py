"""Predictions are stitched in the window, and the result lies over its scene."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt

from napari_patchset import (
    ExportPlan,
    PatchSet,
    Split,
    Tiled,
    export,
    iter_stitch,
    open_stack,
    stitch,
)
from napari_patchset.stitching import stitched_image
from support.export_makers import digests
from support.gestures import paste
from support.pixels import whole
from support.window import Window

pytestmark = pytest.mark.gui

_TICK = QPoint(8, 8)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitched_image, "SHARD_BYTES", 4096)
    monkeypatch.setattr(stitched_image, "CHUNK", {"Z": 2, "T": 1, "Y": 16, "X": 16})


def made_of(file: Path, folder: Path, *scenes: int, **fields: Any) -> PatchSet:
    fields = {"strategy": Tiled(size=(16, 16), overlap=(4, 4)), **fields}
    sources = [f"{file}@{scene}" for scene in scenes]
    return export(ExportPlan(sources=sources, out=folder / "made.patches.zarr", **fields))


def edges(layer: Any) -> np.ndarray:
    """Return the first and the last edge of a layer's pixels along Y and X, in the world."""
    data = layer.data[0] if layer.multiscale else layer.data
    return np.array(
        [
            layer.data_to_world((0, 0, -0.5, -0.5)),
            layer.data_to_world((0, 0, *np.subtract(data.shape[2:], 0.5))),
        ]
    )


class Dialog:
    """The dialog as a person fills it in."""

    def __init__(self, window: Window) -> None:
        self.window, self.control = window, window.widget.stitching
        window.click(window.widget.export.stitch)
        self.fields = self.control.dialog
        window.until(self.fields.isVisible)

    def type(self, field: Any, text: object) -> None:
        paste(self.window, field.native, text)
        self.window.settle()

    def press(self, button: Any, settle: bool = True) -> None:
        assert button.enabled, self.text
        self.window.qtbot.mouseClick(button.native, Qt.MouseButton.LeftButton)
        if settle:
            self.window.settle()

    def fill_in(self, patch_set: Path, predictions: Path) -> None:
        self.type(self.fields.patch_set, patch_set)
        self.type(self.fields.predictions, predictions)

    @property
    def text(self) -> str:
        return self.fields.status.text()


def test_what_is_stitched_opens_over_its_scene(window: Window, file: Path, tmp_path: Path) -> None:
    made = made_of(file, tmp_path, 0, 1)
    np.save(tmp_path / "denoised.npy", made["all"][:].astype(np.float32))
    window.open(file)
    window.click_scene(1)
    dialog = Dialog(window)
    assert dialog.text == "Choose the patch set whose patches were predicted."
    dialog.fill_in(made.path, tmp_path / "denoised.npy")
    assert dialog.text == "2 images, up to T 2 × Z 3 × Y 80 × X 96 px, 2 channels, float32."
    assert dialog.fields.out.value == str(tmp_path / "denoised.ome.zarr")
    dialog.press(dialog.fields.start)
    assert dialog.text == "Saved denoised.ome.zarr."
    shown, state = window.viewer.layers["EGFP"], window.state
    dialog.press(dialog.fields.show_result)
    assert window.widget.source.file.value == file
    assert window.state == state
    result = window.viewer.layers["EGFP (denoised)"]
    for name in ("scale", "translate", "units"):
        assert np.array_equal(getattr(result, name), getattr(shown, name)), name
    assert result.axis_labels == shown.axis_labels
    assert result.extent.world.tolist() == shown.extent.world.tolist()
    with open_stack(file, 1) as stack:
        assert np.array_equal(np.asarray(result.data[1, 2]), whole(stack, 5)[1])
    below = window.viewer.layers["DAPI (denoised)"]
    assert (below.blending, result.blending) == ("translucent_no_depth", "additive")
    assert result.colormap == shown.colormap


def test_a_moved_scene_and_smaller_pixels_and_labels(
    window: Window, file: Path, tmp_path: Path
) -> None:
    made = made_of(file, tmp_path, 0)
    scores = made["all"][:].astype(np.float32).repeat(2, -1).repeat(2, -2)
    np.save(tmp_path / "classes.npy", scores)
    window.open(file)
    for layer in window.viewer.layers:
        if layer.name in ("DAPI", "EGFP"):
            layer.translate = (0, 0, 7, 9)
    dialog = Dialog(window)
    dialog.fill_in(made.path, tmp_path / "classes.npy")
    window.qtbot.mouseClick(dialog.fields.argmax.native, Qt.MouseButton.LeftButton, pos=_TICK)
    window.settle()
    assert dialog.fields.argmax.value
    dialog.press(dialog.fields.start)
    dialog.press(dialog.fields.show_result)
    source, result = window.viewer.layers["DAPI"], window.viewer.layers["DAPI (classes)"]
    labels = window.viewer.layers["classes (classes)"]
    assert isinstance(labels, Labels)
    for layer in (result, labels):
        assert layer.scale.tolist() == [*source.scale[:2], *(source.scale[2:] / 2)]
        assert np.allclose(edges(layer), edges(source))
    brighter = np.asarray(result.data[1, 2]) < np.asarray(
        window.viewer.layers["EGFP (classes)"].data[1, 2]
    )
    assert np.array_equal(np.asarray(labels.data[1, 2]), brighter)


def test_what_is_wrong_is_said_at_once(window: Window, file: Path, tmp_path: Path) -> None:
    made = made_of(file, tmp_path, 0, split=Split(val=0.3))
    np.save(tmp_path / "p.npy", made["val"][:].astype(np.float32))
    dialog = Dialog(window)
    dialog.type(dialog.fields.patch_set, tmp_path / "nothing")
    assert "nothing" in dialog.text
    dialog.type(dialog.fields.patch_set, made.path)
    assert dialog.text == "Choose the predictions: a zarr, npy, npz, or a folder of TIFFs."
    dialog.type(dialog.fields.predictions, tmp_path / "gone.npy")
    assert f"{tmp_path / 'gone.npy'}: no such file or folder" in dialog.text
    dialog.fill_in(made.path, tmp_path / "p.npy")
    assert list(dialog.fields.split.choices) == ["train", "val", "all, by name"]
    assert "predictions of train, but" in dialog.text
    assert not dialog.fields.start.enabled
    window.choose(dialog.fields.split, "val")
    train, rejected = made.manifest.counts["train"], sum(made.manifest.rejected.values())
    assert dialog.text == (
        "1 image, T 2 × Z 3 × Y 64 × X 96 px, 2 channels, float32. "
        f"{rejected} patches were rejected and {train} patches were put in another split: "
        "what they alone cover gets 0."
    )
    dialog.type(dialog.fields.out, tmp_path / "p.zarr")
    assert dialog.text.endswith("the name of a stitched image ends with .ome.zarr.")
    dialog.type(dialog.fields.out, tmp_path / "p.ome.zarr")
    dialog.press(dialog.fields.start)
    assert "Patches cover" in dialog.text
    assert "the rest is 0" in dialog.text
    dialog.type(dialog.fields.out, tmp_path / "p.ome.zarr")
    assert "p.ome.zarr exists; choose another name" in dialog.text


def test_it_stops_and_resumes(window: Window, file: Path, tmp_path: Path) -> None:
    made = made_of(file, tmp_path, 0, 1)
    np.save(tmp_path / "p.npy", made["all"][:].astype(np.float32))
    dialog = Dialog(window)
    dialog.fill_in(made.path, tmp_path / "p.npy")
    dialog.press(dialog.fields.start, settle=False)
    dialog.press(dialog.fields.stop)
    assert dialog.text == "Stopped. Press Stitch to resume."
    assert not (tmp_path / "p.ome.zarr").exists()
    dialog.press(dialog.fields.start)
    assert dialog.text == "Saved p.ome.zarr."
    reference = stitch(made.path, tmp_path / "p.npy", tmp_path / "r.ome.zarr").path
    for path in reference.rglob("*"):
        if path.is_file():
            ours = tmp_path / "p.ome.zarr" / path.relative_to(reference)
            assert ours.read_bytes() == path.read_bytes()


def half_stitched(made: PatchSet, predictions: Path, out: Path, **options: Any) -> None:
    with closing(iter_stitch(made.path, predictions, out, workers=1, **options)) as events:
        while not next(events).done:
            pass


@pytest.mark.parametrize("answer", ["go_on", "start_over"])
def test_an_unfinished_stitching_is_continued_or_started_over(
    window: Window, file: Path, tmp_path: Path, answer: str
) -> None:
    made = made_of(file, tmp_path, 0, 1)
    np.save(tmp_path / "p.npy", made["all"][:].astype(np.float32))
    half_stitched(made, tmp_path / "p.npy", tmp_path / "p.ome.zarr", blend="hann", fill=3)
    dialog = Dialog(window)
    fields = dialog.fields
    dialog.fill_in(made.path, tmp_path / "p.npy")
    assert dialog.text == "A stitching of p.ome.zarr with other settings is unfinished."
    assert not fields.start.native.isVisible()
    window.qtbot.keyClick(fields.out.native, Qt.Key.Key_Return)
    dialog.window.settle()
    assert not (tmp_path / "p.ome.zarr").exists()
    dialog.press(getattr(fields, answer))
    assert dialog.text == "Saved p.ome.zarr."
    options = {"blend": "hann", "fill": 3} if answer == "go_on" else {}
    reference = stitch(made.path, tmp_path / "p.npy", tmp_path / "r.ome.zarr", **options)
    assert digests(tmp_path / "p.ome.zarr") == digests(reference.path)
    assert not (tmp_path / "p.ome.zarr.partial").exists()
    assert fields.show_result.native.isVisible()
    assert not fields.start_over.native.isVisible()
    window.choose(fields.blend, "average")
    assert "p.ome.zarr exists" in dialog.text
    dialog.type(fields.out, tmp_path / "free.ome.zarr")
    assert fields.start.enabled
    assert fields.start.native.isVisible()


def test_one_that_is_continued_and_stopped_is_offered_again(
    window: Window, file: Path, tmp_path: Path
) -> None:
    made = made_of(file, tmp_path, 0, 1)
    np.save(tmp_path / "p.npy", made["all"][:].astype(np.float32))
    half_stitched(made, tmp_path / "p.npy", tmp_path / "p.ome.zarr", blend="hann")
    dialog = Dialog(window)
    dialog.fill_in(made.path, tmp_path / "p.npy")
    dialog.press(dialog.fields.go_on, settle=False)
    dialog.press(dialog.fields.stop)
    assert dialog.text == "A stitching of p.ome.zarr with other settings is unfinished."
    window.choose(dialog.fields.blend, "hann")
    dialog.window.settle()
    assert dialog.text.endswith("float32; resumes where it stopped.")
    dialog.press(dialog.fields.start)
    assert dialog.text == "Saved p.ome.zarr."


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_one_of_predictions_whose_name_is_not_utf8_is_continued(
    window: Window, file: Path, tmp_path: Path
) -> None:
    made = made_of(file, tmp_path, 0, 1)
    images, predicted = made["all"][:].astype(np.float32), tmp_path / os.fsdecode(b"\xff.npy")
    np.save(tmp_path / "p.npy", images + 1)
    np.save(predicted, images)
    half_stitched(made, predicted, tmp_path / "p.ome.zarr")
    dialog = Dialog(window)
    dialog.fill_in(made.path, tmp_path / "p.npy")
    assert dialog.text == "A stitching of p.ome.zarr with other settings is unfinished."
    dialog.press(dialog.fields.go_on)
    assert dialog.text == "Saved p.ome.zarr."
    reference = stitch(made.path, predicted, tmp_path / "r.ome.zarr")
    assert digests(tmp_path / "p.ome.zarr") == digests(reference.path)


def test_one_that_cannot_be_continued_is_started_over(
    window: Window, file: Path, tmp_path: Path
) -> None:
    made = made_of(file, tmp_path, 0)
    np.save(tmp_path / "p.npy", made["all"][:].astype(np.float32))
    (tmp_path / "other.npy").write_bytes((tmp_path / "p.npy").read_bytes())
    half_stitched(made, tmp_path / "other.npy", tmp_path / "p.ome.zarr")
    (tmp_path / "other.npy").unlink()
    dialog = Dialog(window)
    dialog.fill_in(made.path, tmp_path / "p.npy")
    assert dialog.text == "An unfinished stitching of p.ome.zarr can't be continued."
    assert not dialog.fields.go_on.native.isVisible()
    dialog.press(dialog.fields.start_over)
    assert dialog.text == "Saved p.ome.zarr."


def test_a_set_of_lengths_in_micrometres_is_stitched(window: Window, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 60_000, (90, 140), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(4e4, 1e4), resolutionunit=3)
    window.open(tmp_path / "a.tif")
    window.type_size(32, 16)
    window.type_number(window.widget.patches.overlap.boxes[1], 8)
    window.type_number(window.widget.patches.overlap.boxes[2], "0.75 µm")
    made = window.export_to(tmp_path / "a.patches.zarr")
    assert made.manifest.recipe["strategy"]["overlap"] == [8, "0.75um"]
    np.save(tmp_path / "p.npy", made["all"][:])
    dialog = Dialog(window)
    dialog.type(dialog.fields.predictions, tmp_path / "p.npy")
    dialog.press(dialog.fields.start)
    assert dialog.text == "Saved p.ome.zarr."
    assert np.array_equal(zarr.open_group(tmp_path / "p.ome.zarr", mode="r")["0"][0], image)
