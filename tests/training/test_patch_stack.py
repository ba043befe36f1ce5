"""Stacks for CAREamics: patches as samples, images as they are, without a copy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset import ExportPlan, ImageStack, LazyPatchSet, Tiled, load_stacks
from napari_patchset.errors import ArgumentError, MissingAxisError
from support.czi_maker import MakeCzi, SceneSpec
from support.pixels import expected


@pytest.fixture
def image(czi: MakeCzi) -> Path:
    return czi(*(SceneSpec(i, (200 * i, 0, 70, 50), t=2, z=3, c=2) for i in range(2)))


@pytest.mark.parametrize(("depth_axis", "axes"), [("none", "SCYX"), ("Z", "SCZYX")])
def test_sample_i_is_patch_i(image: Path, tmp_path: Path, depth_axis: str, axes: str) -> None:
    size = (16, 20) if depth_axis == "none" else (2, 16, 20)
    fields: Any = {"strategy": Tiled(size=size), "depth_axis": depth_axis}
    with LazyPatchSet(
        ExportPlan(sources=f"{image}@0", out=tmp_path / "a.patches.zarr", **fields)
    ) as lazy:
        patches = lazy["all"]
        (stack,) = load_stacks(patches, axes)
        assert isinstance(stack, ImageStack)
        assert (stack.data_shape, stack.original_axes) == (patches.shape, axes)
        whole = stack.extract_patch(3, None, [0] * len(size), size)
        np.testing.assert_array_equal(whole, patches[3])
        part = stack.extract_patch(3, [1], [0] * (len(size) - 2) + [4, 5], [*size[:-2], 6, 7])
        np.testing.assert_array_equal(part, patches[3][[1], ..., 4:10, 5:12])
        assert len(load_stacks([patches, patches], axes)) == 2
        other = "SCYX" if axes == "SCZYX" else "SCZYX"
        with pytest.raises(ArgumentError, match=f"has the axes {other}, but the patches {axes}"):
            load_stacks(patches, other)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("SCYX", (6, 2, 50, 70)), ("SCZYX", (2, 2, 3, 50, 70)), ("SCTYX", (3, 2, 2, 50, 70))],
)
def test_each_scene_of_an_image_is_a_stack(image: Path, axes: str, shape: tuple) -> None:
    for source, n in ((image, 2), ([str(image)], 2), (f"{image}@1", 1)):
        stacks = load_stacks(source, axes)
        assert [tuple(stack.original_data_shape) for stack in stacks] == [shape] * n
        assert {stack.original_axes for stack in stacks} == {axes}
        for stack in stacks:
            assert isinstance(stack, ImageStack)
            stack.close()  # type: ignore[attr-defined]


def test_pixels_are_those_of_the_file(image: Path) -> None:
    (stack,) = load_stacks(f"{image}@1", "SCYX")
    patch = stack.extract_patch(4, [1], (3, 5), (8, 9))
    np.testing.assert_array_equal(patch[0], expected(3, 5, 8, 9, S=1, T=1, Z=1, C=1))
    stack.close()  # type: ignore[attr-defined]


def test_an_image_without_the_depth_axis_is_refused(czi: MakeCzi) -> None:
    with pytest.raises(MissingAxisError):
        load_stacks(czi(SceneSpec(rect=(0, 0, 8, 8))), "SCZYX")
