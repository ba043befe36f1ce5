"""Stitching the images of a set gives its sources: every format, tiling, edge, overlap, depth."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import (
    ExportPlan,
    Fixed,
    FixedPatch,
    Tiled,
    Whole,
    export,
    open_stack,
    stitch,
)
from napari_patchset.stitching import image_writer, stitched_image
from support.czi_maker import SceneSpec, make_czi
from support.pixels import whole

FORMATS = ("czi", "tif", "zarr")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitched_image, "SHARD_BYTES", 8192)
    monkeypatch.setattr(stitched_image, "CHUNK", {"Z": 2, "T": 1, "Y": 16, "X": 16})
    monkeypatch.setattr(stitched_image, "CHUNK_OF_VOLUME", {"Z": 2, "T": 1, "Y": 8, "X": 16})
    monkeypatch.setattr(stitched_image, "LAST_LEVEL", 16)
    monkeypatch.setattr(image_writer, "_STRIP", 16)


def write_images(kind: str, folder: Path, shapes: list[tuple[int, ...]]) -> list[str]:
    """Write images T, Z, C, Y, X of floats: scenes of one CZI, or files; return the sources."""
    if kind == "czi":
        scenes = [
            SceneSpec(i, (300 * i - 9, 7, width, height), t=t, z=z, c=c, kind="Gray32Float")
            for i, (t, z, c, height, width) in enumerate(shapes)
        ]
        path = make_czi(folder / "images.czi", scenes, tile=(16, 9))
        return [f"{path}@{i}" for i in range(len(shapes))]
    paths = [folder / f"{i}.{kind}" for i in range(len(shapes))]
    for i, (path, shape) in enumerate(zip(paths, shapes, strict=True)):
        data = np.random.default_rng(i).random(shape, np.float32)
        if kind == "tif":
            metadata = {"axes": "TZCYX"}
            tifffile.imwrite(path, data, ome=True, metadata=metadata, photometric="minisblack")
        else:
            names = ["t", "z", "c", "y", "x"]
            zarr.create_array(path, data=data, chunks=(1, 2, 1, 16, 9), dimension_names=names)
    return list(map(str, paths))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Draw images of any format, and a tiling that covers them."""
    depth_axis = draw(st.sampled_from(["none", "Z", "T"]))
    length = st.integers(5, 50)
    planes = (st.integers(1 + (depth_axis == axis), 3) for axis in "TZ")
    shape = st.tuples(*planes, st.just(2), length, length)
    size: tuple[int, ...] = draw(st.tuples(st.integers(4, 24), st.integers(4, 24)))
    overlap: tuple[int, ...] = tuple(draw(st.integers(0, n - 1)) for n in size)
    if depth_axis != "none":
        depth = draw(st.integers(1, 4))
        size, overlap = (depth, *size), (draw(st.integers(0, depth - 1)), *overlap)
    edge = draw(st.sampled_from(["shift", "pad", "balance"]))
    pad = draw(st.sampled_from(["reflect", "symmetric", "edge", "constant"]))
    return {
        "kind": draw(st.sampled_from(FORMATS)),
        "shapes": draw(st.lists(shape, min_size=1, max_size=2)),
        "depth_axis": depth_axis,
        "blend": draw(st.sampled_from(["average", "hann"])),
        "tiling": Tiled(size=size, overlap=overlap, edge=edge, pad=pad, small="pad"),
    }


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 2)  # each exports, and stitches twice
@given(cases())
def test_whatever_is_tiled_comes_back(case: dict[str, Any]) -> None:
    """Cropped bit for bit; averaged and weighted within rounding."""
    depth_axis = case["depth_axis"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources = write_images(case["kind"], folder, case["shapes"])
        plan = ExportPlan(
            sources=sources,
            strategy=case["tiling"],
            depth_axis=depth_axis,
            out=folder / "made.patches.zarr",
        )
        with export(plan) as made:
            path = made.path
        for blend in ("crop", case["blend"]):
            result = stitch(path, path, folder / f"{blend}.ome.zarr", blend=blend, workers=1)
            assert result.covered == 1
            for i, source in enumerate(sources):
                scene = str(i) if len(sources) > 1 else ""
                with (
                    open_stack(source, depth_axis=depth_axis) as stack,
                    open_stack(result.path / scene, depth_axis=depth_axis) as back,
                ):
                    assert tuple(back.data_shape) == tuple(stack.data_shape)
                    for sample in range(stack.data_shape[0]):
                        ours, truth = whole(back, sample), whole(stack, sample)
                        if blend == "crop":
                            assert ours.tobytes() == truth.tobytes()
                        else:
                            assert np.allclose(ours, truth, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_and_fixed_patches_come_back(kind: str, tmp_path: Path) -> None:
    (source,) = write_images(kind, tmp_path, [(2, 3, 2, 40, 30)])
    with open_stack(source) as stack:
        truth = [whole(stack, sample) for sample in range(6)]

    def comes_back(name: str, strategy: Any) -> str:
        plan = ExportPlan(sources=source, strategy=strategy, out=tmp_path / f"{name}.patches.zarr")
        with export(plan) as made:
            path, key = made.path, made.manifest.sources[0].key
        result = stitch(path, path, tmp_path / f"{name}.ome.zarr")
        assert result.covered == 1
        with open_stack(result.path) as back:
            assert all(np.array_equal(whole(back, i), truth[i]) for i in range(6))
        return key

    key = comes_back("whole", Whole())
    starts = [(sample, (y, 0)) for sample in range(6) for y in (20, 0, 10)]
    patches = [FixedPatch(source=key, sample=sample, start=start) for sample, start in starts]
    if kind == "czi":
        patches = [patch.model_copy(update={"scene": 0}) for patch in patches]
    comes_back("fixed", Fixed(size=(20, 30), patches=patches))
