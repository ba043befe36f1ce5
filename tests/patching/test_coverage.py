"""The share of each patch that has pixels, in a mosaic whose tiles leave gaps."""

import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylibCZIrw.czi import create_czi

from napari_patchset import open_stack
from napari_patchset.patching import coverage
from napari_patchset.patching.coverage import covered_share
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies import Random, Tiled
from napari_patchset.patching.strategies.base import UNCOVERED
from napari_patchset.source import PartialPlanes, Rect, SourceInfo
from napari_patchset.stacks.metadata import describe
from support.strategy_makers import every_strategy, make_strategy, plan, source

tiles = st.builds(
    Rect, st.integers(0, 50), st.integers(0, 40), st.integers(1, 40), st.integers(1, 30)
)
HALF = (Rect(0, 0, 32, 64), Rect(16, 0, 20, 64), Rect(40, 60, 8, 4))


def mosaic(*covered: Rect, **more: object) -> SourceInfo:
    return source(2, 1, 64, 64, covered=covered, **more)


def drawn(covered: tuple[Rect, ...], height: int, width: int) -> np.ndarray:
    plane = np.zeros((height, width), bool)
    for x, y, w, h in covered:
        plane[y : y + h, x : x + w] = True
    return plane


@given(st.lists(tiles, min_size=1, max_size=8), st.integers(1, 9), st.booleans())
def test_the_share_is_the_mean_of_the_pixels(covered: list, side: int, few: bool) -> None:
    image = source(2, 1, 45, 60, covered=tuple(covered))
    grid = Tiled(size=(side, side + 2), edge="pad", min_covered=0).plan([image])
    plane = drawn(image.covered, 45, 60)
    expected = [plane[y : y + h, x : x + w].mean() for _, _, (y, x), (h, w) in grid]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "MAX_RECTS", 2 if few else 600)
        valid = covered_share(grid, image)
    if plane.all():
        assert valid is None
    else:
        np.testing.assert_allclose(valid, expected, rtol=1e-6)


@st.composite
def partly_acquired(draw: st.DrawFn) -> SourceInfo:
    """Draw a mosaic of which each plane has some of the tiles."""
    deep = draw(st.booleans())
    shape, axes = ((3, 2, 4, 45, 60), "TCZYX") if deep else ((3, 2, 45, 60), "TCYX")
    covered = draw(st.lists(tiles, min_size=1, max_size=5, unique=True))
    whole = draw(st.booleans()) and [Rect(0, 0, 60, 45)]
    planes = [(s, c, z) for s in range(3) for c in range(2) for z in range(4 if deep else 1)]
    groups: dict[tuple[Rect, ...], set] = {}
    for plane in planes:
        some = draw(st.lists(st.sampled_from(covered), min_size=1, unique=True))
        groups.setdefault(tuple(some), set()).add(plane)
    info = source(*shape, axes=axes, covered=(*covered, *(whole or ())))
    return info.model_copy(
        update={
            "channels": ("a", "b"),
            "depth_axis": "Z" if deep else "none",
            "partial_planes": tuple(
                PartialPlanes(planes=frozenset(members), covered=some)
                for some, members in groups.items()
            ),
        }
    )


@given(partly_acquired(), st.integers(4, 20), st.integers(1, 3))
def test_the_plane_that_is_covered_least_counts(image: SourceInfo, side: int, deep: int) -> None:
    size = (deep, side, side + 2) if image.depth_axis == "Z" else (side, side + 2)
    grid = Tiled(size=size, edge="pad", min_covered=0).plan([image])
    pixels = np.zeros((3, 2, 4, 45, 60), bool)
    for group in image.partial_planes:
        for plane in group.planes:
            pixels[plane] = drawn(group.covered, 45, 60)
    expected = []
    for _, sample, start, extent in grid:
        z, (y, x) = (start[0] if len(start) == 3 else 0), start[-2:]
        planes = pixels[sample, :, z : z + (extent[0] if len(extent) == 3 else 1)]
        part = planes[..., y : y + extent[-2], x : x + extent[-1]]
        expected.append(part.mean(axis=(-2, -1)).min())
    np.testing.assert_allclose(grid.valid, expected, rtol=1e-6)


@pytest.mark.parametrize("axis", ["T", "C", "Z"])
def test_an_aborted_run_has_no_patch_without_pixels(tmp_path: Path, axis: str) -> None:
    """Of the second time point, channel or Z only the first of four tiles was acquired."""
    tile = np.full((32, 32, 1), 1000, np.uint16)
    with create_czi(str(tmp_path / "aborted.czi")) as file:
        for n, i, j in product(range(2), range(2), range(2)):
            if n == 0 or (i, j) == (0, 0):
                file.write(tile, location=(j * 32, i * 32), plane={"C": 0, axis: n})
        file.write_metadata()
    depth = "Z" if axis == "Z" else "none"
    with open_stack(tmp_path / "aborted.czi", depth_axis=depth) as stack:
        size = (1, 32, 32) if axis == "Z" else (32, 32)
        grid = Tiled(size=size, min_covered=1).plan([describe(stack)])
        assert grid.excluded == {UNCOVERED: 3}
        assert len(grid) == (1 if axis == "C" else 5)
        for spec in grid:
            assert stack.extract_patch(spec.sample, None, spec.start, spec.size).all()
        image = describe(stack)
        if axis == "Z":
            image = image.with_depth_axis("none")
            assert Tiled(size=(32, 32), min_covered=1).plan([image]).excluded == {UNCOVERED: 3}


@every_strategy
def test_patches_with_too_few_pixels_are_excluded_and_counted(name: str) -> None:
    images = [
        mosaic(*HALF, key="a", scene=0),
        mosaic(key="b", scene=1).model_copy(update={"covered": None}),
    ]
    size = (16, 16)
    every = plan(make_strategy(name, size, images, min_covered=0), images)
    plane = drawn(HALF, 64, 64)
    share = [
        1 if source_index else plane[y : y + size[0], x : x + size[1]].mean()
        for source_index, _, (y, x), size in every
    ]
    np.testing.assert_allclose(every.valid, share, rtol=1e-6)
    grid = plan(make_strategy(name, size, images, min_covered=0.6), images)
    if name == "balanced":  # draws elsewhere
        assert len(grid) == len(every)
        assert grid.valid.min() >= 0.6
        assert not grid.excluded
        return
    assert list(grid) == [spec for spec, each in zip(every, share, strict=True) if each >= 0.6]
    assert grid.valid.min() >= 0.6
    assert grid.excluded.get(UNCOVERED, 0) == len(every) - len(grid)


def test_tiles_far_from_each_other_take_little_memory() -> None:
    far = 2**30
    image = source(1, 1, far, far, covered=(Rect(0, 0, 32, 32), Rect(far - 32, far - 24, 32, 24)))
    starts = np.array([[0, 0], [far // 2, 7], [far - 32, far - 32]], np.int32)
    grid = PatchGrid((32, 32), *np.zeros((2, 3), np.int32), starts)
    tracemalloc.start()
    assert covered_share(grid, image).tolist() == [1, 0, 0.75]
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_plane_without_gaps_needs_no_column() -> None:
    tiled = [Rect(x, y, 20, 20) for x in range(0, 64, 16) for y in range(0, 64, 16)]
    for image in (mosaic(*tiled), mosaic(Rect(0, 0, 64, 64)), source(2, 1, 64, 64)):
        assert Tiled(size=(16, 16)).plan([image]).valid is None


def test_the_column_follows_its_patches() -> None:
    grid = Random(size=(8, 8), count=50, min_covered=0.3).plan([mosaic(*HALF)])
    chosen = grid[np.array([5, 2])]
    assert chosen.valid.tolist() == [grid.valid[5], grid.valid[2]]
    whole = PatchGrid.concatenate([chosen, grid[:0], grid[3:4]])
    assert whole.valid.tolist() == [*chosen.valid, grid.valid[3]]


@pytest.mark.realdata
def test_the_gaps_of_a_real_mosaic_have_no_pixels(data_dir: Path) -> None:
    with open_stack(data_dir / "czi" / "S3_1Pos_2Mosaic_T2Z3_CH2_sm.czi", 2) as stack:
        grid = Tiled(size=(32, 32), min_covered=0).plan([describe(stack)])
        for spec, valid in zip(grid, grid.valid, strict=True):
            patch = stack.extract_patch(spec.sample, None, spec.start, spec.size)
            assert np.count_nonzero(patch.any(axis=0)) <= valid * 32 * 32
        assert (grid.valid == 0).any()
