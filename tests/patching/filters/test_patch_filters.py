"""Filters: one contract for all of them, then the metric of each, then the text."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.patch_filters import (
    FILTERS,
    Filter,
    FocusFilter,
    MaskFilter,
    MaxFilter,
    MeanFilter,
    SaturationFilter,
    ShannonFilter,
    ShareFilter,
    StdFilter,
    parse_filter,
)
from support.moments import exact_moments, exact_root, patches_of

TEXTS = ("max>5", "mean>5", "std>5", "shannon(bins=16,low=0,high=255)>2", "mask>0.2")
TEXTS += ("saturation(level=200)<0.01",)
TEXTS += ("share[Tumor]>0.2", "focus>0.1")
"""One text for each filter; every contract runs over all of them."""

every_filter = pytest.mark.parametrize("text", TEXTS)
patches = hnp.arrays(
    st.sampled_from(["u1", "u2", "i2", "f4"]),
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    elements=st.integers(0, 120),
)


def test_the_texts_name_every_filter() -> None:
    assert {parse_filter(text).kind for text in TEXTS} == set(FILTERS)


@every_filter
@given(patches)
def test_a_patch_measures_the_same_whatever_its_neighbours(text: str, pixels: np.ndarray) -> None:
    measure = parse_filter(text).measure
    together = measure(pixels)
    assert together.dtype == np.float64
    assert together.shape == (len(pixels),)
    padded = np.pad(pixels, ((0, 0), (0, 0), (0, 3), (2, 0)), constant_values=9)
    np.testing.assert_array_equal(measure(padded[:, :, :-3, 2:]), together)
    alone = [measure(pixels[i : i + 1])[0] for i in range(len(pixels))]
    np.testing.assert_array_equal(alone, together)
    if "focus" not in text:  # which depends on what is beside what
        flat = pixels.reshape(len(pixels), -1, pixels.shape[-1])
        np.testing.assert_array_equal(measure(flat), together)


@every_filter
def test_many_patches_measure_the_same_as_each_alone(text: str) -> None:
    pixels = np.random.default_rng(0).normal(100, 30, (90, 61, 67)).astype(np.float32)
    measure = parse_filter(text).measure
    alone = [measure(patch[np.newaxis])[0] for patch in pixels]
    np.testing.assert_array_equal(measure(pixels), alone)


@every_filter
def test_a_patch_with_nan_or_infinity_measures_less_than_any_other(text: str) -> None:
    pixels = np.ones((3, 4, 4), np.float32)
    pixels[0, 1, 1], pixels[2, 3, 3] = np.nan, np.inf
    assert np.isneginf(parse_filter(text).measure(pixels)).tolist() == [True, False, True]


@every_filter
def test_no_patches_have_no_metrics(text: str) -> None:
    assert parse_filter(text).measure(np.empty((0, 4, 4), np.uint8)).shape == (0,)


@given(patches)
def test_moments_are_numpys(pixels: np.ndarray) -> None:
    for kind, expected in ((MaxFilter, np.max), (MeanFilter, np.mean), (StdFilter, np.std)):
        wanted = [expected(patch.astype(float)) for patch in pixels]
        np.testing.assert_allclose(kind(above=0).measure(pixels), wanted, rtol=1e-12, atol=1e-12)


@given(patches_of([np.int32, np.int64, np.uint64, np.float32, np.float64]))
def test_moments_are_those_of_fractions(pixels: np.ndarray) -> None:
    rows = pixels.reshape(len(pixels), -1)
    means, stds = MeanFilter(above=0).measure(rows), StdFilter(above=0).measure(rows)
    for row, mean, std in zip(rows, means.tolist(), stds.tolist(), strict=True):
        expected, variance = exact_moments(row)
        root, largest = exact_root(variance), max(abs(Fraction(v)) for v in row.tolist())
        assert abs(Fraction(mean) - expected) <= largest * Fraction(2) ** -50
        assert abs(Fraction(std) - root) <= root * Fraction(2) ** -40 + Fraction(2) ** -1060


@pytest.mark.parametrize("value", [0.1, 1e300, 1e-200])
def test_a_constant_patch_has_no_spread(value: float) -> None:
    pixels = np.full((1, 7, 9), value)
    assert MeanFilter(above=0).measure(pixels) == value
    assert StdFilter(above=0).measure(pixels) == 0


def plain_focus(volume: np.ndarray) -> Fraction:
    """Return the sharpness of a patch ZYX by its definition, in fractions."""
    values = [[[Fraction(v) for v in row] for row in plane] for plane in volume.tolist()]
    laplacian = [
        plane[y - 1][x] + plane[y + 1][x] + plane[y][x - 1] + plane[y][x + 1] - 4 * plane[y][x]
        for plane in values
        for y in range(1, len(plane) - 1)
        for x in range(1, len(plane[0]) - 1)
    ]
    n = len(laplacian)
    variance = sum(v * v for v in laplacian) / n - (sum(laplacian) / n) ** 2 if n else Fraction()
    pixels = [v for plane in values for row in plane for v in row]
    mean = sum(pixels) / len(pixels)
    return variance / mean**2 if variance else Fraction()


@given(patches.map(lambda pixels: pixels + pixels.dtype.type(1)))
def test_focus_is_the_variance_of_the_laplacian_over_the_squared_mean(pixels: np.ndarray) -> None:
    expected = [float(plain_focus(patch)) for patch in pixels]
    np.testing.assert_allclose(FocusFilter(above=0).measure(pixels), expected, rtol=1e-12)
    planes = pixels[:, 0]
    in_2d = [float(plain_focus(patch[np.newaxis])) for patch in planes]
    np.testing.assert_allclose(FocusFilter(above=0).measure(planes), in_2d, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32, np.float64])
def test_focus_keeps_a_small_detail_on_a_large_background(dtype: type) -> None:
    offset = {1: 200, 4: 2**20, 8: 2**50}[np.dtype(dtype).itemsize]
    pixels = np.full((1, 7, 9), offset, dtype)
    pixels[0, 3, 4] += 3
    (focus,) = FocusFilter(above=0).measure(pixels)
    assert focus == pytest.approx(float(plain_focus(pixels)), rel=1e-9)
    assert focus > 0


def test_focus_does_not_depend_on_the_gain_nor_see_a_slope() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.uniform(10, 20, (1, 30, 30))
    focus = FocusFilter(above=0).measure
    assert focus(sharp * 2.0**900) == focus(sharp * 2.0**-900) == focus(sharp)
    blurred = (sharp + np.roll(sharp, 1, axis=1) + np.roll(sharp, 1, axis=2)) / 3
    assert focus(blurred) < focus(sharp)
    slope = np.add.outer(3 * np.arange(20), 5 * np.arange(30))[np.newaxis]
    assert focus(slope) == 0
    assert focus(np.zeros((1, 5, 5))) == focus(np.arange(10).reshape(1, 5, 2)) == 0


def test_without_a_mean_there_is_no_focus() -> None:
    pixels = np.zeros((1, 5, 5))
    pixels[0, 2, 2], pixels[0, 0, 0] = 1, -1
    assert FocusFilter(above=0).measure(pixels) == -np.inf


@given(patches)
def test_shannon_counts_grey_values_or_bins(pixels: np.ndarray) -> None:
    integers = pixels.astype(np.uint16)
    by_value = [entropy(np.unique_counts(patch).counts) for patch in integers]
    np.testing.assert_allclose(ShannonFilter(above=0).measure(integers), by_value, atol=1e-12)
    inside = np.clip(pixels, 10, 90).astype(float)
    by_bin = [entropy(np.histogram(patch, 7, (10, 90))[0]) for patch in inside]
    binned = ShannonFilter(above=0, bins=7, low=10, high=90)
    np.testing.assert_allclose(binned.measure(pixels), by_bin, atol=1e-9)


def entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def test_shannon_bins_an_integer_over_its_whole_range() -> None:
    pixels = np.array([[[0, 127, 128, 255]]], np.uint8)
    assert ShannonFilter(above=0, bins=2).measure(pixels) == 1
    assert ShannonFilter(above=0, bins=2).measure(pixels.astype(np.uint16)) == 0


def test_saturation_is_at_the_types_maximum_or_the_level() -> None:
    pixels = np.array([[[255, 255, 254, 0]]], np.uint8)
    assert SaturationFilter(below=1).measure(pixels) == 0.5
    assert SaturationFilter(below=1, level=254).measure(pixels) == 0.75
    assert SaturationFilter(below=1).measure(pixels.astype(np.uint16)) == 0


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_saturation_of_64_bits_is_exact(dtype: type) -> None:
    largest = int(np.iinfo(dtype).max)
    pixels = np.array([[[largest, largest - 1, largest - 500, 0]]], dtype)
    assert SaturationFilter(below=1).measure(pixels) == 0.25
    above = SaturationFilter(below=1, level=2.0**53 + 2)
    assert above.measure(np.array([[[2**53 + 1, 2**53 + 2]]], dtype)) == 0.5


def test_a_mask_covers_where_it_is_not_zero() -> None:
    assert MaskFilter(above=0).measure(np.array([[[0, 0], [7, -1]]], np.int32)) == 0.5


@pytest.mark.parametrize("text", ["shannon>2", "shannon(bins=9)>2", "saturation<0.1"])
def test_a_float_image_needs_a_stated_range(text: str) -> None:
    with pytest.raises(ArgumentError, match="float32 has no range of grey values"):
        parse_filter(text).measure(np.zeros((1, 4, 4), np.float32))


numbers = st.floats(allow_nan=False, allow_infinity=False)
limits = numbers | st.sampled_from(["otsu", "p0", "p10", "p99.5"])
chosen = st.lists(st.integers(0, 9) | st.text(min_size=1), min_size=1).map(tuple)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    kind = draw(st.sampled_from(list(FILTERS.values())))
    sides = draw(st.sampled_from([("above",), ("below",), ("above", "below")]))
    fields = {side: draw(limits) for side in sides}
    if kind is not MaskFilter:
        channels = chosen if kind is ShareFilter else st.none() | chosen
        fields |= {"channels": draw(channels), "match": draw(st.sampled_from(_MATCH))}
    if kind is SaturationFilter:
        fields["level"] = draw(st.none() | numbers)
    if kind is ShannonFilter and draw(st.booleans()):
        low = draw(st.floats(-1e9, 1e9))
        fields |= {"bins": draw(st.integers(2, 999)), "low": low, "high": low + 100}
    return kind(**fields)


_MATCH = ("any", "all")


@given(filters())
def test_the_text_of_a_filter_is_parsed_to_the_same_filter(expected: Filter) -> None:
    assert parse_filter(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("std>5", StdFilter(above=5)),
        (" std[DAPI, GFP] > p10 ", StdFilter(above="p10", channels=("DAPI", "GFP"))),
        ("std[all]<otsu", StdFilter(below="otsu", match="all")),
        ("contrast[DAPI]>5", StdFilter(above=5, channels=("DAPI",))),
        ("sharpness>otsu", FocusFilter(above="otsu")),
        (
            "1e2<max[all DAPI,1]<200",
            MaxFilter(above=100, below=200, channels=("DAPI", 1), match="all"),
        ),
        ('mean["1","a,\\"b]"]>5', MeanFilter(above=5, channels=("1", 'a,"b]'))),
        ("shannon(bins=64,low=0,high=4095)>2", ShannonFilter(above=2, bins=64, low=0, high=4095)),
    ],
)
def test_texts_are_parsed(text: str, expected: Filter) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("std>>5", "write it like std>5"),
        ("5<std>6", "write it like std>5"),
        ("std", "write it like std>5"),
        ("texture>5", "it is one of max, mean, std, focus, shannon, saturation, mask"),
        ("std>p200", "'p200' is not a limit; give a number, p0 to p100, or otsu"),
        ("std>inf", "not finite"),
        ("std(bins=5)>2", "there is no bins here"),
        ("shannon(64)>2", "write it like bins=64"),
        ("shannon(bins=9,low=3,high=3)>2", "low below high"),
        ("mask[1]>2", "name no channel"),
    ],
)
def test_invalid_texts_are_refused_with_the_fault(text: str, fault: str) -> None:
    with pytest.raises(ArgumentError, match=r"not a (filter|setting)") as error:
        parse_filter(text)
    assert repr(text) in str(error.value)
    assert fault in str(error.value)


def test_a_filter_needs_a_limit() -> None:
    with pytest.raises(ArgumentError, match="above or below"):
        StdFilter()


def test_columns_are_named_by_metric_and_channel() -> None:
    names = ("DAPI", "GFP", "GFP")
    assert StdFilter(above=1).columns(names) == {0: "std_DAPI", 1: "std_GFP 1", 2: "std_GFP 2"}
    assert MaxFilter(above=1, channels=(2, "DAPI")).columns(names) == {
        2: "max_GFP 2",
        0: "max_DAPI",
    }
    clashing = ("DAPI", "DAPI", "DAPI 0", "DAPI 0 0")
    assert len(set(StdFilter(above=1).columns(clashing).values())) == 4
    assert StdFilter(above=1).columns(clashing)[2] == "std_DAPI 0"
    assert ShannonFilter(above=1, bins=9).column("DAPI") == "shannon(bins=9)_DAPI"
    assert MaskFilter(above=1).columns(names) == {0: "mask"}
    with pytest.raises(ArgumentError, match=r"no channel 'Cy5'.* 0 \(DAPI\)"):
        StdFilter(above=1, channels=("Cy5",)).columns(names)
