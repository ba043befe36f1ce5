"""Stitching back into the sources, under every executor, stopped and resumed."""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from yaozarrs import validate_zarr_store

from napari_patchset import (
    ArgumentError,
    DestinationExistsError,
    ExportError,
    ExportPlan,
    PatchSet,
    Random,
    SourceRef,
    Split,
    Stitcher,
    Tiled,
    export,
    iter_stitch,
    list_scenes,
    open_stack,
    stitch,
)
from napari_patchset.patchset.files import DRAFT_PATTERN
from napari_patchset.patchset.sharding import CODECS, CodecName
from napari_patchset.source import PixelSize
from napari_patchset.stacks.fingerprint import file_key
from napari_patchset.stacks.metadata import channel_colors
from napari_patchset.stitching import ome_zarr, stitched_image
from napari_patchset.stitching.image_writer import ImageWriter, stitch_status
from napari_patchset.stitching.stitch import StitchProgress
from napari_patchset.stitching.stitch_folder import StitchFolder
from support.czi_maker import SceneSpec, make_czi
from support.pixels import whole
from support.tiff_maker import write
from support.zarr_maker import drawn

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 70, 50), t=range(1, 3), z=range(2, 5), c=2),
    SceneSpec(id=7, rect=(500, 0, 48, 64), t=1, z=range(2, 4), c=2),
)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide small images into several shards and levels."""
    monkeypatch.setattr(stitched_image, "SHARD_BYTES", 8192)
    monkeypatch.setattr(stitched_image, "CHUNK", {"Z": 2, "T": 1, "Y": 16, "X": 16})
    monkeypatch.setattr(stitched_image, "LAST_LEVEL", 16)


def digests(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def export_scenes(folder: Path, **fields: Any) -> PatchSet:
    path = make_czi(folder / "image.czi", SCENES, tile=(32, 32))
    fields = {"strategy": Tiled(size=(16, 16), overlap=(4, 0)), **fields}
    return export(
        ExportPlan(
            sources=[f"{path}@{scene.id}" for scene in SCENES],
            out=folder / "made.patches.zarr",
            **fields,
        )
    )


def as_floats(patch_set: PatchSet, path: Path) -> Path:
    np.save(path, patch_set["all"][:].astype(np.float32))
    return path


TILINGS = [
    Tiled(size=(16, 16), overlap=(4, 5), edge=edge, small="pad", pad=pad)
    for edge, pad in (("shift", "reflect"), ("pad", "constant"), ("balance", "edge"))
]


@pytest.mark.parametrize("tiling", TILINGS, ids=lambda tiling: tiling.edge)
@pytest.mark.parametrize("depth_axis", ["none", "Z", "T"])
def test_stitching_a_sets_own_images_gives_its_sources(
    tiling: Tiled, depth_axis: Any, tmp_path: Path
) -> None:
    if depth_axis == "none":
        scenes: Any = SCENES
    else:
        scenes = SCENES[:1]
        tiling = tiling.model_copy(update={"size": (2, 16, 16), "overlap": (1, 4, 5)})
    path = make_czi(tmp_path / "image.czi", scenes, tile=(32, 32))
    made = export(
        ExportPlan(
            sources=[f"{path}@{scene.id}" for scene in scenes],
            strategy=tiling,
            depth_axis=depth_axis,
            out=tmp_path / "made.patches.zarr",
        )
    )
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr")
    assert result.covered == 1
    validate_zarr_store(str(result.path))
    for number, scene in enumerate(scenes):
        back = result.path / str(number) if len(scenes) > 1 else result.path
        with (
            open_stack(path, scene.id, depth_axis) as source,
            open_stack(back, depth_axis=depth_axis) as stitched,
        ):
            assert tuple(stitched.data_shape) == tuple(source.data_shape)
            for sample in range(source.data_shape[0]):
                assert np.array_equal(whole(stitched, sample), whole(source, sample))


def test_arrays_and_angles_come_back(tmp_path: Path) -> None:
    data = drawn("RTYX", (3, 2, 37, 21))
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=data, dimension_names=["r", "t", "y", "x"])
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=(8, 8)), out=tmp_path / "a.patches.zarr")
    )
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr")
    for angle in range(3):
        image = zarr.open_group(result.path / str(angle), mode="r")
        assert np.array_equal(image["0"][:, 0], data[angle])
        assert image.attrs["ome"]["multiscales"][0]["name"] == f"R{angle}"


def test_pages_of_an_unknown_axis_become_z(tmp_path: Path) -> None:
    data = drawn("SYX", (5, 37, 21))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", metadata=None)
    tiling = Tiled(size=(8, 8))
    out = tmp_path / "a.patches.zarr"
    made = export(ExportPlan(sources=tmp_path / "a.tif", strategy=tiling, out=out))
    assert made.manifest.sources[0].axes[0] == "S"
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr")
    image = zarr.open_group(result.path, mode="r")
    assert [a["name"] for a in image.attrs["ome"]["multiscales"][0]["axes"]] == list("czyx")
    assert np.array_equal(image["0"][0], data)


def test_metadata_say_where_and_what_it_is(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 40 * 50, dtype=np.uint16).reshape(2, 3, 40, 50)
    path = write(
        tmp_path / "a.ome.tif",
        data,
        metadata={
            "axes": "ZCYX",
            "PhysicalSizeX": 0.25,
            "PhysicalSizeY": 0.5,
            "PhysicalSizeZ": 2,
            "Channel": {"Name": ["a", "b", "c"]},
        },
    )
    tiling = Tiled(size=(16, 16))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr")
    ome = zarr.open_group(result.path, mode="r").attrs["ome"]
    (multiscale,) = ome["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == list("czyx")
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None] + ["micrometer"] * 3
    finest, half = (each["coordinateTransformations"] for each in multiscale["datasets"][:2])
    assert finest == [{"type": "scale", "scale": [1, 2, 0.5, 0.25]}]
    assert half[0] == {"type": "scale", "scale": [1, 2, 1, 0.5]}
    assert half[1] == {"type": "translation", "translation": [0, 0, 0.25, 0.125]}
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["a", "b", "c"]
    window = ome["omero"]["channels"][1]["window"]
    assert (window["start"], window["end"]) == (data[:, 1].min(), data[:, 1].max())
    with open_stack(result.path) as stack:
        assert tuple(stack.data_shape) == (2, 3, 40, 50)
        assert [channel.name for channel in stack.metadata.channels] == ["a", "b", "c"]
        with open_stack(path) as source:
            colors = channel_colors(source.metadata.channels)  # as both are shown
        assert [channel.color for channel in stack.metadata.channels] == colors


def test_time_step_and_position_are_those_of_the_source(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.ome.zarr", (2, 3, 40, 600)
    scale, at = [30, 2, 0.5, 0.25], [0, 7, 100, -20]
    transformations = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": at},
    ]
    units = {"t": ("time", "second"), **dict.fromkeys("zyx", ("space", "micrometer"))}
    axes = [{"name": name, "type": kind, "unit": unit} for name, (kind, unit) in units.items()]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(path, attributes={"ome": ome})
    group.create_array("0", data=drawn("TZYX", shape), dimension_names=list("tzyx"))
    tiling = Tiled(size=(16, 16))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr", argmax=True)
    for image in (result.path, result.path / "labels" / ome_zarr.LABELS):
        (multiscale,) = zarr.open_group(image, mode="r").attrs["ome"]["multiscales"]
        described = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
        assert described["t"] == "second"
        finest, half = (each["coordinateTransformations"] for each in multiscale["datasets"][:2])
        places = [
            dict(zip(described, each["translation"], strict=True)) for _, each in (finest, half)
        ]
        assert dict(zip(described, finest[0]["scale"], strict=True))["t"] == 30
        assert {axis: places[0][axis] for axis in "tzyx"} == dict(zip("tzyx", at, strict=True))
        assert (places[1]["y"], places[1]["x"]) == (100.25, -19.875)
    shutil.move(path, tmp_path / "moved.ome.zarr")
    result = stitch(made.path, made.path, tmp_path / "unknown.ome.zarr")
    (multiscale,) = zarr.open_group(result.path, mode="r").attrs["ome"]["multiscales"]
    assert "unit" not in multiscale["axes"][0]
    assert multiscale["axes"][2]["unit"] == "micrometer"


def test_images_have_the_names_of_their_files_and_scenes(tmp_path: Path) -> None:
    sources = [write(tmp_path / name, drawn("YX", (20, 30))) for name in ("a.tif", "b.tif")]
    sources[1] = write(tmp_path / "b.tif", drawn("YX", (20, 31)))
    made = export(
        ExportPlan(sources=sources, strategy=Tiled(size=10), out=tmp_path / "a.patches.zarr")
    )
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr")
    assert [scene.name for scene in list_scenes(result.path)] == ["a.tif", "b.tif"]
    made = export_scenes(tmp_path)
    result = stitch(made.path, made.path, tmp_path / "scenes.ome.zarr")
    named = [scene.label for scene in list_scenes(tmp_path / "image.czi")]
    assert [scene.name for scene in list_scenes(result.path)] == named


def test_coarser_levels_are_means_of_floats_and_every_second_integer(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((1, 37, 42), np.float32)
    for dtype in (np.float32, np.uint16):
        values = (data * 1000).astype(dtype)
        path = write(tmp_path / f"{values.dtype}.tif", values[0])
        tiling = Tiled(size=(16, 16))
        out = tmp_path / f"{values.dtype}.patches.zarr"
        made = export(ExportPlan(sources=path, strategy=tiling, out=out))
        result = stitch(made.path, made.path, tmp_path / f"{values.dtype}.ome.zarr")
        levels = zarr.open_group(result.path, mode="r")
        half = levels["1"][0]
        if dtype is np.uint16:
            assert np.array_equal(half, values[0, ::2, ::2])
        else:
            padded = np.pad(values[0].astype(float), ((0, 1), (0, 0)), "edge")
            means = padded.reshape(19, 2, 21, 2).mean((1, 3))
            assert np.allclose(half, means, rtol=1e-6)
        assert levels["2"].shape[-2:] == (10, 11)


@pytest.mark.parametrize("shape", [(150, 203), (31, 260), (300, 17), (16, 16)])
@pytest.mark.parametrize("codec", CODECS)
def test_each_level_is_half_the_one_before_in_every_codec(
    shape: tuple[int, int], codec: CodecName, tmp_path: Path
) -> None:
    """Some levels are halved in memory, others from the level that was written."""
    values = np.random.default_rng(1).random(shape, np.float32)
    path = write(tmp_path / "a.tif", values)
    tiling = Tiled(size=(16, 16), overlap=(5, 0))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    result = stitch(made.path, made.path, tmp_path / "a.ome.zarr", codec=codec)
    levels = zarr.open_group(result.path, mode="r")
    assert np.array_equal(levels["0"][0], values)
    n_levels = len(list(levels.arrays()))
    for level in range(1, n_levels):
        finer = levels[str(level - 1)][0]
        assert np.array_equal(levels[str(level)][0], ome_zarr.halve(finer))
        assert levels[str(level)].dtype == np.float32
        compressors = [type(each).__name__ for each in levels[str(level)].compressors]
        assert compressors == ([] if codec == "none" else ["BloscCodec"])
    assert max(levels[str(n_levels - 1)].shape) <= 16


def test_a_coarser_level_is_made_of_two_rows_of_chunks_at_a_time(tmp_path: Path) -> None:
    """A shard of it has four finer ones, which would be most of the memory of a stitching."""
    path = write(tmp_path / "a.tif", np.ones((150, 203), np.float32))
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=16), out=tmp_path / "a.patches.zarr")
    )
    read = ome_zarr.Pyramid._read_box
    with mock.patch.object(ome_zarr.Pyramid, "_read_box", autospec=True, side_effect=read) as reads:
        stitch(made.path, made.path, tmp_path / "a.ome.zarr")
    heights = [call.args[2].box.shape[-2] for call in reads.call_args_list]
    assert max(heights) == 2 * 16


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">f4", "float16", "float64"])
def test_every_type_comes_back_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((40, 50), np.uint8))
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=(10, 10)), out=tmp_path / "a.patches.zarr")
    )
    n = np.dtype(dtype).itemsize
    bits = np.random.default_rng(0).integers(0, 2, (20, 1, 10, 10 * n), np.uint8)
    bits *= np.uint8(1 if dtype == "bool" else 255)
    bits[3] = 0  # a chunk of nothing but the fill value
    predicted = bits.view(dtype)
    if predicted.dtype.kind == "f":
        predicted[5] = -0.0
        predicted[6] = np.nan
    np.save(tmp_path / "p.npy", predicted)
    result = stitch(made.path, tmp_path / "p.npy", tmp_path / "a.ome.zarr")
    image = zarr.open_group(result.path, mode="r")["0"][0]
    truth = predicted[:, 0].reshape(4, 5, 10, 10).swapaxes(1, 2).reshape(40, 50)
    assert image.tobytes() == truth.astype(image.dtype).tobytes()


def test_the_share_of_predictions_that_are_no_number_is_told(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((40, 50), np.uint8))
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=(10, 10)), out=tmp_path / "a.patches.zarr")
    )
    predicted = np.zeros((20, 2, 10, 10), np.float32)
    predicted[3, 1, :5] = np.nan
    np.save(tmp_path / "p.npy", predicted)
    assert stitch(made.path, tmp_path / "p.npy", tmp_path / "a.ome.zarr").nan == 50 / 2000
    words = ("stitch", made.path, "--predictions", tmp_path / "p.npy", "--out", "b.ome.zarr")
    assert "2.5 % of the pixels are NaN, as predictions are" in run(*words)[2]


def test_what_a_killed_job_was_writing_is_not_in_the_image(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    reference = stitch(made.path, made.path, tmp_path / "r.ome.zarr")
    out = tmp_path / "o.ome.zarr"
    events = iter_stitch(made.path, made.path, out)
    next(events)
    events.close()
    image = out.with_name("o.ome.zarr.partial") / "image" / "0"
    (image / "0" / "c").mkdir(exist_ok=True)
    (image / "0" / "c" / f".0.{'a' * 32}.draft").write_bytes(b"half a shard")
    (image / f"zarr.{'b' * 32}.partial").write_bytes(b"half of zarr's metadata")
    assert digests(stitch(made.path, made.path, out).path) == digests(reference.path)


def test_predictions_may_have_other_channels_and_more_pixels(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    images = made["all"][:]
    finer = images[:, :1].repeat(3, axis=-2).repeat(2, axis=-1).astype(np.float32)
    np.save(tmp_path / "p.npy", np.concatenate([finer, finer + 1, finer + 2], axis=1))
    out = tmp_path / "p.ome.zarr"
    result = stitch(made.path, tmp_path / "p.npy", out, channel_names=["x", "y", "z"])
    image = zarr.open_group(result.path / "1", mode="r")
    with open_stack(tmp_path / "image.czi", 7) as source:
        truth = whole(source, 1)[0].astype(np.float32).repeat(3, axis=-2).repeat(2, axis=-1)
    for channel in range(3):
        assert np.array_equal(image["0"][0, channel, 1], truth + np.float32(channel))
    scale, shift = image.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    pixel = made.manifest.sources[1].pixel_size.x or 1.0
    assert scale["scale"][-1] == pixel / 2
    rect = made.manifest.sources[1].rect
    assert rect is not None
    assert shift["translation"][-1] == pytest.approx(pixel * (rect.x - 0.25))
    names = [each["label"] for each in image.attrs["ome"]["omero"]["channels"]]
    assert names == ["x", "y", "z"]


def test_the_class_with_the_highest_prediction_is_a_label_image(tmp_path: Path) -> None:
    made = export_scenes(tmp_path, strategy=Tiled(size=(16, 16), edge="drop"))
    rng = np.random.default_rng(0)
    scores = rng.random((len(made["all"]), 4, 16, 16), np.float32)
    np.save(tmp_path / "p.npy", scores)
    names = ["back", "a", "b", "c"]
    out = tmp_path / "p.ome.zarr"
    result = stitch(made.path, tmp_path / "p.npy", out, argmax=True, channel_names=names)
    validate_zarr_store(str(result.path))
    group = zarr.open_group(result.path / "0", mode="r")
    labels, image = group["labels/classes/0"], group["0"][:]
    assert labels.dtype == np.uint8
    assert np.array_equal(labels[:], np.where(image.any(axis=1), image.argmax(axis=1), 0))
    described = group["labels/classes"].attrs["ome"]["image-label"]["properties"]
    assert [each["class"] for each in described] == names
    assert np.array_equal(group["labels/classes/1"][:], labels[..., ::2, ::2])


def test_what_no_patch_covers_has_the_fill_value_and_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((64, 64), 7, np.uint16))
    plan = ExportPlan(
        sources=path,
        strategy=Random(size=(10, 10), count=9, seed=3),
        filters=["mean>1"],
        split=Split(val=0.3),
        out=tmp_path / "a.patches.zarr",
    )
    made = export(plan)
    result = stitch(made.path, made.path, tmp_path / "back.ome.zarr", fill=9)
    pixels = zarr.open_group(result.path, mode="r")["0"][0]
    expected = np.full((64, 64), 9)
    for row in made.table.to_pylist():
        if row["kept"]:
            y, x = row["y_start"], row["x_start"]
            expected[y : y + 10, x : x + 10] = 7
    assert np.array_equal(pixels, expected)
    assert result.covered == np.mean(expected == 7)


def test_one_split_may_be_stitched_alone(tmp_path: Path) -> None:
    made = export_scenes(tmp_path, split=Split(val=0.3))
    np.save(tmp_path / "val.npy", made["val"][:])
    result = stitch(made.path, {"val": tmp_path / "val.npy"}, tmp_path / "v.ome.zarr")
    both = stitch(made.path, made.path, tmp_path / "both.ome.zarr")
    assert 0 < result.covered < both.covered <= 1
    with pytest.raises(ArgumentError, match=r"name the one that .* predicts, like train="):
        stitch(made.path, tmp_path / "val.npy", tmp_path / "w.ome.zarr")


def test_a_stitcher_takes_batches_in_any_order(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    images = made["all"][:].astype(np.float32)
    reference = stitch(
        made.path, as_floats(made, tmp_path / "p.npy"), tmp_path / "p.ome.zarr", blend="hann"
    )
    with Stitcher(made.path, tmp_path / "s.ome.zarr", blend="hann") as stitcher:
        order = np.random.default_rng(0).permutation(len(images))
        stitcher.add(order[:5], images[order[:5]])
        for i in order[5:]:
            stitcher.add(int(i), images[i : i + 1])
        result = stitcher.finish()
    assert result.covered == 1
    assert digests(result.path).keys() == digests(reference.path).keys()
    arrays = {k: v for k, v in digests(result.path).items() if "zarr.json" not in k}
    assert arrays == {k: v for k, v in digests(reference.path).items() if "zarr.json" not in k}
    assert not (tmp_path / "s.ome.zarr.partial").exists()


def test_a_stitcher_stitches_what_was_added(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    tiling = Tiled(size=(16, 16))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    with Stitcher(made.path, tmp_path / "s.ome.zarr", fill=1) as stitcher:
        stitcher.add(3, made["all"][3:5])
        with pytest.raises(ArgumentError, match="which has 16"):
            stitcher.add(15, made["all"][3:5])
        with pytest.raises(ArgumentError, match="must be alike"):
            stitcher.add(0, made["all"][3:5].astype(np.float32))
        with pytest.raises(ArgumentError, match="no split 'val'"):
            stitcher.add(0, made["all"][3:5], "val")
        assert stitcher.finish().covered == 2 / 16
    with Stitcher(made.path, tmp_path / "t.ome.zarr") as stitcher:
        stitcher.add(3, made["all"][3:5])
    assert not (tmp_path / "t.ome.zarr.partial").exists()
    with (
        Stitcher(made.path, tmp_path / "t.ome.zarr") as stitcher,
        pytest.raises(ArgumentError, match="No predictions were added"),
    ):
        stitcher.finish()


@pytest.mark.parametrize("depth_axis", ["none", "Z"])
@pytest.mark.parametrize("n_channels", [2, 3])
def test_a_stitcher_refuses_patches_without_their_axis_n(
    depth_axis: Any, n_channels: int, tmp_path: Path
) -> None:
    size = (2, 16, 16) if depth_axis == "Z" else (16, 16)
    axes = "C, Z, Y, X" if depth_axis == "Z" else "C, Y, X"
    made = export_scenes(tmp_path, depth_axis=depth_axis, strategy=Tiled(size=size, small="skip"))
    patch = np.zeros((n_channels, *size), np.float32)
    with Stitcher(made.path, tmp_path / "s.ome.zarr") as stitcher:
        if n_channels == 3:  # other channels than the set's: the first may be right
            stitcher.add(0, patch)
        with pytest.raises(ArgumentError, match=f"may be one patch {axes}, .* the axes N, {axes}"):
            stitcher.add(n_channels - 2, patch)


def test_a_stitcher_takes_batches_without_channels(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    images = made["all"][:][:, 0].astype(np.float32)
    firsts = range(0, len(images), 3)
    with Stitcher(made.path, tmp_path / "a.ome.zarr") as stitcher:
        for first in firsts[:-1]:
            stitcher.add(first, images[first : first + 3])
        stitcher.add(firsts[-1], images[firsts[-1] :][:2])  # as many as the set has channels
        stitcher.finish()
    with Stitcher(made.path, tmp_path / "b.ome.zarr") as stitcher:
        stitcher.add([4, 2], images[[4, 2]])
        assert 0 < stitcher.finish().covered < 1


@pytest.mark.slow
def test_every_executor_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spawned: ProcessPoolExecutor
) -> None:
    monkeypatch.undo()  # processes have shards of the usual size
    path = write(tmp_path / "a.tif", np.random.default_rng(0).random((5, 700, 900), np.float32))
    tiling = Tiled(size=(96, 96), overlap=(33, 20))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    reference = stitch(made.path, made.path, tmp_path / "r.ome.zarr", blend="hann", workers=1)
    with ThreadPoolExecutor(3) as threads:
        for i, executor in enumerate((None, threads, spawned)):
            out = tmp_path / f"{i}.ome.zarr"
            result = stitch(made.path, made.path, out, blend="hann", executor=executor, workers=2)
            assert digests(result.path) == digests(reference.path), executor


@pytest.mark.parametrize("stop_after", [0, 1, 7, 20])
def test_what_was_stopped_is_resumed_to_the_same_bytes(stop_after: int, tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    predicted = as_floats(made, tmp_path / "p.npy")
    reference = stitch(made.path, predicted, tmp_path / "r.ome.zarr", blend="average")
    out = tmp_path / "o.ome.zarr"
    events = iter_stitch(made.path, predicted, out, blend="average", workers=1)
    for _ in range(stop_after + 1):
        event = next(events)
    events.close()
    assert not out.exists()
    first = next(iter(iter_stitch(made.path, predicted, out, blend="average")))
    assert first.done >= event.done
    if stop_after:
        with pytest.raises(DestinationExistsError, match="unfinished stitching of another plan"):
            stitch(made.path, predicted, out, blend="hann")
    result = stitch(made.path, predicted, out, blend="average")
    assert digests(result.path) == digests(reference.path)
    assert not out.with_name("o.ome.zarr.partial").exists()


def test_a_plan_of_which_no_shard_is_written_gives_way_to_another(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    predicted, out = as_floats(made, tmp_path / "p.npy"), tmp_path / "o.ome.zarr"
    with closing(iter_stitch(made.path, predicted, out, blend="average")) as events:
        assert next(events).done == 0
    reference = stitch(made.path, predicted, tmp_path / "r.ome.zarr", blend="hann")
    assert digests(stitch(made.path, predicted, out, blend="hann").path) == digests(reference.path)


@pytest.mark.parametrize("has_shards", [False, True])
def test_an_error_leaves_nothing_unless_a_shard_is_written(
    has_shards: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_scenes(tmp_path)
    out, real = tmp_path / "o.ome.zarr", ImageWriter.write_shard
    before = set(tmp_path.iterdir())

    def write(writer: ImageWriter, level: int, number: int) -> None:
        if number or not has_shards:
            raise ExportError("refused")
        real(writer, level, number)

    with monkeypatch.context() as patched:
        patched.setattr(ImageWriter, "write_shard", write)
        with pytest.raises(ExportError, match="refused"):
            stitch(made.path, made.path, out, workers=1)
    left = {Path(f"{out}.partial")} if has_shards else set()
    assert set(tmp_path.iterdir()) - before == left
    assert stitch(made.path, made.path, out).covered == 1


def test_a_plan_that_cannot_be_read_is_refused_or_overwritten(tmp_path: Path) -> None:
    made, out = export_scenes(tmp_path), tmp_path / "o.ome.zarr"
    with closing(iter_stitch(made.path, made.path, out, workers=1)) as events:
        write_a_shard(events)
    Path(f"{out}.partial", "stitching.json").write_text('{"patch_set": 1')
    with pytest.raises(ExportError, match="can't be read; start over with overwrite"):
        stitch(made.path, made.path, out)
    assert stitch_status(out).next == "the command that began it, with --overwrite"
    assert stitch(made.path, made.path, out, overwrite=True).covered == 1


def test_lengths_in_micrometres_are_stitched_as_the_pixels_that_they_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 60_000, (90, 140), np.uint16)
    write(tmp_path / "a.tif", image)
    ref = SourceRef(path=tmp_path / "a.tif", pixel_size=PixelSize(y=1, x=0.25))
    in_pixels = Tiled(size=(32, 16), overlap=(8, 3), small="pad")
    for n, lengths in enumerate(
        [
            {"overlap": ("8um", "0.75um")},
            {"size": ("32um", "4um")},
            {"size": ("32um", 16), "overlap": (8, "0.75um")},
        ]
    ):
        strategy = Tiled.model_validate({**dict(in_pixels), **lengths})
        plan = ExportPlan(sources=[ref], out=tmp_path / f"{n}.patches.zarr", strategy=strategy)
        stitched = stitch(plan.out, export(plan).path, tmp_path / f"{n}.ome.zarr")
        assert stitched.covered == 1
        assert np.array_equal(zarr.open_group(stitched.path, mode="r")["0"][0], image)


def write_a_shard(events: Iterator[StitchProgress]) -> None:
    while not next(events).done:
        pass


def as_npy(images: NDArray[Any], path: Path) -> Path:
    np.save(path.with_suffix(".npy"), images)
    return path.with_suffix(".npy")


def as_zarr(images: NDArray[Any], path: Path) -> Path:
    zarr.create_array(path, data=images, chunks=(8, *images.shape[1:]), overwrite=True)
    return path


def as_tiffs(images: NDArray[Any], path: Path) -> Path:
    path.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        tifffile.imwrite(path / f"{i}.tif", image, photometric="minisblack")
    return path


def set_dates(path: Path, seconds: int) -> None:
    for each in (path, *path.rglob("*")):
        os.utime(each, (seconds, seconds))


@pytest.mark.parametrize("save", [as_npy, as_zarr, as_tiffs])
def test_a_stitching_resumes_with_predictions_of_the_same_dates_but_not_of_other_bytes(
    save: Callable[[NDArray[Any], Path], Path], tmp_path: Path
) -> None:
    made = export_scenes(tmp_path)
    images = made["all"][:].astype(np.float32)
    path = save(images, tmp_path / "p")
    set_dates(path, 10**9)
    reference = stitch(made.path, path, tmp_path / "r.ome.zarr")
    out = tmp_path / "o.ome.zarr"
    with closing(iter_stitch(made.path, path, out, workers=1)) as events:
        begun = [next(events).done for _ in range(4)]
    save(images, tmp_path / "p")
    set_dates(path, 10**9)
    with closing(iter_stitch(made.path, path, out)) as events:
        assert next(events).done >= begun[-1] > 0
    save(images + 1, tmp_path / "p")
    set_dates(path, 10**9)
    with pytest.raises(DestinationExistsError, match=rf"{path.name} has changed since"):
        stitch(made.path, path, out)
    save(images, tmp_path / "p")
    set_dates(path, 10**9)
    assert digests(stitch(made.path, path, out).path) == digests(reference.path)


def test_a_mask_of_which_few_pixels_are_predicted_anew_does_not_resume(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((1024, 1024), np.uint8))
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=64), out=tmp_path / "a.patches.zarr")
    )
    mask = np.zeros((256, 1, 64, 64), np.uint8)
    predicted, out = as_npy(mask, tmp_path / "p"), tmp_path / "o.ome.zarr"
    fingerprint = file_key(predicted)
    with closing(iter_stitch(made.path, predicted, out, workers=1)) as events:
        write_a_shard(events)
    mask[37, 0, 10:60, 2:64] = 1
    as_npy(mask, tmp_path / "p")
    assert file_key(predicted) == fingerprint
    with pytest.raises(DestinationExistsError, match=r"p\.npy has changed since the stitching in"):
        stitch(made.path, predicted, out)
    stitched = stitch(made.path, predicted, out, overwrite=True)
    assert zarr.open_group(stitched.path, mode="r")["0"][:].sum() == mask.sum()


def test_one_file_of_many_that_is_predicted_anew_does_not_resume(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((120, 160), np.uint8))
    made = export(ExportPlan(sources=path, strategy=Tiled(size=8), out=tmp_path / "a.patches.zarr"))
    images = np.zeros((300, 1, 8, 8), np.uint8)
    folder, out = as_tiffs(images, tmp_path / "p"), tmp_path / "o.ome.zarr"
    with closing(iter_stitch(made.path, folder, out, workers=1)) as events:
        write_a_shard(events)
    for file in sorted(folder.iterdir())[::23]:
        before, date = file.read_bytes(), file.stat().st_mtime_ns
        tifffile.imwrite(file, images[0] + 1, photometric="minisblack")
        assert file.stat().st_size == len(before)
        with pytest.raises(DestinationExistsError, match="p has changed since the stitching in"):
            stitch(made.path, folder, out)
        file.write_bytes(before)
        os.utime(file, ns=(date, date))
    assert stitch(made.path, folder, out).covered == 1


def test_nothing_is_replaced_that_was_not_stitched(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    out = tmp_path / "o.ome.zarr"
    out.mkdir()
    (out / "zarr.json").write_text(json.dumps({"attributes": {}}))
    for overwrite in (False, True):
        with pytest.raises(ExportError, match="exists, and was not stitched"):
            stitch(made.path, made.path, out, overwrite=overwrite)
    (out / "zarr.json").unlink()
    out.rmdir()
    stitch(made.path, made.path, out)
    with pytest.raises(DestinationExistsError, match=r"o\.ome\.zarr exists"):
        stitch(made.path, made.path, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds notes\.txt, which is not part of"):
        stitch(made.path, made.path, out, overwrite=True)
    (out / "notes.txt").unlink()
    stitch(made.path, made.path, out, overwrite=True, fill=3)
    partial = tmp_path / "n.ome.zarr.partial"
    partial.mkdir()
    (partial / "data.txt").write_text("mine")
    with pytest.raises(ExportError, match="is not an unfinished stitching"):
        stitch(made.path, made.path, tmp_path / "n.ome.zarr", overwrite=True)
    assert (partial / "data.txt").read_text() == "mine"
    with pytest.raises(ArgumentError, match=r"lies in .*made\.patches\.zarr; choose another"):
        stitch(made.path, made.path, made.path / "o.ome.zarr")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    images = made["all"][:]
    out = tmp_path / "o.ome.zarr"

    def refused(match: str, predictions: NDArray[Any], **options: Any) -> None:
        np.save(tmp_path / "p.npy", predictions)
        with pytest.raises(ArgumentError, match=match):
            stitch(made.path, tmp_path / "p.npy", out, **options)
        assert not out.exists()
        assert not out.with_name("o.ome.zarr.partial").exists()

    refused(f"{len(images) - 1} predictions, but {len(images)} patches", images[1:])
    refused(r"size \(15, 16\), patches \(16, 16\)", images[..., 1:, :])
    refused("labels have no average", images, blend="average")
    refused("1 channel names", images, channel_names=["a"])
    refused("fill is -1", images, fill=-1)
    refused("fill is nan", images, fill=np.nan)
    with pytest.raises(ArgumentError, match=r"ends with \.ome\.zarr"):
        stitch(made.path, made.path, tmp_path / "o.zarr")
    with pytest.raises(ArgumentError, match="no split 'val'"):
        stitch(made.path, {"val": made.path}, out)


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_scenes(tmp_path)
    predicted, out = as_floats(made, tmp_path / "p.npy"), tmp_path / "o.ome.zarr"
    usage = SimpleNamespace(free=100_000)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage)
        match = r"image needs 289 kB, but .* has 100 kB free; make room, or save it"
        with pytest.raises(ExportError, match=match):
            stitch(made.path, predicted, out)
        stitch(made.path, predicted, out, codec="zstd")
    stitch(made.path, predicted, tmp_path / "n.ome.zarr")
    assert not list(tmp_path.glob("*.partial"))


def test_a_set_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    predicted = as_floats(made, tmp_path / "p.npy")
    out = tmp_path / "o.ome.zarr"
    events = iter_stitch(made.path, predicted, out)
    write_a_shard(events)
    events.close()
    manifest = json.loads((made.path / "zarr.json").read_text())
    manifest["attributes"]["patchset"]["manifest"]["table_digest"] = "0" * 32
    (made.path / "zarr.json").write_text(json.dumps(manifest))
    with pytest.raises(DestinationExistsError, match="unfinished stitching of another plan"):
        stitch(made.path, predicted, out)


def test_what_was_killed_right_at_its_end_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_scenes(tmp_path)
    out = tmp_path / "o.ome.zarr"
    with monkeypatch.context() as killed:
        killed.setattr(StitchFolder, "remove", mock.Mock(side_effect=[None, KeyboardInterrupt]))
        with pytest.raises(KeyboardInterrupt):
            stitch(made.path, made.path, out)
    before = digests(out)
    result = stitch(made.path, made.path, out)
    assert (result.stage, result.covered) == ("done", 1)
    assert digests(out) == before
    assert not out.with_name("o.ome.zarr.partial").exists()


def test_a_stitcher_does_not_remove_an_unfinished_stitching(tmp_path: Path) -> None:
    made = export_scenes(tmp_path)
    out = tmp_path / "o.ome.zarr"
    events = iter_stitch(made.path, made.path, out)
    write_a_shard(events)
    events.close()
    with pytest.raises(DestinationExistsError, match="unfinished stitching"):
        Stitcher(made.path, out)
    assert out.with_name("o.ome.zarr.partial").exists()
    with Stitcher(made.path, out, overwrite=True) as stitcher:
        stitcher.add(0, made["all"][:])
        assert stitcher.finish().covered == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are in /proc")
def test_shards_are_synced_before_they_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_scenes(tmp_path)
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    result = stitch(made.path, made.path, tmp_path / "o.ome.zarr")
    written = {path.relative_to(result.path).as_posix() for path in result.path.rglob("c/**/*")}
    shards = {name for name in written if (result.path / name).is_file()}
    drafts = [name.split("/image/")[1] for name in synced if "/c/" in name]
    assert shards == {re.sub(rf"{DRAFT_PATTERN}$", r"\g<name>", name) for name in drafts}
