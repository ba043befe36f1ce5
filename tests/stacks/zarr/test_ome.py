"""OME-Zarr: metadata, levels, series, plates, labels."""

import pickle
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.metadata import Channel
from napari_patchset.stacks.opening import list_absent, list_scenes, open_stack
from napari_patchset.stacks.zarr.scenes import zarr_scenes
from napari_patchset.stacks.zarr.stack import ZarrImageStack, open_zarr
from support.zarr_maker import (
    assert_whole,
    axes_of,
    drawn,
    edit,
    multiscale,
    write_array,
    write_group,
    write_image,
    write_plate,
)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_all_metadata_of_an_ome_image_is_read(tmp_path: Path, version: str) -> None:
    data = drawn("TCZYX", (2, 2, 3, 16, 20))
    window = {"start": 10, "end": 200.5, "min": 0, "max": 65535}
    channels = [{"label": "DAPI", "color": "0000FF", "window": window}, {"color": "#00ff00"}]
    path = write_image(
        tmp_path / "x.ome.zarr", "TCZYX", data, version=version, omero={"channels": channels}
    )
    transforms = [
        {"type": "scale", "scale": [0.5, 1, 2, 0.25, 0.25]},
        {"type": "translation", "translation": [0, 0, 1, 10, 20]},
    ]
    scaled = {
        **multiscale("TCZYX", [1] * 5),
        "version": version,
        "name": "cells",
        "coordinateTransformations": [{"type": "scale", "scale": [4.0, 1, 1, 1, 2]}],
    }
    scaled["datasets"][0]["coordinateTransformations"] = transforms
    write_group(path, {"multiscales": [scaled], "omero": {"channels": channels}}, version)
    with open_stack(path, depth_axis="Z") as stack:
        assert isinstance(stack, ZarrImageStack)
        assert_whole(stack, data, "TCZYX")
        assert stack.metadata.pixel_size == PixelSize(z=2, y=0.25, x=0.5)
        assert stack.metadata.time_step == 2
        assert stack.translation == {"Z": 1, "Y": 10, "X": 40}
        assert stack.metadata.channels == (
            Channel("DAPI", "#0000ff", (10, 200.5)),
            Channel("Channel 1", "#00ff00"),
        )
    (scene,) = list_scenes(path)
    assert (scene.id, scene.name, scene.rect) == (None, "cells", Rect(0, 0, 20, 16))
    assert (scene.axes, scene.shape, scene.dtype) == ("TCZYX", (2, 2, 3, 16, 20), "uint16")


@pytest.mark.parametrize(
    ("unit", "micrometres"),
    [("nanometer", 1e-3), ("millimeter", 1e3), ("um", 1.0), (None, None), ("pixel", None)],
)
def test_lengths_become_micrometres(
    tmp_path: Path, unit: str | None, micrometres: float | None
) -> None:
    path = write_image(tmp_path / "x.zarr", "YX", drawn("YX", (9, 8)))
    units = {"y": unit, "x": unit} if unit else {}
    write_group(path, {"multiscales": [{**multiscale("YX", [1, 1]), "axes": axes_of("YX", units)}]})
    with open_zarr(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(micrometres)


def test_levels_are_the_same_image_finest_first(tmp_path: Path) -> None:
    data = drawn("CZYX", (2, 4, 32, 48))
    halved, flat = data[..., ::2, ::2], data[:, ::2, ::4, ::4]
    path = write_image(tmp_path / "x.zarr", "CZYX", data, halved, flat)
    with open_zarr(path, depth_axis="Z") as stack:
        assert [level.data_shape[2:] for level in stack.levels] == [
            (4, 32, 48),
            (4, 16, 24),
            (2, 8, 12),
        ]
        assert [level.metadata.pixel_size.x for level in stack.levels] == [1, 2, 4]
        for level, array in zip(stack.levels, (data, halved, flat), strict=True):
            assert_whole(level, array, "CZYX")
    with open_zarr(path) as stack:  # Z is part of S: the last level has other samples
        assert [level.data_shape for level in stack.levels] == [(4, 2, 32, 48), (4, 2, 16, 24)]


def test_one_resolution_opens_by_its_path(tmp_path: Path) -> None:
    data = drawn("CYX", (2, 32, 48))
    path = write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2])
    for stack in (open_zarr(path / "1"), open_zarr(path, 1), open_stack(f"{path}@1")):
        with stack:
            assert isinstance(stack, ZarrImageStack)
            assert_whole(stack, data[:, ::2, ::2], "CYX")
            assert stack.metadata.pixel_size.x == 2
    assert list_scenes(path / "1")[0].axes == "CYX"


def test_labels_are_not_scenes_but_open_by_their_path(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.zarr", "CYX", drawn("CYX", (2, 9, 8)))
    write_group(path / "labels", {"labels": ["cells"]})
    write_image(path / "labels" / "cells", "YX", drawn("YX", (9, 8)), **{"image-label": {}})
    assert [scene.id for scene in zarr_scenes(path)] == [None]
    for stack in (open_zarr(path, "labels/cells"), open_zarr(path / "labels" / "cells")):
        with stack:
            assert_whole(stack, drawn("YX", (9, 8)), "YX")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("listed", [True, False])
def test_series_of_a_converted_file_are_scenes(tmp_path: Path, version: str, listed: bool) -> None:
    path = write_group(tmp_path / "x.zarr", {"bioformats2raw.layout": 3}, version)
    order = ["10", "2"] if listed else ["2", "10"]
    write_group(path / "OME", {"series": order} if listed else {}, version)
    names = "".join(f'<Image Name="image {i}"/>' for i in order)
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{names}</OME>'
    (path / "OME" / "METADATA.ome.xml").write_text(xml)
    for name, height in (("2", 9), ("10", 12)):
        write_image(path / name, "YX", drawn("YX", (height, 8)), version=version)
    assert [(s.id, s.name) for s in list_scenes(path)] == [(i, f"image {i}") for i in order]
    with open_stack(path, "10") as stack:
        assert tuple(stack.data_shape) == (1, 1, 12, 8)
        assert stack.scene == "10"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has 2 scenes; choose one"):
        open_zarr(path)
    with pytest.raises(ValueError, match="there is no scene '3'; there are"):
        open_zarr(path, "3")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_fields_of_a_plate_are_scenes_laid_out_as_on_the_plate(
    tmp_path: Path, version: str
) -> None:
    path = write_plate(tmp_path / "p.zarr", version, ["A/1", "B/3"], 3)
    scenes = list_scenes(path)
    ids = ["A/1/0", "A/1/1", "A/1/2", "B/3/0", "B/3/1", "B/3/2"]
    assert [s.id for s in scenes] == ids
    assert [s.name for s in scenes[:2]] == ["A1 field 0", "A1 field 1"]
    assert [s.label for s in scenes[:2]] == ["A1 field 0", "A1 field 1"]
    assert [s.well for s in scenes] == ["A1"] * 3 + ["B3"] * 3
    assert [s.rect for s in scenes[:3]] == [
        Rect(0, 0, 30, 20),
        Rect(30, 0, 30, 20),
        Rect(0, 20, 30, 20),
    ]
    assert scenes[3].rect[:2] == (2 * (60 + 6), 40 + 6)
    with open_stack(path, "B/3/1") as stack:
        patch = stack.extract_patch(0, None, [0, 0], [20, 30])
        np.testing.assert_array_equal(patch, drawn("CYX", (2, 20, 30)) + np.uint16(11))


def test_a_plate_without_one_of_its_wells_lists_the_others(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", "0.5", ["A/1", "A/2"], 1)
    shutil.rmtree(path / "A" / "1" / "0")
    with pytest.warns(UserWarning, match="skipped: .*A/1/0: there is no image"):
        assert [s.name for s in list_scenes(path)] == ["A2"]


@pytest.mark.parametrize(
    ("change", "axes", "warning"),
    [
        ({"axes": None, "version": "0.1"}, "TCZYX", r"older .* are read as TCZYX\.$"),
        ({"axes": list("tczyx"), "version": "0.3"}, "TCZYX", r"OME-Zarr 0\.3 is older"),
        ({"axes": axes_of("ZTCYX")}, "ZTCYX", r"not valid OME-Zarr 0\.4 \(multiscales"),
        ({"axes": axes_of("CYX")}, "TCZYX", "axes do not fit the array; it is read as TCZYX"),
        ({"axes": "nonsense"}, "TCZYX", r"not valid OME-Zarr 0\.4"),
    ],
)
def test_older_and_invalid_metadata_is_a_warning(
    tmp_path: Path, change: dict[str, Any], axes: str, warning: str
) -> None:
    data = drawn("TCZYX", (2, 2, 3, 9, 8))
    path = write_image(tmp_path / "x.zarr", "TCZYX", data, version="0.4")
    edit(path / ".zattrs", lambda doc: doc["multiscales"][0].update(change))
    assert list_scenes(path)[0].axes == axes
    with pytest.warns(UserWarning, match=warning) as caught, open_zarr(path) as stack:
        assert_whole(stack, data, axes)
    messages = [str(warning.message) for warning in caught]
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_level_unlike_the_first_is_left_out(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.zarr", "CYX", drawn("CYX", (2, 9, 8)), drawn("YX", (4, 4)))
    with pytest.warns(UserWarning, match="is unlike the first and ignored"):
        stack = open_zarr(path)
    assert stack.levels == (stack,)
    shutil.rmtree(path / "1")
    with pytest.warns(UserWarning, match="a lower resolution is ignored"):
        open_zarr(path).close()


def test_an_unknown_axis_is_merged_into_s(tmp_path: Path) -> None:
    data = drawn("RYX", (4, 9, 8))
    path = tmp_path / "x.zarr"
    angle = {**multiscale("YX", [1.0, 1, 1]), "axes": [{"name": "angle"}, *axes_of("YX")]}
    write_group(path, {"multiscales": [angle]})
    write_array(path / "0", data)
    with open_zarr(path) as stack:
        assert_whole(stack, data, "AYX")


def test_a_scale_without_a_unit_is_kept_and_its_unit_unknown(tmp_path: Path) -> None:
    data = drawn("TZYX", (2, 3, 16, 20))
    path = write_image(tmp_path / "x.zarr", "TZYX", data, scale=(3, 2, 0.5, 0.25))

    def leave_out_units(doc: dict[str, Any]) -> None:
        for axis in doc["attributes"]["ome"]["multiscales"][0]["axes"]:
            axis.pop("unit", None)

    edit(path / "zarr.json", leave_out_units)
    with open_stack(path) as stack:
        assert stack.metadata.pixel_size == PixelSize()
        assert stack.metadata.time_step is None
        assert stack.metadata.unitless == {"T": 3, "Z": 2, "Y": 0.5, "X": 0.25}


def test_a_negative_scale_is_the_size_of_a_pixel_all_the_same(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.zarr", "ZYX", drawn("ZYX", (3, 8, 8)), scale=(-2, -0.5, 0.5))
    with open_stack(path) as stack:
        assert stack.metadata.pixel_size == PixelSize(z=2, y=0.5, x=0.5)
        assert not stack.metadata.unitless


def test_each_multiscale_image_of_a_group_is_a_scene(tmp_path: Path) -> None:
    data = drawn("ZYX", (3, 16, 20))
    path = write_image(tmp_path / "x.zarr", "ZYX", data, data[:, ::2, ::2])
    first = {**multiscale("ZYX", [1, 1, 1]), "name": "one"}
    second = {**multiscale("ZYX", [1, 2, 2]), "name": "two"}
    second["datasets"][0]["path"] = "1"
    empty = {**multiscale("ZYX", [1, 1, 1]), "datasets": []}
    write_group(path, {"multiscales": [first, second]})
    assert [scene.id for scene in list_scenes(path)] == ["#0", "#1"]
    write_group(path, {"multiscales": [first, empty, second]})
    scenes = list_scenes(path)
    assert [(scene.id, scene.name) for scene in scenes] == [("#0", "one"), ("#2", "two")]
    with pytest.warns(UserWarning, match="not valid OME-Zarr"):
        stack = open_stack(f"{path}@#2")
    with stack:
        assert isinstance(stack, ZarrImageStack)
        assert_whole(stack, data[:, ::2, ::2], "ZYX")
        assert stack.metadata.pixel_size == PixelSize(z=1, y=2, x=2)


def test_a_plate_names_the_wells_and_fields_that_are_not_there(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", "0.4", ["B/3", "B/5", "B/6"], 2)
    shutil.rmtree(path / "B" / "6")
    shutil.rmtree(path / "B" / "5" / "1")
    with pytest.warns(UserWarning, match=r"B/5/1: there is no image.*; .*B/6: there is no image"):
        scenes = list_scenes(path)
    assert [scene.id for scene in scenes] == ["B/3/0", "B/3/1", "B/5/0"]
    assert list(list_absent(path)) == ["B/5/1", "B/6"]
    with open_stack(f"{path}@B/3/1") as stack:
        assert stack.scene == "B/3/1"


@pytest.mark.parametrize("top", ["", "image.zarr/", "data/image.zarr/"])
@pytest.mark.parametrize("name", ["x.zip", "x.ozx"])
def test_a_zipped_store_is_read_like_its_folder(name: str, top: str, tmp_path: Path) -> None:
    data = drawn("CYX", (2, 40, 50))
    folder = write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2], scale=(1, 0.5, 0.5))
    path = tmp_path / name
    with ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    (scene,) = list_scenes(path)
    assert (scene.axes, scene.shape) == ("CYX", (2, 40, 50))
    with open_stack(path) as stack, open_stack(folder) as unzipped:
        assert_whole(stack, data, "CYX")
        assert [level.data_shape for level in stack.levels] == [
            level.data_shape for level in unzipped.levels
        ]
        assert stack.metadata == unzipped.metadata
        copy = shutil.copy(path, tmp_path / "copy.zip")
        with open_stack(copy) as other:
            assert content_key(other) == content_key(stack)
        again = pickle.loads(pickle.dumps(stack))
    with again:
        assert_whole(again, data, "CYX")


def test_a_zip_that_is_damaged_or_holds_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ozx"
    with ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(UnreadableFileError, match="no zarr array"):
        open_stack(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableFileError, match="its archive is damaged"):
        open_stack(path)
    with ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(UnreadableFileError, match="no zarr in this archive"):
        open_stack(tmp_path / "x.zip")
