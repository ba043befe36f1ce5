"""Blends against oracles: pixel by pixel, and the merger of another library."""

import numpy as np
import pytest
import tiler
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import ArgumentError
from napari_patchset.patching.grid import axis_starts
from napari_patchset.patching.strategies.tiled import crop_axis
from napari_patchset.stitching.blending import Box, PlacedPatches, blend_patches, check_blend


@st.composite
def placed(draw: st.DrawFn) -> tuple[PlacedPatches, np.ndarray, tuple[int, int]]:
    """Draw random patches of an image, and their predictions."""
    shape = draw(st.tuples(st.integers(4, 30), st.integers(4, 30)))
    size = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    n = draw(st.integers(0, 12))
    corner = st.tuples(*(st.integers(0, n - 1) for n in shape))
    start = np.array(draw(st.lists(corner, min_size=n, max_size=n)), np.int64).reshape(n, 2)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = rng.random((n, 2, *size), np.float32)
    return PlacedPatches(np.arange(n), start, size), pixels, shape


def boxes(shape: tuple[int, int], size: int) -> list[Box]:
    grid = [(y, x) for y in range(0, shape[0], size) for x in range(0, shape[1], size)]
    ends = ((min(y + size, shape[0]), min(x + size, shape[1])) for y, x in grid)
    return [Box(start, stop) for start, stop in zip(grid, ends, strict=True)]


def blended(
    blend: str, patches: PlacedPatches, pixels: np.ndarray, shape: tuple[int, int], box_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Blend box by box; pixels that no patch covers are -1."""
    image = np.full((pixels.shape[1], *shape), -1, pixels.dtype)
    covered = np.zeros(shape, bool)
    for box in boxes(shape, box_size):
        out = np.full((pixels.shape[1], *box.shape), -1, pixels.dtype)
        where = tuple(map(slice, box.start, box.stop))
        covered[where] = blend_patches(blend, box, patches, lambda a, b: pixels[a:b], out)
        image[:, *where] = out
    return image, covered


@given(placed(), st.integers(3, 40))
def test_each_pixel_is_of_the_patch_whose_border_is_farthest(case, box_size) -> None:
    patches, pixels, shape = case
    image, covered = blended("crop", patches, pixels, shape, box_size)
    for y, x in np.ndindex(*shape):
        best, chosen = 0, None
        for patch, (top, left) in enumerate(patches.start.tolist()):
            row, column = y - top, x - left
            height, width = patches.size
            depth = min(row + 1, height - row, column + 1, width - column)
            if depth > best:
                best, chosen = depth, pixels[patch, :, row, column]
        assert covered[y, x] == (chosen is not None)
        assert np.array_equal(image[:, y, x], [-1, -1] if chosen is None else chosen)


@given(placed(), st.integers(3, 40), st.sampled_from(["average", "hann"]))
def test_a_weighted_mean_is_that_of_every_patch_on_the_pixel(case, box_size, blend) -> None:
    patches, pixels, shape = case
    image, covered = blended(blend, patches, pixels, shape, box_size)
    total, weights = np.zeros((2, *shape)), np.zeros(shape)
    for patch, start in enumerate(patches.start.tolist()):
        for index in np.ndindex(*patches.size):
            place = tuple(np.add(start, index))
            if all(i < n for i, n in zip(place, shape, strict=True)):
                weight = 1.0
                if blend == "hann":
                    for i, n in zip(index, patches.size, strict=True):
                        weight *= np.sin(np.pi * (i + 0.5) / n) ** 2
                total[:, *place] += weight * pixels[patch, :, *index]
                weights[place] += weight
    assert np.array_equal(covered, weights > 0)
    mean = total / np.where(covered, weights, 1)
    assert np.allclose(image[:, covered], mean[:, covered], rtol=1e-6)
    assert (image[:, ~covered] == -1).all()


@given(placed(), st.integers(3, 40), st.sampled_from(["crop", "average", "hann"]))
def test_boxes_of_any_size_give_the_same_bytes(case, box_size, blend) -> None:
    patches, pixels, shape = case
    whole = blended(blend, patches, pixels, shape, 1000)
    assert all(map(np.array_equal, whole, blended(blend, patches, pixels, shape, box_size)))


@given(
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    st.tuples(st.integers(4, 8), st.integers(4, 8)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from(["boxcar", "hann"]),
)
def test_a_mean_is_that_of_tilers_merger(shape, size, overlap, window) -> None:
    their = tiler.Tiler(shape, size, overlap)
    pixels = np.random.default_rng(1).random((len(their), 1, *size))
    weights = np.ones(size)
    if window == "hann":
        y, x = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in size)
        weights = np.outer(y, x)
    merger = tiler.Merger(their, window=weights, data_dtype=np.float64, weights_dtype=np.float64)
    for tile in range(len(their)):
        merger.add(tile, pixels[tile, 0])
    start = np.array([their.get_tile_bbox(tile)[0] for tile in range(len(their))], np.int64)
    patches = PlacedPatches(np.arange(len(their)), start, size)
    blend = "average" if window == "boxcar" else "hann"
    image, covered = blended(blend, patches, pixels, shape, 16)
    assert covered.all()
    assert np.allclose(image[0], merger.merge(), rtol=1e-12)


@given(st.integers(9, 60), st.integers(2, 9), st.integers(0, 8), st.integers(3, 20))
def test_crops_of_a_tiling_are_pasted_in_raster_order_as_careamics_does(
    n, size, overlap, box_size
) -> None:
    overlap = min(overlap, size - 1)
    starts = axis_starts(n, size, overlap, "shift")
    crop = crop_axis(starts, n, size, overlap)
    start = np.stack(np.meshgrid([0], starts, indexing="ij"), -1).reshape(-1, 2)
    first = np.stack([np.zeros(len(starts), int), crop.stitch_coords], 1)
    stop = np.stack([np.ones(len(starts), int), crop.stitch_coords + crop.crop_size], 1)
    pixels = np.random.default_rng(0).random((len(starts), 1, 1, size))
    expected = np.empty(n)
    for tile, (a, count, at) in enumerate(zip(*crop, strict=True)):
        expected[at : at + count] = pixels[tile, 0, 0, a : a + count]
    shuffled = np.random.default_rng(2).permutation(len(starts))
    patches = PlacedPatches(shuffled, start[shuffled], (1, size), (first[shuffled], stop[shuffled]))
    image, covered = blended("crop", patches, pixels, (1, n), box_size)
    assert covered.all()
    assert np.array_equal(image[0, 0], expected)


def test_labels_are_not_averaged() -> None:
    check_blend("crop", np.dtype(np.int32))
    with pytest.raises(ArgumentError, match="labels have no average"):
        check_blend("hann", np.dtype(np.int32))
    with pytest.raises(ArgumentError, match="no blend 'mean'"):
        check_blend("mean", np.dtype(np.float32))
    with pytest.raises(ArgumentError, match="not complex"):
        check_blend("average", np.dtype(np.complex64))
