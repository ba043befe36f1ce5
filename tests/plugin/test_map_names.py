"""Where the map of the scenes writes their names."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QFont, QFontMetrics

from napari_patchset.plugin.layers.scene_layout import Cell, lay_out
from napari_patchset.plugin.scenes import map_names
from napari_patchset.plugin.scenes.map_names import MOST_BESIDE, PlacedName, place_names
from napari_patchset.source import Rect

SIZE = 346, 200


def place(labels: list[str], rects: list[Rect]) -> tuple[list[PlacedName], list[Cell]]:
    large, small = QFont(), QFont()
    large.setPixelSize(13)
    small.setPixelSize(9)
    cells = lay_out(rects, *SIZE)
    return place_names(labels, cells, SIZE, QFontMetrics(large), QFontMetrics(small)), cells


def overlap(a: Cell, b: Cell) -> bool:
    across = a.x + a.w > b.x + 1e-6 and b.x + b.w > a.x + 1e-6
    return across and a.y + a.h > b.y + 1e-6 and b.y + b.h > a.y + 1e-6


def test_a_name_is_on_its_thumbnail_or_beside_one_that_is_too_small(qtbot: QtBot) -> None:
    rects = [Rect(0, 0, 900, 900), Rect(2000, 100, 60, 40), Rect(2500, 600, 50, 60)]
    names, cells = place(["Tumour", "Control 1", "Control 2"], rects)
    assert [name.text for name in names] == ["Tumour", "Control 1", "Control 2"]
    assert [name.is_beside for name in names] == [False, True, True]
    assert overlap(names[0].place, cells[0])
    for name, cell in zip(names[1:], cells[1:], strict=True):
        across = max(name.place.x - cell.x - cell.w, cell.x - name.place.x - name.place.w)
        down = max(name.place.y - cell.y - cell.h, cell.y - name.place.y - name.place.h)
        assert max(across, down) <= 1e-6  # it touches its thumbnail


def test_without_space_the_end_of_a_name_is_seen(qtbot: QtBot) -> None:
    rects = [Rect(0, 0, 1600, 900), Rect(2000, 0, 60, 40), Rect(2000, 860, 60, 40)]
    names, cells = place(["Tumour", "Control 1", "Control 2"], rects)
    assert [name.text[-1] for name in names[1:]] == ["1", "2"]
    assert all(overlap(name.place, cell) for name, cell in zip(names, cells, strict=True))


def test_without_space_a_name_is_what_differs_from_the_others(qtbot: QtBot) -> None:
    rects = [Rect(150 * (i % 12), 130 * (i // 12), 100, 90) for i in range(96)]
    names, cells = place([f"Scene {i}" for i in range(96)], rects)
    inner = [i for i in range(96) if 0 < i % 12 < 11]
    assert [names[i].text for i in inner] == [str(i) for i in inner]
    assert all(names[i].place.w <= cells[i].w and not names[i].is_beside for i in inner)


@pytest.mark.parametrize("n", [MOST_BESIDE, 864, 3456])
def test_many_names_are_placed_with_few_comparisons(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """It is done while the map is painted; without a limit, 3,456 scenes took seconds."""
    compared, find = list[int](), map_names._space_beside

    def counted(cell: Cell, width: int, height: int, taken: Any, size: Any) -> Cell | None:
        compared.append(len(taken))
        return find(cell, width, height, taken, size)

    monkeypatch.setattr(map_names, "_space_beside", counted)
    rects = [Rect(150 * (i % 72), 130 * (i // 72), 100, 90) for i in range(n)]
    names, cells = place([f"Scene {i}" for i in range(n)], rects)
    assert sum(compared) <= 2 * MOST_BESIDE**2
    assert bool(compared) == (n <= MOST_BESIDE)
    assert all(
        name.is_beside or overlap(name.place, cell) for name, cell in zip(names, cells, strict=True)
    )


@given(
    st.lists(st.tuples(*[st.integers(0, 9000)] * 2, *[st.integers(1, 900)] * 2), min_size=1),
    st.text("ab -", max_size=20),
)
def test_names_beside_thumbnails_hide_nothing(
    qapp: object, places: list[tuple[int, int, int, int]], beginning: str
) -> None:
    rects = [Rect(*each) for each in places]
    names, cells = place([f"{beginning}{i}" for i in range(len(rects))], rects)
    beside = [name.place for name in names if name.is_beside]
    assert not any(overlap(name, cell) for name in beside for cell in cells)
    assert not any(overlap(a, b) for a, b in combinations(beside, 2))
    assert all(
        n.x >= 0 and n.y >= 0 and n.x + n.w <= SIZE[0] and n.y + n.h <= SIZE[1] for n in beside
    )
