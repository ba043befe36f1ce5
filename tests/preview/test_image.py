"""Pictures of an image, of the patches on it, and contact sheets."""

import numpy as np
import pytest

from napari_patchset import InMemoryImageStack, Tiled
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.preview.categories import CATEGORY_COLORS, patch_categories
from napari_patchset.preview.image import (
    composite,
    display_limits,
    draw_patches,
    overview,
    render,
)
from napari_patchset.stacks.metadata import Channel, channel_colors
from support.plane_patches import CYAN, YELLOW, grid_over, plane_of


@pytest.mark.parametrize(
    ("plane", "limits"),
    [
        (np.arange(10_001), (10, 9990)),
        (np.array([np.nan, 0, 1, np.inf]), (0.001, 0.999)),
        (np.array([3 + 4j, 0]), (0.005, 4.995)),
        (np.array([True, False]), (0.001, 0.999)),
        (np.full(4, np.nan), (0, 1)),
        (np.full(4, 7, np.uint8), (0, 7)),
        (np.zeros(4, np.uint8), (0, 1)),
    ],
)
def test_display_limits_ignore_the_extremes(plane: np.ndarray, limits: tuple[float, float]) -> None:
    assert display_limits(plane) == pytest.approx(limits)


def test_categories_follow_the_verdicts() -> None:
    split, reason = np.array([0, 1, 0, -1], np.int8), np.array([-1, -1, 0, 1], np.int8)
    assert patch_categories(Verdicts(("train", "val"), split, reason)).tolist() == [0, 1, 3, 3]
    assert patch_categories(Verdicts(("train", "test"), split, reason)).tolist() == [0, 2, 3, 3]


def test_outlines_lie_on_the_border_pixels_of_each_patch() -> None:
    plane = plane_of(grid_over(1, 1, 16, 16, strategy=Tiled(size=(8, 8))), 0, 1)
    picture = draw_patches(np.zeros((32, 32, 3), np.uint8), plane, scale=2)
    yellow, cyan = ((picture == color).all(axis=-1) for color in (YELLOW, CYAN))
    border = [0, 15, 16, 31]
    assert (yellow | cyan)[border].all()
    assert (yellow | cyan)[:, border].all()
    assert yellow.sum() == cyan.sum() == 2 * (2 * 16 + 2 * 14)


def test_padded_patches_enlarge_the_picture() -> None:
    plane = plane_of(grid_over(1, 1, 10, 16, strategy=Tiled(size=(8, 8), edge="pad")))
    assert draw_patches(np.zeros((10, 16, 3), np.uint8), plane, scale=1).shape == (16, 16, 3)


def test_channels_add_up_in_their_colours_and_contrast() -> None:
    planes = np.array([[[0, 100, 200]], [[50, 50, 50]]], np.uint16)
    channels = [Channel("a", "#0000ff", (0, 200)), Channel("b", "#00ff00", (0, 100))]
    assert composite(planes, channels).tolist() == [[[0, 127, 0], [0, 127, 127], [0, 127, 255]]]


def test_complex_pixels_are_shown_by_their_magnitude() -> None:
    grey = np.array([[[1, 2], [3, 4]]], np.float32)
    channel = [Channel("a", None, (0, 4))]
    assert np.array_equal(composite(1j * grey, channel), composite(grey, channel))


def test_channels_without_a_colour_get_different_ones() -> None:
    colors = channel_colors([Channel("a"), Channel("b", "#123456"), Channel("c")])
    assert colors[1] == "#123456"
    assert len(set(colors)) == 3
    assert channel_colors([Channel("a")]) == ["#ffffff"]


def test_colors_of_channels_are_none_of_those_that_patches_are_framed_in() -> None:
    def near(one: str, other: str) -> float:
        a, b = (np.array([int(each[i : i + 2], 16) for i in (1, 3, 5)]) for each in (one, other))
        return float(np.linalg.norm(a - b))

    colors = channel_colors([Channel(str(i)) for i in range(6)])
    assert len(set(colors)) == 6
    assert min(near(a, b) for a in colors for b in CATEGORY_COLORS) > 90


def test_the_overview_is_the_finest_level_that_fits() -> None:
    class Pyramid(InMemoryImageStack):
        @property
        def levels(self) -> list[InMemoryImageStack]:
            return [self, *(InMemoryImageStack("array", self._data[..., ::f, ::f]) for f in (2, 4))]

    data = np.arange(64 * 64, dtype=np.uint16).reshape(1, 1, 64, 64)
    planes, scale = overview(Pyramid("array", data), 0, longest=40)
    np.testing.assert_array_equal(planes, data[0, :, ::2, ::2])
    assert scale == 0.5


def test_a_small_image_is_enlarged() -> None:
    stack = InMemoryImageStack("array", np.ones((2, 1, 3, 30, 40), np.uint16))
    grid = grid_over(2, 1, 3, 30, 40, strategy=Tiled(size=(1, 10, 10)), depth_axis="Z")
    category = np.zeros(len(grid), np.uint8)
    assert render(stack, grid, category, sample=1, depth=2).shape == (750, 1000, 3)
