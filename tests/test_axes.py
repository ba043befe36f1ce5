"""AxisLayout: any axes and shape to SC(Z)YX and back."""

from math import prod
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.axes import AxisLayout, check_depth_axis
from napari_patchset.errors import ArgumentError, MissingAxisError, SampleIndexError


@st.composite
def layouts(draw: st.DrawFn) -> AxisLayout:
    others = draw(st.lists(st.sampled_from("STCZRIHVB"), unique=True, max_size=5))
    axes = "".join(draw(st.permutations([*others, "Y", "X"])))
    shape = draw(st.tuples(*[st.integers(1, 4)] * len(axes)))
    return AxisLayout(axes, shape, draw(st.sampled_from(["none", "Z", "T"])))


def numbered(layout: AxisLayout) -> np.ndarray:
    return np.arange(prod(layout.shape)).reshape(layout.shape)


@given(layouts())
def test_a_sample_of_the_stack_is_the_slice_that_unravel_names(layout: AxisLayout) -> None:
    data = numbered(layout)
    stack = layout.to_stack(data)
    for sample in range(stack.shape[0]):
        index = layout.unravel(sample)
        part = data[tuple(index.get(axis, slice(None)) for axis in layout.axes)]
        axes = [axis for axis in layout.axes if axis not in index]
        order = [axes.index(axis) for axis in f"C{layout.spatial_axes}" if axis in axes]
        np.testing.assert_array_equal(stack[sample].squeeze(), part.transpose(order).squeeze())


@given(layouts())
def test_to_stack_has_every_pixel_once(layout: AxisLayout) -> None:
    stack = layout.to_stack(numbered(layout))
    assert stack.shape == layout.stack_shape
    np.testing.assert_array_equal(np.sort(stack, axis=None), np.arange(stack.size))


@given(layouts())
def test_samples_unravel_in_c_order(layout: AxisLayout) -> None:
    count = layout.stack_shape[0]
    indices = [tuple(layout.unravel(sample).values()) for sample in range(count)]
    assert indices == list(np.ndindex(layout.sample_shape))
    assert list(layout.unravel(0)) == list(layout.sample_axes)


@given(layouts(), st.integers())
def test_a_sample_outside_is_an_index_error(layout: AxisLayout, sample: int) -> None:
    count = layout.stack_shape[0]
    if 0 <= sample < count:
        layout.unravel(sample)
    else:
        with pytest.raises(SampleIndexError, match=rf"Sample index {sample} .* {count} samples"):
            layout.unravel(sample)


@pytest.mark.parametrize(
    ("axes", "depth_axis", "stack_axes", "sample_axes"),
    [
        ("TZCYX", "none", "SCYX", "TZ"),
        ("TZCYX", "Z", "SCZYX", "T"),
        ("TZCYX", "T", "SCTYX", "Z"),
        ("XYCZT", "Z", "SCZYX", "T"),
        ("YX", "none", "SCYX", ""),
        ("TZRIHVBCYX", "Z", "SCZYX", "TRIHVB"),
        ("BVHIRZTCYX", "none", "SCYX", "TZRIHVB"),
        ("CXYTS", "none", "SCYX", "ST"),
        ("QTPZYX", "none", "SCYX", "TZQP"),
        ("STCZYX", "none", "SCYX", "STZ"),
    ],
)
def test_every_other_axis_merges_into_s_in_one_order(
    axes: str, depth_axis: str, stack_axes: str, sample_axes: str
) -> None:
    layout = AxisLayout(axes, tuple(range(2, 2 + len(axes))), depth_axis)
    assert (layout.stack_axes, layout.sample_axes) == (stack_axes, sample_axes)


@given(layouts(), st.randoms())
def test_an_image_saved_with_other_axes_has_the_same_samples(
    layout: AxisLayout, random: Random
) -> None:
    order = random.sample(range(len(layout.axes)), len(layout.axes))
    axes, data = "".join(layout.axes[i] for i in order), numbered(layout).transpose(order)
    other = AxisLayout(axes, data.shape, layout.depth_axis)
    np.testing.assert_array_equal(other.to_stack(data), layout.to_stack(numbered(layout)))


def test_an_axis_that_the_image_lacks_has_size_1() -> None:
    assert AxisLayout("YX", (5, 7), "Z").stack_shape == (1, 1, 1, 5, 7)


def test_data_in_stack_order_is_not_copied() -> None:
    data = np.zeros((2, 3, 4, 5, 6))
    assert np.shares_memory(AxisLayout("TCZYX", data.shape, "Z").to_stack(data), data)


@pytest.mark.parametrize("axes", ["CZX", "YC", "", "TYYX"])
def test_axes_without_y_and_x_or_with_one_twice_are_refused(axes: str) -> None:
    with pytest.raises(ArgumentError, match="must contain Y and X, and each letter once"):
        AxisLayout(axes, (2,) * len(axes))


def test_axes_and_shape_of_different_lengths_are_refused() -> None:
    with pytest.raises(ArgumentError, match="name 3 dimensions, but the data has 2"):
        AxisLayout("CYX", (4, 4))


@pytest.mark.parametrize("sizes", [{"Y": 4, "X": 4}, {"Z": 1, "Y": 4, "X": 4}])
def test_a_depth_axis_that_is_absent_or_of_size_1_is_missing(sizes: dict[str, int]) -> None:
    with pytest.raises(MissingAxisError, match=r"a\.czi does not contain a Z axis"):
        check_depth_axis(sizes, "Z", "a.czi")


def test_an_existing_depth_axis_is_accepted() -> None:
    check_depth_axis({"Z": 2}, "Z", "a.czi")
    check_depth_axis({}, "none", "a.czi")


def test_an_unknown_depth_axis_is_refused() -> None:
    with pytest.raises(ArgumentError, match="depth_axis is 'H'"):
        check_depth_axis({"H": 5}, "H", "a.czi")
