"""Statistics of a training split: exact, and the same however the patches are divided."""

from fractions import Fraction
from math import sqrt
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
from support.moments import SHAPE, exact_moments, exact_root, patches_of

EXACT = [np.bool_, np.uint8, np.int8, np.uint16, np.int16]
WIDE = [np.int32, np.uint32, np.int64, np.uint64]
FLOATS = [np.float16, np.float32, np.float64]

exact_patches = st.sampled_from(EXACT).flatmap(lambda dtype: hnp.arrays(dtype, SHAPE))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a few pixels at once, so that every part of a patch is met."""
    monkeypatch.setattr(statistics, "_PART_PIXELS", 60)
    monkeypatch.setattr(statistics, "_COUNTED_PIXELS", 60)


@given(st.one_of(exact_patches, patches_of(WIDE)))
def test_those_of_integers_are_exact(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        pixels, values = patches[:, channel], ChannelStatistics.from_sums(sums)
        mean, variance = exact_moments(pixels)
        assert values.count == pixels.size
        assert values.mean == float(mean)
        assert values.std == pytest.approx(float(exact_root(variance)), rel=2.0**-52)
        assert (values.minimum, values.maximum) == (pixels.min(), pixels.max())


@given(patches_of(FLOATS))
def test_those_of_floats_keep_the_digits_of_their_spread(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        pixels, values = patches[:, channel], ChannelStatistics.from_sums(sums)
        mean, variance = exact_moments(pixels)
        std, largest = exact_root(variance), float(abs(pixels.astype(np.float64)).max())
        assert values.count == pixels.size
        least = 2.0**-50 * largest + 2.0**-1060  # the smallest numbers have fewer digits
        assert Fraction(values.mean) == pytest.approx(mean, rel=2.0**-50, abs=least)
        assert abs(Fraction(values.std) - std) <= Fraction(2) ** -40 * std + Fraction(2) ** -1060
        assert (values.minimum, values.maximum) == (pixels.min(), pixels.max())


@pytest.mark.parametrize(
    ("dtype", "middle", "spread"),
    [
        ("int32", 2**30, 1),
        ("uint32", 4 * 10**9, 1),
        ("int64", 2**50, 3),
        ("uint64", 2**63, 3),
        ("float32", 1e5, 0.1),
        ("float64", 1e8, 1),
        ("float64", 1e5, 1e-3),
        ("float64", 1e300, 1e299),
        ("float64", 1e-200, 1e-201),
        ("float64", 0.1, 0),
    ],
)
def test_a_small_spread_around_a_large_mean(dtype: str, middle: float, spread: float) -> None:
    noise = np.random.default_rng(0).normal(size=(8, 1, 16, 16)) * spread
    if "int" in dtype:
        patches = (int(middle) + noise.astype(int).astype(object)).astype(dtype)
    else:
        patches = (middle + noise).astype(dtype)
    (sums,) = channel_sums(patches)
    _, variance = exact_moments(patches)
    assert ChannelStatistics.from_sums(sums).std == pytest.approx(
        float(exact_root(variance)), rel=1e-9
    )


@given(exact_patches)
def test_percentiles_of_short_integers_are_exact(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        found = ChannelStatistics.from_sums(sums).percentiles
        expected = np.percentile(patches[:, channel].astype(np.float64), PERCENTILES)
        np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12, atol=1e-9)


@given(patches_of(WIDE + FLOATS))
def test_percentiles_of_other_pixels_lie_within_a_bin(patches: np.ndarray[Any, Any]) -> None:
    for channel, sums in enumerate(channel_sums(patches)):
        pixels = np.sort(patches[:, channel].astype(np.float64), axis=None)
        if np.abs(pixels).max() > 3e38:
            continue
        ranks = np.array(PERCENTILES) / 100 * (pixels.size - 1)
        low, high = (pixels[end(ranks).astype(int)] for end in (np.floor, np.ceil))
        expected = low + (high - low) * (ranks % 1)
        bound = 2.0**-7 * (np.abs(low) * (1 - ranks % 1) + np.abs(high) * (ranks % 1)) + 2e-38
        values = np.array(list(ChannelStatistics.from_sums(sums).percentiles.values()))
        assert (np.abs(values - expected) <= bound).all()


@given(
    st.sampled_from([np.int32, np.uint64, np.float32, np.float64]),
    st.integers(0, 10**5),
    st.integers(2**20, 10**9),
    st.integers(1, 999),
)
def test_a_percentile_next_to_a_jump(dtype: Any, below: int, jump: int, n_below: int) -> None:
    values = np.array([below, below + jump], dtype)
    pixels = np.repeat(values, [n_below, 1000 - n_below])
    (sums,) = channel_sums(pixels.reshape(10, 1, 10, 10))
    found = list(ChannelStatistics.from_sums(sums).percentiles.values())
    exact = np.percentile(pixels.astype(np.float64), PERCENTILES)
    np.testing.assert_allclose(found, exact, rtol=2.0**-7, atol=1e-37)


@given(patches_of([np.int32, np.uint64]), st.integers(0, 2**20 - 1))
def test_percentiles_of_integers_that_span_little_are_exact(
    patches: np.ndarray[Any, Any], span: int
) -> None:
    base = patches.dtype.type(min(int(patches.max()), int(np.iinfo(patches.dtype).max) - span))
    near = base + (patches % np.asarray(span + 1, patches.dtype)).astype(patches.dtype)
    parts = channel_sums(near[:3]), channel_sums(near[3:])
    for channel, pair in enumerate(zip(*parts, strict=True)):
        values = ChannelStatistics.from_sums(pair[0] + pair[1]).percentiles
        rest = (near[:, channel] - base).astype(np.float64)
        expected = np.percentile(rest, PERCENTILES) + float(base)
        np.testing.assert_allclose(list(values.values()), expected, rtol=1e-12, atol=1e-9)


@given(st.one_of(exact_patches, patches_of(WIDE)), st.integers(1, 5))
def test_partial_sums_of_integers_merge_exactly(patches: np.ndarray[Any, Any], cut: int) -> None:
    parts = zip(channel_sums(patches[:cut]), channel_sums(patches[cut:]), strict=True)
    assert [a + b for a, b in parts] == channel_sums(patches)


@given(st.one_of(exact_patches, patches_of(WIDE + FLOATS)), st.permutations(range(6)))
def test_the_order_of_shards_does_not_matter(
    patches: np.ndarray[Any, Any], order: list[int]
) -> None:
    shards = [channel_sums(patches[i : i + 1])[0] for i in range(6)]
    merged, other = shards[0], shards[order[0]]
    for i in range(1, 6):
        merged, other = merged + shards[i], other + shards[order[i]]
    assert ChannelStatistics.from_sums(merged) == ChannelStatistics.from_sums(other)


@given(st.one_of(exact_patches, patches_of(WIDE + FLOATS)))
def test_sums_survive_their_file(patches: np.ndarray[Any, Any]) -> None:
    for sums in channel_sums(patches):
        assert ChannelSums.model_validate_json(sums.model_dump_json()) == sums


def test_the_squares_of_many_pixels_do_not_overflow() -> None:
    pixels = np.broadcast_to(np.uint16(65535), (2**16, 1, 2, 2))
    (sums,) = channel_sums(pixels)
    for _ in range(20):
        sums += sums
    found = ChannelStatistics.from_sums(sums)
    assert (found.count, found.mean, found.std) == (2**38, 65535, 0)


def test_pixels_that_are_no_number_do_not_count() -> None:
    patches = np.array([1, np.nan, 3, np.inf], np.float32).reshape(2, 1, 1, 2)
    (found,) = map(ChannelStatistics.from_sums, channel_sums(patches))
    assert (found.count, found.mean, found.maximum) == (2, 2, 3)
    (none,) = map(ChannelStatistics.from_sums, channel_sums(np.full((1, 1, 2, 2), np.nan)))
    assert (none.count, none.percentiles) == (0, {})


def test_pixels_whose_squares_are_infinite_count_too() -> None:
    patches = np.array([1e300, -1e300, 3, -1e200], np.float64).reshape(2, 1, 1, 2)
    (values,) = map(ChannelStatistics.from_sums, channel_sums(patches))
    assert (values.count, values.maximum) == (4, 1e300)
    assert values.std == pytest.approx(1e300 * sqrt(0.5), rel=1e-12)


def test_complex_pixels_count_by_their_magnitude() -> None:
    patches = np.array([3 + 4j, 5, np.nan, 5j], np.complex64).reshape(2, 1, 1, 2)
    (found,) = map(ChannelStatistics.from_sums, channel_sums(patches))
    assert (found.count, found.mean, found.std, found.minimum) == (3, 5, 0, 5)
