"""Where the map draws the scenes of a file."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.plugin.layers.scene_layout import GAP, MIN_GAP, MIN_SIDE, Cell, lay_out
from napari_patchset.plugin.navigation import nearest_ahead
from napari_patchset.source import Rect

WIDTH, HEIGHT = 320, 240
PLATE = [Rect(9000 * column, -9000 * row, 1000, 800) for row in range(8) for column in range(12)]


def overlap(a: Rect | Cell, b: Rect | Cell) -> bool:
    across = a.x + a.w > b.x and b.x + b.w > a.x
    return across and a.y + a.h > b.y and b.y + b.h > a.y


def extent(cells: list[Cell]) -> tuple[float, float]:
    return max(c.x + c.w for c in cells), max(c.y + c.h for c in cells)


def test_two_sections_fill_the_map_side_by_side() -> None:
    left, right = lay_out([Rect(-50_000, 0, 4000, 3000), Rect(90_000, 200, 4000, 3000)], 320, 240)
    assert left.w == right.w == pytest.approx((WIDTH - GAP) / 2)
    assert left.w / left.h == pytest.approx(4 / 3)
    assert right.x - (left.x + left.w) == pytest.approx(GAP)


def test_a_plate_is_a_plate() -> None:
    cells = lay_out(PLATE, WIDTH, HEIGHT)
    assert len({cell.x for cell in cells}) == 12
    assert len({cell.y for cell in cells}) == 8
    assert cells[0].y > cells[-1].y
    assert min(min(cell.w, cell.h) for cell in cells) >= MIN_SIDE - 1e-6
    assert extent(cells)[0] <= WIDTH


def test_a_scene_much_smaller_than_the_other_can_still_be_hit() -> None:
    _, small = lay_out([Rect(0, 0, 100_000, 80_000), Rect(120_000, 90_000, 100, 200)], 320, 240)
    assert (small.w, small.h) == (pytest.approx(MIN_SIDE), pytest.approx(MIN_SIDE))


@pytest.mark.parametrize("count", [2, 3, 7, 96])
def test_scenes_without_positions_stand_in_rows(count: int) -> None:
    cells = lay_out([Rect(0, 0, 300, 200)] * count, WIDTH, HEIGHT)
    assert not any(overlap(a, b) for a, b in combinations(cells, 2))
    assert [(c.y, c.x) for c in cells] == sorted((c.y, c.x) for c in cells)
    assert extent(cells)[0] <= WIDTH


def test_more_scenes_than_the_map_has_room_for_reach_past_it() -> None:
    cells = lay_out([Rect(i * 100, 0, 50, 50) for i in range(100)], WIDTH, HEIGHT)
    assert {round(cell.w) for cell in cells} == {MIN_SIDE}
    assert cells[1].x - (cells[0].x + cells[0].w) == pytest.approx(MIN_GAP)


spot = st.integers(-(2**31), 2**31 - 1)
size = st.integers(1, 200_000)


@given(st.lists(st.builds(Rect, spot, spot, size, size), min_size=1, max_size=12))
def test_whatever_the_stage_holds_is_drawn_apart_and_in_order(rects: list[Rect]) -> None:
    cells = lay_out(rects, WIDTH, HEIGHT)
    assert min(min(cell.w, cell.h) for cell in cells) >= MIN_SIDE - 1e-6
    for (rect, cell), (other, its) in combinations(zip(rects, cells, strict=True), 2):
        if not overlap(rect, other):
            assert min(cell.x + cell.w - its.x, its.x + its.w - cell.x) <= 1e-6 or (
                min(cell.y + cell.h - its.y, its.y + its.h - cell.y) <= 1e-6
            )


@pytest.mark.parametrize(
    ("start", "right", "down", "expected"),
    [
        (0, 1, 0, 1),
        (0, -1, 0, None),
        (0, 0, -1, 12),
        (13, 0, 1, 1),
        (13, 1, 0, 14),
        (95, 1, 0, None),
        (11, 1, 0, None),
    ],
)
def test_the_arrows_find_the_neighbour(
    start: int, right: int, down: int, expected: int | None
) -> None:
    """The plate's rows rise as Y falls: row A lies lowest."""
    centers = [cell.center[::-1] for cell in lay_out(PLATE, WIDTH, HEIGHT)]
    assert nearest_ahead(centers, centers[start], right, down) == expected
