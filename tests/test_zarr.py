"""Zarr stacks: every way of storing an array, OME-Zarr's metadata, and hostile stores."""

import json
import multiprocessing
import pickle
import shutil
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.metadata import Channel
from napari_patchset.stacks.opening import find_format, list_scenes, open_stack
from napari_patchset.stacks.zarr.opening import open_zarr, zarr_scenes
from napari_patchset.stacks.zarr.stack import ZarrImageStack
from pixels import encode

UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer", "t": "second"}
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def pixels(axes: str, shape: Sequence[int], dtype: Any = np.uint16) -> NDArray[Any]:
    """Give an array of any axes whose pixels say where they come from."""
    others = [axis for axis in axes if axis not in "YX"]
    sizes = dict(zip(axes, shape, strict=True))
    rows, columns = np.arange(sizes["Y"])[:, None], np.arange(sizes["X"])
    planes = [
        encode(rows, columns, dtype, **dict(zip(others, index, strict=True)))
        for index in product(*(range(sizes[axis]) for axis in others))
    ]
    data = np.stack(planes).reshape([*(sizes[a] for a in others), sizes["Y"], sizes["X"]])
    order = [*others, "Y", "X"]
    return np.moveaxis(data, [order.index(axis) for axis in axes], range(len(axes)))


def write_array(path: Path, data: NDArray[Any], zarr_format: int = 3, **options: Any) -> Path:
    """Write one array, which is a node of its own."""
    options = {"chunks": tuple(min(n, 8) for n in data.shape), **options}
    zarr.create_array(store=path, data=data, zarr_format=zarr_format, **options)
    return path


def axes_of(letters: str, units: dict[str, str] = UNITS) -> list[dict[str, str]]:
    return [
        {"name": a, "type": KINDS[a], **({"unit": units[a]} if a in units else {})}
        for a in letters.lower()
    ]


def multiscale(letters: str, *scales: Sequence[float], **more: Any) -> dict[str, Any]:
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        for i, scale in enumerate(scales)
    ]
    return {"axes": axes_of(letters), "datasets": datasets, **more}


def write_group(path: Path, attributes: dict[str, Any], version: str = "0.5") -> Path:
    """Write a group with OME metadata where that version keeps it."""
    stored = {"ome": {"version": version, **attributes}} if version == "0.5" else attributes
    group = zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2)
    group.attrs.update(stored)
    return path


def write_image(
    path: Path, letters: str, *levels: NDArray[Any], version: str = "0.5", **more: Any
) -> Path:
    """Write an OME-Zarr image of micrometre pixels, doubled from level to level."""
    scales = [[2.0**i if a in "YX" else 1.0 for a in letters] for i in range(len(levels))]
    attributes = {"multiscales": [{**multiscale(letters, *scales), "version": version}], **more}
    write_group(path, attributes, version)
    for i, level in enumerate(levels):
        write_array(path / str(i), level, 3 if version == "0.5" else 2)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    doc = json.loads(path.read_text())
    change(doc)
    path.write_text(json.dumps(doc))


def assert_whole(stack: ZarrImageStack, data: NDArray[Any], axes: str) -> None:
    """Compare every sample with the array, which is in the file's own axes."""
    depth = "none" if len(stack.data_shape) == 4 else stack.axes[2]
    expected = AxisLayout(axes, data.shape, depth).to_stack(data)  # type: ignore[arg-type]
    assert stack.original_axes == axes
    assert tuple(stack.data_shape) == expected.shape
    for sample, wanted in enumerate(expected):
        found = stack.extract_patch(sample, None, [0] * (wanted.ndim - 1), wanted.shape[1:])
        np.testing.assert_array_equal(found, wanted, strict=True)


# How an array may be stored: axes, shape, and zarr's own options.
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
    data = pixels(axes, shape, np.float32 if dtype.kind == "f" else np.uint16)
    data = data > 2**15 if dtype.kind == "b" else data.astype(dtype)
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=options.get("zarr_format", 3))
    write_array(tmp_path / "x.zarr" / "image", data, **options)
    return tmp_path / "x.zarr", axes, data.astype(data.dtype.newbyteorder("="))


def stack_of(stored: tuple[Path, str, Any], **options: Any) -> ZarrImageStack:
    return ZarrImageStack(zarr.open_group(stored[0], mode="r"), "image", stored[1], **options)


def test_every_way_of_storing_gives_the_same_pixels(stored: Any) -> None:
    with stack_of(stored) as stack:
        assert isinstance(stack, ImageStack)
        assert stack.data_dtype == stored[2].dtype
        assert stack.data_dtype.isnative
        assert_whole(stack, stored[2], stored[1])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
        found = stack.extract_patch(sample, None, start, size)
        wanted = padded[sample][(slice(None), *window)]
        inside = tuple(slice(n) for n in wanted.shape)
        np.testing.assert_array_equal(found[inside], wanted, strict=True)
        assert np.count_nonzero(found) == np.count_nonzero(wanted)


def test_the_names_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pixels("TCYX", (2, 3, 20, 30))
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
    data = pixels("TZYX", (4, 3, 9, 8))
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


def test_wrong_arguments_are_the_errors_of_the_reference(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    group.create_group("inner")
    group.create_array("a", data=pixels("YX", (5, 6)))
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


def test_only_the_chunks_under_a_patch_are_read_and_each_once(tmp_path: Path) -> None:
    data = pixels("CYX", (2, 1024, 1024))
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
        assert stack.tiles_decoded == 2
        assert stack.block_shape == (256, 256)


def test_small_chunks_are_decoded_together(tmp_path: Path) -> None:
    data = pixels("ZYX", (2, 480, 340))
    write_array(tmp_path / "a", data, chunks=(1, 24, 34), shards=(1, 240, 340))
    with open_zarr(tmp_path / "a") as stack:
        assert (240 % stack.block_shape[0], 340 % stack.block_shape[1]) == (0, 0)
        assert_whole(stack, data, "ZYX")
        assert stack.tiles_decoded <= 2 * 2 * 6


def read_in_process(stack: ZarrImageStack) -> NDArray[Any]:
    return stack.extract_patch(1, [0], [3, 4], [10, 11])


def test_a_pickled_stack_reopens_in_a_new_process(tmp_path: Path) -> None:
    data = pixels("TYX", (2, 40, 50))
    write_image(tmp_path / "x.zarr", "TYX", data, data[:, ::2, ::2])
    stack = open_zarr(tmp_path / "x.zarr")
    stack.extract_patch(0, None, [0, 0], [40, 50])
    copy = pickle.loads(pickle.dumps(stack))
    assert (copy.source, copy.metadata) == (stack.source, stack.metadata)
    assert [level.data_shape for level in copy.levels] == [(2, 1, 40, 50), (2, 1, 20, 25)]
    assert (copy.tiles_decoded, stack.tiles_decoded) == (0, 1 * stack.tiles_decoded)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        found = pool.submit(read_in_process, stack).result()
    np.testing.assert_array_equal(found[0], data[1, 3:13, 4:15])


def test_threads_share_a_stack(tmp_path: Path) -> None:
    data = pixels("YX", (400, 400))
    write_array(tmp_path / "a", data, chunks=(100, 100))
    starts = np.random.default_rng(0).integers(0, 380, (200, 2)).tolist()
    with open_zarr(tmp_path / "a") as stack, ThreadPoolExecutor(8) as pool:
        patches = pool.map(lambda s: stack.extract_patch(0, None, s, [20, 20]), starts)
        for (y, x), patch in zip(starts, patches, strict=True):
            np.testing.assert_array_equal(patch[0], data[y : y + 20, x : x + 20])


def test_a_closed_stack_says_so(tmp_path: Path) -> None:
    stack = open_zarr(write_array(tmp_path / "a", pixels("YX", (9, 9))))
    stack.close()
    stack.close()
    with pytest.raises(ValueError, match="the stack is closed"):
        stack.extract_patch(0, None, [0, 0], [2, 2])


def test_an_absent_chunk_is_the_fill_value(tmp_path: Path) -> None:
    write_array(tmp_path / "a", pixels("YX", (16, 16)), fill_value=7, compressors=None)
    (tmp_path / "a" / "c" / "0" / "1").unlink()
    with open_zarr(tmp_path / "a") as stack:
        assert (stack.extract_patch(0, None, [0, 8], [8, 8]) == 7).all()


def test_a_large_absent_chunk_takes_no_memory(tmp_path: Path) -> None:
    options = {"shape": (10**9, 10**9), "chunks": (30_000, 30_000), "dtype": "u1"}
    zarr.create_array(store=tmp_path / "a", fill_value=3, **options)  # type: ignore[arg-type]
    tracemalloc.start()
    with open_zarr(tmp_path / "a") as stack:
        patch = stack.extract_patch(0, None, [10**8, 10**8], [64, 64])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (patch == 3).all()
    assert peak < 20e6


def test_a_store_in_memory_is_as_good(tmp_path: Path) -> None:
    group = zarr.open_group(MemoryStore(), mode="w")
    data = pixels("CYX", (2, 9, 8))
    group.create_array("a", data=data)
    with ZarrImageStack(group, "a", "CYX") as stack:
        assert_whole(stack, data, "CYX")
        assert stack.source.startswith("memory://")
        assert stack.fingerprint() is None


def test_a_copy_has_the_same_fingerprint(tmp_path: Path) -> None:
    data = pixels("YX", (40, 40))
    write_array(tmp_path / "a", data)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data[3, 3] += 1
    write_array(tmp_path / "c", data)
    a, b, c = (open_zarr(tmp_path / name).fingerprint() for name in "abc")
    assert a == b
    assert a != c


# OME-Zarr


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_image_says_all_it_knows(tmp_path: Path, version: str) -> None:
    data = pixels("TCZYX", (2, 2, 3, 16, 20))
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
    path = write_image(tmp_path / "x.zarr", "YX", pixels("YX", (9, 8)))
    units = {"y": unit, "x": unit} if unit else {}
    write_group(path, {"multiscales": [{**multiscale("YX", [1, 1]), "axes": axes_of("YX", units)}]})
    with open_zarr(path) as stack:
        assert stack.metadata.pixel_size.x == pytest.approx(micrometres)


def test_levels_are_the_same_image_finest_first(tmp_path: Path) -> None:
    data = pixels("CZYX", (2, 4, 32, 48))
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
    data = pixels("CYX", (2, 32, 48))
    path = write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2])
    for stack in (open_zarr(path / "1"), open_zarr(path, 1), open_stack(f"{path}@1")):
        with stack:
            assert isinstance(stack, ZarrImageStack)
            assert_whole(stack, data[:, ::2, ::2], "CYX")
            assert stack.metadata.pixel_size.x == 2
    assert list_scenes(path / "1")[0].axes == "CYX"


def test_labels_are_no_scenes_but_open_by_their_path(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.zarr", "CYX", pixels("CYX", (2, 9, 8)))
    write_group(path / "labels", {"labels": ["cells"]})
    write_image(path / "labels" / "cells", "YX", pixels("YX", (9, 8)), **{"image-label": {}})
    assert [scene.id for scene in zarr_scenes(path)] == [None]
    for stack in (open_zarr(path, "labels/cells"), open_zarr(path / "labels" / "cells")):
        with stack:
            assert_whole(stack, pixels("YX", (9, 8)), "YX")


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
        write_image(path / name, "YX", pixels("YX", (height, 8)), version=version)
    assert [(s.id, s.name) for s in list_scenes(path)] == [(i, f"image {i}") for i in order]
    with open_stack(path, "10") as stack:
        assert tuple(stack.data_shape) == (1, 1, 12, 8)
        assert stack.scene == "10"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has 2 scenes; choose one"):
        open_zarr(path)
    with pytest.raises(ValueError, match="there is no scene '3'; there are"):
        open_zarr(path, "3")


def write_plate(path: Path, version: str, wells: Sequence[str], n_fields: int) -> Path:
    plate = {
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}, {"name": "3"}],
        "wells": [{"path": well, "rowIndex": 0, "columnIndex": 0} for well in wells],
    }
    write_group(path, {"plate": plate}, version)
    for i, well in enumerate(wells):
        images = [{"path": str(field)} for field in range(n_fields)]
        write_group(path / well, {"well": {"images": images}}, version)
        for field in range(n_fields):
            data = pixels("CYX", (2, 20, 30)) + np.uint16(10 * i + field)
            write_image(path / well / str(field), "CYX", data, version=version)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_fields_of_a_plate_are_scenes_laid_out_as_on_the_plate(
    tmp_path: Path, version: str
) -> None:
    path = write_plate(tmp_path / "p.zarr", version, ["A/1", "B/3"], 3)
    scenes = list_scenes(path)
    ids = ["A/1/0", "A/1/1", "A/1/2", "B/3/0", "B/3/1", "B/3/2"]
    assert [s.id for s in scenes] == ids
    assert [s.name for s in scenes[:2]] == ["A1 field 0", "A1 field 1"]
    assert [s.rect for s in scenes[:3]] == [
        Rect(0, 0, 30, 20),
        Rect(30, 0, 30, 20),
        Rect(0, 20, 30, 20),
    ]
    assert scenes[3].rect[:2] == (2 * (60 + 6), 40 + 6)
    with open_stack(path, "B/3/1") as stack:
        patch = stack.extract_patch(0, None, [0, 0], [20, 30])
        np.testing.assert_array_equal(patch, pixels("CYX", (2, 20, 30)) + np.uint16(11))


def test_a_plate_lacking_a_well_shows_the_others(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.zarr", "0.5", ["A/1", "A/2"], 1)
    shutil.rmtree(path / "A" / "1" / "0")
    with pytest.warns(UserWarning, match="left out: .*A/1/0: there is no image"):
        assert [s.name for s in list_scenes(path)] == ["A2"]


@pytest.mark.parametrize(
    ("change", "axes", "warning"),
    [
        ({"axes": None, "version": "0.1"}, "TCZYX", r"OME-Zarr 0\.1 is older"),
        ({"axes": list("tczyx"), "version": "0.3"}, "TCZYX", r"OME-Zarr 0\.3 is older"),
        ({"axes": axes_of("ZTCYX")}, "ZTCYX", r"no valid OME-Zarr 0\.4 \(multiscales"),
        ({"axes": axes_of("CYX")}, "TCZYX", "axes do not fit the array; it is read as TCZYX"),
        ({"axes": "nonsense"}, "TCZYX", r"no valid OME-Zarr 0\.4"),
    ],
)
def test_older_and_invalid_metadata_gives_the_pixels_with_a_warning(
    tmp_path: Path, change: dict[str, Any], axes: str, warning: str
) -> None:
    data = pixels("TCZYX", (2, 2, 3, 9, 8))
    path = write_image(tmp_path / "x.zarr", "TCZYX", data, version="0.4")
    edit(path / ".zattrs", lambda doc: doc["multiscales"][0].update(change))
    assert list_scenes(path)[0].axes == axes
    with pytest.warns(UserWarning, match=warning) as said, open_zarr(path) as stack:
        assert_whole(stack, data, axes)
    messages = [str(warning.message) for warning in said]
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_level_unlike_the_first_is_left_out(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.zarr", "CYX", pixels("CYX", (2, 9, 8)), pixels("YX", (4, 4)))
    with pytest.warns(UserWarning, match="is unlike the first and left out"):
        stack = open_zarr(path)
    assert stack.levels == (stack,)
    shutil.rmtree(path / "1")
    with pytest.warns(UserWarning, match="a lower resolution is left out"):
        open_zarr(path).close()


def test_an_unknown_axis_is_part_of_s(tmp_path: Path) -> None:
    data = pixels("RYX", (4, 9, 8))
    path = tmp_path / "x.zarr"
    angle = {**multiscale("YX", [1.0, 1, 1]), "axes": [{"name": "angle"}, *axes_of("YX")]}
    write_group(path, {"multiscales": [angle]})
    write_array(path / "0", data)
    with open_zarr(path) as stack:
        assert_whole(stack, data, "AYX")


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
def test_axes_without_names_go_by_their_number(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    write_array(tmp_path / "a", np.ones(shape, np.uint8))
    with open_zarr(tmp_path / "a") as stack:
        assert stack.original_axes == axes


def test_names_of_dimensions_are_used_where_they_make_sense(tmp_path: Path) -> None:
    data = np.ones((2, 3, 9, 8), np.uint8)
    write_array(tmp_path / "a", data, dimension_names=["time", "channel", "y", "x"])
    write_array(tmp_path / "b", data, dimension_names=["n", "c", "x", "y"])
    write_array(tmp_path / "c", data, dimension_names=["i", "j", "lat", "lon"])
    write_array(tmp_path / "d", data, 2, attributes={"_ARRAY_DIMENSIONS": ["z", "t", "y", "x"]})
    found = [open_zarr(tmp_path / name).original_axes for name in "abcd"]
    assert found == ["TCYX", "NCXY", "CZYX", "ZTYX"]


def test_the_arrays_of_a_group_are_scenes_in_natural_order(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    zarr.open_group(path, mode="w")
    for name in ("t10", "t9", "deep/er/raw"):
        write_array(path / name, pixels("YX", (9, 8)))
    (path / "notes").mkdir()
    assert [s.id for s in list_scenes(path)] == ["deep/er/raw", "t9", "t10"]
    with open_stack(path, "deep/er/raw") as stack:
        assert stack.source == f"file://{path.as_posix()}/deep/er/raw"
    assert find_format(path / "t9").name == "zarr"


def test_one_array_needs_no_choice(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    write_array(tmp_path / "x.zarr" / "raw", pixels("YX", (9, 8)))
    with open_stack(tmp_path / "x.zarr") as stack:
        assert stack.scene == "raw"  # type: ignore[attr-defined]


# Stores that are damaged or hostile


def test_what_is_no_zarr_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UnreadableFileError, match=r"empty\.zarr: no zarr array"):
        open_stack(tmp_path / "empty.zarr")
    with pytest.raises(FileNotFoundError):
        open_zarr(tmp_path / "none.zarr")
    (tmp_path / "file.zarr").write_text("?")
    with pytest.raises(UnreadableFileError, match=r"file\.zarr: no zarr array"):
        open_stack(tmp_path / "file.zarr")


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
def test_a_chunk_cut_off_is_named_at_opening(
    tmp_path: Path, options: dict[str, Any], key: str, message: str
) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (64, 64)), **options)
    truncate(path / key, 5)
    with pytest.raises(UnreadableFileError, match=f"a: chunk {key} {message}"):
        open_zarr(path)


@pytest.mark.parametrize("codec", [GzipCodec(), ZstdCodec(), Crc32cCodec()], ids=repr)
def test_a_damaged_chunk_is_named_when_it_is_decoded(tmp_path: Path, codec: Any) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (64, 64)), compressors=codec)
    chunk = path / "c" / "1" / "2"
    content = chunk.read_bytes()
    chunk.write_bytes(bytes(4) + content[4:])
    with open_zarr(path) as stack:
        for _ in range(2):  # the failure is not kept as pixels
            with pytest.raises(UnreadableFileError, match="a: chunk c/1/2 can't be decoded"):
                stack.extract_patch(0, None, [0, 0], [64, 64])


def blosc_header(decoded: int, stored: int) -> bytes:
    return struct.pack("<4B3I", 2, 1, 1, 1, decoded, decoded, stored)


def test_a_chunk_that_would_decode_to_more_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (8, 8)), compressors=BloscCodec())
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
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 1]}}}, "zarr|GiB"),
        ({"chunk_grid": 7}, "zarr can't open this array"),
    ],
)
def test_metadata_that_lies_is_one_error_and_takes_no_memory(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (10, 10)))
    edit(path / "zarr.json", lambda doc: doc.update(change))
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match=message) as error:
        open_zarr(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_codec_of_v2_is_named(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (10, 10)), 2)
    edit(path / ".zarray", lambda doc: doc.update(compressor={"id": "acme"}))
    with pytest.raises(UnreadableFileError, match="acme"):
        open_zarr(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (10, 10)), 2)
    edit(path / ".zarray", lambda doc: doc.update(compressor={"id": "pickle"}))
    with pytest.raises(UnreadableFileError, match="pickle"):
        open_zarr(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\ud800"])
def test_metadata_that_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    path = write_array(tmp_path / "a", pixels("YX", (10, 10)))
    (path / "zarr.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnreadableFileError, match=r"zarr\.json: no "):
        open_zarr(path)


@pytest.mark.parametrize("target", ["../secret", "/secret", "0/../../secret", "..\\secret", "C:/x"])
def test_a_path_out_of_the_store_is_refused(tmp_path: Path, target: str) -> None:
    write_array(tmp_path / "secret", pixels("YX", (9, 8)))
    path = write_image(tmp_path / "x.zarr", "YX", pixels("YX", (9, 8)))
    edit(
        path / "zarr.json",
        lambda doc: doc["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path=target),
    )
    with pytest.raises(UnreadableFileError, match=r"leads out of the store|no path in a zarr"):
        open_zarr(path)
    with pytest.raises(UnreadableFileError, match=r"leads out of the store|no path in a zarr"):
        open_zarr(path, target)


def test_a_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "secret", pixels("YX", (9, 8)))
    path = write_image(tmp_path / "x.zarr", "YX", pixels("YX", (9, 8)))
    shutil.move(path / "0", path / "inside")
    (path / "0").symlink_to(path / "inside")
    open_zarr(path).close()
    (path / "0").unlink()
    (path / "0").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableFileError, match="leads out of the store"):
        open_zarr(path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
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


# Behind a URL


def test_a_url_is_read_through_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    data = pixels("CYX", (2, 32, 48))
    write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2])
    fsspec.filesystem("memory").put(str(tmp_path / "x.zarr"), "/x.zarr", recursive=True)
    with open_zarr("memory://x.zarr") as stack:
        assert_whole(stack, data, "CYX")
        assert len(stack.levels) == 2
        assert stack.source == "memory:///x.zarr/0"
    with pytest.raises(ValueError, match=r"remote|rotocol"):
        open_zarr("nowhere://x.zarr")
