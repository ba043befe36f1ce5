"""The picture of a grid on an image."""

import numpy as np
import pytest

from napari_patchset import InMemoryImageStack, Tiled
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.preview import (
    channel_colors,
    composite,
    draw_grid,
    in_plane,
    outlines,
    overview,
    render,
)
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.metadata import Channel

YELLOW = (255, 214, 10)


def grid_over(*shape: int, strategy: Tiled, depth_axis: str = "none") -> PatchGrid:
    axes = "TCYX" if depth_axis == "none" else "TCZYX"
    info = SourceInfo(
        key="k", axes=axes, shape=shape, dtype="uint16", channels=("a",), depth_axis=depth_axis
    )
    return strategy.plan([info])


def rectangles(lines: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draw lines given as start and extent, measured from pixel centres, on a canvas."""
    canvas = np.zeros((shape[0] + 1, shape[1] + 1), bool)
    shifted = lines + np.array([[0.5, 0.5], [0, 0]])
    for (y, x), (dy, dx) in shifted.astype(int):
        canvas[y : y + dy + 1, x : x + dx + 1] = True
    return canvas


@pytest.mark.parametrize("overlap", [(0, 0), (3, 5)])
def test_a_lattice_shares_its_lines_and_looks_the_same(overlap: tuple[int, int]) -> None:
    grid = grid_over(1, 1, 60, 80, strategy=Tiled(size=(16, 20), overlap=overlap))
    shared = outlines(grid)
    alone = np.concatenate([outlines(grid[i : i + 1]) for i in range(len(grid))])
    np.testing.assert_array_equal(rectangles(shared, (60, 80)), rectangles(alone, (60, 80)))
    assert len(shared) < len(alone) / 2


def test_patches_that_form_no_lattice_each_have_four_lines() -> None:
    grid = grid_over(1, 1, 60, 80, strategy=Tiled(size=(16, 20)))
    some = grid[np.array([0, 2, 5])]
    lines = outlines(some)
    assert len(lines) == 12
    alone = np.concatenate([outlines(some[i : i + 1]) for i in range(3)])
    np.testing.assert_array_equal(rectangles(lines, (60, 80)), rectangles(alone, (60, 80)))


def test_a_million_patches_take_a_few_thousand_lines() -> None:
    grid = grid_over(1, 1, 48000, 48000, strategy=Tiled(size=(64, 64), overlap=(16, 16)))
    assert len(outlines(grid)) <= 4000


def test_no_patch_takes_no_line() -> None:
    grid = grid_over(1, 1, 8, 8, strategy=Tiled(size=(8, 8)))
    assert outlines(grid[:0]).shape == (0, 2, 2)


def test_the_shown_plane_has_the_patches_that_hold_it() -> None:
    strategy = Tiled(size=(3, 8, 8), overlap=(1, 0, 0))
    grid = grid_over(2, 1, 7, 8, 8, strategy=strategy, depth_axis="Z")
    assert grid.start[:, 0].tolist() == [0, 2, 4] * 2
    assert in_plane(grid, 0, 1, 2).start[:, 0].tolist() == [0, 2]
    assert len(in_plane(grid, 0, 1, 6)) == 1
    assert len(in_plane(grid, 1, 0, 2)) == 0


def test_outlines_lie_on_the_border_pixels_of_each_patch() -> None:
    grid = grid_over(1, 1, 16, 16, strategy=Tiled(size=(8, 8)))
    picture = draw_grid(np.zeros((32, 32, 3), np.uint8), grid, scale=2)
    drawn = (picture == YELLOW).all(axis=-1)
    border = [0, 15, 16, 31]
    assert drawn[border].all()
    assert drawn[:, border].all()
    assert drawn.sum() == 4 * 32 + 4 * 28


def test_padded_patches_enlarge_the_picture() -> None:
    grid = grid_over(1, 1, 10, 16, strategy=Tiled(size=(8, 8), edge="pad"))
    assert draw_grid(np.zeros((10, 16, 3), np.uint8), grid, scale=1).shape == (16, 16, 3)


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
