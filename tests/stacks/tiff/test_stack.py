"""TIFFs of every kind: written by tifffile, read by TiffImageStack, compared pixel by pixel."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_patchset.errors import MissingAxisError, UnreadableFileError
from napari_patchset.stacks.tiff.stack import TiffImageStack
from support.tiff_maker import H, W, as_stack, assert_whole, planes, write


def pack_twelve_bits(plane: NDArray[np.uint16]) -> bytes:
    """Pack a plane as TIFF does, each row by itself; not every imagecodecs can."""
    octets = plane.astype(">u2").view(np.uint8).reshape(*plane.shape, 2)
    bits = np.unpackbits(octets, axis=-1)[..., 4:]
    return np.packbits(bits.reshape(len(plane), -1), axis=-1).tobytes()


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


def test_a_depth_axis_of_size_1_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", planes(3, 1), metadata={"axes": "TZYX"})
    with pytest.raises(MissingAxisError, match="Z axis"):
        TiffImageStack(path, depth_axis="Z")


@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TYX", "CYX", "ZYX", "YX"])
def test_imagej_hyperstacks_are_big_endian_and_read_by_position(
    axes: str, tmp_path: Path, decoded: Counter[str]
) -> None:
    sizes = {"T": 2, "Z": 3, "C": 4}
    data = planes(*(sizes[a] for a in axes[:-2]))
    path = write(tmp_path / "ij.tif", data, imagej=True, metadata={"axes": axes}, byteorder=">")
    with TiffImageStack(path) as stack:
        assert stack.original_axes == axes
        assert_whole(stack, as_stack(data, axes))
        assert decoded["tiles"] == 0


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


def test_an_interleaved_tile_is_decoded_once_for_all_its_samples(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    data = np.ascontiguousarray(np.moveaxis(planes(3, dtype=np.uint8), 0, -1))
    path = write(tmp_path / "a.tif", data, photometric="rgb", tile=(16, 16), compression="zlib")
    with TiffImageStack(path) as stack:
        stack.extract_patch(0, [2, 0, 1], (4, 4), (20, 8))
        assert decoded["tiles"] == 2


def test_pages_without_axes_are_samples(tmp_path: Path) -> None:
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
        assert_whole(stack, as_stack(data, stack.original_axes))


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
def test_image_codecs_decode_as_tifffile_does(
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


def test_tiles_that_are_not_stored_have_the_fill_value(tmp_path: Path) -> None:
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
        assert not stack.missing_planes


# --- laziness -----------------------------------------------------------------------------------


def test_only_the_tiles_of_a_patch_are_decoded_and_each_once(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    data = planes(4, size=(128, 128))
    path = write(tmp_path / "a.tif", data, tile=(32, 32), compression="zstd")
    with TiffImageStack(path) as stack:
        stack.extract_patch(2, None, (30, 30), (4, 4))
        assert decoded["tiles"] == 4
        stack.extract_patch(2, None, (0, 0), (64, 64))
        assert decoded["tiles"] == 4
        stack.extract_patch(3, None, (96, 96), (32, 32))
        assert decoded["tiles"] == 5


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
