"""Regions: patches lie wholly inside, whatever the strategy."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_patchset.errors import ArgumentError
from napari_patchset.patching import areas, regions
from napari_patchset.patching.grid import PatchSpec
from napari_patchset.patching.regions import MaskRegion, Polygon, Rectangle, ShapesRegion
from napari_patchset.patching.strategies import Random, Tiled, Whole, random
from napari_patchset.patching.strategies.base import NO_POSITION, OUTSIDE
from napari_patchset.source import PixelSize, SourceInfo
from support.strategy_makers import (
    box,
    cases,
    every_strategy,
    make_strategy,
    plan,
    source,
    without_holes,
)


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
    extra = (
        {"small": "skip"} if name.startswith(("tiled", "random", "stratified", "balanced")) else {}
    )
    sources = without_holes(sources)
    grid = plan(make_strategy(name, size, sources, region=region, **extra), sources)
    for spec in grid:
        *_, top, left = spec.start
        assert x <= left <= x + w - spec.size[-1]
        assert y <= top <= y + h - spec.size[-2]
        assert region.is_of(sources[spec.source_index])
    if name.startswith(("tiled", "fixed", "whole")) and not of:
        candidates = len(make_strategy(name, size, sources, **extra).plan(sources))
        assert len(grid) + grid.excluded.get(OUTSIDE, 0) == candidates


@every_strategy
def test_several_shapes_keep_what_lies_in_one_of_them(name: str) -> None:
    sources = [source(2, 1, 40, 48)]
    shapes = (
        Rectangle(x=3, y=2, w=17, h=20),
        Polygon(points=((24.0, 10.0), (48.0, 10.0), (36.0, 40.0))),
    )
    region = ShapesRegion(shapes=shapes)
    assert region.bounds == (3, 2, 45, 38)
    grid = plan(make_strategy(name, (5, 3), sources, region=region), sources)
    inside = [shape.contains(grid.start[:, -2:], grid.size[-2:]) for shape in shapes]
    assert np.logical_or(*inside).all()
    if name.startswith("tiled"):
        alone = [make_strategy(name, (5, 3), sources, region=each) for each in shapes]
        assert len(grid) == sum(len(strategy.plan(sources)) for strategy in alone)
        assert all(each.any() for each in inside)


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
    inside = Polygon(points=points).contains(start.astype(np.int32), (5, 3))
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
    assert grid.excluded == {OUTSIDE: 9 - kept}


@st.composite
def masked(draw: st.DrawFn) -> tuple[tuple[int, ...], list[SourceInfo], np.ndarray]:
    """Draw sources and a mask with a hole and a free strip."""
    size, sources = draw(cases())
    *_, height, width = sources[0].spatial_shape
    pixels = np.ones((height, width), bool)
    y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    pixels[y : y + draw(st.integers(1, 9)), x : x + draw(st.integers(1, 9))] = False
    pixels[:, : draw(st.integers(0, width // 3))] = False
    return size, without_holes(sources), pixels


@every_strategy
@settings(max_examples=settings.default.max_examples // 2)
@given(masked(), st.sampled_from([0, 16]))
def test_a_mask_keeps_what_lies_wholly_inside(name: str, case: tuple, often: int) -> None:
    size, sources, pixels = case
    region = MaskRegion(path="mask.tif", digest="m")
    more = {} if name in ("fixed", "whole") else {"small": "skip"}
    strategy = make_strategy(name, size, sources, region=region, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(areas, "COUNTED_AT_ONCE", 70)
        patch.setattr(areas, "_OFTEN", often)
        grid = plan(strategy, sources, {"m": pixels})
    assert all(is_inside(pixels, spec) for spec in grid)
    if name.startswith(("tiled", "fixed", "whole")):
        every = strategy.model_copy(update={"region": None}).plan(sources)
        assert list(grid) == [spec for spec in every if is_inside(pixels, spec)]


def is_inside(pixels: np.ndarray, spec: PatchSpec) -> bool:
    part = pixels[box(spec.start[-2:], spec.size[-2:])]
    return part.shape == spec.size[-2:] and bool(part.all())


@pytest.mark.parametrize("overlap", [None, 0.5])
def test_random_redraws_patches_outside_of_a_mask(overlap: float | None) -> None:
    image = [source(3, 1, 200, 200)]
    pixels = np.zeros((200, 200), bool)
    pixels[:40, :40] = pixels[160:, 160:] = True
    region = MaskRegion(path="mask.tif", digest="m")
    strategy = Random(size=(16, 16), count=8, max_overlap=overlap, region=region)
    grid = strategy.plan(image, {"m": pixels})
    assert np.bincount(grid.sample).tolist() == [8, 8, 8]
    assert not grid.excluded
    assert len({tuple(start // 160) for start in grid.start}) == 2
    none = strategy.plan(image, {"m": ~np.ones((200, 200), bool) | np.eye(200, dtype=bool)})
    assert len(none) == 0
    assert sum(none.excluded.values()) == 24


@pytest.mark.parametrize("rounds", [0, 1, 10])
def test_draws_in_an_area_are_uniform(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "MAX_ROUNDS", rounds)
    region = Polygon(points=[(0, 0), (8, 0), (8, 8)])
    grid = Random(size=(2, 2), count=6, region=region).plan([source(2000, 1, 8, 8)])
    starts, times = np.unique(grid.start, axis=0, return_counts=True)
    assert len(grid) == 12000
    assert len(starts) == 15
    assert ((times - 800) ** 2 / 800).sum() / (1 - 6 / 15) < 36.1  # 14 degrees of freedom: 0.999


def test_all_positions_of_an_area_are_drawn_if_it_has_no_more() -> None:
    volume = source(2, 1, 3, 30, 30, axes="TCZYX", depth_axis="Z")
    region = Polygon(points=[(0, 0), (30, 0), (30, 1), (29, 4), (0, 4)])
    grid = Random(size=(2, 3, 4), count=200, region=region).plan([volume])
    every = Tiled(size=(2, 3, 4), overlap=(1, 2, 3), region=region).plan([volume])
    assert list(grid) == list(every)
    assert grid.excluded == {NO_POSITION: 400 - len(grid)}


@pytest.mark.parametrize(
    ("masks", "fault"),
    [
        ({}, "has not been read"),
        ({"m": np.ones((9, 8), bool)}, "mask.tif is 9 x 8, but .* is 8 x 8"),
    ],
)
def test_a_mask_of_another_size_is_refused(masks: dict, fault: str) -> None:
    region = MaskRegion(path="mask.tif", digest="m")
    with pytest.raises(ArgumentError, match=fault):
        Whole(region=region).plan([source(1, 1, 8, 8)], masks)


def test_a_mask_of_one_scene_limits_that_scene() -> None:
    scenes = [source(1, 1, 8, 8, scene=0), source(1, 1, 16, 16, scene=1)]
    region = MaskRegion(path="mask.tif", digest="m", source="k", scene=1)
    grid = Tiled(size=(8, 8), region=region).plan(scenes, {"m": np.ones((16, 16), bool)})
    assert grid.source_index.tolist() == [1, 1, 1, 1]


@settings(max_examples=settings.default.max_examples // 2)
@given(
    points=st.lists(st.tuples(*[st.integers(-80, 2080).map(lambda n: n / 4)] * 2), min_size=3),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 9),
)
def test_a_polygon_contains_the_same_patches_together_and_alone(
    points: list[tuple[float, float]], size: tuple[int, int], seed: int
) -> None:
    polygon = Polygon(points=points)
    start = np.random.default_rng(seed).integers(0, 500, (1100, 2))
    start = start[np.lexsort((start // 25).T)]
    together = polygon.contains(start, size)
    alone = [polygon.contains(start[i : i + 30], size) for i in range(0, len(start), 30)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize(
    ("mask", "plane", "ratio", "factor"),
    [
        ((60, 80), (60, 80), None, 1),
        ((15, 20), (60, 80), None, 4),
        ((16, 20), (61, 80), None, 4),  # rounded up
        ((15, 20), (63, 83), None, 4),  # and down
        ((20, 20), (60, 80), None, None),
        ((24, 32), (60, 80), None, None),  # by 2.5
        ((60, 80), (30, 40), "2", 1),
        ((15, 20), (30, 40), "2", 4),
        ((61, 81), (30, 40), "2", 1),
        ((30, 40), (20, 26), "3/2", 1),
        ((1, 1), (60, 60), None, 60),
    ],
)
def test_the_factor_of_a_mask_follows_from_the_shapes(
    mask: tuple[int, int], plane: tuple[int, int], ratio: str | None, factor: int | None
) -> None:
    both = None if ratio is None else (Fraction(ratio), Fraction(ratio))
    assert regions._find_factor(mask, plane, both) == factor


# Below twice the factor's square the size of a mask may be rounded down from one factor and up from
# another: 6 of 26 pixels are a quarter or a fifth.
@given(st.integers(1, 5), st.integers(50, 60), st.integers(50, 60), st.booleans(), st.data())
def test_a_smaller_mask_is_enlarged(
    factor: int, height: int, width: int, is_up: bool, data: st.DataObject
) -> None:
    size = [-(-n // factor) if is_up else n // factor for n in (height, width)]
    small = data.draw(arrays(bool, size))
    whole = np.zeros((height, width), bool)
    enlarged = small.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    whole[: len(enlarged), : enlarged.shape[1]] = enlarged
    sources = [source(1, 1, height, width)]
    plans = [
        Tiled(size=(3, 4), overlap=(1, 2), region=MaskRegion(digest="m"), min_inside=least).plan(
            sources, {"m": mask}
        )
        for mask in (small, whole)
        for least in (1, 0.4)
    ]
    for enlarged_plan, whole_plan in zip(plans[:2], plans[2:], strict=True):
        assert list(enlarged_plan) == list(whole_plan)
    assert all(whole[box(spec.start, spec.size)].all() for spec in plans[0])
    assert all(whole[box(spec.start, spec.size)].mean() >= 0.4 for spec in plans[1])


@pytest.mark.parametrize("ratio", [None, Fraction(3, 2)])
@given(st.lists(corners, min_size=3, max_size=6, unique=True), st.floats(0.05, 0.99))
def test_a_share_of_a_shape_is_that_of_the_centres_in_it(
    ratio: Fraction | None, points: list[tuple[int, int]], least: float
) -> None:
    points = [(x + 0.0137, y + 0.0071 * (i + 1)) for i, (x, y) in enumerate(points)]
    square = Rectangle(x=5, y=7, w=12, h=9)
    region = ShapesRegion(shapes=(Polygon(points=points), square))
    image = source(1, 1, 40, 40)
    scale = 1.0
    if ratio is not None:
        sizes = {"pixel_size": PixelSize(y=1.5, x=1.5), "source_pixel_size": PixelSize(y=1, x=1)}
        image, scale = image.model_copy(update={**sizes, "shape": (1, 1, 26, 26)}), 1.5
        image = SourceInfo(**{n: getattr(image, n) for n in SourceInfo.model_fields})
    *_, height, width = image.spatial_shape
    y, x = (np.mgrid[:height, :width] + 0.5) * scale
    odd = np.zeros((height, width), bool)
    for (ax, ay), (bx, by) in pairwise((*points, points[0])):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    odd |= (x >= 5) & (x < 17) & (y >= 7) & (y < 16)
    options = {"size": (5, 4), "overlap": (2, 1), "edge": "pad"}
    every = Tiled(**options).plan([image])
    grid = Tiled(**options, region=region, min_inside=least).plan([image])
    shares = [odd[box(spec.start, spec.size)].sum() / 20 for spec in every]
    assert list(grid) == [spec for spec, s in zip(every, shares, strict=True) if s >= least]
