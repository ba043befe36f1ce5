"""Zarr stores that are damaged or hostile are refused with one error."""

import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from napari_patchset import Tiled
from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.zarr.stack import ZarrImageStack, open_zarr
from support.zarr_maker import drawn, edit, write_array, write_group, write_image


def test_files_and_folders_without_zarr_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UnreadableFileError, match=r"empty\.zarr: no zarr array"):
        open_stack(tmp_path / "empty.zarr")
    with pytest.raises(FileNotFoundError):
        open_zarr(tmp_path / "none.zarr")
    (tmp_path / "file.zarr").write_text("?")
    with pytest.raises(UnreadableFileError, match=r"file\.zarr: no zarr array"):
        open_stack(tmp_path / "file.zarr")


def find_no_array(folder: Path) -> None:
    group = zarr.open_group(folder)
    shutil.rmtree(folder / "a")
    ZarrImageStack(group, "a", "YX")


def find_codec_unknown(folder: Path) -> None:
    edit(folder / "a" / "zarr.json", lambda doc: doc["codecs"][0].update(name="unheard"))
    ZarrImageStack(zarr.open_group(folder), "a", "YX")


def decode(folder: Path) -> None:
    next((folder / "a").glob("c/*/*")).write_bytes(b"?")
    with open_zarr(folder) as stack:
        stack.extract_patch(0, None, (0, 0), (9, 8))


@pytest.mark.parametrize(
    "failing",
    [
        find_no_array,
        find_codec_unknown,
        decode,
        lambda folder: ZarrImageStack(zarr.open_group(folder), "a", "YX", depth_axis="Z"),
        lambda folder: open_zarr(folder, depth_axis="T"),
        lambda folder: Tiled(size=(64, 64)).plan([describe(open_zarr(folder))]),
        lambda folder: list_scenes((folder / "away").as_uri()),
    ],
)
def test_an_error_names_a_local_file_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Callable[[Path], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    zarr.open_group("x.zarr")
    write_array(tmp_path / "x.zarr" / "a", drawn("YX", (9, 8)))
    with pytest.raises((PatchsetError, OSError)) as raised:
        failing(Path("x.zarr").absolute())
    assert str(tmp_path / "x.zarr") in str(raised.value)
    assert "file:" not in str(raised.value)


def truncate(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:-n])


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"compressors": BloscCodec()}, "c/1/2", r"is cut off: it holds \d+ of \d+ bytes"),
        ({"zarr_format": 2, "compressors": Blosc()}, "1.2", r"is cut off: it holds \d+ of"),
        ({"compressors": None}, "c/1/2", "holds 123 bytes instead of 128"),
        ({"shards": (16, 16)}, "c/1/2", "is cut off or damaged"),
    ],
)
def test_a_chunk_that_is_cut_off_is_named_on_opening(
    tmp_path: Path, options: dict[str, Any], key: str, message: str
) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (64, 64)), **options)
    truncate(path / key, 5)
    with pytest.raises(UnreadableFileError, match=f"a: chunk {key} {message}"):
        open_zarr(path)


@pytest.mark.parametrize("codec", [GzipCodec(), ZstdCodec(), Crc32cCodec()], ids=repr)
def test_a_damaged_chunk_is_named_when_it_is_decoded(tmp_path: Path, codec: Any) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (64, 64)), compressors=codec)
    chunk = path / "c" / "1" / "2"
    content = chunk.read_bytes()
    chunk.write_bytes(bytes(4) + content[4:])
    with open_zarr(path) as stack:
        for _ in range(2):  # the failure is not cached
            with pytest.raises(UnreadableFileError, match="a: chunk c/1/2 can't be decoded"):
                stack.extract_patch(0, None, [0, 0], [64, 64])


def blosc_header(decoded: int, stored: int) -> bytes:
    return struct.pack("<4B3I", 2, 1, 1, 1, decoded, decoded, stored)


def test_a_chunk_that_would_decode_to_more_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (8, 8)), compressors=BloscCodec())
    (path / "c" / "0" / "0").write_bytes(blosc_header(2**31 - 1, 100) + bytes(84))
    with pytest.raises(UnreadableFileError, match="would decode to 2147483647 bytes"):
        open_zarr(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [10**18, 10**18]}, "no file holds an array of shape"),
        ({"shape": [10, -1]}, "has no pixels"),
        ({"shape": [0, 10]}, "has no pixels"),
        ({"shape": "many"}, "has no pixels"),
        ({"data_type": "string"}, "pixels of type 'string' can't be read"),
        ({"data_type": {"name": "struct"}}, "can't be read"),
        ({"codecs": [{"name": "bytes"}, {"name": "acme"}]}, "zarr can't open this array"),
        ({"codecs": 5}, "zarr can't open this array"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9] * 2}}}, "GiB"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 1]}}},
            "hold no pixels",
        ),
        ({"chunk_grid": 7}, "zarr can't open this array"),
    ],
)
def test_impossible_metadata_is_one_error_and_allocates_little(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (10, 10)))
    edit(path / "zarr.json", lambda doc: doc.update(change))
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match=message) as error:
        open_zarr(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_codec_of_v2_is_named(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (10, 10)), 2)
    edit(path / ".zarray", lambda doc: doc.update(compressor={"id": "acme"}))
    with pytest.raises(UnreadableFileError, match="acme"):
        open_zarr(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (10, 10)), 2)
    edit(path / ".zarray", lambda doc: doc.update(compressor={"id": "pickle"}))
    with pytest.raises(UnreadableFileError, match="pickle"):
        open_zarr(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\ud800"])
def test_metadata_that_is_not_json_is_named(tmp_path: Path, content: str) -> None:
    path = write_array(tmp_path / "a", drawn("YX", (10, 10)))
    (path / "zarr.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnreadableFileError, match=r"zarr\.json: not "):
        open_zarr(path)


@pytest.mark.parametrize("target", ["../secret", "/secret", "0/../../secret", "..\\secret", "C:/x"])
def test_a_path_out_of_the_store_is_refused(tmp_path: Path, target: str) -> None:
    write_array(tmp_path / "secret", drawn("YX", (9, 8)))
    path = write_image(tmp_path / "x.zarr", "YX", drawn("YX", (9, 8)))
    edit(
        path / "zarr.json",
        lambda doc: doc["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path=target),
    )
    with pytest.raises(UnreadableFileError, match=r"leads out of the store|not a path in a store"):
        open_zarr(path)
    with pytest.raises(UnreadableFileError, match=r"leads out of the store|not a path in a store"):
        open_zarr(path, target)


def test_a_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "secret", drawn("YX", (9, 8)))
    path = write_image(tmp_path / "x.zarr", "YX", drawn("YX", (9, 8)))
    shutil.move(path / "0", path / "inside")
    (path / "0").symlink_to(path / "inside")
    open_zarr(path).close()
    (path / "0").unlink()
    (path / "0").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableFileError, match="leads out of the store"):
        open_zarr(path)


def test_links_that_form_a_circle_are_left(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    (tmp_path / "x.zarr" / "again").symlink_to(tmp_path / "x.zarr")
    with pytest.raises(UnreadableFileError, match="no zarr array"):
        list_scenes(tmp_path / "x.zarr")


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": 5},
        {"multiscales": [{"datasets": [{}]}]},
        {"multiscales": [{"datasets": [{"path": 3}]}]},
        {"plate": 7},
        {"plate": {"wells": [{"path": None}]}},
        {"bioformats2raw.layout": 3},
    ],
)
def test_nonsense_metadata_without_pixels_is_one_error(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    path = write_group(tmp_path / "x.zarr", attributes)
    with pytest.raises(UnreadableFileError, match=r"x\.zarr"):
        open_stack(path)
