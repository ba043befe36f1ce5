"""Where patches lie: one contract over all strategies, then what each of them promises."""

from itertools import combinations, pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_patchset import ExportPlan
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.dropping import (
    MISSING_PLANE,
    NO_POSITION,
    NOT_SELECTED,
    OUTSIDE,
    OVERLAPS,
    TOO_SMALL,
    TWICE,
)
from napari_patchset.patching.grid import PatchGrid, PatchSpec
from napari_patchset.patching.lattice import axis_starts
from napari_patchset.patching.padding import source_indices
from napari_patchset.patching.regions import Polygon, Rectangle
from napari_patchset.patching.strategies import (
    Fixed,
    Random,
    Strategy,
    Stratified,
    Tiled,
    Whole,
)
from napari_patchset.patching.streams import distinct, integers, stream
from napari_patchset.source import SourceInfo
from strategy_makers import cases, every_strategy, make_strategy, source, without_holes

EDGES = ("shift", "drop", "pad", "balance")


def by_source(grid: PatchGrid, sources: list[SourceInfo]) -> dict[object, list[object]]:
    """Give samples and starts by scene, which names a source here whatever its place is."""
    found: dict[object, list[object]] = {source.scene: [] for source in sources}
    for spec in grid:
        found[sources[spec.stack].scene].append((spec.sample, spec.start))
    return found


def planned_or_none(strategy: Strategy, sources: list[SourceInfo]) -> PatchGrid | None:
    """Plan, or give None where the selection is refused for one of the reasons it may be."""
    try:
        return strategy.plan(sources)
    except ArgumentError as error:
        if not str(error).startswith(("Nothing is selected", "Whole samples must have one shape")):
            raise
        return None


@every_strategy
@given(cases())
def test_patches_lie_inside_or_are_padded_only_on_demand(name: str, case: tuple) -> None:
    size, sources = case
    for spec in make_strategy(name, size, sources).plan(sources):
        shape = np.array(sources[spec.stack].spatial_shape)
        assert (np.array(spec.start) >= 0).all()
        if name == "tiled, padded":
            assert (spec.start < shape).all()
        else:
            assert (np.array(spec.start) + spec.size <= shape).all()


@every_strategy
@given(cases())
def test_no_patch_comes_twice(name: str, case: tuple) -> None:
    size, sources = case
    grid = make_strategy(name, size, sources).plan(sources)
    assert len(set(grid)) == len(grid)


@every_strategy
@given(cases())
def test_patches_are_ordered_by_source_sample_and_tile(name: str, case: tuple) -> None:
    size, sources = case

    def rank(spec: PatchSpec) -> tuple[int, ...]:
        h, w = sources[spec.stack].block_shape or (1000, 1000)
        *_, y, x = spec.start
        return spec.stack, spec.sample, y // h, x // w, *spec.start

    grid = make_strategy(name, size, sources).plan(sources)
    assert list(grid) == sorted(grid, key=rank)
    assert {column.dtype for column in (grid.stack, grid.sample, grid.start)} == {np.dtype("i4")}


@every_strategy
@given(cases(), st.randoms())
def test_neither_path_nor_order_of_the_sources_matters(
    name: str, case: tuple, random: object
) -> None:
    size, sources = case
    strategy = make_strategy(name, size, sources)
    moved = [source.model_copy(update={"name": f"elsewhere/{source.scene}"}) for source in sources]
    random.shuffle(moved)
    grid, again = strategy.plan(sources), strategy.plan(moved)
    assert by_source(grid, sources) == by_source(again, moved)
    assert grid.dropped == again.dropped


@every_strategy
@given(cases())
def test_one_source_alone_gives_what_it_gives_among_others(name: str, case: tuple) -> None:
    size, sources = case
    if name == "random, in total":
        return
    among = by_source(make_strategy(name, size, sources).plan(sources), sources)
    for one in sources:
        alone = make_strategy(name, size, [one]).plan([one])
        assert by_source(alone, [one])[one.scene] == among[one.scene]


@every_strategy
@given(cases())
def test_missing_planes_are_dropped_and_counted(name: str, case: tuple) -> None:
    size, sources = case
    strategy = make_strategy(name, size, sources)
    grid, whole = strategy.plan(sources), strategy.plan(without_holes(sources))

    def touches(spec: PatchSpec) -> bool:
        holes = [(s, z) for s, _, z in sources[spec.stack].missing]
        last = spec.start[0] + spec.size[0]
        return any(s == spec.sample and spec.start[0] <= z < last for s, z in holes)

    assert list(grid) == [spec for spec in whole if not touches(spec)]
    assert grid.dropped.get(MISSING_PLANE, 0) == len(whole) - len(grid)


@every_strategy
@given(cases(), st.data())
def test_a_region_keeps_what_lies_wholly_inside(
    name: str, case: tuple, data: st.DataObject
) -> None:
    size, sources = case
    *_, height, width = sources[0].spatial_shape
    x, y = data.draw(st.integers(-3, width - 1)), data.draw(st.integers(-3, height - 1))
    w, h = data.draw(st.integers(size[-1], 60)), data.draw(st.integers(size[-2], 60))
    of = data.draw(st.sampled_from([{}, {"source": sources[0].key, "scene": sources[0].scene}]))
    region = Rectangle(x=x, y=y, w=w, h=h, **of)
    extra = {"small": "skip"} if name.startswith(("tiled", "random", "stratified")) else {}
    sources = without_holes(sources)
    grid = make_strategy(name, size, sources, region=region, **extra).plan(sources)
    for spec in grid:
        *_, top, left = spec.start
        assert x <= left <= x + w - spec.size[-1]
        assert y <= top <= y + h - spec.size[-2]
        assert region.is_of(sources[spec.stack])
    if name.startswith(("tiled", "fixed", "whole")) and not of:
        candidates = len(make_strategy(name, size, sources, **extra).plan(sources))
        assert len(grid) + grid.dropped.get(OUTSIDE, 0) == candidates


@every_strategy
@given(cases(), st.data())
def test_select_is_in_the_numbers_of_the_file(name: str, case: tuple, data: st.DataObject) -> None:
    size, sources = case
    axis = data.draw(st.sampled_from("TZS"))
    first, length = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 6))
    extra = {"small": "skip"} if name.startswith(("tiled", "random", "stratified")) else {}
    chosen = make_strategy(name, size, sources, select={axis: (first, first + length)}, **extra)
    grid = planned_or_none(chosen, sources)
    for spec in grid or ():
        info = sources[spec.stack]
        if axis == info.depth_axis:
            # Padding beyond the image's own end is no plane that was not chosen.
            end = min(spec.start[0] + spec.size[0], info.spatial_shape[0])
            assert first <= info.starts["Z"] + spec.start[0]
            assert info.starts["Z"] + end <= first + length
        else:
            numbers = {"S": spec.sample, "Z": info.starts["Z"], **info.numbers(spec.sample)}
            assert first <= numbers[axis] < first + length


@every_strategy
@given(cases())
def test_a_strategy_is_its_own_json(name: str, case: tuple) -> None:
    size, sources = case
    region = Polygon(points=[(0, 0), (9.5, 0), (4, 7)], source="key 0", scene=0)
    strategy = make_strategy(name, size, sources, region=region, select={"T": (None, 10)})
    plan = ExportPlan(sources=["a.czi"], strategy=strategy, out="a.patches.zarr")
    again = ExportPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert type(again.strategy) is type(strategy)


@every_strategy
def test_a_size_of_the_wrong_dimension_is_refused(name: str) -> None:
    flat = [source(1, 1, 100, 100)]
    if name == "whole":
        return
    strategy = make_strategy(name, (8, 64, 64), [])
    with pytest.raises(ArgumentError, match="give 2 numbers"):
        strategy.plan(flat)


@pytest.mark.parametrize("name", ["tiled", "random", "random, in total", "stratified"])
def test_a_patch_larger_than_the_image_is_refused_or_skipped(name: str) -> None:
    small = [source(3, 1, 48, 100)]
    with pytest.raises(ArgumentError, match=r"64 x 64 is larger than .* 48 x 100"):
        make_strategy(name, (64, 64), small).plan(small)
    skipped = make_strategy(name, (64, 64), small, small="skip").plan(small)
    assert len(skipped) == 0
    assert skipped.dropped == {TOO_SMALL: 3}


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(st.integers(1, 40))
    return draw(st.integers(1, 200)), size, draw(st.integers(0, size - 1))


def careamics_starts(n: int, size: int, overlap: int) -> list[int]:
    """CAREamics 0.3.5's tiled patching along one axis, restated."""
    steps = range(0, max(1, n - overlap), size - overlap)
    return [i if i == 0 or i + size < n else max(0, n - size) for i in steps]


def test_shift_gives_the_documented_starts() -> None:
    assert axis_starts(200, 64, 16, "shift").tolist() == [0, 48, 96, 136]


@given(axes())
def test_shift_gives_careamics_starts(axis: tuple[int, int, int]) -> None:
    assert axis_starts(*axis, "shift").tolist() == careamics_starts(*axis)


@given(axes(), st.sampled_from(EDGES))
def test_starts_ascend_without_duplicates(axis: tuple[int, int, int], edge: str) -> None:
    starts = axis_starts(*axis, edge)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()


@given(axes(), st.sampled_from(("shift", "balance", "pad")))
def test_every_pixel_is_covered(axis: tuple[int, int, int], edge: str) -> None:
    n, size, _ = axis
    covered = {pixel for start in axis_starts(*axis, edge) for pixel in range(start, start + size)}
    assert covered >= set(range(n))


@given(axes(), st.sampled_from(("shift", "balance", "drop")))
def test_no_patch_reaches_past_the_end(axis: tuple[int, int, int], edge: str) -> None:
    n, size, _ = axis
    if n >= size:
        assert axis_starts(*axis, edge)[-1] + size <= n


@given(axes())
def test_overlap_is_as_asked_and_balance_spreads_evenly(axis: tuple[int, int, int]) -> None:
    n, size, overlap = axis
    assert set(np.diff(axis_starts(*axis, "pad"))) <= {size - overlap}
    gaps = np.diff(axis_starts(*axis, "balance"))
    assert np.ptp(gaps) <= 1 if n > size and len(gaps) else True


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20))
@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
def test_padding_is_numpys_on_the_whole_image(mode: str, start: int, size: int, n: int) -> None:
    padded = np.pad(np.arange(n), 120, mode)
    expected = padded[start + 120 : start + 120 + size]
    assert source_indices(start, size, n, mode).tolist() == expected.tolist()


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("block", [None, (64, 64), (7, 1000)])
def test_the_order_changes_with_the_tiles_and_nothing_else(
    edge: str, block: tuple[int, int] | None
) -> None:
    strategy = Tiled(size=(16, 24), overlap=(4, 0), edge=edge)
    plain = strategy.plan([source(2, 1, 150, 131)])
    ordered = strategy.plan([source(2, 1, 150, 131, block_shape=block)])
    assert sorted(plain) == sorted(ordered)


def test_patches_of_one_tile_follow_each_other() -> None:
    grid = Tiled(size=(16, 16)).plan([source(1, 1, 128, 128, block_shape=(64, 64))])
    tiles = [tuple(start // 64) for start in grid.start]
    assert len(list(dict.fromkeys(tiles))) == 4
    changes = sum(a != b for a, b in pairwise(tiles))
    assert changes == 3


def test_a_volume_is_cut_along_its_depth_axis() -> None:
    volume = source(2, 1, 9, 32, 32, axes="TCZYX", depth_axis="Z")
    grid = Tiled(size=(4, 16, 16), overlap=(1, 0, 0)).plan([volume])
    assert len(grid) == 2 * 3 * 2 * 2
    assert sorted(set(grid.start[:, 0].tolist())) == [0, 3, 5]


def test_candidates_on_a_missing_plane_are_dropped_and_counted() -> None:
    volume = source(2, 1, 4, 16, 16, axes="TCZYX", depth_axis="Z")
    holed = volume.model_copy(update={"missing": frozenset({(1, 0, 3)})})
    grid = Tiled(size=(2, 16, 16)).plan([holed])
    assert [(spec.sample, spec.start[0]) for spec in grid] == [(0, 0), (0, 2), (1, 0)]
    assert grid.dropped == {MISSING_PLANE: 1}


def test_several_sources_make_one_grid() -> None:
    grid = Tiled(size=(16, 16)).plan([source(1, 1, 32, 32), source(2, 1, 16, 16)])
    assert grid.stack.tolist() == [0, 0, 0, 0, 1, 1]
    assert grid[-1] == (1, 1, (0, 0), (16, 16))


def test_a_small_image_is_padded_on_demand() -> None:
    assert len(Tiled(size=(64, 64), small="pad").plan([source(1, 1, 48, 100)])) == 2


@pytest.mark.parametrize(
    ("size", "overlap"),
    [((0, 8), ()), ((8,), ()), ((8, 8), (8, 0)), ((8, 8), (1,)), ((8, 8), (-1, 0))],
)
def test_impossible_sizes_and_overlaps_are_refused(size: tuple, overlap: tuple) -> None:
    with pytest.raises(ValidationError):
        Tiled(size=size, overlap=overlap)


def test_a_million_patches_take_little_memory() -> None:
    grid = Tiled(size=(64, 64), overlap=(16, 16)).plan([source(1, 1, 48000, 48000)])
    assert len(grid) == 1_000_000
    assert grid.nbytes <= 16 * 2**20


@pytest.mark.parametrize("overlap", [(0, 0), (3, 5)])
def test_rows_are_patches_side_by_side_and_leave_none_out(overlap: tuple[int, int]) -> None:
    images = [source(2, 1, 40, 90, block_shape=(16, 50)), source(1, 1, 8, 8)]
    grid = Tiled(size=(8, 8), overlap=overlap).plan(images)
    rows = list(grid.rows(longest=5))
    assert [i for row in rows for i in range(len(grid))[row]] == list(range(len(grid)))
    assert 1 < max(len(range(len(grid))[row]) for row in rows) <= 5
    for row in rows:
        first, *others = grid[row]
        for before, spec in pairwise([first, *others]):
            assert spec[:2] == before[:2]
            assert spec.start[0] == before.start[0]
            assert 0 < spec.start[1] - before.start[1] <= 8


def test_a_grid_is_sliced_and_iterated_like_a_sequence() -> None:
    grid = Tiled(size=(8, 8)).plan([source(1, 1, 16, 24)])
    assert isinstance(grid[1:3], PatchGrid)
    assert list(grid[1:3]) == [grid[1], grid[2]]
    assert list(grid[grid.start[:, 1] == 16]) == [grid[2], grid[5]]
    with pytest.raises(IndexError):
        grid[6]


def test_what_is_not_selected_is_no_padding() -> None:
    volume = source(1, 1, 9, 8, 8, axes="TCZYX", depth_axis="Z", starts={"Z": 2})
    padded = {"size": (4, 8, 8), "edge": "pad", "small": "pad"}
    grid = Tiled(**padded, select={"Z": (3, 9)}).plan([volume])
    assert grid.start[:, 0].tolist() == [1, 3]
    assert Tiled(**padded).plan([volume]).start[:, 0].tolist() == [0, 4, 8]
    with pytest.raises(ArgumentError, match=r"larger than what is chosen .* 3 x 8 x 8"):
        Tiled(**padded, select={"Z": (3, 6)}).plan([volume])


def test_a_selection_of_nothing_says_what_there_is() -> None:
    series = source(4, 1, 8, 8, starts={"T": 3}, name="series.czi")
    with pytest.raises(ArgumentError, match=r"selected by T 9:: series\.czi has T 3 to 6"):
        Tiled(size=(8, 8), select={"T": (9, None)}).plan([series])


@pytest.mark.parametrize("select", [{"Y": (0, 5)}, {"z": (0, 5)}, {"T": (5, 5)}])
def test_impossible_selections_are_refused(select: dict) -> None:
    with pytest.raises(ValidationError, match=r"can't select along|is empty"):
        Tiled(size=(8, 8), select=select)


def test_a_region_of_no_source_is_refused() -> None:
    region = Rectangle(x=0, y=0, w=9, h=9, source="other")
    with pytest.raises(ArgumentError, match="The region is of source other"):
        Whole(region=region).plan([source(1, 1, 8, 8)])


corners = st.tuples(st.integers(-5, 45), st.integers(-5, 45))


@given(st.lists(corners, min_size=3, max_size=3, unique=True))
def test_patches_in_a_triangle_have_all_corners_in_it(points: list[tuple[int, int]]) -> None:
    (ax, ay), (bx, by), (cx, cy) = points
    turn = np.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    if not turn:
        return
    start = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2)
    inside = Polygon(points=points).holds(start.astype(np.int32), (5, 3))
    expected = np.ones(len(start), bool)
    for (px, py), (qx, qy) in pairwise((*points, points[0])):
        for dy, dx in ((0, 0), (0, 3), (5, 0), (5, 3)):
            y, x = start[:, 0] + dy, start[:, 1] + dx
            expected &= turn * ((qx - px) * (y - py) - (qy - py) * (x - px)) >= 0
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([(0, 0), (30, 0), (30, 30), (20, 30), (20, 10), (10, 10), (10, 30), (0, 30)], 7),
        ([(0, 0), (30, 0), (30, 30), (15, 14), (0, 30)], 3),
        ([(0, 0), (30, 0), (30, 30), (0, 30), (15, 15)], 5),
    ],
    ids=["a U", "a notch into the middle", "a notch from the left"],
)
def test_concave_polygons_keep_what_no_edge_passes_through(
    points: list[tuple[int, int]], kept: int
) -> None:
    grid = Tiled(size=(10, 10), region=Polygon(points=points)).plan([source(1, 1, 30, 30)])
    assert len(grid) == kept
    assert grid.dropped == {OUTSIDE: 9 - kept}


def test_the_streams_never_change() -> None:
    words = stream(7, source(1, 1, 8, 8, scene=3), 2)
    drawn = integers(words, np.full(6, 1000, np.uint64)).tolist()
    assert drawn == [461, 581, 879, 757, 632, 371]


def test_each_seed_source_scene_and_sample_has_its_own_stream() -> None:
    streams = [
        stream(seed, source(1, 1, 8, 8, key=key, scene=scene), sample)
        for seed in (0, 1)
        for key in "ab"
        for scene in (None, 0, "0")
        for sample in (0, 1)
    ]
    firsts = {int(words.random_raw()) for words in streams}
    assert len(firsts) == len(streams) == 24


class Words:
    """Give the words that are listed, in place of a stream."""

    def __init__(self, *words: int) -> None:
        self.words = list(words)

    def random_raw(self, count: int) -> np.ndarray:
        taken, self.words = self.words[:count], self.words[count:]
        return np.array(taken, np.uint64)


def test_words_that_would_favour_small_numbers_are_drawn_again() -> None:
    # 2^64 mod 10 is 6: the words 0 to 5 are surplus.
    below = np.full(3, 10, np.uint64)
    assert integers(Words(5, 6, 2**64 - 1, 0, 17), below).tolist() == [7, 6, 5]


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
def test_distinct_integers_are_as_many_as_there_are(total: int, count: int, seed: int) -> None:
    drawn = distinct(np.random.Philox(seed), count, total).tolist()
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
    assert every.dropped == {NO_POSITION: 99 - (n - p + 1)}


@given(cases())
def test_random_gives_as_many_as_asked_or_counts_them(case: tuple) -> None:
    size, sources = case
    sources = without_holes(sources)
    for per, asked in (("sample", 9 * sum(s.n_samples for s in sources)), ("total", 9)):
        grid = Random(size=size, count=9, per=per).plan(sources)
        assert len(grid) + grid.dropped.get(NO_POSITION, 0) == asked
        positions = prod(n - p + 1 for n, p in zip(sources[0].spatial_shape, size, strict=True))
        assert (NO_POSITION in grid.dropped) == (
            positions * sum(s.n_samples for s in sources) < asked
        )


def test_a_total_is_shared_by_the_number_of_positions() -> None:
    sources = [source(2, 1, 19, 19, key="b"), source(1, 1, 19, 29, key="a")]
    grid = Random(size=(10, 10), count=40, per="total").plan(sources)
    assert np.unique_counts(grid.stack * 2 + grid.sample).counts.tolist() == [10, 10, 20]
    uneven = Random(size=(10, 10), count=41, per="total").plan(sources)
    assert np.unique_counts(uneven.stack * 2 + uneven.sample).counts.tolist() == [10, 10, 21]


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
        if (a.stack, a.sample) == (b.stack, b.sample):
            apart = np.abs(np.subtract(a.start, b.start))
            assert np.maximum(0, size - apart).prod() <= limit * prod(size)
    asked = 8 * sum(s.n_samples for s in sources)
    assert len(grid) + grid.dropped.get(OVERLAPS, 0) == asked


def test_no_more_is_drawn_than_finds_room() -> None:
    grid = Random(size=(10, 10), count=1000, max_overlap=0).plan([source(1, 1, 100, 100)])
    assert 40 < len(grid) < 100
    assert grid.dropped == {OVERLAPS: 1000 - len(grid)}


@given(axes())
def test_stratified_gives_as_many_patches_as_fit(axis: tuple[int, int, int]) -> None:
    n, size, _ = axis
    if n < size:
        return
    starts = Stratified(size=(1, size)).plan([source(1, 1, 1, n)]).start[:, 1]
    assert (starts // size).tolist() == list(range(n // size))


def test_fixed_patches_that_do_not_fit_are_named() -> None:
    image = source(2, 1, 20, 30, key="k", name="image.czi")
    places = [
        {"source": "k", "sample": 0, "start": (10, 20)},
        {"source": "k", "sample": 1, "start": (11, 20)},
        {"source": "k", "sample": 2, "start": (0, 0)},
    ]
    with pytest.raises(ArgumentError, match="2 of the patches do not lie inside") as error:
        Fixed(size=(10, 10), patches=places).plan([image])
    assert "image.czi, sample 1, start (11, 20); image.czi, sample 2" in str(error.value)
    with pytest.raises(ArgumentError, match=r"none of the sources.*: x, scene 3, sample 0"):
        Fixed(size=(9, 9), patches=[{"source": "x", "scene": 3, "start": (0, 0)}]).plan([image])
    with pytest.raises(ValidationError, match="one number per axis"):
        Fixed(size=(9, 9), patches=[{"source": "x", "start": (0, 0, 0)}])


def test_fixed_patches_listed_twice_or_not_selected_are_counted() -> None:
    places = [{"source": "k", "sample": i, "start": (0, 0)} for i in (0, 1, 1)]
    grid = Fixed(size=(9, 9), patches=places, select={"S": (1, None)}).plan([source(2, 1, 9, 9)])
    assert list(grid) == [(0, 1, (0, 0), (9, 9))]
    assert grid.dropped == {TWICE: 1, NOT_SELECTED: 1}


def test_whole_samples_of_several_shapes_are_refused() -> None:
    sources = [source(1, 1, 8, 9, name="a.czi"), source(1, 1, 8, 8, name="b.czi")]
    with pytest.raises(ArgumentError, match=r"a\.czi is 8 x 9, but b\.czi is 8 x 8"):
        Whole().plan(sources)
