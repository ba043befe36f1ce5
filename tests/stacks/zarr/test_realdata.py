"""Real zarr stores, pixel by pixel, and damaged ones."""

import hashlib
import warnings
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.metadata import Channel
from napari_patchset.stacks.opening import find_format, list_scenes, open_stack
from napari_patchset.stacks.zarr.stack import ZarrImageStack, open_zarr

pytestmark = pytest.mark.realdata

EXPECTED_WARNINGS = {
    "zarr/ome-zarr-examples__invalid_image-04.zarr": "the resolution '1' of shape",
    "zarr/viv__blobs_image_v04.ome.zarr": r"not valid OME-Zarr 0\.4 \(multiscales",
    "zarr/viv__blobs_image_v05.ome.zarr": r"not valid OME-Zarr 0\.5 \(multiscales",
}


def image_path(array_path: str) -> str:
    """Return the path of the image that an array of truth.json is a resolution of."""
    return array_path.rpartition("/")[0]


def quietly_open(path: Path, *args: Any) -> ZarrImageStack:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return open_zarr(path, *args)


def cut(stack: ZarrImageStack, start: list[int], size: list[int]) -> NDArray[Any]:
    """Read a window of the file's own axes through patches alone."""
    axes = stack.original_axes
    low, n = dict(zip(axes, start, strict=True)), dict(zip(axes, size, strict=True))
    merged = [axis for axis in axes if axis not in "CYX"]
    shape = tuple(stack.original_data_shape[axes.index(axis)] for axis in merged)
    channels = range(low.get("C", 0), low.get("C", 0) + n.get("C", 1))
    planes = []
    for index in np.ndindex(*(n[axis] for axis in merged)):
        place = tuple(low[a] + i for a, i in zip(merged, index, strict=True))
        sample = int(np.ravel_multi_index(place, shape)) if merged else 0
        corner, extent = [low["Y"], low["X"]], [n["Y"], n["X"]]
        planes.append(stack.extract_patch(sample, list(channels), corner, extent))
    pixels = np.stack(planes).reshape([*(n[a] for a in merged), len(channels), n["Y"], n["X"]])
    order = [*merged, "C", "Y", "X"]
    window = np.moveaxis(pixels, [order.index(a) for a in axes], range(len(axes)))
    return np.ascontiguousarray(window).reshape(size)


def test_every_probe_is_exact(zarr_truth: dict[str, Any], data_dir: Path) -> None:
    for truth in zarr_truth["arrays"]:
        path = data_dir / zarr_truth["file"] / truth["path"]
        with quietly_open(path) as stack:
            if prod(truth["shape"]) == prod(stack.original_data_shape) and len(
                truth["shape"]
            ) == len(stack.original_axes):
                assert stack.original_data_shape == tuple(truth["shape"])
            assert stack.data_dtype == np.dtype(truth["dtype"])
            assert stack.chunks == tuple(truth["chunks"])
            assert stack.shards == (tuple(truth["shards"]) if truth["shards"] else None)
            for probe in truth["probes"]:
                pixels = cut(stack, probe["start"], probe["size"])
                assert pixels.dtype == np.dtype(truth["dtype"])
                assert hashlib.sha256(pixels.tobytes()).hexdigest() == probe["sha256"]


def test_axes_and_scale_are_those_of_the_file(zarr_truth: dict[str, Any], data_dir: Path) -> None:
    for truth in zarr_truth["arrays"]:
        ome = truth.get("ome")
        if not ome or len(ome["axes"]) != len(truth["shape"]):
            continue
        with quietly_open(data_dir / zarr_truth["file"] / truth["path"]) as stack:
            assert stack.original_axes == "".join(name.upper() for name, _ in ome["axes"])
            scale = next(t["scale"] for t in ome["transform"] if t["type"] == "scale")
            for (name, unit), factor in zip(ome["axes"], scale, strict=True):
                if name in "zyx":
                    known = factor if unit == "micrometer" else None
                    assert getattr(stack.metadata.pixel_size, name) == known
                elif name == "t":
                    assert stack.metadata.time_step == pytest.approx(factor / 1000)
            if ome["channels"]:
                names = [channel.name for channel in stack.metadata.channels]
                assert names == [str(label) for label in ome["channels"]]


def test_the_scenes_hold_every_full_resolution_array(
    zarr_truth: dict[str, Any], data_dir: Path
) -> None:
    path = data_dir / zarr_truth["file"]
    finest = [
        a
        for a in zarr_truth["arrays"]
        if a.get("ome", {}).get("level", 0) == 0 and not a["path"].startswith("labels")
    ]
    if not finest:
        with pytest.raises(UnreadableFileError, match="no zarr array"):
            list_scenes(path)
        return
    assert find_format(path).name == "zarr"
    scenes = list_scenes(path)
    several = len(scenes) > 1 or scenes[0].id is not None
    assert [s.id for s in scenes] == [image_path(a["path"]) if several else None for a in finest]
    assert [s.shape for s in scenes] == [tuple(a["shape"]) for a in finest]
    assert [s.dtype for s in scenes] == [a["dtype"] for a in finest]
    assert len({s.rect[:2] for s in scenes}) == len(scenes)


def test_an_image_opens_with_its_levels(zarr_truth: dict[str, Any], data_dir: Path) -> None:
    path = data_dir / zarr_truth["file"]
    if not zarr_truth["arrays"]:
        with pytest.raises(UnreadableFileError, match="no zarr array"):
            open_stack(path)
        return
    scene = list_scenes(path)[0]
    expected = EXPECTED_WARNINGS.get(zarr_truth["file"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stack = open_stack(path, scene.id)
    assert len(caught) == (1 if expected else 0)
    if expected:
        with pytest.warns(UserWarning, match=expected):
            open_stack(path, scene.id).close()
    with stack:
        assert stack.levels[0] is stack  # type: ignore[attr-defined]
        for level in stack.levels:  # type: ignore[attr-defined]
            assert level.extract_patch(0, None, [0, 0], [4, 4]).shape[1:] == (4, 4)


def test_the_channels_of_zarr_java(data_dir: Path) -> None:
    path = data_dir / "zarr" / "zarr-java__v0.5"
    with open_zarr(path, depth_axis="Z") as stack:
        dapi, gfp = Channel("DAPI", "#0000ff"), Channel("GFP", "#00ff00")
        assert stack.metadata.channels == (dapi, gfp)
        assert stack.axes == "SCZYX"
        assert [level.data_shape for level in stack.levels] == [(1, 2, 8, 16, 16), (1, 2, 4, 8, 8)]


def test_labels_open_by_their_path(data_dir: Path) -> None:
    path = data_dir / "zarr" / "zarr-java__v0.5"
    for stack in (open_zarr(path, "labels/nuclei"), open_zarr(path / "labels" / "nuclei")):
        with stack:
            assert stack.original_axes == "ZYX"
            assert stack.data_dtype == np.uint32


@pytest.mark.parametrize("name", ["zarr_truncated_blosc_chunk.zarr"])
def test_a_damaged_store_gives_one_error(data_dir: Path, name: str) -> None:
    with pytest.raises(UnreadableFileError, match=rf"{name}/0: chunk 1/1 is cut off"):
        open_stack(data_dir / "bad" / name)
