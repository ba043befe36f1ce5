"""Statistics of a training split: exact, and the same however the patches were parted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset.patchset import statistics
from napari_patchset.patchset.statistics import (
    PERCENTILES,
    ChannelStatistics,
    ChannelSums,
    channel_sums,
)

SHAPE = (6, 2, 5, 5)
EXACT = [np.bool_, np.uint8, np.int8, np.uint16, np.int16]
WIDE = [np.int32, np.uint32, np.float32, np.float64]

exact_patches = st.sampled_from(EXACT).flatmap(lambda dtype: hnp.arrays(dtype, SHAPE))
wide_patches = st.sampled_from(WIDE).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        SHAPE,
        elements=hnp.from_dtype(
            np.dtype(dtype), min_value=0, max_value=2**31 - 256, allow_subnormal=False
        ),
    )
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a few pixels at once, so that every part of a patch is met."""
    monkeypatch.setattr(statistics, "_PART_PIXELS", 60)


@given(st.one_of(exact_patches, wide_patches))
def test_statistics_are_those_of_all_pixels(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        pixels, found = patches[:, channel].astype(np.float64), ChannelStatistics.of(sums)
        assert found.count == pixels.size
        assert found.mean == pytest.approx(pixels.mean(), rel=1e-12)
        assert found.std == pytest.approx(pixels.std(), rel=1e-6, abs=1e-6 * abs(pixels).max())
        assert (found.minimum, found.maximum) == (pixels.min(), pixels.max())


@given(exact_patches)
def test_percentiles_of_short_integers_are_exact(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        found = ChannelStatistics.of(sums).percentiles
        expected = np.percentile(patches[:, channel].astype(np.float64), PERCENTILES)
        np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12, atol=1e-9)


@given(wide_patches)
def test_percentiles_of_other_pixels_lie_within_a_bin(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        pixels = np.sort(patches[:, channel].astype(np.float64), axis=None)
        ranks = np.array(PERCENTILES) / 100 * (pixels.size - 1)
        found = np.array(list(ChannelStatistics.of(sums).percentiles.values()))
        assert (found >= pixels[np.floor(ranks).astype(int)] * (1 - 0.008)).all()
        assert (found <= pixels[np.ceil(ranks).astype(int)] * (1 + 0.008) + 1e-37).all()


@given(exact_patches, st.integers(1, 5))
def test_partial_sums_merge_exactly(patches: np.ndarray[Any, Any], cut: int) -> None:
    parts = zip(channel_sums(patches[:cut]), channel_sums(patches[cut:]), strict=True)
    assert [a + b for a, b in parts] == channel_sums(patches)


@given(st.one_of(exact_patches, wide_patches))
def test_sums_survive_their_file(patches: np.ndarray[Any, Any]) -> None:
    for sums in channel_sums(patches):
        assert ChannelSums.model_validate_json(sums.model_dump_json()) == sums


def test_the_squares_of_many_pixels_do_not_overflow() -> None:
    pixels = np.broadcast_to(np.uint16(65535), (2**16, 1, 2, 2))
    (sums,) = channel_sums(pixels)
    for _ in range(20):
        sums += sums
    found = ChannelStatistics.of(sums)
    assert (found.count, found.mean, found.std) == (2**38, 65535, 0)


def test_sums_of_wild_floats_give_no_negative_variance() -> None:
    patches = np.full((3, 1, 1, 1), 1e8, np.float32)
    (sums,) = channel_sums(patches)
    assert ChannelStatistics.of(sums.model_copy(update={"squares": 3e16 - 8.0})).std == 0


def test_pixels_that_are_no_number_do_not_count() -> None:
    patches = np.array([1, np.nan, 3, np.inf], np.float32).reshape(2, 1, 1, 2)
    (found,) = map(ChannelStatistics.of, channel_sums(patches))
    assert (found.count, found.mean, found.maximum) == (2, 2, 3)
    (none,) = map(ChannelStatistics.of, channel_sums(np.full((1, 1, 2, 2), np.nan)))
    assert (none.count, none.percentiles) == (0, {})


def test_pixels_whose_squares_are_infinite_do_not_count() -> None:
    patches = np.array([1, 1e300, 3, -1e200], np.float64).reshape(2, 1, 1, 2)
    (found,) = map(ChannelStatistics.of, channel_sums(patches))
    assert (found.count, found.mean, found.std, found.maximum) == (2, 2, 1, 3)


def test_complex_pixels_count_by_their_magnitude() -> None:
    patches = np.array([3 + 4j, 5, np.nan, 5j], np.complex64).reshape(2, 1, 1, 2)
    (found,) = map(ChannelStatistics.of, channel_sums(patches))
    assert (found.count, found.mean, found.std, found.minimum) == (3, 5, 0, 5)
