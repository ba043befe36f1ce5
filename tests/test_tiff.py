"""TIFFs of every kind: written by tifffile, read by TiffImageStack, compared pixel by pixel."""

import multiprocessing
import os
import pickle
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import (
    ArgumentError,
    MissingAxisError,
    SampleIndexError,
    UnreadableFileError,
)
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.file import FileImageStack
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.tiff.stack import TiffImageStack
from pixels import expected

H, W = 45, 70


def planes(*shape: int, dtype: Any = np.uint16, size: tuple[int, int] = (H, W)) -> NDArray[Any]:
    """Give self-proving planes: each at its own number along T."""
    count = int(np.prod(shape))
    data = np.stack([expected(0, 0, *size, dtype, T=i) for i in range(count)])
    return data.reshape(*shape, *size)


def assert_whole(stack: Any, reference: NDArray[Any]) -> None:
    """Compare every sample, and a window off every tile's border, with SC(Z)YX."""
    assert tuple(stack.data_shape) == reference.shape
    assert stack.data_dtype == reference.dtype
    spatial = reference.shape[2:]
    start = [n // 3 for n in spatial]
    window = tuple(slice(a, None) for a in start)
    for sample, pixels in enumerate(reference):
        whole = stack.extract_patch(sample, None, [0] * len(spatial), spatial)
        np.testing.assert_array_equal(whole, pixels, strict=True)
        size = [n - a for a, n in zip(start, spatial, strict=True)]
        part = stack.extract_patch(sample, [0], start, size)
        np.testing.assert_array_equal(part, pixels[(slice(0, 1), *window)], strict=True)


def pack_twelve_bits(plane: NDArray[np.uint16]) -> bytes:
    """Pack a plane as TIFF does, each row by itself; not every imagecodecs can."""
    octets = plane.astype(">u2").view(np.uint8).reshape(*plane.shape, 2)
    bits = np.unpackbits(octets, axis=-1)[..., 4:]
    return np.packbits(bits.reshape(len(plane), -1), axis=-1).tobytes()


def as_stack(data: NDArray[Any], axes: str, depth_axis: Any = "none") -> NDArray[Any]:
    return AxisLayout(axes, data.shape, depth_axis).to_stack(data)


def write(path: Path, data: NDArray[Any], **options: Any) -> Path:
    if not options.get("imagej"):
        options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, data, **options)
    return path


# --- axes ---------------------------------------------------------------------------------------

OME_AXES = ["YX", "ZYX", "TYX", "CYX", "TZYX", "CZYX", "ZCYX", "TCZYX", "TZCYX", "CTZYX"]


@pytest.mark.parametrize("axes", OME_AXES)
@pytest.mark.parametrize("depth_axis", ["none", "Z", "T"])
def test_ome_axes_and_depth_axis(axes: str, depth_axis: Any, tmp_path: Path) -> None:
    sizes = {"T": 2, "Z": 3, "C": 4}
    data = planes(*(sizes[a] for a in axes[:-2]))
    path = write(tmp_path / "a.ome.tif", data, metadata={"axes": axes})
    if depth_axis not in ("none", *axes):
        with pytest.raises(MissingAxisError, match=f"does not contain a {depth_axis} axis"):
            TiffImageStack(path, depth_axis=depth_axis)
        return
    with TiffImageStack(path, depth_axis=depth_axis) as stack:
        assert stack.original_axes == axes
        assert stack.original_data_shape == data.shape
        assert_whole(stack, as_stack(data, axes, depth_axis))


def test_a_depth_axis_of_size_1_is_lacking(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", planes(3, 1), metadata={"axes": "TZYX"})
    with pytest.raises(MissingAxisError, match="Z axis"):
        TiffImageStack(path, depth_axis="Z")


@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TYX", "CYX", "ZYX", "YX"])
def test_imagej_hyperstacks_are_big_endian_and_read_by_position(axes: str, tmp_path: Path) -> None:
    sizes = {"T": 2, "Z": 3, "C": 4}
    data = planes(*(sizes[a] for a in axes[:-2]))
    path = write(tmp_path / "ij.tif", data, imagej=True, metadata={"axes": axes}, byteorder=">")
    with TiffImageStack(path) as stack:
        assert stack.original_axes == axes
        assert_whole(stack, as_stack(data, axes))
        assert stack.tiles_decoded == 0


def test_an_imagej_hyperstack_with_a_single_directory(tmp_path: Path) -> None:
    """ImageJ writes more than 4 GiB as one page, the others following it without a directory."""
    data = planes(3, 2)
    path = tmp_path / "ij.tif"
    description = "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n"
    write(path, data[0, 0], description=description, metadata=None, byteorder=">")
    with path.open("ab") as file:
        file.write(data.reshape(6, H, W)[1:].astype(">u2").tobytes())
    with TiffImageStack(path, depth_axis="Z") as stack:
        assert_whole(stack, as_stack(data, "ZCYX", "Z"))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_of_a_pixel_are_channels(
    planar: str, compression: str | None, tmp_path: Path
) -> None:
    data = planes(2, 3, dtype=np.uint8)
    shown = np.moveaxis(data, 1, -1) if planar == "contig" else data
    path = write(
        tmp_path / "rgb.tif",
        np.ascontiguousarray(shown),
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        metadata=None,
    )
    with TiffImageStack(path) as stack:
        assert stack.original_axes == ("SYXC" if planar == "contig" else "SCYX")
        assert [channel.name for channel in stack.metadata.channels] == ["R", "G", "B"]
        assert_whole(stack, data)


def test_samples_multiply_channels(tmp_path: Path) -> None:
    data = planes(2, 2, 3, dtype=np.uint8)
    path = write(
        tmp_path / "c.ome.tif",
        np.ascontiguousarray(np.moveaxis(data, 2, -1)),
        photometric="rgb",
        tile=(16, 32),
        metadata={"axes": "TCYXS", "Channel": {"Name": ["a", "b"]}},
    )
    with TiffImageStack(path) as stack:
        assert stack.original_axes == "TCYX"
        assert stack.original_data_shape == (2, 6, H, W)
        names = [channel.name for channel in stack.metadata.channels]
        assert names == ["a R", "a G", "a B", "b R", "b G", "b B"]
        assert_whole(stack, data.reshape(2, 6, H, W))


def test_an_interleaved_tile_is_decoded_once_for_all_its_samples(tmp_path: Path) -> None:
    data = np.ascontiguousarray(np.moveaxis(planes(3, dtype=np.uint8), 0, -1))
    path = write(tmp_path / "a.tif", data, photometric="rgb", tile=(16, 16), compression="zlib")
    with TiffImageStack(path) as stack:
        stack.extract_patch(0, [2, 0, 1], (4, 4), (20, 8))
        assert stack.tiles_decoded == 2


def test_pages_of_unknown_meaning_are_samples(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    data = planes(5)
    with tifffile.TiffWriter(path) as writer:
        for page in data:
            writer.write(page, metadata=None, contiguous=False)
    with TiffImageStack(path) as stack:
        assert stack.original_axes == "SYX"
        assert_whole(stack, data[:, None])


def test_two_unknown_axes_get_letters_of_their_own(tmp_path: Path) -> None:
    data = planes(2, 3)
    with TiffImageStack(write(tmp_path / "q.tif", data)) as stack:
        assert len(set(stack.original_axes)) == 4
        assert_whole(stack, as_stack(data, "QSYX"))


def test_a_volumetric_page(tmp_path: Path) -> None:
    data = planes(18, size=(48, 64))
    path = write(tmp_path / "vol.tif", data, volumetric=True, tile=(16, 16, 16), compression="zlib")
    with tifffile.TiffFile(path) as file:
        axes = file.series[0].axes
    with TiffImageStack(path, depth_axis="Z" if "Z" in axes else "none") as stack:
        assert_whole(stack, data[None, None] if "Z" in axes else data[:, None])


def test_axes_that_do_not_end_in_yx_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "xy.tif", planes(4), metadata={"axes": "ZXY"})
    with pytest.raises(UnreadableFileError, match="from_tiff"):
        TiffImageStack(path)


# --- encodings ----------------------------------------------------------------------------------

LOSSLESS = [None, "lzw", "zlib", "zstd", "packbits", "lzma"]


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 7}, {}])
@pytest.mark.parametrize("byteorder", "<>")
def test_lossless_compressions(
    compression: str | None, layout: dict[str, Any], byteorder: Any, tmp_path: Path
) -> None:
    data = planes(2, 3)
    options = {"compression": compression, "byteorder": byteorder, **layout}
    path = write(tmp_path / "a.ome.tif", data, metadata={"axes": "TCYX"}, **options)
    with TiffImageStack(path) as stack:
        assert_whole(stack, data)
        if "tile" in layout:
            assert stack.block_shape == (16, 32)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_predictors(compression: str, dtype: Any, tmp_path: Path) -> None:
    data = planes(2, dtype=dtype)
    path = write(tmp_path / "a.tif", data, compression=compression, predictor=True, tile=(32, 16))
    with TiffImageStack(path) as stack:
        assert_whole(stack, data[:, None])


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pixel_types(dtype: str, byteorder: Any, compression: str | None, tmp_path: Path) -> None:
    data = planes(1, dtype=np.float32)[0].astype(dtype) * np.array(100, dtype)
    path = write(tmp_path / "a.tif", data, byteorder=byteorder, compression=compression)
    with TiffImageStack(path) as stack:
        assert stack.data_dtype.isnative
        assert_whole(stack, data[None, None])


@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
def test_one_bit_pixels(compression: str | None, tmp_path: Path) -> None:
    data = planes(1)[0] % 2 == 0
    path = write(tmp_path / "a.tif", data, compression=compression, photometric="minisblack")
    with TiffImageStack(path) as stack:
        assert_whole(stack, data[None, None])


def test_twelve_bit_pixels(tmp_path: Path) -> None:
    data = planes(2) % 4096
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"dtype": data.dtype, "bitspersample": 12, "metadata": None}
    tifffile.imwrite(path, map(pack_twelve_bits, data), shape=data.shape, rowsperstrip=H, **options)
    with TiffImageStack(path) as stack:
        assert_whole(stack, data[:, None])


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "jpegxl"])
@pytest.mark.parametrize("tile", [(16, 32), None])
def test_image_codecs_give_what_tifffile_gives(
    compression: str, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    data = np.ascontiguousarray(np.moveaxis(planes(3, dtype=np.uint8), 0, -1))
    path = write(tmp_path / "a.tif", data, photometric="rgb", compression=compression, tile=tile)
    decoded = np.moveaxis(tifffile.imread(path), -1, 0)
    with TiffImageStack(path) as stack:
        assert_whole(stack, decoded[None])


@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "tile": (16, 16)}])
def test_bigtiff(options: dict[str, Any], tmp_path: Path) -> None:
    data = planes(3)
    path = write(tmp_path / "big.tif", data, bigtiff=True, **options)
    with TiffImageStack(path) as stack:
        assert_whole(stack, data[:, None])


def test_tiles_that_are_not_stored_are_the_files_fill_value(tmp_path: Path) -> None:
    data = planes(1)[0]
    tiles = [data[:16, :64], None, data[16:32, :64], None, None, None]
    nodata = (42113, "s", 0, "7", True)
    write(
        tmp_path / "sparse.tif",
        iter([None if t is None else np.ascontiguousarray(t) for t in tiles]),
        shape=(H, 128),
        dtype=np.uint16,
        tile=(16, 64),
        compression="zlib",
        extratags=[nodata],
        metadata=None,
    )
    with TiffImageStack(tmp_path / "sparse.tif") as stack:
        assert_whole(stack, tifffile.imread(tmp_path / "sparse.tif")[None, None])
        assert stack.missing(0, 0) == ()


# --- laziness -----------------------------------------------------------------------------------


def test_only_the_tiles_of_a_patch_are_decoded_and_each_once(tmp_path: Path) -> None:
    data = planes(4, size=(128, 128))
    path = write(tmp_path / "a.tif", data, tile=(32, 32), compression="zstd")
    with TiffImageStack(path) as stack:
        stack.extract_patch(2, None, (30, 30), (4, 4))
        assert stack.tiles_decoded == 4
        stack.extract_patch(2, None, (0, 0), (64, 64))
        assert stack.tiles_decoded == 4
        stack.extract_patch(3, None, (96, 96), (32, 32))
        assert stack.tiles_decoded == 5


def read_bytes() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc")
def test_uncompressed_pixels_are_read_row_by_row(tmp_path: Path) -> None:
    data = planes(2, size=(512, 8192))
    with TiffImageStack(write(tmp_path / "wide.tif", data)) as stack:
        stack.extract_patch(0, None, (0, 0), (1, 1))
        before = read_bytes()
        patch = stack.extract_patch(1, None, (100, 3000), (256, 64))
        assert read_bytes() - before < 1.5 * patch.nbytes
    np.testing.assert_array_equal(patch[0], data[1, 100:356, 3000:3064])


def test_opening_reads_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, shape=(64, 4096, 4096), dtype=np.uint16, bigtiff=True)
    with TiffImageStack(path) as stack:
        assert stack.data_shape == (64, 1, 4096, 4096)
        assert not stack.extract_patch(63, None, (4000, 4000), (32, 32)).any()


# --- series, levels, sets -----------------------------------------------------------------------


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(planes(3, 2), metadata={"axes": "TCYX", "Name": "left"})
        writer.write(
            planes(4, size=(20, 30)),
            metadata={
                "axes": "ZYX",
                "Name": "right",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeY": 500,
                "PhysicalSizeYUnit": "nm",
                "Plane": {
                    "PositionX": [10.0] * 4,
                    "PositionXUnit": ["µm"] * 4,
                    "PositionY": [-20.0] * 4,
                    "PositionYUnit": ["µm"] * 4,
                },
            },
        )
    return path


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


def test_several_series_must_be_chosen_from(two_series: Path) -> None:
    with pytest.raises(ArgumentError, match=r"2 series; choose one: 0 \(left\), 1 \(right\)"):
        TiffImageStack(two_series)
    with pytest.raises(ArgumentError, match="no series 2; it has 2"):
        TiffImageStack(two_series, 2)
    with pytest.raises(ArgumentError, match="no series 'left'"):
        open_stack(two_series, "left")


def test_an_only_series_has_no_id(tmp_path: Path) -> None:
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


def test_a_file_missing_from_a_set_is_known(ome_set: Path) -> None:
    ome_set.with_name("t0.ome.tif").unlink()
    with TiffImageStack(ome_set, depth_axis="T") as stack:
        assert stack.missing(0, 1) == (0,)
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


@pytest.mark.parametrize("name", ["../secret.tif", "/etc/x.tif", "C:\\x.tif", "a\\..\\..\\x.tif"])
def test_a_set_does_not_lead_out_of_its_folder(name: str, ome_set: Path) -> None:
    content = ome_set.read_bytes()
    assert len(content)
    xml = tifffile.TiffFile(ome_set)
    with xml:
        text = xml.ome_metadata or ""
        page = xml.pages[0].asarray()
    write(ome_set, page, description=text.replace("t0.ome.tif", name), metadata=None)
    with pytest.raises(UnreadableFileError, match="outside of its folder"):
        TiffImageStack(ome_set)


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
    with pytest.raises(
        UnreadableFileError, match=r"'all.companion.ome' describes; put that beside"
    ):
        TiffImageStack(ome_set)
    companion = xml.replace('UUID="urn:uuid:1"', 'UUID="urn:uuid:9"', 1)
    ome_set.with_name("all.companion.ome").write_text(companion)
    with TiffImageStack(ome_set) as stack:
        assert_whole(stack, planes(3, 2))


# --- metadata -----------------------------------------------------------------------------------


def test_metadata_of_ome_xml(tmp_path: Path) -> None:
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 65,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.1,
        "PhysicalSizeZ": 0,
        "TimeIncrement": 200,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [0x0000FFFF, -0xFF0001 & 0x7FFFFFFF]},
    }
    with TiffImageStack(write(tmp_path / "m.ome.tif", planes(3, 2), metadata=metadata)) as stack:
        found = stack.metadata
    assert found.pixel_size.z is None
    assert (found.pixel_size.y, found.pixel_size.x) == pytest.approx((0.1, 0.065))
    assert found.time_step == pytest.approx(0.2)
    assert [(c.name, c.color) for c in found.channels] == [("DAPI", "#0000ff"), ("GFP", "#7f00ff")]


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
        found = stack.metadata
    assert found.pixel_size == PixelSize(z=1.5, y=0.25e-3, x=0.2e-3)
    assert found.time_step == 2.5
    nuclei, actin = found.channels
    assert (nuclei.name, nuclei.color, nuclei.contrast_limits) == ("nuclei", "#ff0000", (10, 400))
    assert (actin.name, actin.color, actin.contrast_limits) == ("actin", "#00ff00", (0, 65535))


@pytest.mark.parametrize("unit", ["\\u00B5m", "micron", "um"])
def test_micrometres_by_any_name(unit: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "ij.tif", planes(2), imagej=True, resolution=(4, 4), metadata={"unit": unit}
    )
    with TiffImageStack(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("resolution", "unit", "micrometres"),
    [((1e5, 1e5), "CENTIMETER", 0.1), ((25400, 25400), "INCH", 1.0), ((72, 72), "INCH", None)],
)
def test_resolution_tags(
    resolution: Any, unit: Any, micrometres: float | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "r.tif", planes(2), resolution=resolution, resolutionunit=unit)
    with TiffImageStack(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(micrometres)
        assert [channel.name for channel in stack.metadata.channels] == ["Channel 0"]


# --- life of a stack ----------------------------------------------------------------------------


@pytest.fixture(params=[{}, {"tile": (16, 16), "compression": "zstd"}], ids=["raw", "zstd"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "image.tif", planes(6), **request.param)


def patch_of(stack: TiffImageStack, sample: int) -> NDArray[Any]:
    return stack.extract_patch(sample, None, (7, 9), (20, 31))


def check(stack: TiffImageStack) -> bool:
    found = [patch_of(stack, i) for i in range(6)]
    return np.array_equal(found, planes(6)[:, None, 7:27, 9:40])


def test_it_reopens_itself_after_pickling_and_chdir(
    image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with TiffImageStack("image.tif") as stack:
        assert check(stack)
        pickled = pickle.dumps(stack)
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as again:
        assert check(again)
        assert again.metadata == stack.metadata
        assert again.source == image


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_on(image: Path) -> None:
    with TiffImageStack(image) as stack:
        assert check(stack)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert all(pool.map(check, [stack] * 4))
        child = os.fork()
        if child == 0:
            os._exit(0 if check(stack) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert check(stack)


def test_threads_share_a_stack(image: Path) -> None:
    with TiffImageStack(image) as stack, ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda i: patch_of(stack, i % 6), range(300))
        for i, patch in enumerate(found):
            np.testing.assert_array_equal(patch[0], planes(6)[i % 6, 7:27, 9:40])


def test_a_closed_stack_says_so(image: Path) -> None:
    stack = TiffImageStack(image)
    assert check(stack)
    stack.close()
    stack.close()
    with pytest.raises(ValueError, match="closed; open the file again"):
        check(stack)
    with pytest.raises(ValueError, match="closed"):
        check(pickle.loads(pickle.dumps(stack)))


def test_a_forgotten_stack_leaves_no_file_open(image: Path) -> None:
    stack = TiffImageStack(image)
    assert check(stack)
    assert len(stack.levels) == 1
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    del stack
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_file_cut_or_changed_while_open_is_an_error(image: Path) -> None:
    with TiffImageStack(image) as stack:
        patch_of(stack, 0)
        pickled = pickle.dumps(stack)
        os.truncate(image, 1000)
        with pytest.raises(UnreadableFileError, match="cut after it was opened"):
            patch_of(stack, 5)
    with (
        pickle.loads(pickled) as again,
        pytest.raises(UnreadableFileError, match="changed since it was opened"),
    ):
        patch_of(again, 5)


def test_arguments_out_of_bounds(image: Path) -> None:
    with TiffImageStack(image) as stack:
        with pytest.raises(ArgumentError, match="Channel index 1 is out of bounds"):
            stack.extract_patch(0, [1], (0, 0), (4, 4))
        with pytest.raises(SampleIndexError):
            stack.extract_patch(6, None, (0, 0), (4, 4))
        with pytest.raises(ArgumentError, match="needs 2 coordinates"):
            stack.extract_patch(0, None, (0, 0, 0), (4, 4, 4))
        outside = stack.extract_patch(0, None, (-3, W - 2), (5, 5))
        np.testing.assert_array_equal(outside[0, 3:, :2], planes(6)[0, :2, W - 2 :])
        assert not outside[0, :3].any()
        assert not outside[0, :, 2:].any()


# --- damaged files ------------------------------------------------------------------------------


def refused(path: Path, match: str) -> None:
    with pytest.raises(UnreadableFileError, match=match) as caught:
        TiffImageStack(path)
    assert path.name in str(caught.value)


def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Write a little-endian TIFF of one directory: tag, type, count, value."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = struct.pack("<4sI", b"II*\0", 8)
    return head + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def minimal(**changed: int) -> list[tuple[int, int, int, int]]:
    """Give the entries of a page of 4 x 4 px of 8 bits, behind 200 bytes of header."""
    values = {"width": 4, "height": 4, "bits": 8, "compression": 1, "photometric": 1}
    values |= {"offset": 200, "samples": 1, "rows": 4, "count": 16} | changed
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279)
    return [(tag, 4, 1, value) for tag, value in zip(tags, values.values(), strict=True)]


def test_the_minimal_page_is_readable(tmp_path: Path) -> None:
    pixels = bytes(range(1, 17))
    (tmp_path / "m.tif").write_bytes(directory(*minimal()).ljust(200, b"\0") + pixels)
    with TiffImageStack(tmp_path / "m.tif") as stack:
        assert stack.extract_patch(0, None, (0, 0), (4, 4)).tobytes() == pixels


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"offset": 2**31}, "bytes of pixels at byte|but the file has"),
        ({"offset": 201}, "bytes of pixels at byte|but the file has"),
        ({"height": 2**20, "width": 2**20, "rows": 2**20}, "but the file has|limit"),
        ({"height": 2**31, "width": 2**31, "compression": 8, "rows": 1}, "tiles or strips"),
        ({"compression": 8, "width": 2**12, "height": 2**12, "rows": 2**12}, "can't hold"),
        ({"width": 0}, "holds no image|can't be read"),
        ({"height": 0}, "holds no image|can't be read"),
        ({"compression": 40000}, "can't be decoded.*40000"),
        ({"bits": 7777}, "can't be read"),
        ({"samples": 50000}, "."),
    ],
)
def test_declared_sizes_are_checked_at_opening(
    changed: dict[str, int], match: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(directory(*minimal(**changed)).ljust(200, b"\0") + bytes(range(16)))
    refused(path, match)


@pytest.mark.parametrize(
    "description",
    [
        '{"shape": [100000000000, 4, 4]}',
        "ImageJ=1.54f\nimages=900000000\nframes=900000000\nhyperstack=true\n",
    ],
)
def test_no_memory_is_taken_for_pages_that_a_text_declares(
    description: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    write(path, planes(1, size=(4, 4))[0], description=description, metadata=None)
    refused(path, "declares 100000000000 pages|do not fit ImageJ's description")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a TIFF file"),
        (b"PK\x03\x04 something else", "not a TIFF file"),
        (b"II*\0", "within the header"),
        (b"II*\0\0\0\0\0", "no page"),
        (b"II*\0\xff\xff\0\0", "said to be at byte 65535"),
        (b"II*\0\x08\0\0\0\0\0", "0 tags"),
        (directory(*minimal(), following=8), "circle"),
        (directory(*minimal(), following=10**6), "page 1 is said to be at byte 1000000"),
        (directory(*minimal(), (270, 2, 10**6, 100)), "ImageDescription reaches byte"),
        (directory(*minimal(), (256, 4, 1, 5)), "ImageWidth is there twice"),
        (directory(*minimal(), (317, 99, 1, 5)), "Predictor is of the unknown type"),
    ],
)
def test_damaged_structure_is_refused(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    refused(path, match)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "jpeg"])
def test_a_damaged_tile_is_named_when_it_is_read(compression: str, tmp_path: Path) -> None:
    data = planes(2, dtype=np.uint8)
    path = write(tmp_path / "a.tif", data, tile=(16, 32), compression=compression, metadata=None)
    with tifffile.TiffFile(path) as file:
        page = file.pages[1]
        offset, length = page.dataoffsets[5], page.databytecounts[5]
    with path.open("r+b") as damaged:
        damaged.seek(offset)
        damaged.write(b"\xff" * length)
    with TiffImageStack(path) as stack:
        stack.extract_patch(1, None, (0, 0), (16, 32))
        with pytest.raises(UnreadableFileError, match="page 1, 32 x 16 px at x=64, y=16: can't"):
            stack.extract_patch(1, None, (16, 64), (16, 6))


def test_a_jpeg_larger_than_its_tile_is_refused(tmp_path: Path) -> None:
    data = planes(1, dtype=np.uint8)[0]
    path = write(tmp_path / "a.tif", data, tile=(16, 32), compression="jpeg")
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0", offset, offset + length)
    content[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    path.write_bytes(content)
    with TiffImageStack(path) as stack, pytest.raises(UnreadableFileError, match="65000 x 65000"):
        patch_of(stack, 0)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
HUGE = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    f'ID="Pixels:0" DimensionOrder="XYCTZ" Type="uint16" SizeX="{W}" SizeY="{H}" SizeC="1" '
    'SizeT="1000000000" SizeZ="1"><TiffData/></Pixels></Image></OME>'
)
BOMB = HUGE.replace('"1000000000"', '"1"').replace("<TiffData/>", '<TiffData PlaneCount="2e9"/>')
WRONG = HUGE.replace('"1000000000"', '"1"').replace(f'"{W}"', '"999"')


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        (ENTITIES, "OME-XML can't be read"),
        ("<OME><broken</OME>", "OME-XML can't be read"),
        (HUGE, "at most 4194304 planes"),
        (BOMB, "PlaneCount"),
        (WRONG, "do not fit OME-XML"),
    ],
)
def test_ome_xml_is_not_trusted_but_its_pages_can_be_read(
    xml: str, match: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", planes(1), description=xml, metadata=None)
    refused(path, f"{match}.*")
    for stack in (InMemoryImageStack.from_tiff(path, "YX"), FileImageStack.from_tiff(path, "YX")):
        if isinstance(stack, FileImageStack):
            stack.load()
        assert_whole(stack, planes(1)[None])


def test_a_file_that_is_not_there_or_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TiffImageStack(tmp_path / "none.tif")
    with pytest.raises(FileNotFoundError):
        open_stack(tmp_path / "none.tif")
    with pytest.raises(IsADirectoryError):
        TiffImageStack(tmp_path)


def test_nothing_is_printed(ome_set: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ome_set.with_name("t0.ome.tif").unlink()
    TiffImageStack(ome_set).close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def mutants(content: bytes, seed: int, count: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(int(random.integers(1, 4))):
            changed[random.integers(len(changed))] = random.integers(256)
        found.append(
            bytes(changed[: random.integers(8, len(changed))])
            if random.random() < 0.2
            else bytes(changed)
        )
    return found


WRITERS: dict[str, Callable[[Path], Path]] = {
    "ome": lambda p: write(p, planes(2, 2, size=(9, 9)), ome=True, metadata={"axes": "TCYX"}),
    "imagej": lambda p: write(p, planes(4, size=(9, 9)), imagej=True),
    "zlib": lambda p: write(p, planes(2, size=(9, 9)), compression="zlib", metadata=None),
    "lzw": lambda p: write(p, planes(2, size=(9, 9)), compression="lzw", metadata=None),
    "tiles": lambda p: write(p, planes(2, size=(20, 20)), tile=(16, 16), compression="zstd"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_mutants_are_read_or_refused_with_one_error(writer: str, tmp_path: Path) -> None:
    content = WRITERS[writer](tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "mutant.tif"
    messages = []
    for mutant in mutants(content, seed=1, count=150):
        path.write_bytes(mutant)
        try:
            with TiffImageStack(path) as stack:
                stack.extract_patch(0, [0], (0, 0), (8, 8))
        except (UnreadableFileError, ArgumentError) as error:
            messages.append(str(error))
    assert all("mutant.tif" in message for message in messages)


def test_pixels_of_no_samples_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", planes(1), tile=(16, 16), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["SamplesPerPixel"].overwrite(0)
    refused_when_read = pytest.raises(UnreadableFileError, match=r"a\.tif.*0 samples a pixel")
    with TiffImageStack(path) as stack, refused_when_read:
        patch_of(stack, 0)
