"""Regions: patches lie wholly inside, whatever the strategy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.dropping import OUTSIDE
from napari_patchset.patching.regions import Polygon, Rectangle
from napari_patchset.patching.strategies import Tiled, Whole
from strategy_makers import cases, every_strategy, make_strategy, source, without_holes


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
