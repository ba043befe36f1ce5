"""What napari slices: an array that reads only what is asked for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import InMemoryImageStack
from napari_patchset.plugin.lazy.channel import LazyChannel

DATA = np.random.default_rng(0).integers(0, 999, (3, 1, 4, 2, 7, 9), dtype=np.uint16)
AXES = "THZCYX"


@pytest.fixture(scope="module")
def channel() -> tuple[LazyChannel, np.ndarray]:
    stack = InMemoryImageStack("array", DATA.reshape(12, 2, 7, 9), AXES, DATA.shape)
    return LazyChannel(stack, 1), DATA[:, 0, :, 1]


def keys(n: int) -> st.SearchStrategy[Any]:
    limits = st.integers(-n - 2, n + 2) | st.none()
    slices = st.builds(slice, limits, limits, st.sampled_from((None, 1, 2, 3, -1, -2)))
    return st.integers(-n, n - 1) | slices


@given(st.tuples(keys(3), keys(4), keys(7), keys(9)))
def test_it_slices_like_the_whole_array(channel: tuple[LazyChannel, np.ndarray], key: Any) -> None:
    lazy, whole = channel
    np.testing.assert_array_equal(lazy[key], whole[key])


@pytest.mark.parametrize("key", [..., 1, (2, ...), (..., 3), (1, ..., slice(2, 5)), np.int64(2)])
def test_a_short_index_means_what_numpy_means(
    channel: tuple[LazyChannel, np.ndarray], key: Any
) -> None:
    lazy, whole = channel
    np.testing.assert_array_equal(lazy[key], whole[key])
    np.testing.assert_array_equal(np.asarray(lazy), whole)


@pytest.mark.parametrize(
    "key",
    [
        [0, -1],
        (1, np.array([3, 0, 2])),
        (0, 2, np.array([6, 1]), np.array([0, 8])),
        (slice(None), [1], ..., -1),
        (DATA[:, 0, :, 1] > 900),
        np.array([], int),
    ],
)
def test_an_index_of_arrays_selects_points(
    channel: tuple[LazyChannel, np.ndarray], key: Any
) -> None:
    lazy, whole = channel
    np.testing.assert_array_equal(lazy[key], whole[key])


def test_axes_of_one_index_make_no_slider(channel: tuple[LazyChannel, np.ndarray]) -> None:
    lazy, _ = channel
    assert (lazy.axes, lazy.shape, lazy.dtype) == ("TZYX", (3, 4, 7, 9), np.uint16)


def test_an_index_outside_is_refused(channel: tuple[LazyChannel, np.ndarray]) -> None:
    with pytest.raises(IndexError):
        channel[0][3]


def test_rgb_is_the_last_axis() -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    lazy = LazyChannel(InMemoryImageStack("array", pixels), [0, 1, 2])
    assert lazy.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(lazy[1, 1:3, ::2], np.moveaxis(pixels, 1, -1)[1, 1:3, ::2])


def test_only_the_window_is_read() -> None:
    asked = []

    class Watched(InMemoryImageStack):
        def extract_patch(self, *args: Any) -> Any:
            asked.append(args)
            return super().extract_patch(*args)

    LazyChannel(Watched("array", DATA.reshape(12, 2, 7, 9), AXES, DATA.shape), 0)[1, 2, 3:5, 1:4]
    assert asked == [(6, [0], (3, 1), (2, 3))]
