"""Files as people have them: each row of the list of reported inputs has its right value."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset.channels import channel_indices, format_channels, parse_channels
from napari_patchset.errors import ArgumentError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.opening import list_absent, list_scenes, open_stack
from napari_patchset.stacks.tiff.acquisition import arrange_series

pytestmark = pytest.mark.realdata


@pytest.fixture
def reported(data_dir: Path) -> Path:
    return data_dir / "reported"


def test_each_file_of_a_set_shows_its_own_position_first(reported: Path) -> None:
    for i in range(3):
        path = reported / "ome_set_by_position" / f"t_s{i}.ome.tiff"
        first, *others = list_scenes(path)
        assert first.name == f"pos{i}"
        assert len(others) == 2
        with open_stack(path, first.id) as stack:
            pixels = stack.extract_patch(0, None, (0, 0), (64, 64))[0]
        with tifffile.TiffFile(path) as file:
            np.testing.assert_array_equal(pixels, file.pages[0].asarray())


def test_the_absent_file_of_a_set_is_named_and_the_other_channel_is_there(reported: Path) -> None:
    path = reported / "ome_set_missing_part" / "tub_C0.ome.tif"
    assert list_absent(path) == ("tub_C1.ome.tif",)
    with pytest.warns(UserWarning, match=r"tub_C1\.ome\.tif"):
        stack = open_stack(path)
    with stack:
        assert [channel.name for channel in stack.metadata.channels] == ["a"]
        assert stack.missing_planes == frozenset()


def test_micromanager_has_a_scene_for_each_position(reported: Path, tmp_path: Path) -> None:
    paths = sorted((reported / "micromanager").glob("*.tif"))
    for path in paths:
        scenes = list_scenes(path)
        assert sorted(scene.name for scene in scenes) == ["ds_MMStack_Pos0", "ds_MMStack_Pos1"]
        assert scenes[0].name in path.name
        assert_micromanager(path, scenes[0].id)
    lone = shutil.copy(paths[1], tmp_path)
    with pytest.warns(UserWarning, match=r"'ds_MMStack_Pos0\.ome\.tif' that describes its set"):
        assert_micromanager(Path(lone), None)


def assert_micromanager(path: Path, scene: int | str | None) -> None:
    with open_stack(path, scene) as stack:
        assert sorted(zip(stack.original_axes, stack.original_data_shape, strict=True)) == [
            *(("C", 2), ("T", 3), ("X", 48), ("Y", 32), ("Z", 2))
        ]
        assert [channel.name for channel in stack.metadata.channels] == ["DAPI", "GFP"]
        assert stack.metadata.pixel_size == PixelSize(z=1.5, y=0.325, x=0.325)
        assert stack.metadata.time_step == 0.5
        with tifffile.TiffFile(path) as file:
            plane = file.pages[5].asarray()  # C is fastest, then Z, then T
        sample = 1 * 2 + 0
        np.testing.assert_array_equal(stack.extract_patch(sample, [1], (0, 0), (32, 48))[0], plane)


SIZES = {
    "imagej/zunit.tif": PixelSize(z=0.05, y=0.008, x=0.008),
    "imagej/nospacing.tif": PixelSize(z=1.0, y=0.2, x=0.2),
    "ome/ren_win.ome.tif": PixelSize(y=0.1, x=0.1),
    "a.svs": PixelSize(y=0.499, x=0.499),
    "a.lsm": PixelSize(z=0.5, y=0.1, x=0.1),
}


@pytest.mark.parametrize("name", SIZES)
def test_pixel_size(name: str, reported: Path) -> None:
    with open_stack(reported / name) as stack:
        size = stack.metadata.pixel_size
    for axis in "zyx":
        assert getattr(size, axis) == pytest.approx(getattr(SIZES[name], axis))


def test_a_renamed_file_without_uuid_has_its_own_pages(reported: Path) -> None:
    path = reported / "ome" / "ren_nouuid.ome.tif"
    with pytest.warns(UserWarning, match=r"'original\.ome\.tif', which is not in its folder"):
        stack = open_stack(path)
    with stack, tifffile.TiffFile(path) as file:
        assert stack.original_axes == "ZYX"
        planes = [stack.extract_patch(i, None, (0, 0), (64, 80))[0] for i in range(3)]
        np.testing.assert_array_equal(planes, [page.asarray() for page in file.pages])


def test_bilevel_ccitt(reported: Path) -> None:
    path = reported / "bilevel_ccitt.tif"
    with open_stack(path) as stack:
        assert np.dtype(stack.data_dtype).kind == "b"
        pages = [stack.extract_patch(i, None, (0, 0), stack.data_shape[2:])[0] for i in range(3)]
    np.testing.assert_array_equal(pages, tifffile.imread(path), strict=True)


def test_a_plate_without_a_well_has_the_others(reported: Path) -> None:
    path = reported / "plate_missing_well.zarr"
    with pytest.warns(UserWarning, match="B/6"):
        scenes = list_scenes(path)
    assert [scene.id for scene in scenes] == ["B/3/0", "B/3/1", "B/5/0"]
    assert "B/6" in list_absent(path)
    with open_stack(f"{path}@B/3/1") as stack:
        assert stack.data_shape == (1, 2, 64, 80)


def test_a_scale_without_unit(reported: Path) -> None:
    with open_stack(reported / "scale_without_unit.zarr") as stack:
        assert stack.metadata.unitless == {"Z": 2, "Y": 0.5, "X": 0.5}


def test_a_zipped_ome_zarr(reported: Path) -> None:
    with open_stack(reported / "v05.ozx") as stack:
        assert stack.metadata.pixel_size == PixelSize(z=2, y=0.5, x=0.5)
        assert stack.original_axes == "CZYX"
        assert stack.extract_patch(0, None, (0, 0), (64, 80)).any()


def test_channel_names(reported: Path) -> None:
    with open_stack(reported / "ome" / "names.ome.tif") as stack:
        names = [channel.name for channel in stack.metadata.channels]
    assert channel_indices(names, parse_channels("405")) == [0]
    with pytest.raises(ArgumentError, match="2 channels 'DAPI'"):
        channel_indices(names, parse_channels("DAPI"))
    for index in (0, 3, 4, 5):
        assert channel_indices(names, parse_channels(format_channels([names[index]]))) == [index]


def test_pages_without_axes_get_those_that_a_person_states(reported: Path) -> None:
    for name, n in (("imagej/stack.tif", 6), ("plain_pages.tif", 5)):
        with open_stack(reported / name, depth_axis="Z", axes="ZYX") as stack:
            assert stack.data_shape == (1, 1, n, 64, 80)
            pixels = stack.extract_patch(0, None, (0, 0, 0), (n, 64, 80))[0]
        np.testing.assert_array_equal(pixels, tifffile.imread(reported / name))


def test_positions_of_micromanager_without_ome_xml_are_series(reported: Path) -> None:
    paths = sorted((reported / "micromanager").glob("*.tif"))
    with tifffile.TiffFile(paths[0]) as file:
        (whole,) = file.series
        assert whole.kind == "mmstack"
        data = whole.asarray()
        series, _ = arrange_series([whole])
        assert [(each.name, each.axes) for each in series] == [("Pos0", "TCZYX"), ("Pos1", "TCZYX")]
        for position, each in enumerate(series):
            np.testing.assert_array_equal(each.asarray(), data[position])
