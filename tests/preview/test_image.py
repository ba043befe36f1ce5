"""The picture of a grid on an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import InMemoryImageStack, Random, Tiled
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.preview import (
    CATEGORY_COLORS,
    PatchCategory,
    PlanePatches,
    channel_colors,
    composite,
    contact_sheet,
    display_limits,
    draw_grid,
    outline_segments,
    overview,
    patch_categories,
    random_rows,
    rasterize,
    render,
)
from napari_patchset.preview import raster as raster_module
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.metadata import Channel

YELLOW, CYAN, RED = (255, 214, 10), (64, 224, 255), (255, 69, 58)


@pytest.mark.parametrize(
    ("plane", "limits"),
    [
        (np.arange(10_001), (10, 9990)),
        (np.array([np.nan, 0, 1, np.inf]), (0.001, 0.999)),
        (np.array([3 + 4j, 0]), (0.005, 4.995)),
        (np.array([True, False]), (0.001, 0.999)),
        (np.full(4, np.nan), (0, 1)),
        (np.full(4, 7, np.uint8), (7, 8)),
    ],
)
def test_display_limits_leave_out_the_extremes(
    plane: np.ndarray, limits: tuple[float, float]
) -> None:
    assert display_limits(plane) == pytest.approx(limits)


def grid_over(*shape: int, strategy: Strategy, depth_axis: str = "none") -> PatchGrid:
    axes = "TCYX" if depth_axis == "none" else "TCZYX"
    info = SourceInfo(
        key="k", axes=axes, shape=shape, dtype="uint16", channels=("a",), depth_axis=depth_axis
    )
    return strategy.plan([info])


def plane_of(
    grid: PatchGrid, *category: int, sample: int = 0, depth: int | None = None
) -> PlanePatches:
    """Give the shown plane; the categories are repeated over the patches."""
    return PlanePatches.of(
        grid, np.resize(category or (0,), len(grid)).astype(np.uint8), 0, sample, depth
    )


def tiles(height: int, width: int, overlap: tuple[int, int] = (0, 0)) -> PlanePatches:
    """Give the 16 x 20 tiles of a plane."""
    return plane_of(grid_over(1, 1, height, width, strategy=Tiled(size=(16, 20), overlap=overlap)))


def drawn(lines: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draw lines given as start and extent, measured from pixel centres, on a canvas."""
    canvas = np.zeros((shape[0] + 1, shape[1] + 1), bool)
    shifted = lines + np.array([[0.5, 0.5], [0, 0]])
    for (y, x), (dy, dx) in shifted.astype(int):
        canvas[y : y + dy + 1, x : x + dx + 1] = True
    return canvas


def each_alone(plane: PlanePatches) -> np.ndarray:
    return np.concatenate([outline_segments(plane[np.array([i])]).data for i in range(len(plane))])


@pytest.mark.parametrize("overlap", [(0, 0), (3, 5)])
def test_a_lattice_shares_its_lines_and_looks_the_same(overlap: tuple[int, int]) -> None:
    plane = tiles(60, 80, overlap)
    shared, alone = outline_segments(plane).data, each_alone(plane)
    np.testing.assert_array_equal(drawn(shared, (60, 80)), drawn(alone, (60, 80)))
    assert len(shared) < len(alone) / 2


def test_patches_that_form_no_lattice_each_have_four_lines() -> None:
    some = tiles(60, 80)[np.array([0, 2, 5])]
    lines = outline_segments(some, inset=2).data
    assert len(lines) == 12
    np.testing.assert_array_equal(drawn(lines, (60, 80)), drawn(each_alone(some), (60, 80)))


def test_patches_of_different_categories_do_not_hide_each_other() -> None:
    plane = plane_of(grid_over(1, 1, 16, 48, strategy=Tiled(size=(16, 16))), 0, 1, 2)
    lines = outline_segments(plane, inset=1)
    for number, category in enumerate(PatchCategory):
        starts, extents = lines.data[lines.category == category].swapaxes(0, 1)
        left = 16 * number + 1 - 0.5
        assert starts[:, 1].min() == left
        assert (starts + extents)[:, 1].max() == left + 14
        struck = (extents == 14).all(axis=1).sum()
        assert struck == (category == PatchCategory.REJECTED)


def test_a_million_patches_take_a_few_thousand_lines() -> None:
    strategy = Tiled(size=(64, 64), overlap=(16, 16))
    assert (
        len(outline_segments(plane_of(grid_over(1, 1, 48000, 48000, strategy=strategy))).data)
        <= 4000
    )


def test_no_patch_takes_no_line() -> None:
    nothing = tiles(60, 80)[np.array([], int)]
    assert outline_segments(nothing).data.shape == (0, 2, 2)


def test_the_shown_plane_has_the_patches_that_hold_it() -> None:
    strategy = Tiled(size=(3, 8, 8), overlap=(1, 0, 0))
    grid = grid_over(2, 1, 7, 8, 8, strategy=strategy, depth_axis="Z")
    assert grid.start[:, 0].tolist() == [0, 2, 4] * 2
    assert plane_of(grid, sample=1, depth=2).rows.tolist() == [3, 4]
    assert plane_of(grid, sample=1, depth=6).rows.tolist() == [5]
    assert len(PlanePatches.of(grid, np.zeros(6, np.uint8), 1, 0, 2)) == 0


def test_in_view_are_the_patches_that_the_window_touches() -> None:
    plane = plane_of(grid_over(1, 1, 64, 64, strategy=Random(size=(8, 8), count=300)))
    low, high = (10.5, 20.0), (30.0, 33.25)
    seen = set(plane[plane.in_view(low, high)].rows.tolist())
    for row, (y, x) in zip(plane.rows.tolist(), plane.start.tolist(), strict=True):
        touches = y < high[0] and y + 8 > low[0] and x < high[1] and x + 8 > low[1]
        assert (row in seen) == touches


def test_a_point_belongs_to_the_patch_with_the_nearest_centre() -> None:
    plane = plane_of(grid_over(1, 1, 40, 40, strategy=Tiled(size=(16, 16), overlap=(8, 8))))
    assert plane.at(1, 1) == 0
    assert plane.start[plane.at(20, 25)].tolist() == [8, 16]
    assert plane.at(41, 5) is None


def test_what_becomes_of_a_patch_has_a_category() -> None:
    split, reason = np.array([0, 1, 0, -1], np.int8), np.array([-1, -1, 0, 1], np.int8)
    assert patch_categories(Verdicts(("train", "val"), split, reason)).tolist() == [0, 1, 2, 2]


def test_a_raster_has_a_cell_for_each_patch_of_a_lattice() -> None:
    plane = plane_of(grid_over(1, 1, 32, 72, strategy=Tiled(size=(16, 24), overlap=(8, 12))), 0, 2)
    picture, low, cell = rasterize(plane, (8, 12))
    assert picture.shape == (3, 5, 4)
    assert (low, cell) == ((4.0, 6.0), (8.0, 12.0))
    colors = picture[..., :3].reshape(-1, 3)
    assert {tuple(color) for color in colors[::2].tolist()} == {YELLOW}
    assert {tuple(color) for color in colors[1::2].tolist()} == {RED}
    assert (picture[..., 3] == 255).all()


def test_a_coarse_raster_mixes_the_colours_and_leaves_gaps_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raster_module, "MOST_CELLS", 2)
    plane = plane_of(grid_over(1, 1, 8, 64, strategy=Tiled(size=(8, 8))), 0, 1)
    picture, _, cell = rasterize(plane[np.array([0, 1, 7])], (8, 8))
    assert cell == (8, 32)
    assert picture[0, 0, :3].tolist() == [(a + b) // 2 for a, b in zip(YELLOW, CYAN, strict=True)]
    assert picture[0, 1, :3].tolist() == list(CYAN)
    sparse = rasterize(plane[np.array([0, 4])], (8, 8)).picture
    assert sparse[0, :, 3].tolist() == [255, 255]
    monkeypatch.undo()
    assert rasterize(plane[np.array([0, 4])], (8, 8)).picture[0, :, 3].tolist() == [
        255,
        0,
        0,
        0,
        255,
    ]


@given(
    starts=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=60),
    step=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    most=st.integers(1, 12),
    data=st.data(),
)
def test_each_cell_has_the_mean_colour_of_the_patches_whose_centres_lie_in_it(
    starts: list[tuple[int, int]], step: tuple[int, int], most: int, data: st.DataObject
) -> None:
    category = [data.draw(st.sampled_from(PatchCategory)) for _ in starts]
    start = np.asfortranarray(starts, np.int32)
    plane = PlanePatches(np.arange(len(starts)), start, (7, 9), np.array(category, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster_module, "MOST_CELLS", most)
        picture, low, cell = rasterize(plane, step)
    centre = start + np.array(plane.size) / 2
    at = np.floor((centre - low) / cell).astype(int)
    colors = np.array([YELLOW, CYAN, RED])[category]
    for y, x in np.ndindex(picture.shape[:2]):
        inside = (at == (y, x)).all(axis=1)
        assert picture[y, x, 3] == 255 * inside.any()
        if inside.any():
            assert np.abs(picture[y, x, :3] - colors[inside].mean(axis=0)).max() < 1
    assert (at >= 0).all()
    assert (at < picture.shape[:2]).all()


def test_outlines_lie_on_the_border_pixels_of_each_patch() -> None:
    plane = plane_of(grid_over(1, 1, 16, 16, strategy=Tiled(size=(8, 8))), 0, 1)
    picture = draw_grid(np.zeros((32, 32, 3), np.uint8), plane, scale=2)
    yellow, cyan = ((picture == color).all(axis=-1) for color in (YELLOW, CYAN))
    border = [0, 15, 16, 31]
    assert (yellow | cyan)[border].all()
    assert (yellow | cyan)[:, border].all()
    assert yellow.sum() == cyan.sum() == 2 * (2 * 16 + 2 * 14)


def test_padded_patches_enlarge_the_picture() -> None:
    plane = plane_of(grid_over(1, 1, 10, 16, strategy=Tiled(size=(8, 8), edge="pad")))
    assert draw_grid(np.zeros((10, 16, 3), np.uint8), plane, scale=1).shape == (16, 16, 3)


def test_channels_add_up_in_their_colours_and_contrast() -> None:
    planes = np.array([[[0, 100, 200]], [[50, 50, 50]]], np.uint16)
    channels = [Channel("a", "#0000ff", (0, 200)), Channel("b", "#00ff00", (0, 100))]
    assert composite(planes, channels).tolist() == [[[0, 127, 0], [0, 127, 127], [0, 127, 255]]]


def test_channels_without_a_colour_get_different_ones() -> None:
    colors = channel_colors([Channel("a"), Channel("b", "#123456"), Channel("c")])
    assert colors[1] == "#123456"
    assert len(set(colors)) == 3
    assert channel_colors([Channel("a")]) == ["#ffffff"]


def test_the_overview_is_the_finest_level_that_fits() -> None:
    class Pyramid(InMemoryImageStack):
        @property
        def levels(self) -> list[InMemoryImageStack]:
            return [self, *(InMemoryImageStack("array", self._data[..., ::f, ::f]) for f in (2, 4))]

    data = np.arange(64 * 64, dtype=np.uint16).reshape(1, 1, 64, 64)
    planes, scale = overview(Pyramid("array", data), 0, longest=40)
    np.testing.assert_array_equal(planes, data[0, :, ::2, ::2])
    assert scale == 0.5


def test_a_small_image_is_enlarged_to_be_looked_at() -> None:
    stack = InMemoryImageStack("array", np.ones((2, 1, 3, 30, 40), np.uint16))
    grid = grid_over(2, 1, 3, 30, 40, strategy=Tiled(size=(1, 10, 10)), depth_axis="Z")
    assert render(stack, grid, 0, sample=1, depth=2).shape == (750, 1000, 3)


def test_a_contact_sheet_lays_framed_pictures_out_in_rows() -> None:
    pictures = [np.full((3, 5, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(pictures, [CATEGORY_COLORS[i] for i in (0, 1, 2)], width=2 * 11 + 4)
    assert sheet.shape == (4 + 2 * 9, 4 + 2 * 11, 3)
    for value, frame, (y, x) in zip(
        (10, 20, 30), (YELLOW, CYAN, RED), ((4, 4), (4, 15), (13, 4)), strict=True
    ):
        assert sheet[y, x].tolist() == sheet[y + 4, x + 6].tolist() == list(frame)
        assert (sheet[y + 1 : y + 4, x + 1 : x + 6] == value).all()


def test_a_sample_of_rows_names_none_twice_and_is_the_same_again() -> None:
    candidates = np.arange(100, 200)
    rows = random_rows(candidates, 30, seed=1)
    assert len(set(rows.tolist())) == 30
    assert set(rows.tolist()) <= set(candidates.tolist())
    np.testing.assert_array_equal(rows, random_rows(candidates, 30, seed=1))
    assert random_rows(candidates[:3], 30, seed=1).tolist() == [100, 101, 102]
