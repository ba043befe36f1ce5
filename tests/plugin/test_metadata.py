"""Metadata that the user sets, sets and sequences of files, and what is absent, in a window."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog

from napari_patchset import ExportPlan
from napari_patchset.plugin import reader, scene_context
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.plugin.overrides import image_path, open_sequence, remember, source_ref
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.scene_context import read_scene_context
from napari_patchset.source import PixelSize
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import type_into
from support.tiff_maker import planes, write, write_ome_set
from support.window import Window
from support.zarr_maker import drawn, write_image, zip_store


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Write six pages of which the file does not say what they are."""
    return write(tmp_path / "pages.tif", planes(6), metadata=None)


def metadata(window: Window) -> Any:
    return window.widget.source_control.metadata


def state_in(window: Window, line: Any, text: str) -> None:
    """Unfold the metadata, type into one of their lines, and press Enter."""
    fold = window.widget.source_control.fold
    if not fold.content.isVisible():
        window.click(fold.button)
    type_into(window, line.native, text)
    window.settle()


def test_what_does_not_fit_changes_nothing_and_what_fits_is_shown_and_exported(
    window: Window, pages: Path, tmp_path: Path
) -> None:
    window.open(pages)
    fold, control = window.widget.source_control.fold, window.widget.source_control
    assert fold.button.text() == "Metadata: as in the file"
    assert not fold.content.isVisible()
    assert control.section.notes.value.startswith("Whether its 6 planes are Z, T or C")
    assert metadata(window).axes.native.placeholderText() == "SYX"

    before, summary = window.images, window.summary
    for line, text, problem in (
        (metadata(window).axes, "TZYX", "Axes 'TZYX' name 4 dimensions"),
        (metadata(window).pixel_size, "a", "'a' is not a pixel size"),
        (metadata(window).names, "DAPI, GFP", "2 channel names are given"),
        (metadata(window).names, '"DAPI', "a quote does not end"),
    ):
        state_in(window, line, text)
        assert window.summary.startswith("Metadata: ")
        assert problem in window.summary
        assert window.images == before
        state_in(window, line, "")
        assert window.summary == summary
    assert source_ref(pages).overrides == {}

    state_in(window, metadata(window).axes, "zyx")
    state_in(window, metadata(window).pixel_size, "1, 0.25, 0.25")
    state_in(window, metadata(window).names, '"Alexa 488, em 520"')
    assert fold.button.text() == "Metadata: ZYX, Z 1, Y 0.25, X 0.25 µm, 1 name"
    assert not control.section.notes.visible
    (layer,) = window.images
    assert layer.name == "Alexa 488, em 520"
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.scale.tolist() == [1, 0.25, 0.25]
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert np.asarray(layer._slice.image.view).any()
    window.choose_depth("Z")
    window.type_size(2, 32, 32)
    patches = window.export_to(tmp_path / "a.patches.zarr")
    manifest = patches.manifest
    assert manifest.pixel_size == PixelSize(z=1, y=0.25, x=0.25)
    assert manifest.channels == ("Alexa 488, em 520",)
    assert len(patches["all"]) == 3 * 2 * 3
    np.testing.assert_array_equal(patches["all"][0][0], planes(6)[:2, :32, :32])
    patches.close()


def test_what_is_stated_is_remembered_for_that_file_alone_and_a_plan_brings_its_own(
    window: Window, pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copy(pages, tmp_path / "other.tif"))
    window.open(pages)
    state_in(window, metadata(window).axes, "TYX")
    window.open(other)
    assert metadata(window).axes.value == ""
    assert not window.widget.source_control.fold.content.isVisible()
    assert window.state.source.axes is None
    window.choose(window.widget.source.file, pages)
    assert metadata(window).axes.value == "TYX"
    assert window.state.source.axes == "TYX"
    window.viewer.layers.clear()
    window.settle()
    window.open(pages)
    assert window.images[0].axis_labels == ("t", "y", "x")
    state_in(window, metadata(window).axes, "")
    assert window.images[0].axis_labels == ("s", "y", "x")
    assert source_ref(pages).overrides == {}

    ref = {"path": str(pages), "axes": "ZYX", "pixel_size": (1, 0.5, 0.5)}
    strategy = {"kind": "tiled", "size": (2, 16, 16)}
    plan = ExportPlan.model_validate(
        {
            "sources": [ref],
            "strategy": strategy,
            "depth_axis": "Z",
            "out": str(tmp_path / "a.patches.zarr"),
        }
    )
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_dump_json())
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.load_plan.trigger()
    window.settle()
    assert window.state.sources == plan.sources
    assert window.images[0].scale.tolist() == [1, 0.5, 0.5]
    assert metadata(window).axes.value == "ZYX"
    assert "<b>45</b> patches" in window.summary


def test_a_czi_states_its_axes_and_a_layer_has_no_metadata(window: Window, czi: MakeCzi) -> None:
    path = czi(SceneSpec(rect=(0, 0, 80, 64)), SceneSpec(id=1, rect=(100, 0, 80, 64)))
    window.open(path)
    window.click(window.widget.source_control.fold.button)
    assert not metadata(window).axes.native.isVisible()
    state_in(window, metadata(window).pixel_size, "0.5")
    assert window.images[0].scale.tolist() == [0.5, 0.5]
    assert window.images[0].translate.tolist() == [0, 0]
    window.click_scene(1)
    assert window.images[0].scale.tolist() == [0.5, 0.5]
    assert window.images[0].translate.tolist() == [0, 50]
    assert [ref.pixel_size for ref in window.state.sources] == [PixelSize(y=0.5, x=0.5)]
    layer = window.viewer.add_image(np.zeros((70, 70)), name="other")
    window.settle()
    window.choose(window.widget.source.file, register_layer(layer))
    assert not window.widget.source_control.fold.button.isVisible()


def test_all_shown_scenes_take_what_is_stated(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        for size in ((80, 90), (70, 100)):
            data = planes(3, size=size)
            writer.write(data, metadata={"axes": "QYX"}, photometric="minisblack")
    with monkeypatch.context() as patch:
        patch.setattr(reader, "opens_all_scenes", lambda: True)
        window.open(path)
    assert len(window.images) == 2
    state_in(window, metadata(window).axes, "ZYX")
    assert [layer.axis_labels for layer in window.images] == [("z", "y", "x")] * 2
    assert [layer.data.shape for layer in window.images] == [(3, 80, 90), (3, 70, 100)]
    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    window.choose_depth("Z")
    window.type_size(3, 32, 32)
    assert {ref.axes for ref in window.state.sources} == {"ZYX"}
    assert "patches in 2 images" in window.summary


def names_of(window: Window) -> list[str]:
    return [layer.name for layer in window.images]


def test_files_or_a_folder_opened_as_a_stack_are_one_image(window: Window, tmp_path: Path) -> None:
    data = planes(12)
    paths = [write(tmp_path / f"t{i}.tif", plane) for i, plane in enumerate(data)]
    shuffled = [paths[i] for i in (10, 2, 11, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
    window.viewer.open(list(map(str, shuffled)), stack=True, plugin=PLUGIN)
    window.until(lambda: window.state is not None)
    window.settle()
    (layer,) = window.images
    assert layer.axis_labels == ("t", "y", "x")
    np.testing.assert_array_equal(layer.data[10], data[10])
    offered = [path.name for path in window.widget.source.offered]
    assert offered == ["t0.tif … t11.tif (12 files)"]
    (source,) = window.state.sources
    assert (source.sequence, source.files) == ("T", tuple(map(str, paths)))
    window.click(window.widget.source_control.fold.button)
    window.choose(metadata(window).sequence, "Z")
    assert window.images[0].axis_labels == ("z", "y", "x")
    window.choose_depth("Z")
    window.type_size(4, 32, 32)
    patches = window.export_to(tmp_path / "a.patches.zarr")
    np.testing.assert_array_equal(patches["all"][0][0], data[:4, :32, :32])
    patches.close()
    assert window.state.plan().sources[0] == source.model_copy(update={"sequence": "Z"})

    window.viewer.layers.clear()
    window.settle()
    (tmp_path / "many").mkdir()
    for i, plane in enumerate(planes(3)):
        write(tmp_path / "many" / f"{i}.tif", plane)
    window.viewer.open([str(tmp_path / "many")], stack=True, plugin=PLUGIN)
    window.settle()
    assert window.images[0].data.shape[0] == 3


def test_the_files_of_a_set_as_a_stack_are_the_set_and_each_shows_its_own_scene_first(
    window: Window, tmp_path: Path
) -> None:
    paths = write_ome_set(tmp_path, "position", size=80)
    window.viewer.open(list(map(str, paths)), stack=True, plugin=PLUGIN)
    window.until(lambda: window.state is not None)
    window.settle()
    assert window.state.source.files is None
    assert len(window.widget.source_control.context.scenes) == 3

    window.viewer.layers.clear()
    window.settle()
    for i, path in enumerate(paths):
        window.open(path)
        assert window.state.source.scene == i
        np.testing.assert_array_equal(
            np.asarray(window.images[-1].data[...]), tifffile.imread(path, is_ome=False)
        )


def test_missing_planes_unknown_units_and_absent_files_are_named_beside_the_source(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 80, 80), z=4, c=2, missing=({"Z": 2, "C": 0}, {"Z": 1}))))
    notes = window.widget.source.notes
    assert notes.value == "3 of 8 planes are missing"
    path = write_image(
        tmp_path / "a.zarr", "ZYX", drawn("ZYX", (2, 80, 80)), scale=(2, 0.5, 0.5), units={}
    )
    window.open(path)
    assert notes.value == "Pixel size Z 2, Y 0.5, X 0.5: the unit is not in the file"
    assert window.images[-1].scale.tolist() == [2, 0.5, 0.5]
    first, *others = write_ome_set(tmp_path, "channel", n=6, size=80)
    for path in others:
        path.unlink()
    with pytest.warns(UserWarning, match="is not in its folder"):
        window.open(first)
    assert notes.visible
    assert notes.value == (
        "Absent: channel 1.ome.tif, channel 2.ome.tif, channel 3.ome.tif and 2 more"
    )


def test_a_member_of_the_set_as_extra_file_is_counted_once(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_ome_set(tmp_path / "set", "position", size=80)
    copy = shutil.copytree(tmp_path / "set", tmp_path / "copy")
    window.open(paths[1])
    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    window.type_size(16, 16)
    once = window.summary
    assert "<b>75</b> patches in 3 images" in once
    for extra in (paths[0], copy / paths[2].name):
        monkeypatch.setattr(
            QFileDialog, "getOpenFileNames", lambda *_, name=extra: ([str(name)], "")
        )
        window.click(window.widget.source_control.extra_files.add)
        window.until(lambda: "the same pixels are cut once" in window.summary)
        assert window.summary.startswith(once)
    with pytest.warns(UserWarning, match="the same pixels are cut once"):
        patches = window.export_to(tmp_path / "a.patches.zarr")
    assert len(patches["all"]) == 75
    patches.close()


def test_files_that_do_not_agree_say_so_before_the_export(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = write(tmp_path / "grey.tif", planes(1)[0])
    two = write(tmp_path / "two.tif", planes(2), metadata={"axes": "CYX"}, ome=True)
    window.open(grey)
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(two)], ""))
    window.click(window.widget.source_control.extra_files.add)
    window.until(lambda: "differ in channels" in window.summary)
    assert "grey.tif has 1, but two.tif has 2" in window.summary


def test_a_zipped_zarr_opens(window: Window, tmp_path: Path) -> None:
    data = drawn("ZYX", (3, 80, 70))
    store = write_image(tmp_path / "image.zarr", "ZYX", data, scale=(2, 0.5, 0.5))
    for suffix, top in ((".zip", "data/image.zarr"), (".ozx", "")):
        window.open(zip_store(store, tmp_path / f"image.zarr{suffix}", top))
        layer = window.images[-1]
        np.testing.assert_array_equal(layer.data[1], data[1])
        assert camera_of(window.viewer).zoom > 0


def test_the_path_of_a_sequence_has_a_name() -> None:
    ref = source_ref("a/t0.tif").model_copy(update={"files": ("a/t0.tif", "a/t1.tif")})
    assert image_path(ref) == Path("a/t0.tif … t1.tif (2 files)")


def test_a_plane_of_many_similar_files_and_a_sequence_of_two_things_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"img_t{t}_c{c}.tif" for t in range(3) for c in range(2)]
    for file in files:
        tifffile.imwrite(file, np.zeros((32, 32), np.uint8))
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((32, 32), np.uint8))
    assert read_scene_context(files[0], None, "").notes == (
        "1 of 6 similar files in this folder, which count t and c. To open the files of one c as "
        "one image, drop them on the window with Shift held.",
    )
    assert read_scene_context(tmp_path / "other.tif", None, "").notes == ()
    with monkeypatch.context() as patched:
        patched.setattr(scene_context, "similar_names", Mock(side_effect=PermissionError))
        assert read_scene_context(files[0], None, "").notes == ()  # a folder that can't be listed
    for file in files[1::2]:
        file.unlink()
    (note,) = read_scene_context(files[0], None, "").notes
    assert note.startswith("1 of 3 similar files in this folder. To open them as one image")
    ref = open_sequence([str(file) for file in files[::2]])
    remember(ref)
    assert read_scene_context(image_path(ref), None, "").notes == ()
