"""Polygons with holes as one ring, and back."""

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.plugin.layers.keyholes import join_rings, split_ring

SQUARE = np.array([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], float)
HOLE, OTHER = SQUARE / 3 + 1, SQUARE / 4 + 5


@pytest.mark.parametrize("rings", [[SQUARE], [SQUARE, HOLE], [SQUARE, HOLE, OTHER]])
def test_rings_are_joined_and_split_again(rings: list[np.ndarray]) -> None:
    ring = join_rings(rings)
    assert not np.array_equal(ring[0], ring[-1])
    back = split_ring(ring)
    assert len(back) == len(rings)
    for before, after in zip(rings, back, strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_encloses_nothing_is_left_out() -> None:
    assert split_ring(SQUARE[:2]) == []
    assert split_ring(SQUARE[[0, 1, 0]]) == []
    (ring,) = split_ring(SQUARE[[0, 1, 2, 1, 2, 3]])  # back and forth on a side
    np.testing.assert_array_equal(ring, SQUARE)


def parity(rings: list[np.ndarray], x: float, y: float) -> int:
    """Count how often a ray to the right crosses the rings, by the even-odd rule."""
    n = 0
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if (y0 > y) != (y1 > y):
                n += x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return n % 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=12))
def test_any_walk_encloses_the_same_as_its_rings(walk: list[tuple[int, int]]) -> None:
    ring = np.array([*walk, walk[0]], float)
    rings = split_ring(ring[:-1])
    for y, x in np.ndindex(3, 3):
        at = x + 0.41, y + 0.37
        assert parity([ring], *at) == parity(rings, *at)
    assert all(shapely.get_num_coordinates(shapely.LinearRing(each)) > 3 for each in rings)
