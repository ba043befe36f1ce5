"""The mesh of one patch that is highlighted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.preview import highlight
from napari_patchset.preview.highlight import Mesh, highlight_mesh


def area(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    (y1, x1), (y2, x2) = (b - a).T, (c - a).T
    return float(np.abs(y1 * x2 - x1 * y2).sum() / 2)


def test_a_frame_lies_within_its_box() -> None:
    box = np.array([[10.0, 20.0], [50.0, 80.0]])
    mesh = highlight_mesh(np.empty((0, 2, 2)), [(box, 2)], 0.5, 0.4)
    assert mesh.vertices.min(axis=0).tolist() == [9.5, 19.5]
    assert mesh.vertices.max(axis=0).tolist() == [49.5, 79.5]
    white = mesh.vertices[(mesh.colors == 1).all(axis=1)]
    assert white.min(axis=0).tolist() == [10.0, 20.0]  # within a dark line of a pixel


def test_a_small_box_has_a_frame_that_can_be_seen() -> None:
    box = np.array([[10.0, 20.0], [11.0, 21.0]])
    mesh = highlight_mesh(np.empty((0, 2, 2)), [(box, 2)], 1, 0.4)
    assert np.ptp(mesh.vertices, axis=0).tolist() == [highlight._LEAST] * 2


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=8)
)
def test_overlaps_are_shaded_once(places: list[tuple[int, int, int, int]]) -> None:
    boxes = np.array([[(y, x), (y + h, x + w)] for y, x, h, w in places], float)
    mask = np.zeros((30, 30), bool)
    for y, x, h, w in places:
        mask[y : y + h, x : x + w] = True
    assert area(highlight_mesh(boxes, [], 1, 0.4)) == mask.sum()
