"""Random and Stratified: uniform, and as many patches as wanted."""

from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.patching.regions import Polygon
from napari_patchset.patching.strategies import Random, Stratified
from napari_patchset.patching.strategies.base import NO_POSITION, OVERLAPS
from napari_patchset.patching.strategies.random import Starts
from support.strategy_makers import axes, cases, source, without_holes


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
def test_random_gives_the_wanted_number_or_counts_what_is_lacking(case: tuple) -> None:
    size, sources = case
    sources = without_holes(sources)
    for per, wanted in (("sample", 9 * sum(s.n_samples for s in sources)), ("total", 9)):
        grid = Random(size=size, count=9, per=per).plan(sources)
        assert len(grid) + grid.excluded.get(NO_POSITION, 0) == wanted
        positions = prod(n - p + 1 for n, p in zip(sources[0].spatial_shape, size, strict=True))
        assert (NO_POSITION in grid.excluded) == (
            positions * sum(s.n_samples for s in sources) < wanted
        )


def test_a_total_is_drawn_from_the_positions_of_all_samples() -> None:
    sources = [source(2, 1, 19, 19, key="b"), source(1, 1, 19, 29, key="a")]
    counts = np.zeros(3, int)
    for seed in range(200):
        grid = Random(size=(10, 10), count=20, per="total", seed=seed).plan(sources)
        assert len(grid) == 20
        counts += np.bincount(grid.source_index * 2 + grid.sample, minlength=3)
    # Hypergeometric, with a standard deviation of 0.5 % of all draws.
    np.testing.assert_allclose(counts / counts.sum(), [0.25, 0.25, 0.5], atol=0.025)


def test_a_total_is_drawn_evenly_from_what_a_region_covers() -> None:
    # Of a triangle, large images have more than small ones, unlike of the box around it.
    triangle = Polygon(points=((0, 0), (60, 0), (0, 60)))
    sources = [source(1, 1, 24, 60, key="a"), source(1, 1, 60, 60, key="b")]
    n = [Starts((s.spatial_shape[0] - 3, 57), (0, 0), (4, 4), triangle).count for s in sources]
    starts = [(y, x) for y in range(57) for x in range(57) if y + x <= 52]
    assert n == [sum(y < 21 for y, _ in starts), len(starts)]
    everything = Random(size=(4, 4), count=sum(n), per="total", region=triangle).plan(sources)
    assert len(everything) == sum(n)
    assert not everything.excluded
    counts = np.zeros(2)
    for seed in range(200):
        strategy = Random(size=(4, 4), count=20, per="total", seed=seed, region=triangle)
        counts += np.bincount(strategy.plan(sources).source_index, minlength=2)
    np.testing.assert_allclose(counts / counts.sum(), np.array(n) / sum(n), atol=0.025)


def test_few_draws_fall_on_any_of_many_samples_and_files() -> None:
    stack = [source(200, 1, 20, 20)]
    files = [source(1, 1, 20, 20, key=f"k{i:02}") for i in range(30)]
    samples, drawn = set(), set()
    for seed in range(40):
        strategy = Random(size=(4, 4), count=5, per="total", seed=seed)
        samples |= set(strategy.plan(stack).sample.tolist())
        grid = strategy.plan(files)
        drawn |= set(grid.source_index.tolist())
        keys = sorted((files[p.source_index].key, p.start) for p in grid)
        backwards = files[::-1]
        again = strategy.plan(backwards)
        assert keys == sorted((backwards[p.source_index].key, p.start) for p in again)
    assert len(samples) > 100
    assert len(drawn) == 30


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
            distance = np.abs(np.subtract(a.start, b.start))
            assert np.maximum(0, size - distance).prod() <= limit * prod(size)
    wanted = 8 * sum(s.n_samples for s in sources)
    assert len(grid) + grid.excluded.get(OVERLAPS, 0) == wanted


def test_no_more_patches_are_drawn_than_fit() -> None:
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
