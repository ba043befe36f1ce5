"""The patches of one plane, and the lines that outline them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import Random, Tiled
from napari_patchset.preview import outlines
from napari_patchset.preview.categories import PatchCategory
from napari_patchset.preview.outlines import (
    Mesh,
    PlanePatches,
    Point,
    halo,
    highlight_mesh,
    hull_segments,
    outline_segments,
    volume_segments,
)
from support.plane_patches import grid_over, plane_of

EVERYWHERE = ((-1e12, -1e12), (1e12, 1e12))


def tiles(height: int, width: int, overlap: tuple[int, int] = (0, 0)) -> PlanePatches:
    """Return the 16 x 20 tiles of a plane."""
    return plane_of(grid_over(1, 1, height, width, strategy=Tiled(size=(16, 20), overlap=overlap)))


def drawn(lines: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draw lines, each a start and an extent measured from pixel centres, on a canvas."""
    canvas = np.zeros((shape[0] + 1, shape[1] + 1), bool)
    shifted = lines + np.array([[0.5, 0.5], [0, 0]])
    for (y, x), (dy, dx) in shifted.astype(int):
        canvas[y : y + dy + 1, x : x + dx + 1] = True
    return canvas


def each_alone(plane: PlanePatches) -> np.ndarray:
    return np.concatenate([outline_segments(plane[np.array([i])]).data for i in range(len(plane))])


@pytest.mark.parametrize("overlap", [(0, 0), (3, 5)])
def test_a_complete_grid_shares_its_lines_and_looks_the_same(overlap: tuple[int, int]) -> None:
    plane = tiles(60, 80, overlap)
    shared, alone = outline_segments(plane).data, each_alone(plane)
    np.testing.assert_array_equal(drawn(shared, (60, 80)), drawn(alone, (60, 80)))
    assert len(shared) < len(alone) / 2


def test_rejected_patches_have_diagonals_also_when_all_are_rejected() -> None:
    grid = grid_over(1, 1, 32, 64, strategy=Tiled(size=(16, 16)))
    n = len(grid)
    for kept in (0, 1, n):
        plane = plane_of(grid, *([0] * kept + [PatchCategory.REJECTED] * (n - kept)))
        assert len(outline_segments(plane).data)
        assert len(plane) == n
        extents = outline_segments(plane).data[:, 1]
        assert (extents == 16).all(axis=1).sum() == n - kept


def test_patches_of_an_incomplete_grid_have_four_lines_each() -> None:
    some = tiles(60, 80)[np.array([0, 2, 5])]
    lines = outline_segments(some, inset=2).data
    assert len(lines) == 12
    np.testing.assert_array_equal(drawn(lines, (60, 80)), drawn(each_alone(some), (60, 80)))


def test_patches_of_different_categories_do_not_hide_each_other() -> None:
    plane = plane_of(grid_over(1, 1, 16, 64, strategy=Tiled(size=(16, 16))), 0, 1, 2, 3)
    lines = outline_segments(plane, inset=1)
    for number, category in enumerate(PatchCategory):
        starts, extents = lines.data[lines.category == category].swapaxes(0, 1)
        left = 16 * number + 1 - 0.5
        assert starts[:, 1].min() == left
        assert (starts + extents)[:, 1].max() == left + 14
        struck = (extents == 14).all(axis=1).sum()
        assert struck == (category == PatchCategory.REJECTED)


def test_what_is_kept_is_drawn_and_pointed_at_above_what_is_rejected_in_another_depth() -> None:
    strategy = Tiled(size=(2, 16, 16), overlap=(1, 0, 0))
    grid = grid_over(1, 1, 3, 16, 32, strategy=strategy, depth_axis="Z")
    left, right = 0, 16
    is_rejected = (grid.start[:, 0] == 1) | (grid.start[:, 2] == right)
    plane = plane_of(grid, *np.where(is_rejected, 3, 0).tolist(), depth=1)
    assert len(plane) == 4
    lines = outline_segments(plane)
    assert lines.category.tolist() == [3] * 15 + [0] * 4  # the rejected boxes below, struck out
    struck = lines.data[(lines.data[:, 1] == 16).all(axis=1)]
    assert sorted(struck[:, 0, 1] + 0.5) == [left, right, right]
    kept = plane.row_at(8, left + 8)
    assert kept is not None
    assert grid[kept].start == (0, 0, left)


def test_a_plane_where_all_are_rejected_is_struck_out_too() -> None:
    plane = plane_of(grid_over(1, 1, 32, 32, strategy=Tiled(size=(16, 16))), 3, 3, 3, 3)
    struck = (outline_segments(plane).data[:, 1] == 16).all(axis=1)
    assert struck.sum() == 4


def test_a_million_patches_take_a_few_thousand_lines() -> None:
    strategy = Tiled(size=(64, 64), overlap=(16, 16))
    assert (
        len(outline_segments(plane_of(grid_over(1, 1, 48000, 48000, strategy=strategy))).data)
        <= 4000
    )


def test_no_patches_have_no_lines() -> None:
    nothing = tiles(60, 80)[np.array([], int)]
    assert outline_segments(nothing).data.shape == (0, 2, 2)


def test_a_plane_has_the_patches_that_contain_it() -> None:
    strategy = Tiled(size=(3, 8, 8), overlap=(1, 0, 0))
    grid = grid_over(2, 1, 7, 8, 8, strategy=strategy, depth_axis="Z")
    assert grid.start[:, 0].tolist() == [0, 2, 4] * 2
    assert plane_of(grid, sample=1, depth=2).rows.tolist() == [3, 4]
    assert plane_of(grid, sample=1, depth=6).rows.tolist() == [5]
    assert len(PlanePatches.from_grid(grid, np.zeros(6, np.uint8), 1, 0, 2)) == 0


@pytest.mark.parametrize("box", [((10.5, 20.0), (30.0, 33.25)), ((8, 8), (16, 24)), EVERYWHERE])
@pytest.mark.parametrize("in_order", [True, False])
def test_patches_in_view_are_those_that_touch_it(box: tuple[Point, Point], in_order: bool) -> None:
    plane = plane_of(grid_over(1, 1, 64, 64, strategy=Random(size=(8, 8), count=300)))
    if not in_order:
        plane = plane[np.random.default_rng(0).permutation(len(plane))]
    assert (np.diff(plane.start[:, 0]) >= 0).all() == in_order
    low, high = box
    seen = set(plane[plane.in_view(low, high)].rows.tolist())
    for row, (y, x) in zip(plane.rows.tolist(), plane.start.tolist(), strict=True):
        touches = y < high[0] and y + 8 > low[0] and x < high[1] and x + 8 > low[1]
        assert (row in seen) == touches


def test_a_point_belongs_to_the_patch_with_the_nearest_centre() -> None:
    plane = plane_of(grid_over(1, 1, 40, 40, strategy=Tiled(size=(16, 16), overlap=(8, 8))))
    assert plane.row_at(1, 1) == 0
    assert plane.start[plane.row_at(20, 25)].tolist() == [8, 16]
    assert plane.row_at(41, 5) is None


def test_a_patch_has_a_box_and_what_others_share_with_it() -> None:
    plane = tiles(60, 80, overlap=(4, 5))
    row = plane.row_at(30, 40)
    assert row is not None
    box = plane.box_of(row)
    assert box is not None
    assert box.tolist() == [[24, 30], [40, 50]]
    shared = np.zeros((60, 80), bool)
    for (top, left), (bottom, right) in plane.overlaps(box).astype(int):
        shared[top:bottom, left:right] = True
    expected = np.zeros((60, 80), int)
    for y, x in plane.start:
        expected[y : y + 16, x : x + 20] += 1
    np.testing.assert_array_equal(shared[24:40, 30:50], expected[24:40, 30:50] > 1)
    assert shared.sum() == shared[24:40, 30:50].sum()
    assert plane.box_of(10_000) is None
    assert plane[np.array([0, 1])].box_of(row) is None


def test_an_example_is_a_patch_that_overlaps_others_near_a_point() -> None:
    assert tiles(48, 80).example(20, 20) is None
    shifted = tiles(50, 80)  # the last row is shifted over the one above
    row = shifted.example(0, 0)
    assert row is not None
    assert shifted.start[row].tolist() == [32, 0]
    plane = tiles(60, 80, overlap=(4, 5))
    assert plane.example(32, 40) == plane.row_at(32, 40)


def test_a_volume_has_twelve_edges() -> None:
    lines = volume_segments(np.array([[2, 4, 6]], np.int32), (3, 5, 7))
    assert lines.shape == (12, 2, 3)
    ends = np.concatenate([lines[:, 0], lines.sum(axis=1)]) + 0.5
    assert {tuple(end) for end in ends.tolist()} == {
        (z, y, x) for z in (2, 5) for y in (4, 9) for x in (6, 13)
    }
    assert sorted(lines[:, 1].sum(axis=1).tolist()) == [3] * 4 + [5] * 4 + [7] * 4


def test_a_halo_lies_on_both_sides_of_each_line_within_all_of_them() -> None:
    hull = [[[-9, -9], [0, 40]], [[-9, -9], [40, 0]], [[-9, 31], [40, 0]], [[31, -9], [0, 40]]]
    lines = np.array([[[0, 0], [0, 10]], [[0, 0], [5, 0]], [[1, 1], [3, 4]], *hull], float)
    around = halo(lines, 2).reshape(2, -1, 2, 2)[:, :3]
    np.testing.assert_allclose(around[:, :, 1], np.stack([lines[:3, 1]] * 2))
    aside = around[:, :, 0] - lines[:3, 0]
    np.testing.assert_allclose(np.hypot(*np.moveaxis(aside, 2, 0)), 2)
    np.testing.assert_allclose((aside * around[:, :, 1]).sum(axis=2), 0, atol=1e-12)
    ends = halo(lines, 2).cumsum(axis=1)
    assert (ends.min(), ends.max()) == (-9, 31)


def test_the_hull_lies_around_all_patches() -> None:
    hull = hull_segments(tiles(60, 80))
    assert drawn(hull, (60, 80)).sum() == 2 * (60 + 80)


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


def test_a_frame_is_as_wide_along_y_as_along_x_where_pixels_are_not_square() -> None:
    box = np.array([[10.0, 20.0], [50.0, 80.0]])
    mesh = highlight_mesh(np.empty((0, 2, 2)), [(box, 2)], np.array([0.25, 1]), 0.4)
    (top, left), (bottom, right) = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    dark = mesh.vertices[:16].reshape(4, 4, 2)
    assert np.ptp(dark[0], axis=0).tolist() == [4 * 0.25, right - left]
    assert np.ptp(dark[2], axis=0).tolist() == [bottom - top - 2 * 4 * 0.25, 4]


def test_a_small_box_has_a_frame_that_can_be_seen() -> None:
    box = np.array([[10.0, 20.0], [11.0, 21.0]])
    mesh = highlight_mesh(np.empty((0, 2, 2)), [(box, 2)], 1, 0.4)
    assert np.ptp(mesh.vertices, axis=0).tolist() == [outlines._LEAST] * 2


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=8)
)
def test_overlaps_are_shaded_once(places: list[tuple[int, int, int, int]]) -> None:
    boxes = np.array([[(y, x), (y + h, x + w)] for y, x, h, w in places], float)
    mask = np.zeros((30, 30), bool)
    for y, x, h, w in places:
        mask[y : y + h, x : x + w] = True
    assert area(highlight_mesh(boxes, [], 1, 0.4)) == mask.sum()
