"""Resampled stacks against an oracle of exact fractions, and one of float64."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.errors import ArgumentError, UnknownPixelSizeError
from napari_patchset.source import PixelSize, Rect, pixel_ratio
from napari_patchset.stacks import resampled
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.metadata import Channel, ImageMetadata, describe
from napari_patchset.stacks.protocol import ImageStack
from napari_patchset.stacks.resampled import ResampledStack

DTYPES = ("bool", "uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")
SHAPES = {"YX": (31, 37), "CYX": (3, 17, 20), "ZYX": (2, 18, 16), "TCZYX": (2, 2, 2, 9, 11)}


def stack_of(data: np.ndarray, axes: str, size: float | PixelSize = 0.25) -> InMemoryImageStack:
    stack = InMemoryImageStack.from_array(data, axes)
    names = tuple(Channel(f"c{i}") for i in range(stack.data_shape[1]))
    size = size if isinstance(size, PixelSize) else PixelSize(y=size, x=size)
    stack.metadata = ImageMetadata(names, pixel_size=size)  # type: ignore[attr-defined]  # optional
    return stack


def square(size: float) -> PixelSize:
    return PixelSize(y=size, x=size)


def whole(stack: ImageStack) -> np.ndarray:
    """Read a whole stack, SC(Z)YX."""
    n_samples, _, *size = stack.data_shape
    zeros = [0] * len(size)
    return np.stack([stack.extract_patch(s, None, zeros, size) for s in range(n_samples)])


def overlaps(n: int, ratio: Fraction) -> np.ndarray:
    """Return the length of every pixel in every made one: (made, n)."""
    unit, length = ratio.denominator, ratio.numerator
    return np.array(
        [
            [
                max(0, min((j + 1) * length, (i + 1) * unit) - max(j * length, i * unit))
                for i in range(n)
            ]
            for j in range(floor(n / ratio))
        ],
        object,
    )


def exact_means(plane: np.ndarray, ratios: Sequence[Fraction]) -> np.ndarray:
    """Return the area averages of a plane: Fractions of integers, float64 of floats."""
    values = plane.astype(np.float64 if plane.dtype.kind == "f" else object)
    down, across = (overlaps(n, r) for n, r in zip(plane.shape, ratios, strict=True))
    total = ratios[0].numerator * ratios[1].numerator
    if plane.dtype.kind == "f":
        means: np.ndarray = down.astype(float) @ values @ across.T.astype(float) / total
        return means
    exact: np.ndarray = np.vectorize(lambda n: Fraction(n, total), otypes=[object])(
        down @ values @ across.T
    )
    return exact


def noise(dtype: str, shape: Sequence[int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype in FLOATS:
        return (rng.normal(size=shape) * 1000).astype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    # Mostly the ends of the range, where a sum may overflow and an average differs most.
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.where(rng.random(shape) < 0.3, info.max, np.where(values % 3, values, info.min))


@given(
    st.sampled_from(DTYPES),
    st.sampled_from(sorted(SHAPES)),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_at_whole_factors_pixels_are_the_block_mean_rounded_half_up(
    dtype: str, axes: str, down: int, across: int, seed: int
) -> None:
    source = stack_of(noise(dtype, SHAPES[axes], seed), axes)
    made = whole(ResampledStack(source, PixelSize(y=0.25 * down, x=0.25 * across)))
    data = whole(source).astype(object)
    *_, height, width = made.shape
    data = data[..., : height * down, : width * across]
    blocks = data.reshape(*data.shape[:-2], height, down, width, across)
    sums, n = blocks.sum(axis=(-3, -1)), down * across
    assert made.dtype == np.dtype(dtype)
    assert (made.astype(object) == (2 * sums + n) // (2 * n)).all()
    assert made.shape[-2:] == (source.data_shape[-2] // down, source.data_shape[-1] // across)


@given(
    st.sampled_from((*DTYPES, *FLOATS)),
    st.floats(1, 9),
    st.floats(1, 9),
    st.integers(0, 99),
)
def test_other_factors_are_within_one_of_the_exact_average(
    dtype: str, down: float, across: float, seed: int
) -> None:
    plane = noise(dtype, (13, 17), seed)
    source = stack_of(plane, "YX", 0.32)
    wanted = PixelSize(y=round(0.32 * down, 4), x=round(0.32 * across, 4))
    made = whole(ResampledStack(source, wanted))[0, 0]
    ratios = pixel_ratio(square(0.32), wanted, "it")
    exact = exact_means(plane, ratios)
    assert made.shape == exact.shape
    if dtype in FLOATS:
        np.testing.assert_allclose(made, exact, rtol=1e-3 if dtype == "float16" else 1e-6, atol=1)
        return
    # Weights of wide integers have fewer bits: their error grows with the range.
    extent = int(plane.max()) - int(plane.min())
    allowed = 1 if np.dtype(dtype).itemsize <= 2 else 1 + extent / 2**11
    difference = made.astype(int).astype(object) if dtype == "bool" else made.astype(object)
    assert (abs(difference - exact) <= allowed).all()


def test_ratios_of_small_numbers_are_exact() -> None:
    plane = noise("uint16", (60, 50), 3)
    ratios = pixel_ratio(square(0.32), square(0.5), "it")
    assert ratios == (Fraction(25, 16), Fraction(25, 16))
    made = whole(ResampledStack(stack_of(plane, "YX", 0.32), square(0.5)))[0, 0]
    exact = exact_means(plane, ratios)
    assert (made == np.vectorize(lambda mean: floor(mean + Fraction(1, 2)))(exact)).all()


def test_the_average_agrees_with_the_image_of_another_library() -> None:
    transform = pytest.importorskip("skimage.transform")
    plane = noise("uint16", (48, 64), 1)
    made = whole(ResampledStack(stack_of(plane, "YX"), square(1.0)))[0, 0]
    means = transform.downscale_local_mean(plane.astype(np.float64), (4, 4))
    assert np.abs(made - means).max() <= 0.5


@given(st.sampled_from((*DTYPES, *FLOATS)), st.floats(1, 12), st.integers(0, 99))
def test_a_constant_image_stays_constant(dtype: str, factor: float, seed: int) -> None:
    value = noise(dtype, (1, 1), seed)
    source = stack_of(np.broadcast_to(value, (30, 26)), "YX", 0.13)
    made = whole(ResampledStack(source, square(0.13 * factor)))
    assert (made == value).all()


@given(st.sampled_from((*DTYPES, *FLOATS)), st.sampled_from(sorted(SHAPES)))
def test_the_size_of_the_source_gives_its_own_pixels(dtype: str, axes: str) -> None:
    source = stack_of(noise(dtype, SHAPES[axes], 0), axes)
    made = whole(ResampledStack(source, square(0.25)))
    assert made.tobytes() == whole(source).tobytes()


@given(
    st.floats(1, 5), st.tuples(st.integers(-4, 20), st.integers(-4, 20)), st.sampled_from(DTYPES)
)
def test_a_patch_is_a_part_of_the_whole(factor: float, start: tuple[int, int], dtype: str) -> None:
    source = stack_of(noise(dtype, (2, 40, 44), 5), "CYX", 0.2)
    stack = ResampledStack(source, square(0.2 * factor))
    everything = np.pad(whole(stack)[0], ((0, 0), (9, 30), (9, 30)))
    patch = stack.extract_patch(0, None, start, (7, 9))
    y, x = start[0] + 9, start[1] + 9
    height, width = everything[0, y : y + 7, x : x + 9].shape
    np.testing.assert_array_equal(patch[:, :height, :width], everything[:, y : y + 7, x : x + 9])


@given(st.floats(1, 7), st.integers(1, 40), st.integers(1, 40))
def test_labels_are_the_pixel_at_the_centre(factor: float, height: int, width: int) -> None:
    plane = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    wanted = square(round(0.5 * factor, 3))
    ratio, _ = pixel_ratio(square(0.5), wanted, "it")
    if min(height, width) < ratio:
        with pytest.raises(ArgumentError, match="smaller than one pixel"):
            ResampledStack(stack_of(plane, "YX", 0.5), wanted, nearest=True)
        return
    made = whole(ResampledStack(stack_of(plane, "YX", 0.5), wanted, nearest=True))[0, 0]
    rows, columns = ([floor((j + Fraction(1, 2)) * ratio) for j in range(n)] for n in made.shape)
    np.testing.assert_array_equal(made, plane[np.ix_(rows, columns)])


def test_what_is_not_a_number_stays_where_it_is() -> None:
    plane = np.ones((8, 8), np.float32)
    plane[0, 0], plane[7, 7] = np.nan, np.inf
    made = whole(ResampledStack(stack_of(plane, "YX", 0.5), square(0.8)))[0, 0]
    assert np.isnan(made[0, 0])
    assert (made[1:-1, 1:-1] == 1).all()
    made = whole(ResampledStack(stack_of(plane, "YX", 0.5), square(1.0)))[0, 0]
    assert np.isinf(made[3, 3])
    assert np.isfinite(made).sum() == 14


def test_the_description_has_both_sizes() -> None:
    size = PixelSize(z=2, y=0.25, x=0.5)
    source = stack_of(np.zeros((3, 100, 60), np.uint8), "ZYX", size)
    info = describe(ResampledStack(source, square(1.0)), "key")
    assert info.pixel_size == PixelSize(z=2, y=1, x=1)
    assert info.source_pixel_size == size
    assert (info.level, info.shape, info.spatial_shape) == (0, (3, 25, 30), (3, 25, 30))
    assert info.ratio == (Fraction(4), Fraction(2))
    assert describe(source, "key").ratio is None
    assert not {"level", "source_pixel_size"} & describe(source, "key").model_dump().keys()


def test_wrong_sizes_are_refused() -> None:
    source = stack_of(np.zeros((10, 10)), "YX")
    with pytest.raises(ArgumentError, match=r"0.25 um along Y, larger than the wanted 0.2 um"):
        ResampledStack(source, square(0.2))
    with pytest.raises(ArgumentError, match=r"10 x 10 pixels, is smaller than one pixel of 5 x 5"):
        ResampledStack(source, square(5))
    bare = InMemoryImageStack.from_array(np.zeros((10, 10)), "YX")
    with pytest.raises(UnknownPixelSizeError, match="The pixel size of array is not known"):
        ResampledStack(bare, square(5))
    known = ResampledStack(bare, square(1), source_pixel_size=square(0.5))
    assert known.data_shape == [1, 1, 5, 5]


def test_sizes_written_with_few_digits_are_multiples() -> None:
    assert pixel_ratio(square(0.32499998), square(0.65), "it") == (Fraction(2), Fraction(2))
    assert pixel_ratio(square(0.2520034), square(0.252), "it") == (Fraction(1), Fraction(1))
    assert pixel_ratio(square(0.1), square(0.3), "it") == (Fraction(3), Fraction(3))


def test_a_large_patch_is_read_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    source = stack_of(noise("uint16", (2, 3, 60, 70), 7), "CZYX", 0.3)
    stack = ResampledStack(source, square(0.7))
    expected = whole(stack)
    monkeypatch.setattr(resampled, "_READ_PIXELS", 1000)
    np.testing.assert_array_equal(whole(stack), expected)


def test_lower_resolutions_are_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampled, "_COARSEST", 10)
    source = stack_of(noise("uint8", (80, 60), 7), "YX", 0.25)
    levels = ResampledStack(source, square(0.5)).levels
    assert [tuple(level.data_shape[-2:]) for level in levels] == [(40, 30), (20, 15), (10, 7)]
    np.testing.assert_array_equal(whole(levels[1]), whole(ResampledStack(source, square(1.0))))


def test_the_footprint_holds_every_tap() -> None:
    stack = ResampledStack(stack_of(noise("uint8", (50, 50), 1), "YX", 0.3), square(0.7))
    everything = whole(stack)[0, 0]
    for start in range(20):
        low, high = stack.footprint(np.array((start, 0)), np.array((start + 1, 1)))
        pixels = stack.stack.extract_patch(0, [0], low.tolist(), (high - low).tolist())[0]
        made = stack.derive(pixels, low.tolist(), Rect(0, start, 1, 1))
        assert made == everything[start, 0]


def test_rows_are_averaged_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = stack_of(noise("uint16", (90, 70), 7), "YX", 0.3)
    for wanted in (0.6, 0.7):
        expected = whole(ResampledStack(source, square(wanted)))
        monkeypatch.setattr(resampled, "_ROWS", 7)
        np.testing.assert_array_equal(whole(ResampledStack(source, square(wanted))), expected)
        monkeypatch.undo()
