"""Decoders that damaged pixels kill run in helper processes, and nothing else does."""

import pickle
import re
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from zarr.codecs import BloscCodec

from napari_patchset import open_stack
from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.isolated import POOL, ReaderPool
from napari_patchset.stacks.jpeg import is_plain_jpeg
from support.pixels import expected

GREY = expected(0, 0, 48, 64) % 4096
RGB = np.stack([expected(0, 0, 48, 64, np.uint8, C=c) for c in range(3)], axis=-1)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name the fragile decoders that are called in this process."""
    called: list[str] = []
    for name in ("jpegxr_decode", "ljpeg_decode", "png_decode"):

        def calling(*_: Any, name: str = name, **__: Any) -> None:
            called.append(name)

        calling.__module__ = "imagecodecs"  # tifffile takes no codec of elsewhere
        monkeypatch.setattr(imagecodecs, name, calling)
    return called


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """List the lengths of what helper processes decode."""
    lengths: list[int] = []
    decode = ReaderPool.decode

    def decoding(self: ReaderPool, data: bytes, nbytes: int, **page: Any) -> Any:
        lengths.append(len(data))
        return decode(self, data, nbytes, **page)

    monkeypatch.setattr(ReaderPool, "decode", decoding)
    return lengths


def read(path: Path) -> np.ndarray:
    with open_stack(path) as stack:
        return stack.extract_patch(0, None, (0, 0), stack.data_shape[-2:])


def write(path: Path, data: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, data, tile=(16, 32), metadata=None, **options)
    return path


@pytest.mark.parametrize("data", [GREY, RGB, GREY.astype(np.float32)], ids=["u2", "rgb", "f4"])
def test_jpeg_xr_is_decoded_by_a_helper(
    tmp_path: Path, in_process: list[str], data: np.ndarray
) -> None:
    kind = "rgb" if data.ndim == 3 else "minisblack"
    path = write(tmp_path / "a.tif", data, compression="jpegxr", photometric=kind)
    np.testing.assert_array_equal(np.moveaxis(read(path), 0, -1).squeeze(), data)
    assert not in_process


def test_png_is_decoded_by_a_helper(tmp_path: Path, in_process: list[str]) -> None:
    path = write(tmp_path / "a.tif", RGB, compression="png", photometric="rgb")
    np.testing.assert_array_equal(np.moveaxis(read(path), 0, -1), RGB)
    assert not in_process


def test_lossless_jpeg_is_decoded_by_a_helper(tmp_path: Path, in_process: list[str]) -> None:
    path = tmp_path / "a.tif"
    write(path, GREY, compression="jpeg", compressionargs={"lossless": True, "bitspersample": 12})
    np.testing.assert_array_equal(read(path)[0], GREY)
    assert not in_process


def test_an_ordinary_jpeg_is_decoded_here(tmp_path: Path, helped: list[int]) -> None:
    path = write(tmp_path / "a.tif", RGB, compression="jpeg", photometric="rgb")
    np.testing.assert_array_equal(np.moveaxis(read(path), 0, -1), tifffile.imread(path))
    assert not helped


def damaged_jpegs() -> dict[str, bytes]:
    """Damage a JPEG in every way that makes imagecodecs try another codec than libjpeg."""
    sound = imagecodecs.jpeg8_encode(GREY.astype(np.uint8))
    table, size = sound.index(b"\xff\xc4"), sound.index(b"\xff\xc0")
    return {
        "too many codes": sound[: table + 5] + b"\xff" + sound[table + 6 :],
        "a table too long": sound[: table + 20] + b"\xff" + sound[table + 21 :],
        "another precision": sound[: size + 4] + b"\x07" + sound[size + 5 :],
        "lossless": sound[: size + 1] + b"\xc3" + sound[size + 2 :],
        "more channels": sound[: size + 9] + b"\x02" + sound[size + 10 :],
        "a table amid the pixels": sound[:-2] + b"\xff\xc4\x00\x05abc\xff\xd9",
        "no pixels": sound[: sound.index(b"\xff\xda")],
        "rubbish first": b"\0" + sound,
        "nothing": b"",
    }


@pytest.mark.parametrize("damage", damaged_jpegs())
def test_no_damaged_jpeg_is_an_ordinary_one(damage: str) -> None:
    assert not is_plain_jpeg(damaged_jpegs()[damage], None, 1)


@pytest.mark.parametrize("data", [GREY.astype(np.uint8), RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"level": 100}])
def test_any_writers_jpeg_is_an_ordinary_one(data: np.ndarray, options: dict[str, Any]) -> None:
    encoded = bytes(imagecodecs.jpeg8_encode(data, **options))
    assert is_plain_jpeg(encoded, None, data.shape[2] if data.ndim == 3 else 1)


def test_a_jpeg_of_bogus_codes_is_an_error_that_names_the_tile(
    tmp_path: Path, in_process: list[str], helped: list[int]
) -> None:
    path = write(tmp_path / "a.tif", GREY.astype(np.uint8), compression="jpeg")
    data = bytearray(path.read_bytes())
    at = -1
    while (at := data.find(b"\xff\xc4", at + 1)) >= 0:
        data[at + 5] = 0xFF
    path.write_bytes(data)
    with pytest.raises(UnreadableFileError, match=r"a\.tif: page 0, 32 x 16 px at x=0, y=0"):
        read(path)
    assert not in_process
    assert len(helped) == 1


def test_a_helper_that_dies_over_a_tile_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"compression": "jpegxr", "photometric": "minisblack"}
    path = write(tmp_path / "a.tif", GREY, **options)
    monkeypatch.setattr("napari_patchset.stacks.isolated._TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("napari_patchset.stacks.isolated._SECONDS_PER_BYTE", 0.0)
    POOL.end()
    with pytest.raises(UnreadableFileError, match=r"a\.tif: page 0.*did not end within 0 s"):
        read(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(read(path)[0], GREY)


def test_a_file_that_was_replaced_is_decoded_as_what_it_is(tmp_path: Path) -> None:
    options = {"compression": "jpegxr", "photometric": "minisblack"}
    path = write(tmp_path / "a.tif", GREY, **options)
    read(path)
    write(path, GREY.astype(np.float32), **options)
    np.testing.assert_array_equal(read(path)[0], GREY.astype(np.float32))


BLOSC: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
    "v3": {"compressors": BloscCodec()},
    "sharded": {"shards": (2, 48, 64), "compressors": BloscCodec()},
}


@pytest.mark.parametrize("kind", BLOSC)
@pytest.mark.parametrize("pickled", [False, True])
def test_blosc_does_not_read_beyond_its_data(tmp_path: Path, kind: str, pickled: bool) -> None:
    path, data = tmp_path / "a.zarr", np.stack([GREY] * 3)
    options = {"chunks": (1, 16, 32), **BLOSC[kind]}
    zarr.create_array(path, data=data, **options)
    with open_stack(path) as stack:
        used = pickle.loads(pickle.dumps(stack)) if pickled else stack
        np.testing.assert_array_equal(used.extract_patch(0, None, (0, 0), (48, 64))[0], GREY)
        for file in path.rglob("*"):
            if file.is_file() and file.name != "zarr.json" and not file.name.startswith("."):
                lengthen_blosc(file)
        with pytest.raises(UnreadableFileError, match=r"a\.zarr.*holds \d+ of 2147483647 bytes"):
            used.extract_patch(1, None, (0, 0), (48, 64))


def lengthen_blosc(file: Path) -> None:
    """Let every Blosc header of a file declare more than there is."""
    data = bytearray(file.read_bytes())
    for match in re.finditer(rb"\x02\x01.[\x01\x02]\x00\x04\x00\x00", bytes(data), re.DOTALL):
        data[match.start() + 12 : match.start() + 16] = (2**31 - 1).to_bytes(4, "little")
    file.write_bytes(data)
