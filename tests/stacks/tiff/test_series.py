"""TiffImageStack: series, levels, sets of files, and metadata."""

import codecs
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.tiff.stack import TiffImageStack
from support.tiff_maker import H, W, as_stack, assert_whole, planes, write, write_two_series

# --- series, levels, sets -----------------------------------------------------------------------


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    return write_two_series(tmp_path / "two.ome.tif")


def test_series_are_scenes(two_series: Path) -> None:
    left, right = list_scenes(two_series)
    assert (left.id, left.name, left.axes, left.shape) == (0, "left", "TCYX", (3, 2, H, W))
    assert (right.id, right.name, right.dtype) == (1, "right", "uint16")
    assert right.rect == Rect(20, -40, 30, 20)
    with open_stack(two_series, scene=1, depth_axis="Z") as stack:
        assert_whole(stack, planes(4, size=(20, 30))[None, None])
    with open_stack(two_series, scene=0) as stack:
        assert_whole(stack, planes(3, 2))


def test_the_source_opens_the_same_series_again(two_series: Path) -> None:
    with TiffImageStack(two_series, 1) as stack, TiffImageStack(stack.source) as again:
        assert stack.source.name == "two.ome.tif@1"
        assert (again.scene, again.data_shape) == (1, stack.data_shape)


def test_one_of_several_series_must_be_chosen(two_series: Path) -> None:
    with pytest.raises(ArgumentError, match=r"2 series; choose one: 0 \(left\), 1 \(right\)"):
        TiffImageStack(two_series)
    with pytest.raises(ArgumentError, match="no series 2; it has 2"):
        TiffImageStack(two_series, 2)
    with pytest.raises(ArgumentError, match="no series 'left'"):
        open_stack(two_series, "left")


def test_a_single_series_has_no_id(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tif", planes(2))
    (scene,) = list_scenes(path)
    assert (scene.id, scene.name) == (None, "one")
    with TiffImageStack(path, 0) as stack:
        assert stack.scene is None
        assert stack.source == path


def test_a_thumbnail_is_no_scene(tmp_path: Path) -> None:
    path = tmp_path / "thumb.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(planes(1)[0], metadata=None)
        writer.write(planes(1, size=(9, 17))[0], metadata=None, subfiletype=1)
    assert len(list_scenes(path)) == 1
    with TiffImageStack(path) as stack:
        assert_whole(stack, planes(1)[None])


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    path = tmp_path / "pyramid.ome.tif"
    options = {"tile": (16, 16), "compression": "zlib"}
    data = planes(3, 2, size=(64, 96))
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2}
    with tifffile.TiffWriter(path) as writer:
        writer.write(data, subifds=2, metadata=metadata, **options)
        for step in (2, 4):
            writer.write(data[..., ::step, ::step], subfiletype=1, **options)
    return path


def test_levels_of_a_pyramid(pyramid: Path) -> None:
    data = planes(3, 2, size=(64, 96))
    with TiffImageStack(pyramid, depth_axis="Z") as stack:
        assert stack.levels[0] is stack
        assert [level.data_shape[-2:] for level in stack.levels] == [(64, 96), (32, 48), (16, 24)]
        for level, step in zip(stack.levels, (1, 2, 4), strict=True):
            assert_whole(level, as_stack(data[..., ::step, ::step], "ZCYX", "Z"))
            assert level.metadata.pixel_size == PixelSize(z=2, y=0.25 * step, x=0.5 * step)
        assert [len(level.levels) for level in stack.levels] == [3, 2, 1]
        again = pickle.loads(pickle.dumps(stack.levels[1]))
    with again:
        assert_whole(again, as_stack(data[..., ::2, ::2], "ZCYX", "Z"))


@pytest.fixture
def ome_set(tmp_path: Path) -> Path:
    """Write a set of three files, one for each time point, that name each other."""
    names = [f"t{t}.ome.tif" for t in range(3)]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" IFD="{c}"><UUID FileName="{name}">urn:uuid:{t}'
        "</UUID></TiffData>"
        for t, name in enumerate(names)
        for c in range(2)
    )
    for t, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{t}"><Image ID="Image:0" Name="set"><Pixels ID="Pixels:0" '
            f'Type="uint16" DimensionOrder="XYCTZ" SizeX="{W}" SizeY="{H}" SizeC="2" SizeT="3" '
            f'SizeZ="1">'
            f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{data}</Pixels></Image></OME>'
        )
        # The third differs in how it is stored.
        options: dict[str, Any] = {"compression": "zlib", "byteorder": ">"} if t == 2 else {}
        write(tmp_path / name, planes(3, 2)[t], description=xml, metadata=None, **options)
    return tmp_path / names[1]


def test_a_set_of_files_is_one_image_from_each_of_them(ome_set: Path) -> None:
    for name in ("t0.ome.tif", "t1.ome.tif", "t2.ome.tif"):
        with TiffImageStack(ome_set.with_name(name)) as stack:
            assert stack.missing_planes == frozenset()
            assert_whole(stack, planes(3, 2))


def test_planes_of_a_missing_file_of_a_set_are_listed(ome_set: Path) -> None:
    ome_set.with_name("t0.ome.tif").unlink()
    with pytest.warns(
        UserWarning, match=r"the file 't0\.ome\.tif' of its set is not in its folder"
    ):
        stack = TiffImageStack(ome_set, depth_axis="T")
    with stack:
        assert stack.missing_planes == {(0, 0, 0), (0, 1, 0)}
        reference = planes(3, 2)
        reference[0] = 0
        assert_whole(stack, as_stack(reference, "TCYX", "T"))
        assert describe(stack).missing == stack.missing_planes


def test_a_file_of_a_set_cut_short_is_refused(ome_set: Path) -> None:
    other = ome_set.with_name("t0.ome.tif")
    other.write_bytes(other.read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match=r"t0\.ome\.tif"):
        TiffImageStack(ome_set)


@pytest.mark.parametrize("name", ["../secret.tif", "{0}/secret.tif", "a\\..\\..\\secret.tif"])
def test_a_set_is_read_from_its_own_folder_alone(name: str, ome_set: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(ome_set.with_name("t0.ome.tif"), outside / "secret.tif")
    inside = outside / "inside"
    inside.mkdir()
    for path in tmp_path.glob("*.tif"):
        shutil.move(path, inside)
    rename_in_xml(inside / ome_set.name, "t0.ome.tif", name.format(outside))
    with (
        pytest.warns(UserWarning, match=r"'secret\.tif' of its set is not in its folder"),
        TiffImageStack(inside / ome_set.name, depth_axis="T") as stack,
    ):
        assert (0, 0, 0) in stack.missing_planes


def rename_in_xml(path: Path, old: str, new: str) -> None:
    """Write a TIFF again with another name of a file in its OME-XML."""
    with tifffile.TiffFile(path) as file:
        xml, pixels = file.ome_metadata or "", [page.asarray() for page in file.pages]
    write(path, np.stack(pixels), description=xml.replace(old, new), metadata=None)


def test_a_set_that_was_moved_from_windows_is_read(ome_set: Path) -> None:
    for name in ("t0.ome.tif", "t1.ome.tif", "t2.ome.tif"):
        rename_in_xml(ome_set, name, f"D:\\data\\{name}")
    with TiffImageStack(ome_set) as stack:
        assert_whole(stack, planes(3, 2))


def test_a_renamed_file_of_a_set_is_known_by_its_uuid(ome_set: Path) -> None:
    renamed = ome_set.rename(ome_set.with_name("other name.tif"))
    with TiffImageStack(renamed) as stack:
        assert_whole(stack, planes(3, 2))


def test_a_set_of_links_is_read_from_where_the_links_are(ome_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    for i, path in enumerate(sorted(tmp_path.glob("*.tif"))):
        stored = path.rename(tmp_path / f"object{i}")
        (folder / path.name).symlink_to(stored)
    with TiffImageStack(folder / ome_set.name) as stack:
        assert_whole(stack, planes(3, 2))


def test_a_file_described_by_a_companion(ome_set: Path) -> None:
    with tifffile.TiffFile(ome_set) as file:
        xml = file.ome_metadata or ""
    for t in range(3):
        lone = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{t}"><BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:9"/>'
            "</OME>"
        )
        path = ome_set.with_name(f"t{t}.ome.tif")
        write(path, planes(3, 2)[t], description=lone, metadata=None)
    with (
        pytest.warns(UserWarning, match=r"'all.companion.ome' that describes its set is not in"),
        TiffImageStack(ome_set) as stack,
    ):
        assert_whole(stack, planes(3, 2)[1][:, None])
    companion = xml.replace('UUID="urn:uuid:1"', 'UUID="urn:uuid:9"', 1)
    ome_set.with_name("all.companion.ome").write_text(companion)
    for name in (ome_set.name, "all.companion.ome"):
        with open_stack(ome_set.with_name(name)) as stack:
            assert_whole(stack, planes(3, 2))
    ome_set.unlink()
    with pytest.warns(UserWarning, match=r"'t1\.ome\.tif' of its set"):
        assert len(list_scenes(ome_set.with_name("all.companion.ome"))) == 1
    for name in ("t0.ome.tif", "t2.ome.tif"):
        ome_set.with_name(name).unlink()
    with pytest.raises(UnreadableFileError, match=r"none of the 3 files that it describes"):
        open_stack(ome_set.with_name("all.companion.ome"))


def test_nothing_is_printed(ome_set: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ome_set.with_name("t0.ome.tif").unlink()
    with pytest.warns(UserWarning, match="of its set"):
        TiffImageStack(ome_set).close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- metadata -----------------------------------------------------------------------------------


def test_metadata_of_ome_xml(tmp_path: Path) -> None:
    written = {
        "axes": "TCYX",
        "PhysicalSizeX": 65,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.1,
        "PhysicalSizeZ": 0,
        "TimeIncrement": 200,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [0x0000FFFF, -0xFF0001 & 0x7FFFFFFF]},
    }
    with TiffImageStack(write(tmp_path / "m.ome.tif", planes(3, 2), metadata=written)) as stack:
        metadata = stack.metadata
    assert metadata.pixel_size.z is None
    assert (metadata.pixel_size.y, metadata.pixel_size.x) == pytest.approx((0.1, 0.065))
    assert metadata.time_step == pytest.approx(0.2)
    assert [(c.name, c.color) for c in metadata.channels] == [
        ("DAPI", "#0000ff"),
        ("GFP", "#7f00ff"),
    ]


def test_metadata_of_imagej(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)
    luts = [np.stack([ramp * (i == k) for k in range(3)]) for i in range(2)]
    path = write(
        tmp_path / "ij.tif",
        planes(2, 3, 2),
        imagej=True,
        resolution=(5, 4),
        metadata={
            "axes": "TZCYX",
            "spacing": 1500,
            "unit": "nm",
            "finterval": 2.5,
            "LUTs": luts,
            "Ranges": (10.0, 400.0, 0.0, 65535.0),
            "Labels": ["nuclei", "actin"] * 6,
        },
    )
    with TiffImageStack(path) as stack:
        metadata = stack.metadata
    assert metadata.pixel_size == PixelSize(z=1.5, y=0.25e-3, x=0.2e-3)
    assert metadata.time_step == 2.5
    nuclei, actin = metadata.channels
    assert (nuclei.name, nuclei.color, nuclei.contrast_limits) == ("nuclei", "#ff0000", (10, 400))
    assert (actin.name, actin.color, actin.contrast_limits) == ("actin", "#00ff00", (0, 65535))


@pytest.mark.parametrize(
    "unit", ["\\u00B5m", "\\u03BCm", "micron", "Microns", "um", "micrometers", "micrometre"]
)
def test_micrometres_by_any_name(unit: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "ij.tif", planes(2), imagej=True, resolution=(4, 4), metadata={"unit": unit}
    )
    with TiffImageStack(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("resolution", "unit", "micrometres"),
    [
        ((1e5, 1e5), "CENTIMETER", 0.1),
        ((300, 300), "CENTIMETER", 33.333333),
        ((25400, 25400), "INCH", 1.0),
        ((301, 301), "INCH", 84.385382),
        *(((dpi, dpi), "INCH", None) for dpi in (72, 96, 150, 300, 600)),
        ((600, 300), "INCH", None),
    ],
)
def test_resolution_tags(
    resolution: Any, unit: Any, micrometres: float | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "r.tif", planes(2), resolution=resolution, resolutionunit=unit)
    with TiffImageStack(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(micrometres)
        assert [channel.name for channel in stack.metadata.channels] == ["Channel 0"]


OME_OF = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="a">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="{0}" '
    'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    '<TiffData IFD="0" PlaneCount="{0}"/></Pixels></Image></OME>'
)


def write_pages(path: Path, description: str | bytes, *pages: np.ndarray) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for i, page in enumerate(pages):
            first = {"description": description} if i == 0 else {}
            options = {"metadata": None, "contiguous": False, "photometric": "minisblack"}
            writer.write(page, resolution=(5, 5), **options, **first)
    return path


def test_pages_that_the_ome_xml_does_not_describe_are_named(tmp_path: Path) -> None:
    pages = [np.full((8, 9), i, np.uint16) for i in range(6)]
    path = write_pages(tmp_path / "few.ome.tif", OME_OF.format(4), *pages)
    said = "its OME-XML describes 4 of its 6 pages; the others are ignored"
    with pytest.warns(UserWarning, match=said), open_stack(path) as stack:
        assert tuple(stack.data_shape) == (4, 1, 8, 9)
    with pytest.warns(UserWarning, match=said):
        assert [each.shape for each in list_scenes(path)] == [(4, 8, 9)]
    label = np.zeros((3, 3), np.uint16)
    for file, more in (("all.ome.tif", []), ("label.ome.tif", [label])):
        path = write_pages(tmp_path / file, OME_OF.format(6), *pages, *more)
        with open_stack(path) as stack:
            assert tuple(stack.data_shape) == (6, 1, 8, 9)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_before_imagejs_description_is_skipped(
    tmp_path: Path, mark: bytes
) -> None:
    pages = [np.full((8, 9), i, np.uint16) for i in range(6)]
    text = (
        "ImageJ=1.53t\nimages=6\nchannels=3\nslices=2\nhyperstack=true\nunit=micron\nspacing=0.5\n"
    )
    path = write_pages(tmp_path / "a.tif", mark + text.encode(), *pages)
    with open_stack(path, depth_axis="Z") as stack:
        assert stack.original_axes == "ZCYX"
        assert stack.metadata.pixel_size == PixelSize(z=0.5, y=0.2, x=0.2)
        patch = stack.extract_patch(0, None, (0, 0, 0), (2, 1, 1))
    assert patch.ravel().tolist() == [0, 3, 1, 4, 2, 5]
