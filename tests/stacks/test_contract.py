"""The contract of every stack, whatever it reads."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_patchset import (
    FileImageStack,
    ImageStack,
    InMemoryImageStack,
    ZarrImageStack,
)
from support.stack_makers import STACKS, Case


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
def test_channels_come_in_the_requested_order(case: Case, channels: list[int]) -> None:
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


@st.composite
def axis_orders(draw: st.DrawFn) -> str:
    extra = draw(st.sets(st.sampled_from("STCZ")))
    return "".join(draw(st.permutations([*sorted(extra), "Y", "X"])))


@given(axis_orders())
@settings(max_examples=settings.default.max_examples // 2)
def test_every_axis_order_becomes_the_same_stack(tmp_path: Path, axes: str) -> None:
    """S merges S and T in this order, whatever the file's."""
    sizes = {"S": 2, "T": 3, "C": 2, "Z": 4, "Y": 5, "X": 6}
    shape = tuple(sizes[axis] for axis in axes)
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    merged = [axis for axis in "ST" if axis in axes]
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
