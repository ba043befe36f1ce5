"""Tiled: starts, coverage, overlap and order, and how tiles are put together again."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid, axis_starts
from napari_patchset.patching.padding import axis_padding_indices
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patching.strategies.tiled import crop_axis
from support.strategy_makers import axes, box, cases, source, without_holes

EDGES = ("shift", "drop", "pad", "balance")


def careamics_tiles(n: int, size: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """CAREamics 0.3.5's tiled patching along one axis, restated: start, crop, crop size, stitch."""
    tiles: list[tuple[int, int, int, int]] = []
    for i in range(0, max(1, n - overlap), size - overlap):
        if i == 0:
            tiles.append((0, 0, n if n <= size else size - overlap // 2, 0))
        elif i + size < n:
            half = overlap // 2
            tiles.append((i, half, size - overlap, i + half))
        else:
            *_, before, stitch = tiles[-1]
            start, end = max(0, n - size), stitch + before
            tiles.append((start, end - start, n - end, end))
    return tiles


def test_shift_gives_the_documented_tiles() -> None:
    starts = axis_starts(200, 64, 16, "shift")
    assert starts.tolist() == [0, 48, 96, 136]
    crops = crop_axis(starts, 200, 64, 16)
    assert crops.crop_coords.tolist() == [0, 8, 8, 16]
    assert crops.crop_size.tolist() == [56, 48, 48, 48]


@given(axes())
def test_shift_gives_careamics_tiles(axis: tuple[int, int, int]) -> None:
    starts = axis_starts(*axis, "shift")
    tiles = np.stack([starts, *crop_axis(starts, *axis)], axis=1)
    assert [tuple(tile) for tile in tiles.tolist()] == careamics_tiles(*axis)


@given(cases(), st.integers(0, 5), st.booleans())
def test_cropped_tiles_make_the_image_again(case: tuple, overlap: int, narrowed: bool) -> None:
    size, sources = case
    sources = [info.model_copy(update={"starts": {}}) for info in without_holes(sources)]
    narrowed &= len(size) == 3 and sources[0].spatial_shape[0] > size[0]
    strategy = Tiled(
        size=size,
        overlap=[min(overlap, p - 1) for p in size],
        select={"Z": (1, None)} if narrowed else {},
    )
    grid = strategy.plan(sources)[::-1]
    crops = strategy.crops(grid, sources)
    for i, info in enumerate(sources):
        image = np.arange(prod(info.spatial_shape)).reshape(info.spatial_shape)
        made = np.full((info.n_samples, *image.shape), -1)
        for row in np.flatnonzero(grid.source_index == i):
            start, crop, length, stitch = (column[row] for column in (grid.start, *crops))
            tile = image[box(start, size)]
            made[grid.sample[row]][box(stitch, length)] = tile[box(crop, length)]
        first = 1 if narrowed else 0
        np.testing.assert_array_equal(
            made[:, first:], np.broadcast_to(image, made.shape)[:, first:]
        )


def test_only_shifted_tiles_are_put_together_again() -> None:
    tiled, image = Tiled(size=(8, 8), edge="balance"), [source(1, 1, 20, 20)]
    with pytest.raises(ArgumentError, match="'balance' can't be stitched"):
        tiled.crops(tiled.plan(image), image)


@given(cases(), st.sampled_from(EDGES), st.integers(0, 5))
def test_a_grid_covers_the_image_with_the_overlap_asked_for(
    case: tuple, edge: str, overlap: int
) -> None:
    size, sources = case
    overlaps = [min(overlap, p - 1) for p in size]
    strategy = Tiled(size=size, overlap=overlaps, edge=edge)
    grid = strategy.plan(without_holes(sources[:1]))
    covered = np.zeros((sources[0].n_samples, *sources[0].spatial_shape), bool)
    for _, sample, start, _ in grid:
        covered[sample][box(start, size)] = True
    assert covered.all() or edge == "drop"
    for axis, (p, o) in enumerate(zip(size, overlaps, strict=True)):
        steps = np.diff(np.unique(grid.start[:, axis]))
        whole = steps[:-1] if edge == "shift" else steps
        assert (whole == p - o).all() or (edge == "balance" and (steps <= p - o).all())


@given(axes(), st.sampled_from(EDGES))
def test_starts_ascend_without_duplicates(axis: tuple[int, int, int], edge: str) -> None:
    starts = axis_starts(*axis, edge)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()


@given(axes(), st.sampled_from(("shift", "balance", "pad")))
def test_every_pixel_is_covered(axis: tuple[int, int, int], edge: str) -> None:
    n, size, _ = axis
    covered = {pixel for start in axis_starts(*axis, edge) for pixel in range(start, start + size)}
    assert covered >= set(range(n))


@given(axes(), st.sampled_from(("shift", "balance", "drop")))
def test_no_patch_reaches_past_the_end(axis: tuple[int, int, int], edge: str) -> None:
    n, size, _ = axis
    if n >= size:
        assert axis_starts(*axis, edge)[-1] + size <= n


@given(axes())
def test_overlap_is_as_asked_and_balance_spreads_evenly(axis: tuple[int, int, int]) -> None:
    n, size, overlap = axis
    assert set(np.diff(axis_starts(*axis, "pad"))) <= {size - overlap}
    gaps = np.diff(axis_starts(*axis, "balance"))
    assert np.ptp(gaps) <= 1 if n > size and len(gaps) else True


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20))
@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
def test_padding_is_numpys_on_the_whole_image(mode: str, start: int, size: int, n: int) -> None:
    padded = np.pad(np.arange(n), 120, mode)
    expected = padded[start + 120 : start + 120 + size]
    assert axis_padding_indices(start, size, n, mode).tolist() == expected.tolist()


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("block", [None, (64, 64), (7, 1000)])
def test_the_order_changes_with_the_tiles_and_nothing_else(
    edge: str, block: tuple[int, int] | None
) -> None:
    strategy = Tiled(size=(16, 24), overlap=(4, 0), edge=edge)
    plain = strategy.plan([source(2, 1, 150, 131)])
    ordered = strategy.plan([source(2, 1, 150, 131, block_shape=block)])
    assert sorted(plain) == sorted(ordered)


def test_patches_of_one_tile_follow_each_other() -> None:
    grid = Tiled(size=(16, 16)).plan([source(1, 1, 128, 128, block_shape=(64, 64))])
    tiles = [tuple(start // 64) for start in grid.start]
    assert len(list(dict.fromkeys(tiles))) == 4
    changes = sum(a != b for a, b in pairwise(tiles))
    assert changes == 3


def test_a_volume_is_cut_along_its_depth_axis() -> None:
    volume = source(2, 1, 9, 32, 32, axes="TCZYX", depth_axis="Z")
    grid = Tiled(size=(4, 16, 16), overlap=(1, 0, 0)).plan([volume])
    assert len(grid) == 2 * 3 * 2 * 2
    assert sorted(set(grid.start[:, 0].tolist())) == [0, 3, 5]


def test_a_small_image_is_padded_on_demand() -> None:
    assert len(Tiled(size=(64, 64), small="pad").plan([source(1, 1, 48, 100)])) == 2


@pytest.mark.parametrize(
    ("size", "overlap"),
    [((0, 8), ()), ((), ()), ((8, 8), (8, 0)), ((8, 8), (1, 1, 1)), ((8, 8), (-1, 0))],
)
def test_impossible_sizes_and_overlaps_are_refused(size: tuple, overlap: tuple) -> None:
    with pytest.raises(ValidationError):
        Tiled(size=size, overlap=overlap)


def test_a_million_patches_take_little_memory() -> None:
    grid = Tiled(size=(64, 64), overlap=(16, 16)).plan([source(1, 1, 48000, 48000)])
    assert len(grid) == 1_000_000
    assert grid.nbytes <= 16 * 2**20


@pytest.mark.parametrize("overlap", [(0, 0), (3, 5)])
def test_rows_are_patches_side_by_side_and_leave_none_out(overlap: tuple[int, int]) -> None:
    images = [source(2, 1, 40, 90, block_shape=(16, 50)), source(1, 1, 8, 8)]
    grid = Tiled(size=(8, 8), overlap=overlap).plan(images)
    rows = list(grid.runs(longest=5))
    assert [i for row in rows for i in range(len(grid))[row]] == list(range(len(grid)))
    assert 1 < max(len(range(len(grid))[row]) for row in rows) <= 5
    for row in rows:
        first, *others = grid[row]
        for before, spec in pairwise([first, *others]):
            assert spec[:2] == before[:2]
            assert spec.start[0] == before.start[0]
            assert 0 < spec.start[1] - before.start[1] <= 8


def test_a_grid_is_sliced_and_iterated_like_a_sequence() -> None:
    grid = Tiled(size=(8, 8)).plan([source(1, 1, 16, 24)])
    assert isinstance(grid[1:3], PatchGrid)
    assert list(grid[1:3]) == [grid[1], grid[2]]
    assert list(grid[grid.start[:, 1] == 16]) == [grid[2], grid[5]]
    with pytest.raises(IndexError):
        grid[6]
