"""Every compression and pixel type of a CZI, also those that libCZI lacks."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw.czi import open_czi

from napari_patchset import CziImageStack
from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi import stack
from napari_patchset.stacks.czi.compression import COMPRESSIONS, JPEG, JPEG_XR, LZW
from support.czi_maker import (
    KINDS,
    Block,
    SceneSpec,
    blocks_of,
    jpeg,
    jpegxr,
    jpegxr_rgb,
    lzw,
    write_blocks,
)
from support.pixels import whole

Pack = Callable[[Block], Block]

SIZE = (24, 32)


def scene_of(kind: str) -> SceneSpec:
    return SceneSpec(0, (-20, 7, 75, 50), kind=kind)


def packed(path: Path, pack: Pack | None, scene: SceneSpec) -> list[Block]:
    """Write a scene of packed tiles, and return these."""
    blocks = [pack(block) if pack else block for block in blocks_of([scene], SIZE)]
    write_blocks(path, blocks)
    return blocks


def image(path: Path) -> NDArray[Any]:
    """Read a plane YX, or YX + RGB."""
    with CziImageStack(path) as opened:
        channels = whole(opened)
    return channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)


def mosaic(blocks: list[Block], decode: Callable[[bytes], NDArray[Any]]) -> NDArray[Any]:
    """Lay out what the data of tiles decode to."""
    x0, y0, w, h = scene_of("Gray8").rect
    pixels = np.zeros((h, w, *blocks[0].pixels.shape[2:]), blocks[0].pixels.dtype)
    for block in blocks:
        x, y, width, height = block.rect
        pixels[y - y0 : y - y0 + height, x - x0 : x - x0 + width] = decode(block.stored)
    return pixels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [None, lzw])
def test_lossless_data_of_every_pixel_type_are_the_pixels(
    tmp_path: Path, kind: str, pack: Pack | None
) -> None:
    scene = scene_of(kind)
    packed(tmp_path / "a.czi", pack, scene)
    pixels = image(tmp_path / "a.czi")
    assert pixels.dtype == KINDS[kind][1]
    np.testing.assert_array_equal(pixels, scene.pixels({"T": 0, "Z": 0, "C": 0}))


@pytest.mark.parametrize("kind", ["Gray8", "Bgr24"])
def test_a_jpeg_is_what_libjpeg_decodes(tmp_path: Path, kind: str) -> None:
    blocks = packed(tmp_path / "a.czi", jpeg, scene_of(kind))
    pixels = image(tmp_path / "a.czi")
    np.testing.assert_array_equal(pixels, mosaic(blocks, imagecodecs.jpeg8_decode))


@pytest.mark.parametrize("pack", [jpegxr, jpegxr_rgb])
@pytest.mark.parametrize("kind", ["Gray8", "Gray16", "Bgr24", "Bgr48"])
def test_a_jpeg_xr_is_lossless_for_both_kinds_of_colour(
    tmp_path: Path, kind: str, pack: Pack
) -> None:
    scene = scene_of(kind)
    packed(tmp_path / "a.czi", pack, scene)
    np.testing.assert_array_equal(image(tmp_path / "a.czi"), scene.pixels({"T": 0, "Z": 0, "C": 0}))


@pytest.mark.parametrize("kind", ["Gray8", "Gray16", "Gray32Float", "Bgr24", "Bgr48"])
def test_a_jpeg_xr_is_what_libczi_decodes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.czi"
    scene = scene_of(kind)
    packed(path, jpegxr, scene)
    with open_czi(str(path)) as reader:
        reference = reader.read(roi=scene.rect, scene=0)
    reference = reference[..., 0] if reference.shape[2] == 1 else reference[..., ::-1]
    np.testing.assert_array_equal(image(path), reference)


def test_a_jpeg_xr_of_float_colour_is_decoded_too(tmp_path: Path) -> None:
    blocks = packed(tmp_path / "a.czi", jpegxr_rgb, scene_of("Bgr96Float"))
    pixels = image(tmp_path / "a.czi")
    np.testing.assert_array_equal(pixels, mosaic(blocks, imagecodecs.jpegxr_decode))


@pytest.mark.parametrize(("height", "width"), [(23, 31), (24, 33), (30, 20)])
def test_an_image_of_another_size_than_its_tile_is_fitted_as_libczi_does(
    tmp_path: Path, height: int, width: int
) -> None:
    path = tmp_path / "a.czi"
    scene = SceneSpec(0, (0, 0, 32, 24), kind="Gray8")
    (block,) = blocks_of([scene])
    other = SceneSpec(0, (0, 0, width, height), kind="Gray8").pixels({"T": 0, "Z": 0, "C": 0})
    data = jpegxr(replace(block, pixels=other)).data
    write_blocks(path, [replace(block, data=data, compression=JPEG_XR)])
    with open_czi(str(path)) as reader:
        reference = reader.read(roi=scene.rect, scene=0)[..., 0]
    np.testing.assert_array_equal(image(path), reference)


@pytest.mark.parametrize(
    ("kind", "pack"),
    [("Gray32", None), ("Gray64Float", None), ("Bgr24", lzw), ("Bgr24", jpegxr_rgb)],
)
def test_lower_resolutions_that_libczi_can_not_compose_are_reduced_tiles(
    tmp_path: Path, kind: str, pack: Pack | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "LARGE_PLANE", 600)
    scene = SceneSpec(0, (0, 0, 1100, 70), kind=kind, pyramid=True)
    blocks = [pack(b) if pack else b for b in blocks_of([scene], (70, 300))]
    write_blocks(tmp_path / "a.czi", blocks)
    with CziImageStack(tmp_path / "a.czi") as opened:
        full = whole(opened)
        assert full.all()
        for level, factor in zip(opened.levels, (1, 2, 4), strict=True):
            reduced = level.extract_patch(0, None, (0, 0), level.data_shape[-2:])
            np.testing.assert_array_equal(reduced, full[:, ::factor, ::factor])


def jpeg_of(*shape: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(np.zeros(shape, np.uint8)))


def jpegxr_of(pixels: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegxr_encode(pixels))


DAMAGED: dict[str, tuple[int, bytes, str]] = {
    "a JPEG of colour": (JPEG, jpeg_of(24, 32, 3), "is a JPEG of 3 x 8 bit"),
    "a larger JPEG": (JPEG, jpeg_of(24, 65), "is a JPEG of 65 x 24 px in a tile of 32 x 24"),
    "a JPEG without an end": (JPEG, jpeg_of(24, 32)[:60], "can't be decoded"),
    "no JPEG": (JPEG, bytes(600), "is not JPEG data"),
    "a larger JPEG XR": (
        *(JPEG_XR, jpegxr_of(np.zeros((24, 65), np.uint8))),
        "is a JPEG XR of 65 x 24 px in a tile of 32 x 24",
    ),
    "a JPEG XR of 16 bit": (
        *(JPEG_XR, jpegxr_of(np.zeros((24, 32), np.uint16))),
        "decodes to uint16, not uint8",
    ),
    "a JPEG XR without an end": (JPEG_XR, jpegxr_of(np.zeros((24, 32), np.uint8))[:150], "decode"),
    "no JPEG XR": (JPEG_XR, bytes(600), "is not JPEG XR data"),
    "few LZW data": (LZW, imagecodecs.lzw_encode(bytes(99)), "decodes to 99 bytes, not 768"),
    "no LZW data": (LZW, b"\xff" * 99, "decode"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_data_of_another_kind_are_one_named_error(tmp_path: Path, name: str) -> None:
    compression, data, fault = DAMAGED[name]
    path = tmp_path / "damaged.czi"
    (block,) = blocks_of([SceneSpec(0, (0, 0, 32, 24), kind="Gray8")])
    write_blocks(path, [replace(block, data=bytes(data), compression=compression)])
    with pytest.raises(UnreadableFileError, match=rf"damaged\.czi: subblock 0 of 1 .*{fault}"):
        image(path)


@pytest.mark.parametrize("pack", [jpeg, jpegxr, lzw])
def test_a_fragile_decoder_never_runs_in_this_process(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "a.czi", pack, scene_of("Gray8"))
    for codec in ("jpeg8", "jpegxr", "lzw"):
        monkeypatch.delattr(imagecodecs, f"{codec}_decode")
    assert image(tmp_path / "a.czi").any()


CZIFILE = {
    "jpeg_gray8": "e016c05d4078803dc69abf985198e3013b95b80e994a96a5e3213cfe4ebb7383",
    "lzw_gray16": "8f16761c5d256164cf9bd9660d1b2fc2c3557a827bd1d186067ce6173fe10ceb",
    "gray64float": "85a96cec0d39e675923b498b1488ebb5d6c717be50f2f18ac5103dacc7c46c43",
    "jpegxr_bgr24": "f8c6e3e1b4aaff7b953827efe13bf480c9d4300a47cd1609060a228f779cebc5",
    "coord_extreme": "1ec8dd6c8f65fd43c381fbe6ae85b0a9a8c7958b25a59289e8e9afc359ca2226",
}
"""SHA-256 of `numpy.ascontiguousarray(czifile.imread(path)).tobytes()`, by czifile 2026.10.14."""


@pytest.mark.realdata
@pytest.mark.parametrize("name", CZIFILE)
def test_reported_files_have_czifiles_pixels(data_dir: Path, name: str) -> None:
    pixels = image(data_dir / "reported" / f"{name}.czi")
    assert pixels.shape[:2] == ((40, 40) if name == "coord_extreme" else (40, 56))
    assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == CZIFILE[name]


def test_the_table_names_every_compression_once() -> None:
    assert len({each.name for each in COMPRESSIONS.values()}) == len(COMPRESSIONS)
