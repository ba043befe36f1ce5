"""Random and Stratified: uniform, as many as asked, and the same every time."""

from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.patching.random_streams import draw_distinct, draw_integers, random_stream
from napari_patchset.patching.strategies import Random, Stratified
from napari_patchset.patching.strategies.base import NO_POSITION, OVERLAPS
from support.strategy_makers import axes, cases, source, without_holes


def test_the_streams_never_change() -> None:
    stream = random_stream(7, source(1, 1, 8, 8, scene=3), 2)
    drawn = draw_integers(stream, np.full(6, 1000, np.uint64)).tolist()
    assert drawn == [461, 581, 879, 757, 632, 371]


def test_each_seed_source_scene_and_sample_has_its_own_stream() -> None:
    streams = [
        random_stream(seed, source(1, 1, 8, 8, key=key, scene=scene), sample)
        for seed in (0, 1)
        for key in "ab"
        for scene in (None, 0, "0")
        for sample in (0, 1)
    ]
    firsts = {int(stream.random_raw()) for stream in streams}
    assert len(firsts) == len(streams) == 24


class FixedWords:
    """Return the listed words, in place of a random stream."""

    def __init__(self, *words: int) -> None:
        self.words = list(words)

    def random_raw(self, count: int) -> np.ndarray:
        taken, self.words = self.words[:count], self.words[count:]
        return np.array(taken, np.uint64)


def test_words_that_would_favour_small_numbers_are_drawn_again() -> None:
    # 2^64 mod 10 is 6: the words 0 to 5 are surplus.
    below = np.full(3, 10, np.uint64)
    assert draw_integers(FixedWords(5, 6, 2**64 - 1, 0, 17), below).tolist() == [7, 6, 5]


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
def test_distinct_integers_are_as_many_as_there_are(total: int, count: int, seed: int) -> None:
    drawn = draw_distinct(np.random.Philox(seed), count, total).tolist()
    assert len(drawn) == min(count, total)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(total))


@pytest.mark.parametrize("count", [3, 9])
def test_random_starts_are_uniform(count: int) -> None:
    grid = Random(size=(4, 4), count=count, seed=1).plan([source(4000, 1, 6, 7)])
    assert len(grid) == 4000 * count
    times = np.bincount(grid.start[:, 0] * 4 + grid.start[:, 1], minlength=12)
    # Drawn without repetition: the variance is less than that of independent draws.
    expected = len(grid) / 12
    chi_square = ((times - expected) ** 2 / expected).sum() / (1 - count / 12)
    # 11 degrees of freedom: between the quantiles 0.001 and 0.999.
    assert 1.5 < chi_square < 31.3


def test_stratified_starts_are_uniform_in_their_cell() -> None:
    grid = Stratified(size=(4, 5), seed=2).plan([source(6000, 1, 8, 11)])
    assert len(grid) == 6000 * 2 * 2
    times = np.histogram2d(*grid.start.T, bins=(np.arange(6), np.arange(8)))[0]
    for rows, columns in ((slice(0, 4), slice(0, 5)), (slice(4, 5), slice(5, 7))):
        cell = times[rows, columns]
        assert cell.sum() == 6000
        expected = 6000 / cell.size
        assert ((cell - expected) ** 2 / expected).sum() < 2.5 * cell.size + 10


def test_a_pixels_chance_is_what_the_docstring_says() -> None:
    n, p = 11, 4
    every = Random(size=(1, p), count=99).plan([source(1, 1, 1, n)])
    times = [int(((every.start[:, 1] <= i) & (i < every.start[:, 1] + p)).sum()) for i in range(n)]
    assert times == [min(i + 1, n - i, p, n - p + 1) for i in range(n)]
    assert every.excluded == {NO_POSITION: 99 - (n - p + 1)}


@given(cases())
def test_random_gives_as_many_as_asked_or_counts_them(case: tuple) -> None:
    size, sources = case
    sources = without_holes(sources)
    for per, asked in (("sample", 9 * sum(s.n_samples for s in sources)), ("total", 9)):
        grid = Random(size=size, count=9, per=per).plan(sources)
        assert len(grid) + grid.excluded.get(NO_POSITION, 0) == asked
        positions = prod(n - p + 1 for n, p in zip(sources[0].spatial_shape, size, strict=True))
        assert (NO_POSITION in grid.excluded) == (
            positions * sum(s.n_samples for s in sources) < asked
        )


def test_a_total_is_shared_by_the_number_of_positions() -> None:
    sources = [source(2, 1, 19, 19, key="b"), source(1, 1, 19, 29, key="a")]
    grid = Random(size=(10, 10), count=40, per="total").plan(sources)
    assert np.unique_counts(grid.source_index * 2 + grid.sample).counts.tolist() == [10, 10, 20]
    uneven = Random(size=(10, 10), count=41, per="total").plan(sources)
    assert np.unique_counts(uneven.source_index * 2 + uneven.sample).counts.tolist() == [10, 10, 21]


def test_another_seed_gives_other_patches() -> None:
    image = [source(1, 1, 200, 200)]
    for kind, more in ((Random, {"count": 5}), (Stratified, {})):
        plans = [kind(size=(16, 16), seed=seed, **more).plan(image) for seed in (0, 1)]
        assert list(plans[0]) != list(plans[1])


@given(cases(), st.sampled_from([0.0, 0.25, 0.9]))
def test_the_largest_overlap_is_respected(case: tuple, limit: float) -> None:
    size, sources = case
    sources = without_holes(sources)
    grid = Random(size=size, count=8, max_overlap=limit).plan(sources)
    for a, b in combinations(grid, 2):
        if (a.source_index, a.sample) == (b.source_index, b.sample):
            apart = np.abs(np.subtract(a.start, b.start))
            assert np.maximum(0, size - apart).prod() <= limit * prod(size)
    asked = 8 * sum(s.n_samples for s in sources)
    assert len(grid) + grid.excluded.get(OVERLAPS, 0) == asked


def test_no_more_is_drawn_than_finds_room() -> None:
    grid = Random(size=(10, 10), count=1000, max_overlap=0).plan([source(1, 1, 100, 100)])
    assert 40 < len(grid) < 100
    assert grid.excluded == {OVERLAPS: 1000 - len(grid)}


@given(axes())
def test_stratified_gives_as_many_patches_as_fit(axis: tuple[int, int, int]) -> None:
    n, size, _ = axis
    if n < size:
        return
    starts = Stratified(size=(1, size)).plan([source(1, 1, 1, n)]).start[:, 1]
    assert (starts // size).tolist() == list(range(n // size))
