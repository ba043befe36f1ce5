"""Pixel size and channel names of slide scanners' and microscopes' own kinds of TIFF."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_patchset.source import PixelSize
from napari_patchset.stacks.opening import list_absent, list_scenes, open_stack
from support import native_tiff_maker as native
from support.tiff_maker import assert_whole, planes, write


def test_a_qptiff_names_the_channel_of_each_page(tmp_path: Path) -> None:
    path = tmp_path / "a.qptiff.tif"
    names = ("DAPI", "Opal 570")
    with tifffile.TiffWriter(path) as writer:
        for i, (name, page) in enumerate(zip(names, planes(2), strict=True)):
            xml = (
                '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
                f"<ImageType>FullResolution</ImageType><Name>{name}</Name>"
                f"<Color>{255 * i},0,255</Color></PerkinElmer-QPI-ImageDescription>"
            )
            writer.write(
                page,
                description=xml,
                software="PerkinElmer-QPI",
                metadata=None,
                contiguous=False,
                tile=(16, 16),
                photometric="minisblack",
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    with open_stack(path) as stack:
        assert stack.original_axes == "CYX"
        assert [(c.name, c.color) for c in stack.metadata.channels] == [
            ("DAPI", "#0000ff"),
            ("Opal 570", "#ff00ff"),
        ]
        assert stack.metadata.pixel_size == PixelSize(y=0.5, x=0.5)


@pytest.mark.parametrize("mpp", ["0.25", "2.5e-1"])
def test_an_aperio_slide_has_the_size_in_its_description(mpp: str, tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    description = f"Aperio Image Library v11\r\n96x64|AppMag = 40|MPP = {mpp}|Left = 1"
    path = write(
        tmp_path / "a.svs",
        pixels,
        description=description,
        metadata=None,
        photometric="rgb",
        tile=(32, 32),
    )
    with open_stack(path) as stack:
        assert stack.metadata.pixel_size == PixelSize(y=0.25, x=0.25)
        assert [channel.name for channel in stack.metadata.channels] == ["R", "G", "B"]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("unit=nm\nyunit=um\nspacing=2\nzunit=um\nslices=2\n", PixelSize(z=2, y=0.5, x=0.0005)),
        ("unit=micron\nspacing=-3\nslices=2\n", PixelSize(z=3, y=0.5, x=0.5)),
        ("unit=micron\nslices=2\n", PixelSize(z=1, y=0.5, x=0.5)),
        ("unit=pixel\nslices=2\n", PixelSize()),
    ],
)
def test_imagej_units_and_spacing(fields: str, size: PixelSize, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    description = f"ImageJ=1.54f\nimages=2\n{fields}loop=false\nfinterval=2\ntunit=min\n"
    tifffile.imwrite(
        path,
        planes(2),
        description=description,
        metadata=None,
        photometric="minisblack",
        resolution=(2, 2),
        resolutionunit="NONE",
    )
    with open_stack(path) as stack:
        assert stack.original_axes == "ZYX"
        for axis in "zyx":
            assert getattr(stack.metadata.pixel_size, axis) == pytest.approx(getattr(size, axis))
        assert stack.metadata.time_step == 120


def sizes(stack: Any) -> tuple[float | None, ...]:
    size = stack.metadata.pixel_size
    return size.z, size.y, size.x


def assert_planes(stack: Any, pages: NDArray[Any]) -> None:
    """Compare the planes of a stack of one channel, in the order of S."""
    height, width = pages.shape[-2:]
    for sample, page in enumerate(pages.reshape(-1, height, width)):
        patch = stack.extract_patch(sample, None, (0, 0), (height, width))[0]
        np.testing.assert_array_equal(patch, page, strict=True)


@pytest.mark.parametrize(
    ("unit", "size"), [("um", 0.25), ("nm", 0.00025), ("microns", 0.25), ("pixel", None)]
)
def test_stk_in_z(unit: str, size: float | None, tmp_path: Path) -> None:
    path = native.write_stk(tmp_path / "a.stk", planes(3), 0.25, unit, z=0.5)
    with open_stack(path) as stack:
        assert stack.original_axes == "ZYX"
        assert sizes(stack) == pytest.approx((size and 2 * size, size, size))
        assert_planes(stack, planes(3))


def test_stk_in_time(tmp_path: Path) -> None:
    path = native.write_stk(tmp_path / "a.stk", planes(4), 0.25, "um", step_ms=1500)
    with open_stack(path) as stack:
        assert stack.original_axes == "TYX"
        assert sizes(stack) == (None, 0.25, 0.25)
        assert stack.metadata.time_step == 1.5
        assert_planes(stack, planes(4))


def test_sis(tmp_path: Path) -> None:
    path = native.write_sis(tmp_path / "a.tif", planes(2), x=0.2e-6, y=0.4e-6)
    with open_stack(path) as stack:
        assert sizes(stack) == pytest.approx((None, 0.4, 0.2))
        assert_planes(stack, planes(2))


def test_fluoview(tmp_path: Path) -> None:
    dimensions = (
        ("X", 70, 0.2, "um"),
        ("Y", 45, 0.2, "um"),
        ("Z", 2, -0.5, "um"),
        ("Time", 3, 2500.0, "ms"),
    )
    path = native.write_fluoview(tmp_path / "a.tif", planes(6), dimensions)
    with open_stack(path) as stack:
        assert (stack.original_axes, stack.original_data_shape) == ("TZYX", (3, 2, 45, 70))
        assert sizes(stack) == (0.5, 0.2, 0.2)
        assert stack.metadata.time_step == 2.5
        assert_planes(stack, planes(3, 2))


@pytest.mark.parametrize(
    ("axes", "shape", "z", "step"),
    [("ZYX", (3,), 0.5, None), ("TYX", (3,), None, 2.0), ("TZYX", (2, 3), 0.5, 2.0)],
)
def test_lsm(
    axes: str, shape: tuple[int, ...], z: float | None, step: float | None, tmp_path: Path
) -> None:
    fields = {"VoxelSizeX": 1e-7, "VoxelSizeY": 1e-7, "VoxelSizeZ": 5e-7, "TimeIntervall": 2.0}
    path = native.write_lsm(tmp_path / "a.lsm", planes(*shape), axes, **fields)
    with open_stack(path) as stack:
        assert stack.original_axes == axes
        assert sizes(stack) == pytest.approx((z, 0.1, 0.1))
        assert stack.metadata.time_step == step
        assert [(c.name, c.color) for c in stack.metadata.channels] == [("EGFP", "#00ff00")]
        assert_planes(stack, planes(*shape))


def test_ndtiff(tmp_path: Path) -> None:
    places = [
        {"time": t, "z": z, "channel": name}
        for t in range(2)
        for z in range(3)
        for name in ("DAPI", "GFP")
    ]
    summary = {"PixelSize_um": 0.325, "z-step_um": -1.5, "Interval_ms": 500}
    path = native.write_ndtiff(tmp_path / "set", planes(12), places, **summary)
    with open_stack(path) as stack:
        assert (stack.original_axes, stack.original_data_shape[:3]) == ("TZCYX", (2, 3, 2))
        assert sizes(stack) == (1.5, 0.325, 0.325)
        assert stack.metadata.time_step == 0.5
        assert [channel.name for channel in stack.metadata.channels] == ["DAPI", "GFP"]
        for sample, pair in enumerate(planes(6, 2)):
            patch = stack.extract_patch(sample, None, (0, 0), pair.shape[1:])
            np.testing.assert_array_equal(patch, pair, strict=True)


def test_an_ndtiff_whose_index_was_not_copied_is_reported(tmp_path: Path) -> None:
    places = [{"z": z, "channel": name} for z in range(3) for name in ("DAPI", "GFP")]
    path = native.write_ndtiff(tmp_path, planes(6), places)
    (tmp_path / "NDTiff.index").unlink()
    said = pytest.warns(UserWarning, match=r"'NDTiff\.index' that describes its set is not in its")
    with said, open_stack(path) as stack:
        assert_planes(stack, planes(6, 1))
    assert list_absent(path) == ("NDTiff.index",)


VOLUMES = {
    "hChannels_channelSave": "[1;2]",
    "hStackManager_framesPerSlice": 1,
    "hStackManager_numSlices": 4,
    "hStackManager_numVolumes": 3,
    "hStackManager_stackZStepSize": 2.5,
}


@pytest.mark.parametrize("n_volumes", [3, "Inf"])
def test_volumes_of_scanimage_are_time_points(tmp_path: Path, n_volumes: int | str) -> None:
    header = {**VOLUMES, "hStackManager_numVolumes": n_volumes}
    path = native.write_scanimage(tmp_path / "v.tif", planes(24), first=9, **header)
    with open_stack(path, depth_axis="Z") as stack:
        assert (stack.original_axes, stack.original_data_shape[:3]) == ("TZCYX", (3, 4, 2))
        assert sizes(stack) == (2.5, None, None)
        volumes = planes(3, 4, 2).swapaxes(1, 2)
        assert_whole(stack, volumes)


@pytest.mark.parametrize(
    "header",
    [
        {"hFastZ_numDiscardFlybackFrames": 1},
        {"hStackManager_numFramesPerVolumeWithFlyback": 6},
        {"hStackManager_numVolumes": 2},
        {"hStackManager_numSlices": 5},
        {"hStackManager_framesPerSlice": 2},
        {"hScan2D_logAverageFactor": 2},
        {"first": 2},
    ],
)
def test_volumes_of_scanimage_that_are_not_certain_are_reported(
    tmp_path: Path, header: dict[str, int]
) -> None:
    slices = {"hStackManager_numSlices": 2} if "hStackManager_framesPerSlice" in header else {}
    path = native.write_scanimage(tmp_path / "v.tif", planes(24), **VOLUMES | slices | header)
    said = pytest.warns(UserWarning, match=r"volumes of \d slices.* planes are read as Z")
    with said, open_stack(path) as stack:
        assert stack.original_axes in ("ZCYX", "ZTCYX")


def test_a_stack_of_scanimage_has_its_step(tmp_path: Path) -> None:
    path = native.write_scanimage(tmp_path / "z.tif", planes(8), **VOLUMES)
    with open_stack(path) as stack:
        assert (stack.original_axes, stack.original_data_shape[:2]) == ("ZCYX", (4, 2))
        assert sizes(stack) == (2.5, None, None)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("palette", {"colormap": np.arange(768, dtype=np.uint16)[::-1].reshape(3, 256)}),
        ("miniswhite", {}),
        ("minisblack", {"extratags": [(274, 3, 1, 6, True)]}),  # Orientation: turned by a quarter
        ("separated", {"planarconfig": "contig"}),
    ],
)
def test_values_are_those_that_are_stored_whatever_a_viewer_makes_of_them(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    y, x = np.ogrid[:32, :48]
    values = ((7 * y + 3 * x) % 251).astype(np.uint8)
    inks = [values + ink for ink in range(4 if kind == "separated" else 1)]
    pixels = np.stack(inks, -1) if len(inks) > 1 else values
    path = write(tmp_path / "a.tif", pixels, photometric=kind, metadata=None, **options)
    with open_stack(path) as stack:
        np.testing.assert_array_equal(stack.extract_patch(0, None, (0, 0), (32, 48)), inks)


def test_what_a_slide_has_besides_its_image_is_no_scene(tmp_path: Path) -> None:
    of_aperio, pixels = "Aperio Image Library v1\n", np.zeros((64, 64, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        for number, (description, tile) in enumerate(
            [
                ("512x512 (64x64) |AppMag = 20|MPP = 0.5", (64, 64)),
                ("512x512 -> 64x64 - |", None),
                ("label 64x64", None),
                ("macro 64x64", None),
            ]
        ):
            writer.write(
                pixels if number else np.tile(pixels, (8, 8, 1)),
                description=of_aperio + description,
                subfiletype=(0, 0, 1, 9)[number],
                tile=tile,
                photometric="rgb",
                metadata=None,
            )
    with tifffile.TiffFile(tmp_path / "a.svs") as file:
        assert [series.name for series in file.series] == [
            "Baseline",
            "Thumbnail",
            "Label",
            "Macro",
        ]
    assert [scene.shape for scene in list_scenes(tmp_path / "a.svs")] == [(512, 512, 3)]
