"""The picture of patches that are too many for outlines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import Tiled
from napari_patchset.preview import raster
from napari_patchset.preview.categories import PatchCategory
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.preview.raster import PatchRaster, rasterize
from support.plane_patches import CYAN, RED, VIOLET, YELLOW, grid_over, plane_of


def test_a_raster_has_a_cell_for_each_patch_of_a_grid() -> None:
    plane = plane_of(grid_over(1, 1, 32, 72, strategy=Tiled(size=(16, 24), overlap=(8, 12))), 0, 3)
    picture, covered, low, cell = rasterize(plane, (8, 12))
    assert picture.shape == (3, 5, 4)
    assert covered.all()
    assert (low, cell) == ((4.0, 6.0), (8.0, 12.0))
    colors = picture.reshape(-1, 4)
    assert not colors[::2, 3].any()  # training patches do not veil the image
    assert {tuple(color) for color in colors[1::2].tolist()} == {(*RED, raster._ALPHA)}


def test_a_coarse_raster_mixes_the_colours_and_leaves_gaps_transparent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raster, "MAX_CELLS", 2)
    plane = plane_of(grid_over(1, 1, 8, 64, strategy=Tiled(size=(8, 8))), 3, 1, 0, 1)
    picture, _, _, cell = rasterize(plane[np.array([0, 1, 6, 7])], (8, 8))
    assert cell == (8, 32)
    assert picture[0, 0, :3].tolist() == [(a + b) // 2 for a, b in zip(RED, CYAN, strict=True)]
    assert picture[0, :, 3].tolist() == [raster._ALPHA, raster._ALPHA // 2]
    assert picture[0, 1, :3].tolist() == list(CYAN)
    monkeypatch.undo()
    sparse = rasterize(plane[np.array([0, 4])], (8, 8))
    assert (sparse.picture[0, :, 3] > 0).tolist() == [True, False, False, False, True]
    assert sparse.covered.tolist() == [[True, False, False, False, True]]


@given(
    covered=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6),
    most=st.integers(8, 200),
)
def test_the_outline_lies_around_what_is_covered(covered: list[list[bool]], most: int) -> None:
    mask = np.array(covered)
    cells = PatchRaster(np.empty(0, np.uint8), mask, (10.0, 20.0), (2.0, 3.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster, "_MAX_LINES", most)
        lines = cells.outline()
    assert len(lines) <= most
    if most == 200:
        length = np.abs(lines[:, 1]).sum(axis=0) / (2, 3)
        around = np.pad(mask, 1)
        assert length[0] == np.diff(around, axis=1).sum()
        assert length[1] == np.diff(around, axis=0).sum()
    if mask.any():
        assert lines[:, 0].min(axis=0) == pytest.approx(
            np.argwhere(mask).min(axis=0) * (2, 3) + (9.5, 19.5), abs=6 * (most < 200)
        )


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
        patch.setattr(raster, "MAX_CELLS", most)
        picture, covered, low, cell = rasterize(plane, step)
    centre = start + np.array(plane.size) / 2
    in_cell = np.floor((centre - low) / cell).astype(int)
    colors = np.array([YELLOW, CYAN, VIOLET, RED])[category]
    for y, x in np.ndindex(picture.shape[:2]):
        inside = (in_cell == (y, x)).all(axis=1)
        assert covered[y, x] == inside.any()
        others = inside & (np.array(category) != PatchCategory.TRAIN)
        share = others.sum() / max(1, inside.sum())
        assert abs(picture[y, x, 3] - raster._ALPHA * share) < 1
        if others.any():
            assert np.abs(picture[y, x, :3] - colors[others].mean(axis=0)).max() < 1
    assert (in_cell >= 0).all()
    assert (in_cell < picture.shape[:2]).all()
