"""Which pixels belong to an outline: against a point-in-polygon test of every pixel's centre."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.annotations.polygons import Feature, make_annotations
from napari_patchset.source import Rect

N = 24
WHOLE = Rect(0, 0, N, N)

# Vertices lie on no pixel's centre, so that every centre is inside or outside.
corners = st.tuples(st.integers(-3, N + 3), st.integers(-3, N + 3))


@st.composite
def stars(draw: st.DrawFn) -> Any:
    """Polygons without crossings: corners around a centre, in the order of their angle."""
    x, y = draw(corners)
    angles = sorted(draw(st.sets(st.integers(0, 359), min_size=3, max_size=9)))
    radii = [draw(st.integers(1, 12)) for _ in angles]
    turns = np.deg2rad(angles)
    return np.round(np.column_stack([x + radii * np.cos(turns), y + radii * np.sin(turns)]), 1)


def centres(window: Rect, ratio: float = 1.0) -> Any:
    y, x = np.mgrid[window.y : window.y + window.h, window.x : window.x + window.w]
    return (x + 0.5) * ratio, (y + 0.5) * ratio


def oracle(polygons: Any, window: Rect = WHOLE, ratio: float = 1.0) -> Any:
    """Which centres shapely finds in a union; a polygon that is a mere point or line has none."""
    areas = shapely.make_valid(
        [shapely.Polygon(p) for p in polygons], method="structure", keep_collapsed=False
    )
    union = shapely.union_all(areas)
    x, y = centres(window, ratio)
    border = shapely.distance(union.boundary, shapely.points(x, y)) < 1e-6
    return shapely.contains_xy(union, x, y), border


@pytest.mark.parametrize("few", [0, 4])
@pytest.mark.parametrize("sparse", [0.0, 1.0])
@given(polygons=st.lists(stars(), min_size=1, max_size=5))
def test_mask_is_the_centres_inside(few: int, sparse: float, polygons: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_patchset.annotations.raster._FEW_SPANS", few)
        patch.setattr("napari_patchset.annotations.raster._SPARSE", sparse)
        check_mask(polygons)


def check_mask(polygons: Any) -> None:
    annotations = make_annotations(Feature([[polygon]]) for polygon in polygons)
    inside, on_border = oracle(polygons)
    assert (annotations.mask(WHOLE) == inside)[~on_border].all()


@given(st.lists(stars(), min_size=1, max_size=3), corners, st.integers(1, 9), st.integers(1, 9))
def test_any_window_shows_the_same_pixels(polygons: Any, corner: Any, w: Any, h: Any) -> None:
    annotations = make_annotations(Feature([[polygon]]) for polygon in polygons)
    x, y = corner
    whole = annotations.mask(Rect(-20, -20, 80, 80))
    expected = whole[y + 20 : y + 20 + h, x + 20 : x + 20 + w]
    assert np.array_equal(annotations.mask(Rect(x, y, w, h)), expected)


@given(st.lists(stars(), min_size=1, max_size=3), st.sampled_from(["2", "3/2", "7/3"]))
def test_made_pixels_are_judged_by_their_centre(polygons: Any, text: Any) -> None:
    ratio = Fraction(text)
    annotations = make_annotations(Feature([[polygon]]) for polygon in polygons)
    inside, on_border = oracle(polygons, Rect(0, 0, 10, 10), float(ratio))
    mask = annotations.mask(Rect(0, 0, 10, 10), ratio=(ratio, ratio))
    assert (mask == inside)[~on_border].all()


@given(
    st.lists(st.integers(0, 8), min_size=0, max_size=6),
    st.lists(st.integers(0, 2 * N), min_size=2, max_size=6, unique=True),
)
def test_neighbours_share_no_pixel_and_lose_none(slants: Any, cuts: Any) -> None:
    """Strips that share slanted edges with ends on centres and between, tile the plane."""
    edges = [0, *sorted(cuts), 2 * N + 20]
    slant = [0, *([*slants, *([0] * len(edges))][: len(edges) - 2]), 0]
    covered = np.zeros((N, N), int)
    ends = list(zip(edges, slant, strict=True))
    for (left, lean), (right, lean_right) in pairwise(ends):
        ring = [
            (left / 2, 0),
            (right / 2, 0),
            ((right + lean_right) / 2, N),
            ((left + lean) / 2, N),
        ]
        covered += make_annotations([Feature([[ring]])]).mask(WHOLE)
    crossing = any(a[0] + a[1] > b[0] + b[1] for a, b in pairwise(ends))
    assert crossing or (covered == 1).all()


def test_a_centre_on_an_edge_belongs_to_the_right_and_lower_side() -> None:
    ring = [(1.5, 1.5), (3.5, 1.5), (3.5, 3.5), (1.5, 3.5)]
    mask = make_annotations([Feature([[ring]])]).mask(Rect(0, 0, 5, 5))
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_a_hole_is_outside_and_what_lies_in_it_inside() -> None:
    def square(low: int, high: int) -> Any:
        return [(low, low), (high, low), (high, high), (low, high)]

    ring = Feature([[square(0, 12), square(3, 9)]])
    island = Feature([[square(0, 12), square(3, 9)], [square(5, 7)]])
    for feature, inside in ((ring, 144 - 36), (island, 144 - 36 + 4)):
        mask = make_annotations([feature]).mask(WHOLE)
        assert mask.sum() == inside
        assert not mask[3, 3]


@given(st.lists(stars(), min_size=2, max_size=5), st.integers(1, 64))
def test_the_smallest_is_on_top(polygons: Any, at_once: Any) -> None:
    annotations = make_annotations(
        Feature([[polygon]], f"class {i}") for i, polygon in enumerate(polygons)
    )
    values = {name: i + 1 for i, name in enumerate(annotations.class_names)}
    area = [shapely.make_valid(shapely.Polygon(p)).area for p in polygons]
    expected, unsure = np.zeros((N, N), int), np.zeros((N, N), bool)
    for i in sorted(range(len(polygons)), key=lambda i: (-area[i], i)):
        inside, on_border = oracle([polygons[i]])
        unsure |= on_border
        if f"class {i}" in values:
            expected[inside] = values[f"class {i}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_patchset.annotations.raster._PAINTED_AT_ONCE", at_once)
        labels = annotations.labels(WHOLE, values)
    rounded = len({round(a, 6) for a in area}) < len(area)
    assert rounded or (labels == expected)[~unsure].all()
