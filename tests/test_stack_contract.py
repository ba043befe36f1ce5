"""What every stack does, whatever it reads: a further stack is one more line in STACKS."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from czi_maker import SceneSpec, make_czi
from napari_patchset import (
    CziImageStack,
    FileImageStack,
    ImageStack,
    InMemoryImageStack,
    TiffImageStack,
    ZarrImageStack,
)
from pixels import expected


class Case(NamedTuple):
    """A stack, and the array SC(Z)YX that it must show."""

    stack: Any
    reference: NDArray[Any]


def memory_2d(folder: Path) -> Case:
    data = np.stack([[expected(0, 0, 21, 34, T=t, C=c) for c in range(3)] for t in range(4)])
    return Case(InMemoryImageStack("array", data), data)


def memory_3d(folder: Path) -> Case:
    data = expected(0, 0, 14, 2 * 3 * 5 * 19, np.float32).reshape(2, 3, 5, 14, 19)
    return Case(InMemoryImageStack.from_array(np.moveaxis(data, 1, -1), "TZYXC"), data)


def czi_2d(folder: Path) -> Case:
    scene = SceneSpec(3, (-70, 25, 34, 21), t=range(2, 4), z=range(1, 3), c=3, kind="Gray8")
    path = make_czi(folder / "2d.czi", [scene], tile=(8, 16))
    planes = [[(t, z, c) for c in range(3)] for t in (2, 3) for z in (1, 2)]
    return Case(CziImageStack(path, scene=3), _planes(scene, planes))


def czi_depth_z(folder: Path) -> Case:
    scene = SceneSpec(None, (5, -9, 20, 17), t=2, z=range(1, 6), c=3, missing=({"Z": 3, "C": 1},))
    path = make_czi(folder / "z.czi", [scene])
    planes = [[[(t, z, c) for z in range(1, 6)] for c in range(3)] for t in range(2)]
    reference = _planes(scene, planes)
    reference[:, 1, 2] = 0
    return Case(CziImageStack(path, depth_axis="Z"), reference)


def czi_depth_t(folder: Path) -> Case:
    scene = SceneSpec(0, (0, 0, 20, 17), t=3, z=2, c=3, kind="Gray32Float")
    path = make_czi(folder / "t.czi", [scene], tile=(10, 10), compression="zstd1:")
    planes = [[[(t, z, c) for t in range(3)] for c in range(3)] for z in range(2)]
    return Case(CziImageStack(f"{path}@0", depth_axis="T"), _planes(scene, planes))


def czi_all_scenes(folder: Path) -> Case:
    left = SceneSpec(0, (-40, 10, 16, 12), t=2, c=3)
    right = SceneSpec(1, (-10, 4, 10, 12), t=2, c=3)
    path = make_czi(folder / "scenes.czi", [left, right])
    planes = [[(t, 0, c) for c in range(3)] for t in range(2)]
    reference = np.zeros((2, 3, 18, 40), np.uint16)
    reference[..., 6:18, :16] = _planes(left, planes)
    reference[..., :12, 30:] = _planes(right, planes)
    return Case(CziImageStack(path), reference)


def file_in_memory(folder: Path) -> Case:
    data = expected(0, 0, 21, 4 * 3 * 34).reshape(21, 4, 3, 34).transpose(1, 2, 0, 3)
    tifffile.imwrite(folder / "file.tif", data, photometric="minisblack")
    stack = FileImageStack.from_tiff(folder / "file.tif", "TCYX")
    stack.load()
    return Case(stack, data)


def tiff_2d(folder: Path) -> Case:
    data = expected(0, 0, 34, 4 * 3 * 50).reshape(4, 3, 34, 50)
    path = folder / "2d.ome.tif"
    options = {"tile": (16, 32), "compression": "zlib", "predictor": True, "byteorder": ">"}
    tifffile.imwrite(path, data, metadata={"axes": "TCYX"}, photometric="minisblack", **options)
    return Case(TiffImageStack(path), data)


def tiff_depth_z(folder: Path) -> Case:
    data = expected(0, 0, 17, 2 * 5 * 3 * 20, np.uint8).reshape(2, 5, 3, 17, 20)
    path = folder / "z.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "TZCYX"})
    return Case(TiffImageStack(path, depth_axis="Z"), data.swapaxes(1, 2))


def zarr_v2_fortran(folder: Path) -> Case:
    data = expected(0, 0, 21, 4 * 3 * 34).reshape(21, 4, 3, 34).transpose(1, 2, 0, 3)
    group = zarr.open_group(folder / "v2.zarr", mode="w", zarr_format=2)
    array = group.create_array(
        "a", shape=data.shape, chunks=(1, 2, 8, 16), dtype=">u2", order="F", fill_value=0
    )
    array[:] = data
    return Case(ZarrImageStack(group, "a", "TCYX"), data)


def zarr_v3_sharded_depth_z(folder: Path) -> Case:
    data = expected(0, 0, 14, 2 * 3 * 5 * 19, np.float32).reshape(2, 3, 5, 14, 19)
    group = zarr.open_group(folder / "v3.zarr", mode="w", zarr_format=3)
    shape, shards, chunks = data.shape, (1, 1, 4, 16, 16), (1, 1, 2, 8, 8)
    array = group.create_array("a", shape=shape, shards=shards, chunks=chunks, dtype="float32")
    array[:] = data
    return Case(ZarrImageStack(group, "a", "TCZYX", depth_axis="Z"), data)


STACKS: list[Callable[[Path], Case]] = [
    memory_2d,
    memory_3d,
    czi_2d,
    czi_depth_z,
    czi_depth_t,
    czi_all_scenes,
    file_in_memory,
    tiff_2d,
    tiff_depth_z,
    zarr_v2_fortran,
    zarr_v3_sharded_depth_z,
]


@pytest.fixture(params=STACKS, ids=lambda build: build.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    case = request.param(tmp_path)
    with case.stack:
        yield case


def cut(
    reference: NDArray[Any], sample: int, channels: list[int], start: list[int], size: list[int]
) -> NDArray[Any]:
    """Cut a patch by looking up each pixel, zero where there is none."""
    axes = [np.arange(a, a + n) for a, n in zip(start, size, strict=True)]
    inside = [(i >= 0) & (i < n) for i, n in zip(axes, reference.shape[2:], strict=True)]
    clipped = [np.clip(i, 0, n - 1) for i, n in zip(axes, reference.shape[2:], strict=True)]
    patch = reference[sample][np.ix_(np.array(channels, int), *clipped)]
    patch[:, ~reduce(np.logical_and.outer, inside)] = 0
    return patch


def assert_patch(
    case: Case, sample: int, channels: list[int], start: list[int], size: list[int]
) -> None:
    patch = case.stack.extract_patch(sample, channels, start, size)
    np.testing.assert_array_equal(
        patch, cut(case.reference, sample, channels, start, size), strict=True
    )


def spatial(case: Case) -> list[int]:
    return list(case.reference.shape[2:])


def test_it_is_an_image_stack(case: Case) -> None:
    assert isinstance(case.stack, ImageStack)


def test_shape_and_dtype_are_those_of_the_data(case: Case) -> None:
    assert tuple(case.stack.data_shape) == case.reference.shape
    assert np.dtype(case.stack.data_dtype) == case.reference.dtype


def test_original_axes_and_shape_hold_the_same_pixels(case: Case) -> None:
    assert len(case.stack.original_axes) == len(case.stack.original_data_shape)
    assert np.prod(case.stack.original_data_shape) == case.reference.size


def test_the_whole_image_is_the_files_pixels_in_native_dtype(case: Case) -> None:
    everything = list(range(3))
    for sample in range(len(case.reference)):
        assert_patch(case, sample, everything, [0] * len(spatial(case)), spatial(case))


def test_no_channels_named_means_all(case: Case) -> None:
    patch = case.stack.extract_patch(1, None, [0] * len(spatial(case)), spatial(case))
    np.testing.assert_array_equal(patch, case.reference[1], strict=True)


@pytest.mark.parametrize("channels", [[2, 0], [1, 1, 2], [2], []])
def test_channels_come_in_the_order_asked_for(case: Case, channels: list[int]) -> None:
    assert_patch(case, 0, channels, [1] * len(spatial(case)), [3] * len(spatial(case)))


def test_before_the_start_is_zero(case: Case) -> None:
    assert_patch(case, 0, [0, 1], [-2] * len(spatial(case)), [5] * len(spatial(case)))


def test_past_the_end_is_zero(case: Case) -> None:
    assert_patch(case, 0, [0, 1], [n - 2 for n in spatial(case)], [5] * len(spatial(case)))


def test_a_patch_around_the_image_holds_all_of_it(case: Case) -> None:
    assert_patch(case, 0, [0, 1, 2], [-3] * len(spatial(case)), [n + 6 for n in spatial(case)])


@pytest.mark.parametrize("beyond", [-1, 1])
def test_fully_outside_is_all_zero(case: Case, beyond: int) -> None:
    start = [beyond * 10_000] * len(spatial(case))
    patch = case.stack.extract_patch(0, None, start, [4] * len(start))
    assert patch.shape == (3, *[4] * len(start))
    assert not patch.any()


def test_touching_the_border_from_outside_is_all_zero(case: Case) -> None:
    n = spatial(case)
    assert not case.stack.extract_patch(0, None, n, [2] * len(n)).any()
    assert not case.stack.extract_patch(0, None, [-2] * len(n), [2] * len(n)).any()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_patch_equals_the_zero_padded_array(case: Case, data: st.DataObject) -> None:
    n = spatial(case)
    sample = data.draw(st.integers(0, len(case.reference) - 1))
    channels = data.draw(st.lists(st.integers(0, 2), max_size=4))
    start = [data.draw(st.integers(-12, length + 4)) for length in n]
    size = [data.draw(st.integers(1, length + 16)) for length in n]
    assert_patch(case, sample, channels, start, size)


@pytest.mark.parametrize("channel", [-1, 3, 4])
def test_a_channel_that_does_not_exist_is_a_value_error(case: Case, channel: int) -> None:
    message = f"Channel index {channel} is out of bounds for data with 3 channels"
    ones = [1] * len(spatial(case))
    with pytest.raises(ValueError, match=message):
        case.stack.extract_patch(0, [0, channel], ones, ones)


def test_a_sample_that_does_not_exist_is_an_index_error(case: Case) -> None:
    ones = [1] * len(spatial(case))
    for sample in (-1, len(case.reference)):
        with pytest.raises(IndexError, match=rf"Sample index {sample} is out of bounds"):
            case.stack.extract_patch(sample, None, ones, ones)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_coordinates_is_a_value_error(case: Case, change: int) -> None:
    right, wrong = [1] * len(spatial(case)), [1] * (len(spatial(case)) + change)
    for coords, size in ((wrong, right), (right, wrong), (wrong, wrong)):
        with pytest.raises(ValueError, match="coordinates"):
            case.stack.extract_patch(0, None, coords, size)


@pytest.mark.parametrize("length", [0, -1])
def test_a_patch_without_extent_is_a_value_error(case: Case, length: int) -> None:
    ones = [1] * len(spatial(case))
    with pytest.raises(ValueError, match="at least 1"):
        case.stack.extract_patch(0, None, ones, [*ones[1:], length])


def test_numpy_integers_and_arrays_are_as_good_as_ints_and_lists(case: Case) -> None:
    start, size = np.array(spatial(case), np.int32) // 2, np.full(len(spatial(case)), 3)
    patch = case.stack.extract_patch(np.int64(1), np.array([2, 0], np.uint8), start, size)
    wanted = cut(case.reference, 1, [2, 0], start.tolist(), size.tolist())
    np.testing.assert_array_equal(patch, wanted, strict=True)


def test_a_patch_belongs_to_its_caller(case: Case) -> None:
    ones = [1] * len(spatial(case))
    case.stack.extract_patch(0, None, [0] * len(ones), spatial(case))[:] = 0
    assert_patch(case, 0, [0, 1, 2], ones, ones)


def test_a_pickled_copy_shows_the_same_image(case: Case) -> None:
    with pickle.loads(pickle.dumps(case.stack)) as copy:
        assert copy.source == case.stack.source
        assert list(copy.data_shape) == list(case.stack.data_shape)
        for sample in range(len(case.reference)):
            zeros = [0] * len(spatial(case))
            assert_patch(Case(copy, case.reference), sample, [0, 1, 2], zeros, spatial(case))


def test_threads_share_one_stack(case: Case) -> None:
    random = np.random.default_rng(0)
    starts = random.integers(-4, spatial(case), (80, len(spatial(case)))).tolist()
    samples = random.integers(0, len(case.reference), 80).tolist()
    size = [7] * len(spatial(case))
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(assert_patch, case, sample, [0, 2], start, size)
            for sample, start in zip(samples, starts, strict=True)
        ]
    for job in jobs:
        job.result()


def test_a_stack_may_be_closed_twice(case: Case) -> None:
    case.stack.close()
    case.stack.close()


def _planes(scene: SceneSpec, numbers: list[Any]) -> NDArray[Any]:
    """Stack a scene's planes, given as nested lists of (t, z, c)."""
    if isinstance(numbers, tuple):
        return scene.pixels(dict(zip("TZC", numbers, strict=True)))
    return np.stack([_planes(scene, part) for part in numbers])


@st.composite
def axis_orders(draw: st.DrawFn) -> str:
    extra = draw(st.sets(st.sampled_from("STCZ")))
    return "".join(draw(st.permutations([*sorted(extra), "Y", "X"])))


@given(axis_orders())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_axis_order_becomes_the_same_stack(tmp_path: Path, axes: str) -> None:
    """S merges what is neither C, Z, Y nor X in the file's order."""
    sizes = {"S": 2, "T": 3, "C": 2, "Z": 4, "Y": 5, "X": 6}
    shape = tuple(sizes[axis] for axis in axes)
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    merged = [axis for axis in axes if axis in "ST"]
    order = [*merged, *(axis for axis in "CZYX" if axis in axes)]
    spatial = "ZYX" if "Z" in axes else "YX"
    reference = data.transpose([axes.index(axis) for axis in order]).reshape(
        -1, sizes["C"] if "C" in axes else 1, *(sizes[axis] for axis in spatial)
    )
    group = zarr.open_group(tmp_path / "order.zarr", mode="w")
    group.create_array("a", data=data)
    tifffile.imwrite(tmp_path / "order.tif", data, photometric="minisblack")
    file = FileImageStack.from_tiff(tmp_path / "order.tif", axes)
    file.load()
    memory = InMemoryImageStack.from_array(data, axes)
    for stack in (memory, file, ZarrImageStack(group, "a", axes)):
        assert tuple(stack.data_shape) == reference.shape
        assert (stack.original_axes, tuple(stack.original_data_shape)) == (axes, shape)
        size = reference.shape[2:]
        for sample, expected_pixels in enumerate(reference):
            patch = stack.extract_patch(sample, None, (0,) * len(size), size)
            np.testing.assert_array_equal(patch, expected_pixels)
        stack.close()
