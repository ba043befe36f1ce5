"""Tiled: coverage, overlap and order, and the crops that stitch tiles."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import axis_starts
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patching.strategies.tiled import crop_axis
from napari_patchset.source import PixelSize
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


@pytest.mark.parametrize(("length", "pixels"), [("0um", 0), ("0.4um", 0), ("0.5um", 1), ("8um", 8)])
def test_an_overlap_in_micrometres_may_round_to_nothing(length: str, pixels: int) -> None:
    um = PixelSize(y=1, x=1)
    tiling = Tiled(size="16um", overlap=length).in_pixels(um, "a.tif")
    assert (tiling.size, tiling.overlap) == ((16, 16), (pixels, pixels))
    assert Tiled(size="0.1um").in_pixels(um, "a.tif").size == (1, 1)


def test_no_overlap_needs_no_pixel_size() -> None:
    assert Tiled(size=8, overlap="0um").in_pixels(PixelSize(), "a.tif").overlap == (0, 0)


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
def test_cropped_tiles_give_the_image(case: tuple, overlap: int, narrowed: bool) -> None:
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
        stitched = np.full((info.n_samples, *image.shape), -1)
        for row in np.flatnonzero(grid.source_index == i):
            start, crop, length, stitch = (column[row] for column in (grid.start, *crops))
            tile = image[box(start, size)]
            stitched[grid.sample[row]][box(stitch, length)] = tile[box(crop, length)]
        first = 1 if narrowed else 0
        np.testing.assert_array_equal(
            stitched[:, first:], np.broadcast_to(image, stitched.shape)[:, first:]
        )


def test_crops_of_lengths_are_those_of_the_pixels_that_were_planned() -> None:
    sized = source(1, 1, 90, 140).model_copy(update={"pixel_size": PixelSize(y=1, x=0.25)})
    sources = [sized, sized.model_copy(update={"key": "other"})]
    in_pixels = Tiled(size=(32, 16), overlap=(8, 3))
    lengths = Tiled(size=("32um", 16), overlap=(8, "0.75um"))
    grid = lengths.plan(sources)
    assert np.array_equal(grid.start, in_pixels.plan(sources).start)
    of_lengths, of_pixels = (each.crops(grid, sources) for each in (lengths, in_pixels))
    assert all(map(np.array_equal, of_lengths, of_pixels))


def test_only_shifted_tiles_can_be_stitched() -> None:
    tiled, image = Tiled(size=(8, 8), edge="balance"), [source(1, 1, 20, 20)]
    with pytest.raises(ArgumentError, match="'balance' can't be stitched"):
        tiled.crops(tiled.plan(image), image)


@given(cases(), st.sampled_from(EDGES), st.integers(0, 5))
def test_a_grid_covers_the_image_with_the_wanted_overlap(
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


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("block", [None, (64, 64), (7, 1000)])
def test_tiles_of_the_source_change_only_the_order(
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


def test_a_small_image_is_padded_if_wanted() -> None:
    assert len(Tiled(size=(64, 64), small="pad").plan([source(1, 1, 48, 100)])) == 2


@pytest.mark.parametrize(
    ("size", "overlap"),
    [((0, 8), ()), ((), ()), ((8, 8), (8, 0)), ((8, 8), (1, 1, 1)), ((8, 8), (-1, 0))],
)
def test_impossible_sizes_and_overlaps_are_refused(size: tuple, overlap: tuple) -> None:
    with pytest.raises(ArgumentError, match="Tiled: "):
        Tiled(size=size, overlap=overlap)


def test_a_million_patches_take_little_memory() -> None:
    grid = Tiled(size=(64, 64), overlap=(16, 16)).plan([source(1, 1, 48000, 48000)])
    assert len(grid) == 1_000_000
    columns = (grid.source_index, grid.sample, grid.start)
    assert sum(column.nbytes for column in columns) <= 16 * 2**20
