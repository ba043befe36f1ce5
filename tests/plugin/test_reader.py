"""What napari is given when a file is opened."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Layer

from napari_patchset import ExportPlan, Tiled, export
from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.patching.splits.split import Split
from napari_patchset.plugin import reader as opener
from napari_patchset.plugin.layers.viewer_images import SceneLayers, channels_of
from napari_patchset.plugin.reader import get_reader
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import open_stack
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.zarr_maker import write_image

SCENE = SceneSpec(rect=(30, -20, 40, 30), t=2, z=range(1, 4), c=2)
XML = metadata_xml(
    pixel_size={"X": 2e-7, "Y": 2e-7, "Z": 1e-6},
    channels={"Channel:0": "DAPI", "Channel:1": "EGFP"},
    display={"Channel:0": "<Low>0.1</Low><High>0.5</High><Color>#FF0000FF</Color>"},
)


def read(path: Path) -> list[tuple[Any, dict[str, Any], str]]:
    reader = get_reader(str(path))
    assert reader is not None
    return reader(str(path))


def test_each_channel_is_a_lazy_layer_as_the_file_describes_it(czi: MakeCzi) -> None:
    (dapi, options, kind), (egfp, other, _) = read(czi(SCENE, xml=XML))
    assert kind == "image"
    assert (dapi.shape, dapi.dtype) == ((2, 3, 30, 40), np.uint16)
    assert (options["name"], other["name"]) == ("DAPI", "EGFP")
    assert options["colormap"] == "#0000ff"
    assert options["contrast_limits"] == pytest.approx((6553.5, 32767.5))
    assert options["scale"] == pytest.approx([1, 1, 0.2, 0.2])
    assert options["translate"] == pytest.approx([0, 0, -20 * 0.2, 30 * 0.2])
    assert options["units"] == ["pixel", "um", "um", "um"]
    assert options["axis_labels"] == ["t", "z", "y", "x"]
    assert (options["blending"], options["rgb"]) == ("additive", False)
    expected = SCENE.pixels({"T": 1, "Z": 3, "C": 1})
    np.testing.assert_array_equal(egfp[1, 2], expected)
    np.testing.assert_array_equal(egfp[1, 2, 5:9, 3:30], expected[5:9, 3:30])


@pytest.mark.parametrize("size", [{}, {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}])
def test_an_ome_tiff_lies_where_it_was_on_the_stage(tmp_path: Path, size: dict[str, float]) -> None:
    path, pixels = tmp_path / "image.ome.tif", np.zeros((2, 20, 30), np.uint8)
    at = {"PositionX": [12.0] * 2, "PositionY": [-7.0] * 2}
    unit = {"PositionXUnit": ["µm"] * 2, "PositionYUnit": ["mm"] * 2}
    metadata = {"axes": "CYX", "Plane": {**at, **unit}, **size}
    tifffile.imwrite(path, pixels, metadata=metadata)
    for _, options, _ in read(path):
        assert options["translate"] == ([-7000.0, 12.0] if size else [0, 0])


def test_no_axis_of_one_index_and_no_made_up_size(czi: MakeCzi) -> None:
    ((data, options, _),) = read(czi(SceneSpec(rect=(7, 3, 20, 10))))
    assert options["translate"] == [3, 7]
    assert data.shape == (10, 20)
    assert (options["scale"], options["units"]) == ([1, 1], ["pixel", "pixel"])
    assert options["name"] == "Channel 0"


def test_contrast_is_estimated_without_reading_every_plane(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_patchset.stacks.czi.subblocks import SubblockDecoder

    planes: list[int] = []
    decode = SubblockDecoder.decode

    def counted(self: SubblockDecoder, row: int) -> Any:
        planes.append(row)
        return decode(self, row)

    monkeypatch.setattr(SubblockDecoder, "decode", counted)
    ((_, options, _),) = read(czi(SceneSpec(rect=(0, 0, 20, 10), t=50)))
    assert len(planes) == 1
    low, high = options["contrast_limits"]
    assert 0 <= low < high <= 65535


def test_colour_is_one_rgb_layer(czi: MakeCzi) -> None:
    scene = SceneSpec(rect=(0, 0, 20, 10), kind="Bgr24")
    ((data, options, _),) = read(czi(scene))
    assert options["rgb"]
    np.testing.assert_array_equal(data[...], scene.pixels({"T": 0, "Z": 0, "C": 0}))


def test_a_pyramid_is_multiscale(czi: MakeCzi) -> None:
    scene = SceneSpec(rect=(0, 0, 1300, 700), pyramid=True)
    ((levels, options, _),) = read(czi(scene))
    assert options["multiscale"]
    assert [level.shape for level in levels] == [(700, 1300), (350, 650), (175, 325)]


def test_the_first_scene_is_shown_and_the_others_are_announced(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(opener, "show_info", said.append)
    path = czi(SceneSpec(id=3), SceneSpec(id=7, rect=(100, 0, 8, 8)))
    ((data, options, _),) = read(path)
    assert data.shape == (48, 64)
    assert options["metadata"]["napari-patchset"] == {
        "path": str(path),
        "scene": 3,
        "channel": 0,
    }
    assert said == ["This is Scene 3, one of 2 scenes."]


def test_a_patch_set_opens_as_one_layer_a_channel(czi: MakeCzi, tmp_path: Path) -> None:
    out = tmp_path / "a.patches.zarr"
    plan = ExportPlan(
        sources=[czi(SCENE, xml=XML)], strategy=Tiled(size=(2, 10, 10)), depth_axis="Z", out=out
    )
    export(plan).close()
    (dapi, options, _), (egfp, *_) = read(out)
    assert dapi.shape == (2 * 2 * 3 * 4, 2, 10, 10)
    assert options["name"] == "DAPI (all)"
    assert options["scale"] == pytest.approx([1, 1, 0.2, 0.2])
    assert options["axis_labels"] == ["patch", "z", "y", "x"]
    expected = SCENE.pixels({"T": 0, "Z": 2, "C": 1}, (0, 10, 10, 10))
    np.testing.assert_array_equal(egfp[1, 1], expected)
    np.testing.assert_array_equal(egfp[:, 1][1], expected)


def test_a_patch_set_shows_one_split_at_a_time_with_its_labels(
    czi: MakeCzi, tmp_path: Path
) -> None:
    image = czi(SceneSpec(rect=(0, 0, 64, 64)))
    beside = czi(SceneSpec(rect=(0, 0, 64, 64)), name="beside.czi")
    source = SourceRef(
        path=str(image), target=ImageRef(path=str(beside)), labels=ImageRef(path=str(beside))
    )
    out = tmp_path / "a.patches.zarr"
    split = Split(val=0.4, by="block")
    plan = ExportPlan(sources=[source], strategy=Tiled(size=(8, 8)), split=split, out=out)
    export(plan).close()
    found = {options["name"]: (options["visible"], kind) for _, options, kind in read(out)}
    assert found == {
        "Channel 0 (train)": (True, "image"),
        "Channel 0 target (train)": (False, "image"),
        "labels (train)": (True, "labels"),
        "Channel 0 (val)": (False, "image"),
        "Channel 0 target (val)": (False, "image"),
        "labels (val)": (False, "labels"),
    }


def test_labels_of_an_ome_zarr_are_labels(tmp_path: Path) -> None:
    path = tmp_path / "cells.zarr"
    pixels = np.arange(2 * 3 * 8 * 10, dtype=np.uint16).reshape(2, 1, 3, 8, 10)
    labels = (pixels[0, 0] % 7).astype(np.int32)
    write_image(path, "TCZYX", pixels, scale=(2, 1, 0.5, 0.25, 0.25))
    write_image(path / "labels" / "nuclei", "ZYX", labels, scale=(0.5, 0.25, 0.25))
    write_image(path / "labels" / "float", "YX", np.zeros((8, 10)))
    write_image(path / "labels" / "odd", "TYX", labels[:2])
    group = zarr.open_group(path / "labels", mode="a")
    group.attrs["ome"] = {"version": "0.5", "labels": ["nuclei", "gone", "float", "odd"]}
    (image, _, _), (data, options, kind) = read(path)
    assert (image.shape, kind, options["name"]) == ((2, 3, 8, 10), "labels", "nuclei")
    assert (options["scale"], options["axis_labels"]) == ([0.5, 0.25, 0.25], ["z", "y", "x"])
    np.testing.assert_array_equal(data[...], labels)
    layer = Layer.create(data, options, kind)
    np.testing.assert_array_equal(layer.data[1], labels[1])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_is_known_by_what_lies_in_the_folder(tmp_path: Path, zarr_format: Any) -> None:
    pixels = np.arange(80, dtype=np.uint16).reshape(8, 10)
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=zarr_format)
    plate.create_array("A/1/0/0", data=pixels)
    for folder in ("A/1/0/0", "A/1/0/0/"):
        ((data, _, _),) = read(tmp_path / "plate.zarr" / folder)
        np.testing.assert_array_equal(data[...], pixels)
    assert get_reader(str(tmp_path / "plate.zarr" / "A" / "1")) is not None
    (tmp_path / "empty").mkdir()
    assert get_reader(str(tmp_path / "empty")) is None
    assert get_reader(str(tmp_path / "away")) is None


def test_what_is_not_ours_is_left_to_others(czi: MakeCzi) -> None:
    assert get_reader("picture.jpg") is None
    assert get_reader(["a.jpg", "b.jpg"]) is None
    assert get_reader([str(czi()), "b.jpg"]) is None


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "text.czi"
    path.write_text("this is no image")
    with pytest.raises(UnreadableFileError, match=r"text\.czi: not a CZI file"):
        read(path)


def test_a_single_file_opened_as_a_stack_is_read_like_any(czi: MakeCzi) -> None:
    """As npe2 does for a file that is dropped with Shift held."""
    path = str(czi(SCENE, xml=XML))
    reader = get_reader([path])
    assert reader is not None
    assert [options["name"] for _, options, _ in reader([path])] == ["DAPI", "EGFP"]


def test_colours_of_several_channels_are_one_layer_each(tmp_path: Path) -> None:
    path, pixels = tmp_path / "image.ome.tif", np.zeros((2, 20, 30, 3), np.uint8)
    pixels[1, ..., 1] = 9
    tifffile.imwrite(path, pixels, photometric="rgb", metadata={"axes": "CYXS"})
    layers = read(path)
    assert [(data.shape, options["rgb"]) for data, options, _ in layers] == [
        ((20, 30, 3), True)
    ] * 2
    assert [options["visible"] for _, options, _ in layers] == [True, False]
    np.testing.assert_array_equal(layers[1][0][3:5, 4:9], pixels[1, 3:5, 4:9])
    info = describe(open_stack(path))
    scene = SceneLayers(path, None, [Layer.create(*each) for each in layers])
    colors = [channel.color for channel in channels_of(scene, info)]
    assert colors == ["#ff0000", "#00ff00", "#0000ff", *["#000000"] * 3]
