"""Where patches lie."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.lattice import axis_starts
from napari_patchset.patching.padding import source_indices
from napari_patchset.patching.strategies import MISSING_PLANE, TOO_SMALL, Tiled
from napari_patchset.source import SourceInfo

EDGES = ("shift", "drop", "pad", "balance")


def source(*shape: int, axes: str = "TCYX", **fields: object) -> SourceInfo:
    return SourceInfo(key="k", axes=axes, shape=shape, dtype="uint16", channels=("a",), **fields)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(st.integers(1, 40))
    return draw(st.integers(1, 200)), size, draw(st.integers(0, size - 1))


def careamics_starts(n: int, size: int, overlap: int) -> list[int]:
    """CAREamics 0.3.5's tiled patching along one axis, restated."""
    steps = range(0, max(1, n - overlap), size - overlap)
    return [i if i == 0 or i + size < n else max(0, n - size) for i in steps]


def test_shift_gives_the_documented_starts() -> None:
    assert axis_starts(200, 64, 16, "shift").tolist() == [0, 48, 96, 136]


@given(axes())
def test_shift_gives_careamics_starts(axis: tuple[int, int, int]) -> None:
    assert axis_starts(*axis, "shift").tolist() == careamics_starts(*axis)


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
    assert source_indices(start, size, n, mode).tolist() == expected.tolist()


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


def test_candidates_on_a_missing_plane_are_dropped_and_counted() -> None:
    volume = source(2, 1, 4, 16, 16, axes="TCZYX", depth_axis="Z")
    holed = volume.model_copy(update={"missing": frozenset({(1, 0, 3)})})
    grid = Tiled(size=(2, 16, 16)).plan([holed])
    assert [(spec.sample, spec.start[0]) for spec in grid] == [(0, 0), (0, 2), (1, 0)]
    assert grid.dropped == {MISSING_PLANE: 1}


def test_several_sources_make_one_grid() -> None:
    grid = Tiled(size=(16, 16)).plan([source(1, 1, 32, 32), source(2, 1, 16, 16)])
    assert grid.stack.tolist() == [0, 0, 0, 0, 1, 1]
    assert grid[-1] == (1, 1, (0, 0), (16, 16))


def test_a_patch_larger_than_the_image_names_both() -> None:
    with pytest.raises(ArgumentError, match=r"64 x 64 is larger than .* 48 x 100"):
        Tiled(size=(64, 64)).plan([source(1, 1, 48, 100)])


def test_a_small_image_is_skipped_or_padded_on_demand() -> None:
    small = [source(1, 1, 48, 100)]
    skipped = Tiled(size=(64, 64), small="skip").plan(small)
    assert len(skipped) == 0
    assert skipped.dropped == {TOO_SMALL: 1}
    assert len(Tiled(size=(64, 64), small="pad").plan(small)) == 2


def test_a_size_of_the_wrong_dimension_is_refused() -> None:
    with pytest.raises(ArgumentError, match="give 2 numbers"):
        Tiled(size=(8, 64, 64)).plan([source(1, 1, 100, 100)])


@pytest.mark.parametrize(
    ("size", "overlap"),
    [((0, 8), ()), ((8,), ()), ((8, 8), (8, 0)), ((8, 8), (1,)), ((8, 8), (-1, 0))],
)
def test_impossible_sizes_and_overlaps_are_refused(size: tuple, overlap: tuple) -> None:
    with pytest.raises(ValidationError):
        Tiled(size=size, overlap=overlap)


def test_a_million_patches_take_little_memory() -> None:
    grid = Tiled(size=(64, 64), overlap=(16, 16)).plan([source(1, 1, 48000, 48000)])
    assert len(grid) == 1_000_000
    assert grid.nbytes <= 16 * 2**20


def test_a_grid_is_sliced_and_iterated_like_a_sequence() -> None:
    grid = Tiled(size=(8, 8)).plan([source(1, 1, 16, 24)])
    assert isinstance(grid[1:3], PatchGrid)
    assert list(grid[1:3]) == [grid[1], grid[2]]
    assert list(grid[grid.start[:, 1] == 16]) == [grid[2], grid[5]]
    with pytest.raises(IndexError):
        grid[6]
