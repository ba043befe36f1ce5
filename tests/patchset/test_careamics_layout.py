"""The zarr of a set, held to the rules of CAREamics 0.3.5's loader, restated here.

They stand in github.com/CAREamics/careamics, src/careamics/dataset: `load_zarrs` in
image_stack_loader/image_stack_loaders.py, `to_zarr_node` and `file_uri_to_path` in
image_stack/zarr_access/zarr_access_utils.py, `ZarrImageStack` in image_stack/zarr_image_stack.py;
and in src/careamics/utils/reshape_array.py, `AxesTransform`. `nox -s careamics` runs the
loader itself on the README's example.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import zarr

from napari_patchset import PatchSet, Tiled, export
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.patching.splits.split import Split
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import plan_for

SCENE = SceneSpec(rect=(0, 0, 96, 48), t=2, z=3, c=2)
SIZES = {"none": (16, 16), "Z": (2, 16, 16)}
AXES = {"none": "SCYX", "Z": "SCZYX"}


class CareamicsArray:
    """An array as the loader takes it: opened by URI, indexed along the axes that are named."""

    def __init__(self, uri: str, axes: str) -> None:
        store, path = locate(uri)
        opened = zarr.open(store, mode="r")
        assert isinstance(opened, zarr.Group)
        self.array = opened[path]
        assert isinstance(self.array, zarr.Array)
        # Valid OME metadata of the parent would be taken for those of the array.
        parent = opened[path.rpartition("/")[0]]
        assert "ome" not in parent.attrs
        assert set(axes) <= set("STCZYX")
        assert len(set(axes)) == len(axes) == self.array.ndim
        assert "YX" in axes
        sizes = dict(zip(axes, self.array.shape, strict=True))
        samples = sizes.get("S", 1) * sizes.get("T", 1)
        spatial = [sizes[axis] for axis in "ZYX" if axis in sizes]
        self.axes, self.data_shape = axes, (samples, sizes.get("C", 1), *spatial)

    def extract_patch(
        self, sample: int, channels: Sequence[int] | None, start: Sequence[int], size: Sequence[int]
    ) -> np.ndarray:
        spatial = [slice(a, a + n) for a, n in zip(start, size, strict=True)]
        chosen = slice(None) if channels is None else list(channels)
        return np.asarray(self.array[(sample, chosen, *spatial)])


def locate(uri: str) -> tuple[Path, str]:
    """Part a URI behind the first ".zarr" in it: the store, and the array within."""
    parsed = urlparse(uri)
    assert parsed.scheme == "file"
    assert parsed.netloc in ("", "localhost")
    end = parsed.path.find(".zarr") + len(".zarr")
    store = Path(unquote(parsed.path[:end]))
    assert store.is_absolute()
    return store, parsed.path[end:].lstrip("/")


def made(czi: MakeCzi, out: Path, depth_axis: str) -> PatchSet:
    path, target = czi(SCENE), czi(SCENE, name="target.czi")
    strategy = Tiled(size=SIZES[depth_axis])
    split = Split(val=0.3, by="block")
    plan = plan_for(path, out, depth_axis=depth_axis, strategy=strategy, split=split)
    ref = plan.sources[0].model_copy(update={"target": ImageRef(path=str(target))})
    return export(plan.model_copy(update={"sources": (ref,)}))


@pytest.mark.parametrize("depth_axis", SIZES)
def test_careamics_opens_each_array_of_each_split(
    czi: MakeCzi, tmp_path: Path, depth_axis: str
) -> None:
    out = tmp_path / "a folder, with %20" / "cells.patches.zarr"
    out.parent.mkdir()
    with closing(made(czi, out, depth_axis)) as patches:
        for name in ("train/image", "val/image", "train/target", "val/target"):
            stack = CareamicsArray(f"{out.as_uri()}/{name}", AXES[depth_axis])
            ours = patches[name.removesuffix("/image")]
            assert stack.data_shape == ours.shape
            assert stack.array.dtype == ours.dtype
            assert stack.array.chunks == (1, *ours.shape[1:])
            size = SIZES[depth_axis]
            for i, patch in enumerate(ours):
                whole = stack.extract_patch(i, None, [0] * len(size), size)
                np.testing.assert_array_equal(whole, patch)
            part = stack.extract_patch(1, [1], [1] * len(size), [1] * len(size))
            inner = tuple(slice(1, 2) for _ in size)
            np.testing.assert_array_equal(part, ours[1][(slice(1, 2), *inner)])


def test_careamics_lists_the_arrays_of_a_split(czi: MakeCzi, tmp_path: Path) -> None:
    out = tmp_path / "cells.patches.zarr"
    made(czi, out, "none").close()
    store, path = locate(f"{out.as_uri()}/train")
    assert sorted(zarr.open(store, mode="r")[path].array_keys()) == ["image", "target"]
