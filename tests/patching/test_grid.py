"""PatchGrid, the starts along an axis, and padding by the modes of NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.patching.grid import PatchGrid, axis_padding_indices, axis_starts
from napari_patchset.patching.strategies import Tiled
from support.strategy_makers import axes, source

EDGES = ("shift", "drop", "pad", "balance")


@given(axes(), st.sampled_from(EDGES))
def test_starts_ascend_without_duplicates(axis: tuple[int, int, int], edge: str) -> None:
    starts = axis_starts(*axis, edge)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()


@given(axes(), st.sampled_from(EDGES))
def test_an_axis_takes_as_many_patches_as_docs_patching_says(
    axis: tuple[int, int, int], edge: str
) -> None:
    n, size, overlap = axis
    expected = max(1, -((overlap - n) // (size - overlap)))  # rounded up
    one_less = edge == "drop" and n > size and (n - size) % (size - overlap) > 0
    assert len(axis_starts(*axis, edge)) == expected - one_less


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
def test_pad_has_the_wanted_overlap_and_balance_spreads_evenly(
    axis: tuple[int, int, int],
) -> None:
    n, size, overlap = axis
    assert set(np.diff(axis_starts(*axis, "pad"))) <= {size - overlap}
    gaps = np.diff(axis_starts(*axis, "balance"))
    assert np.ptp(gaps) <= 1 if n > size and len(gaps) else True


def test_a_grid_is_sliced_and_iterated_like_a_sequence() -> None:
    grid = Tiled(size=(8, 8)).plan([source(1, 1, 16, 24)])
    assert isinstance(grid[1:3], PatchGrid)
    assert list(grid[1:3]) == [grid[1], grid[2]]
    assert list(grid[grid.start[:, 1] == 16]) == [grid[2], grid[5]]
    with pytest.raises(IndexError):
        grid[6]


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20))
@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
def test_padding_is_numpys_on_the_whole_image(mode: str, start: int, size: int, n: int) -> None:
    padded = np.pad(np.arange(n), 120, mode)
    expected = padded[start + 120 : start + 120 + size]
    assert axis_padding_indices(start, size, n, mode).tolist() == expected.tolist()
