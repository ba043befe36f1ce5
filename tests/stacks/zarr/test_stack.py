"""ZarrImageStack: every way of storing an array, and arrays without OME metadata."""

import pickle
import shutil
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from napari_patchset.axes import AxisLayout
from napari_patchset.stacks.opening import find_format, list_scenes, open_stack
from napari_patchset.stacks.protocol import ImageStack
from napari_patchset.stacks.zarr.stack import ZarrImageStack, open_zarr
from support.zarr_maker import (
    assert_whole,
    drawn,
    put_in_memory,
    write_array,
    write_image,
)

# The encodings of an array: axes, shape, and zarr's own options.
STORED: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "v2": ("TCYX", (3, 2, 21, 34), {"zarr_format": 2, "chunks": (1, 1, 8, 8)}),
    "v2-dots": (
        "CYX",
        (3, 21, 34),
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "."}},
    ),
    "v2-fortran": ("ZYX", (3, 21, 34), {"zarr_format": 2, "order": "F"}),
    "v2-big-endian": ("YX", (21, 34), {"zarr_format": 2, "dtype": ">u2"}),
    "v2-raw": ("YX", (21, 34), {"zarr_format": 2, "compressors": None}),
    "v3": ("TCZYX", (2, 3, 4, 9, 10), {"chunks": (1, 1, 1, 5, 4)}),
    "v3-float": ("YXC", (21, 34, 3), {"dtype": np.float32, "compressors": GzipCodec()}),
    "v3-chunk-of-all": ("CZYX", (2, 3, 21, 34), {"chunks": (2, 3, 21, 34)}),
    "v3-larger-chunk": ("YX", (5, 6), {"chunks": (16, 16), "compressors": None}),
    "v3-checksum": ("YX", (21, 34), {"compressors": Crc32cCodec()}),
    "v3-sharded": (
        "TCZYX",
        (2, 2, 4, 21, 34),
        {"chunks": (1, 1, 2, 4, 4), "shards": (1, 2, 4, 12, 16), "compressors": ZstdCodec()},
    ),
    "v3-sharded-blosc": ("YX", (40, 40), {"shards": (16, 16), "compressors": BloscCodec()}),
    "v3-transposed": ("ZYX", (3, 21, 34), {"filters": TransposeCodec(order=(2, 0, 1))}),
    "v3-big-endian": ("XYZ", (34, 21, 3), {"serializer": BytesCodec(endian="big")}),
    "v3-bool": ("RYX", (2, 9, 10), {"dtype": np.bool_}),
}


@pytest.fixture(params=STORED, ids=str)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, NDArray[Any]]:
    axes, shape, options = STORED[request.param]
    options = dict(options)
    dtype = np.dtype(options.pop("dtype", np.uint16))
    data = drawn(axes, shape, np.float32 if dtype.kind == "f" else np.uint16)
    data = data > 2**15 if dtype.kind == "b" else data.astype(dtype)
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=options.get("zarr_format", 3))
    write_array(tmp_path / "x.zarr" / "image", data, **options)
    return tmp_path / "x.zarr", axes, data.astype(data.dtype.newbyteorder("="))


def stack_of(stored: tuple[Path, str, Any], **options: Any) -> ZarrImageStack:
    return ZarrImageStack(zarr.open_group(stored[0], mode="r"), "image", stored[1], **options)


def test_every_encoding_gives_the_same_pixels(stored: Any) -> None:
    with stack_of(stored) as stack:
        assert isinstance(stack, ImageStack)
        assert stack.data_dtype == stored[2].dtype
        assert stack.data_dtype.isnative
        assert_whole(stack, stored[2], stored[1])


@settings(max_examples=settings.default.max_examples // 4)
@given(draw=st.data())
def test_any_patch_is_the_zero_padded_array(stored: Any, draw: st.DataObject) -> None:
    with stack_of(stored) as stack:
        layout = AxisLayout(stored[1], stored[2].shape, "Z" if "Z" in stored[1] else "none")
        padded = np.pad(
            layout.to_stack(stored[2]), [(0, 0), (0, 0), *[(9, 30)] * len(stack.axes[2:])]
        )
        start = [draw.draw(st.integers(-9, n + 5)) for n in stack.data_shape[2:]]
        size = [draw.draw(st.integers(1, 20)) for _ in start]
        sample = draw.draw(st.integers(0, stack.data_shape[0] - 1))
        window = tuple(slice(a + 9, a + 9 + n) for a, n in zip(start, size, strict=True))
        patch = stack.extract_patch(sample, None, start, size)
        expected = padded[sample][(slice(None), *window)]
        inside = tuple(slice(n) for n in expected.shape)
        np.testing.assert_array_equal(patch[inside], expected, strict=True)
        assert np.count_nonzero(patch) == np.count_nonzero(expected)


def test_the_names_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn("TCYX", (2, 3, 20, 30))
    monkeypatch.chdir(tmp_path)
    group = zarr.open_group("x.zarr", mode="w")
    write_array(tmp_path / "x.zarr" / "a" / "b", data, chunks=(1, 1, 5, 5), shards=(1, 1, 10, 10))
    with ZarrImageStack(group, "a/b", "TCYX") as stack:
        assert stack.source == f"file://{tmp_path.as_posix()}/x.zarr/a/b"
        assert (stack.chunks, stack.shards) == ((1, 1, 5, 5), (1, 1, 10, 10))
        assert (stack.original_axes, stack.original_data_shape) == ("TCYX", (2, 3, 20, 30))
        assert (stack.axes, stack.data_shape) == ("SCYX", (2, 3, 20, 30))
        assert (stack.data_path, stack.scene, stack.levels) == ("a/b", None, (stack,))


def test_z_is_the_depth_axis_unless_another_is_named(tmp_path: Path) -> None:
    data = drawn("TZYX", (4, 3, 9, 8))
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("a", data=data)
    group.create_array("flat", data=data[:, :1])
    assert ZarrImageStack(group, "a", "TZYX").data_shape == (4, 1, 3, 9, 8)
    assert ZarrImageStack(group, "flat", "TZYX").data_shape == (4, 1, 1, 9, 8)
    assert ZarrImageStack(group, "a", "TZYX", depth_axis="none").data_shape == (12, 1, 9, 8)
    with ZarrImageStack(group, "a", "TZYX", depth_axis="T") as stack:
        assert_whole(stack, data, "TZYX")
        assert stack.axes == "SCTYX"
    with pytest.raises(RuntimeError, match="does not contain a Z axis"):
        ZarrImageStack(group, "flat", "TZYX", depth_axis="Z")


def test_wrong_arguments_raise_the_errors_of_the_reference(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    group.create_group("inner")
    group.create_array("a", data=drawn("YX", (5, 6)))
    with pytest.raises(TypeError, match=r"group must be a zarr\.Group instance"):
        ZarrImageStack(group["a"], "a", "YX")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Did not find array at 'b' in store"):
        ZarrImageStack(group, "b", "YX")
    with pytest.raises(TypeError, match=r"must be a zarr\.Array instance"):
        ZarrImageStack(group, "inner", "YX")
    for axes in ("YXC", "CY", "YY"):
        with pytest.raises(ValueError, match="Axes"):
            ZarrImageStack(group, "a", axes)


class CountingStore(LocalStore):
    """Count which keys are read."""

    reads: Counter[str] = Counter()

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        self.reads[key] += 1
        return await super().get(key, *args, **options)


def test_only_the_chunks_under_a_patch_are_read_and_each_once(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    data = drawn("CYX", (2, 1024, 1024))
    write_array(tmp_path / "a", data, chunks=(1, 256, 256))
    zarr.open_group(tmp_path, mode="a")
    CountingStore.reads.clear()
    group = zarr.open_group(CountingStore(tmp_path, read_only=True), mode="r")
    with ZarrImageStack(group, "a", "CYX") as stack:
        for y, x in [(300, 240), (310, 250), (260, 230)] * 5:
            patch = stack.extract_patch(0, [1], [y, x], [40, 40])
            np.testing.assert_array_equal(patch[0], data[1, y : y + 40, x : x + 40])
        chunks = {key: n for key, n in CountingStore.reads.items() if "/c/" in key}
        assert chunks == {"a/c/1/1/0": 1, "a/c/1/1/1": 1}
        assert decoded["tiles"] == 2
        assert stack.block_shape == (256, 256)


def test_small_chunks_are_decoded_together(tmp_path: Path, decoded: Counter[str]) -> None:
    data = drawn("ZYX", (2, 480, 340))
    write_array(tmp_path / "a", data, chunks=(1, 24, 34), shards=(1, 240, 340))
    with open_zarr(tmp_path / "a") as stack:
        assert (240 % stack.block_shape[0], 340 % stack.block_shape[1]) == (0, 0)
        assert_whole(stack, data, "ZYX")
        assert decoded["tiles"] <= 2 * 2 * 6


def test_a_pickled_stack_reopens_with_its_levels(tmp_path: Path, decoded: Counter[str]) -> None:
    data = drawn("TYX", (2, 40, 50))
    write_image(tmp_path / "x.zarr", "TYX", data, data[:, ::2, ::2])
    stack = open_zarr(tmp_path / "x.zarr")
    stack.extract_patch(0, None, [0, 0], [40, 50])
    copy = pickle.loads(pickle.dumps(stack))
    assert (copy.source, copy.metadata) == (stack.source, stack.metadata)
    assert [level.data_shape for level in copy.levels] == [(2, 1, 40, 50), (2, 1, 20, 25)]
    decoded.clear()
    stack.extract_patch(0, None, [0, 0], [40, 50])
    assert not decoded
    copy.extract_patch(0, None, [0, 0], [40, 50])
    assert decoded["tiles"] > 0, "decoded pixels are not pickled"
    patch = copy.extract_patch(1, [0], [3, 4], [10, 11])
    np.testing.assert_array_equal(patch[0], data[1, 3:13, 4:15])


def test_threads_share_a_stack(tmp_path: Path) -> None:
    data = drawn("YX", (400, 400))
    write_array(tmp_path / "a", data, chunks=(100, 100))
    starts = np.random.default_rng(0).integers(0, 380, (200, 2)).tolist()
    with open_zarr(tmp_path / "a") as stack, ThreadPoolExecutor(8) as pool:
        patches = pool.map(lambda s: stack.extract_patch(0, None, s, [20, 20]), starts)
        for (y, x), patch in zip(starts, patches, strict=True):
            np.testing.assert_array_equal(patch[0], data[y : y + 20, x : x + 20])


def test_reading_a_closed_stack_raises(tmp_path: Path) -> None:
    stack = open_zarr(write_array(tmp_path / "a", drawn("YX", (9, 9))))
    stack.close()
    stack.close()
    with pytest.raises(ValueError, match="the stack is closed"):
        stack.extract_patch(0, None, [0, 0], [2, 2])


def test_an_absent_chunk_is_the_fill_value(tmp_path: Path) -> None:
    write_array(tmp_path / "a", drawn("YX", (16, 16)), fill_value=7, compressors=None)
    (tmp_path / "a" / "c" / "0" / "1").unlink()
    with open_zarr(tmp_path / "a") as stack:
        assert (stack.extract_patch(0, None, [0, 8], [8, 8]) == 7).all()


def test_a_large_absent_chunk_allocates_no_memory(tmp_path: Path) -> None:
    options = {"shape": (10**9, 10**9), "chunks": (30_000, 30_000), "dtype": "u1"}
    zarr.create_array(store=tmp_path / "a", fill_value=3, **options)  # type: ignore[arg-type]
    tracemalloc.start()
    with open_zarr(tmp_path / "a") as stack:
        patch = stack.extract_patch(0, None, [10**8, 10**8], [64, 64])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (patch == 3).all()
    assert peak < 20e6


def test_a_store_in_memory_can_be_read(tmp_path: Path) -> None:
    group = zarr.open_group(MemoryStore(), mode="w")
    data = drawn("CYX", (2, 9, 8))
    group.create_array("a", data=data)
    with ZarrImageStack(group, "a", "CYX") as stack:
        assert_whole(stack, data, "CYX")
        assert stack.source.startswith("memory://")
        assert stack.fingerprint() is None


def test_a_copy_has_the_same_fingerprint(tmp_path: Path) -> None:
    data = drawn("YX", (40, 40))
    write_array(tmp_path / "a", data)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data[3, 3] += 1
    write_array(tmp_path / "c", data)
    a, b, c = (open_zarr(tmp_path / name).fingerprint() for name in "abc")
    assert a == b
    assert a != c


# Arrays without OME metadata


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((9, 8), "YX"),
        ((3, 9, 8), "ZYX"),
        ((9, 8, 3), "YXC"),
        ((2, 3, 9, 8), "CZYX"),
        ((2, 2, 3, 9, 8), "TCZYX"),
        ((2, 1, 2, 3, 9, 8), "STCZYX"),
    ],
)
def test_unnamed_axes_follow_from_their_number(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    write_array(tmp_path / "a", np.ones(shape, np.uint8))
    with open_zarr(tmp_path / "a") as stack:
        assert stack.original_axes == axes


def test_dimension_names_are_used_if_they_include_y_and_x(tmp_path: Path) -> None:
    data = np.ones((2, 3, 9, 8), np.uint8)
    write_array(tmp_path / "a", data, dimension_names=["time", "channel", "y", "x"])
    write_array(tmp_path / "b", data, dimension_names=["n", "c", "x", "y"])
    write_array(tmp_path / "c", data, dimension_names=["i", "j", "lat", "lon"])
    write_array(tmp_path / "d", data, 2, attributes={"_ARRAY_DIMENSIONS": ["z", "t", "y", "x"]})
    axes = [open_zarr(tmp_path / name).original_axes for name in "abcd"]
    assert axes == ["TCYX", "NCXY", "CZYX", "ZTYX"]


def test_the_arrays_of_a_group_are_scenes_in_natural_order(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    zarr.open_group(path, mode="w")
    for name in ("t10", "t9", "deep/er/raw"):
        write_array(path / name, drawn("YX", (9, 8)))
    (path / "notes").mkdir()
    assert [s.id for s in list_scenes(path)] == ["deep/er/raw", "t9", "t10"]
    with open_stack(path, "deep/er/raw") as stack:
        assert stack.source == f"file://{path.as_posix()}/deep/er/raw"
    assert find_format(path / "t9").name == "zarr"


def test_a_single_array_need_not_be_chosen(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    write_array(tmp_path / "x.zarr" / "raw", drawn("YX", (9, 8)))
    with open_stack(tmp_path / "x.zarr") as stack:
        assert stack.scene == "raw"  # type: ignore[attr-defined]


# Behind a URL


def test_a_url_is_read_through_fsspec(tmp_path: Path) -> None:
    data = drawn("CYX", (2, 32, 48))
    url = put_in_memory(write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2]))
    with open_zarr(url) as stack:
        assert_whole(stack, data, "CYX")
        assert len(stack.levels) == 2
        assert stack.source == f"memory:///{tmp_path.name}/x.zarr/0"
    with pytest.raises(ValueError, match=r"remote|rotocol"):
        open_zarr("nowhere://x.zarr")
