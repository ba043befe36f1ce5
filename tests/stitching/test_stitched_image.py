"""How the levels of stitched images are divided into chunks and shards."""

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.stitching.ome_zarr import finer_box
from napari_patchset.stitching.stitched_image import SHARD_BYTES, StitchedImage
from support.strategy_makers import source

LENGTH = st.one_of(st.integers(1, 600), st.integers(1, 60_000))


@st.composite
def images(draw: st.DrawFn) -> StitchedImage:
    """Draw images of one to a billion pixels."""
    height, width, n_channels = draw(LENGTH), draw(LENGTH), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from(["uint8", "float32", "float64"]))
    if is_volume := draw(st.booleans()):
        depth = draw(st.integers(1, 40))
        described = source(1, 1, depth, height, width, axes="TCZYX", depth_axis="Z")
    else:
        described = source(2, 1, height, width)
    names = tuple(map(str, range(n_channels)))
    return StitchedImage(0, described, (), names, dtype, (1,) * (2 + is_volume))


@given(images())
def test_shards_are_whole_chunks_and_not_too_large(image: StitchedImage) -> None:
    for level in range(image.n_levels):
        chunk, shard = image.chunk_shape(level), image.shard_shape(level)
        assert all(n % step == 0 for n, step in zip(shard, chunk, strict=True))
        nbytes = prod(shard) * np.dtype(image.dtype).itemsize
        assert nbytes <= SHARD_BYTES or prod(shard) == prod(chunk) * len(image.channels)


@given(images(), st.data())
def test_shards_that_are_made_together_show_the_same_box(
    image: StitchedImage, data: st.DataObject
) -> None:
    made_by_level = [image.levels_from(level) for level in range(image.n_levels)]
    assert [level for made in made_by_level for level in made] == list(range(image.n_levels))
    for made in filter(None, made_by_level):
        n = image.n_shards(made[0])
        number = data.draw(st.integers(0, n - 1))
        shard = image.shard(made[0], number)
        for level in made[1:]:
            assert image.n_shards(level) == n
            coarser = image.shard(level, number)
            assert finer_box(image, level, coarser) == image.shard(level - 1, number)
            assert image.shard_index(level, coarser) == image.shard_index(made[0], shard)


@given(images(), st.data())
def test_shards_of_a_level_are_its_pixels_once(image: StitchedImage, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, image.n_levels - 1))
    boxes = [image.shard(level, i).box for i in range(min(image.n_shards(level), 2000))]
    if len(boxes) == image.n_shards(level):
        frames = prod(image.frame_shape)
        assert sum(prod(box.shape) for box in boxes) == frames * prod(image.spatial_shape(level))
    indices = {image.shard_index(level, image.shard(level, i)) for i in range(len(boxes))}
    assert len(indices) == len(boxes)
