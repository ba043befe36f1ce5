"""The files and the exports of which test_pinned.py pins the results."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import tifffile

from napari_patchset import describe, open_stack
from support.czi_maker import SceneSpec, blocks_of, make_czi, metadata_xml, write_blocks
from support.pixels import expected
from support.tiff_maker import planes, write, write_two_series
from support.zarr_maker import drawn, write_array, write_group, write_image

MOSAIC = (
    SceneSpec(3, (-40, 10, 70, 50), t=range(1, 3), z=range(2, 5), c=2, overlap=4, stamped=True),
    SceneSpec(7, (500, 0, 48, 64), t=range(1, 3), z=range(2, 4), c=2, missing=({"T": 1, "Z": 3},)),
)
MOSAIC_XML = metadata_xml(
    pixel_size={"X": 2e-7, "Y": 3e-7, "Z": 1e-6},
    channels={"Channel:0": "DAPI", "Channel:1": "EGFP"},
    display={"Channel:0": "<Low>0.1</Low><High>0.5</High><Color>#FF0000FF</Color>"},
    scenes={3: "Left", 7: "Right"},
    times="<Interval><Increment>30</Increment></Interval>",
)
SINGLE = SceneSpec(None, (5, -9, 61, 47), t=4, z=range(1, 4), c=3, kind="Gray8")
PAIR = SceneSpec(0, (0, 0, 96, 80), t=2)

UUID = "00000000-0000-0000-0000-000000000001"
"""Of an OME-TIFF; tifffile would make one of the time."""

IMAGE_LABEL = {
    "colors": [
        {"label-value": 1, "rgba": [255, 0, 0, 255]},
        {"label-value": 2, "rgba": [0, 128, 255, 51]},
    ],
    "properties": [{"label-value": 2, "class": "nucleus", "area": 12.5}],
}


def make_sources(folder: Path) -> None:
    """Write every source; neither the time nor the folder makes a difference to their bytes."""
    _make_czis(folder)
    _make_tiffs(folder)
    _make_zarrs(folder)
    _write_json(folder / "box.json", {"kind": "rectangle", "x": 4, "y": 6, "w": 40, "h": 37})
    corners = [[2.5, 1], [47, 9.25], [40, 48], [10, 50]]
    _write_json(folder / "corners.json", {"kind": "polygon", "points": corners})


def _make_czis(folder: Path) -> None:
    make_czi(folder / "mosaic.czi", MOSAIC, tile=(24, 32), xml=MOSAIC_XML)
    make_czi(folder / "single.czi", [SINGLE], tile=(16, 16))
    make_czi(folder / "other.czi", [replace(SINGLE, c=2, kind="Gray16")])
    make_czi(folder / "more.czi", [replace(SINGLE, c=2, t=range(4, 6))])
    make_czi(folder / "rgb.czi", [SceneSpec(0, (0, 0, 52, 40), z=2, kind="Bgr24")], tile=(32, 32))
    make_czi(folder / "float.czi", [SceneSpec(0, (0, 0, 52, 40), t=2, kind="Gray32Float")])
    make_czi(folder / "pair.czi", [PAIR], tile=(32, 32))
    make_czi(folder / "target.czi", [replace(PAIR, kind="Gray32Float")])
    pyramid = SceneSpec(0, (0, 0, 1300, 700), kind="Gray8", pyramid=True)
    make_czi(folder / "pyramid.czi", [pyramid], tile=(512, 512))
    rows, columns = np.indices((80, 96))
    _write_czi_of(folder / "labels.czi", (rows // 10 + columns // 12) % 5)
    _write_czi_of(folder / "mask.czi", (rows // 40 + columns // 30) % 2)


def _write_czi_of(path: Path, pixels: Any) -> None:
    """Write a file of PAIR's geometry and other pixels, the same at each T."""
    blocks = list(blocks_of([replace(PAIR, kind="Gray8")]))
    write_blocks(path, [replace(block, pixels=pixels.astype(np.uint8)) for block in blocks])


def _make_tiffs(folder: Path) -> None:
    write(folder / "plain.tif", planes(3), software=False)
    write(
        folder / "image.ome.tif",
        planes(2, 3, 2),
        software=False,
        tile=(16, 32),
        metadata={
            "axes": "TZCYX",
            "UUID": UUID,
            "Creator": "a test",
            "Channel": {"Name": ["DAPI", "EGFP"]},
            "PhysicalSizeX": 0.25,
            "PhysicalSizeY": 0.5,
            "PhysicalSizeZ": 2.0,
            "TimeIncrement": 1.5,
            "Plane": {
                "PositionX": [12.0] * 12,
                "PositionXUnit": ["µm"] * 12,
                "PositionY": [-0.007] * 12,
                "PositionYUnit": ["mm"] * 12,
            },
        },
    )
    write(
        folder / "imagej.tif",
        planes(2, 3, 2, dtype=np.uint8),
        software=False,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "TZCYX", "spacing": 3.0, "unit": "um", "finterval": 2.5},
    )
    colours = np.stack([expected(0, 0, 30, 41, np.uint8, K=k) for k in range(3)], axis=-1)
    tifffile.imwrite(folder / "rgb.tif", colours, photometric="rgb", software=False)
    with patch("uuid.uuid1", lambda: UUID):
        write_two_series(folder / "series.ome.tif")


def _make_zarrs(folder: Path) -> None:
    write_array(folder / "v2.zarr", drawn("TYX", (3, 45, 70)), 2, dimension_names=None)
    write_array(
        folder / "v3.zarr",
        drawn("CZYX", (2, 4, 45, 70), np.float32),
        chunks=(1, 2, 16, 16),
        shards=(2, 4, 32, 32),
        dimension_names=["c", "z", "y", "x"],
    )
    _make_ome_zarr(folder / "old.ome.zarr", "0.4")
    _make_ome_zarr(folder / "new.ome.zarr", "0.5")


def _make_ome_zarr(path: Path, version: str) -> None:
    image = drawn("TCZYX", (2, 2, 3, 50, 70))
    window = {"min": 0, "max": 65535, "start": 100, "end": 9000}
    channels = [{"label": "DAPI", "color": "0000FF", "window": window}, {"color": "00FF00"}]
    levels = image, image[..., ::2, ::2]
    scale = (2, 1, 0.5, 0.25, 0.2)
    write_image(path, "TCZYX", *levels, version=version, scale=scale, omero={"channels": channels})
    cells = (np.arange(3 * 50 * 70).reshape(3, 50, 70) // 9 % 4).astype(np.uint16)
    more = {"image-label": IMAGE_LABEL}
    write_image(path / "labels" / "cells", "ZYX", cells, version=version, scale=scale[2:], **more)
    write_group(path / "labels", {"labels": ["cells"]}, version)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


class Export(NamedTuple):
    """One export: the sources, the command's options, and what has no option, as a plan."""

    sources: str
    options: str = ""
    plan: Callable[[Path], dict[str, Any]] | None = None
    """Given the folder of the sources."""
    in_jobs: bool = False
    """By plan, score, write and finalize, where a shard holds 8 patches."""

    @property
    def is_of_czis(self) -> bool:
        """Whether the tests' own writer decides about all bytes of the sources."""
        return all(name.partition("@")[0].endswith(".czi") for name in self.sources.split())

    @property
    def suffix(self) -> str:
        is_zarr = not any(f"--format {name}" in self.options for name in OTHER_FORMATS)
        return ".patches.zarr" if is_zarr else ".patches"


OTHER_FORMATS = ("tiff", "npz", "coordinates")


def with_strategy(**fields: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: {"strategy": fields}


def clicked(folder: Path) -> dict[str, Any]:
    """List places in both scenes of the mosaic, one of them twice."""
    with open_stack(folder / "mosaic.czi", 3) as stack:
        key = describe(stack).key
    places = (7, 1, (40, 20)), (3, 4, (30, 50)), (3, 0, (0, 3)), (3, 4, (30, 50))
    patches = [
        {"source": key, "scene": scene, "sample": sample, "start": start}
        for scene, sample, start in places
    ]
    return {"strategy": {"kind": "fixed", "size": (16, 20), "patches": patches}}


EXPORTS = {
    "czi_tiled_overlap_filters_split": Export(
        "mosaic.czi",
        "--patch-size 16,20 --overlap 4,6 --filter std>p10 --filter 'mean[all DAPI,EGFP]>p20'"
        " --keep-fraction 0.3 --val 0.3 --seed 2",
    ),
    "czi_tiled_in_jobs_of_small_shards": Export(
        "mosaic.czi", "--patch-size 16,16 --filter std>p10 --val 0.3", in_jobs=True
    ),
    "czi_tiled_pad_symmetric_depth_z_lz4": Export(
        "mosaic.czi",
        "--depth-axis Z --patch-size 2,20,24 --edge pad --codec lz4",
        with_strategy(kind="tiled", pad="symmetric", small="pad"),
    ),
    "czi_tiled_drop_depth_t_npz": Export(
        "single.czi",
        "--depth-axis T --patch-size 2,16,16 --edge drop --channels 2,0 --select Z=2:4"
        " --format npz",
    ),
    "czi_tiled_balance_one_scene_tiff": Export(
        "mosaic.czi@7", "--patch-size 20,20 --edge balance --channels EGFP --format tiff"
    ),
    "czi_tiled_mask_region_otsu_zstd": Export(
        "pair.czi", "--patch-size 8,8 --region mask.czi --filter max<otsu --codec zstd"
    ),
    "czi_random_apart_split_by_scene": Export(
        "mosaic.czi",
        "--val 0.4 --split-by scene --seed 3 --codec zstd",
        with_strategy(kind="random", size=(12, 12), count=6, max_overlap=0.3),
    ),
    "czi_random_total_rectangle_coordinates": Export(
        "mosaic.czi",
        "--region box.json --select Z=2:4,T=2: --seed 5 --format coordinates",
        with_strategy(kind="random", size=(10, 14), count=20, per="total"),
    ),
    "czi_random_depth_z_npz": Export(
        "single.czi",
        "--strategy random --count 7 --depth-axis Z --patch-size 2,12,12 --format npz"
        " --filter 'shannon(bins=16)>3.5'",
    ),
    "czi_stratified_polygon_split_by_block": Export(
        "mosaic.czi",
        "--strategy stratified --patch-size 8,8 --seed 1 --region corners.json"
        " --val 0.25 --split-by block",
    ),
    "czi_fixed": Export("mosaic.czi", plan=clicked),
    "czi_whole_depth_z_tiff": Export(
        "mosaic.czi@3", "--strategy whole --depth-axis Z --format tiff"
    ),
    "czi_pairs_mask_filter_npz": Export(
        "pair.czi",
        "--patch-size 16,16 --target target.czi --labels labels.czi --mask mask.czi"
        " --filter '0.1<mask<0.9' --val 0.3 --dtype float32 --format npz",
    ),
    "czi_pairs_labels_filter_zarr": Export(
        "pair.czi",
        "--strategy random --count 30 --patch-size 16,16 --target target.czi --labels labels.czi"
        " --filter mask>p30 --keep-fraction 0.2 --val 0.3 --split-by auto",
    ),
    "czi_several_files_split_by_file_cast": Export(
        "other.czi more.czi",
        "--patch-size 20,20 --channels 1 --select Z=:3 --val 0.4 --split-by file --dtype uint16"
        " --filter 'saturation(level=60000)<0.2'",
    ),
    "czi_rgb_tiff": Export("rgb.czi", "--patch-size 16,16 --format tiff"),
    "czi_float_mean": Export(
        "float.czi", "--patch-size 16,16 --overlap 3 --filter mean>p40 --filter max<otsu"
    ),
    "tiff_plain_tiled_shift": Export(
        "plain.tif", "--patch-size 16,24 --overlap 2 --filter 'std[0]>p50'"
    ),
    "tiff_plain_coordinates": Export("plain.tif", "--patch-size 32,32 --format coordinates"),
    "tiff_ome_depth_z_tiff": Export(
        "image.ome.tif", "--depth-axis Z --patch-size 2,20,20 --channels DAPI --format tiff"
    ),
    "tiff_imagej_depth_t_pad_reflect_npz": Export(
        "imagej.tif", "--depth-axis T --patch-size 2,32,32 --edge pad --format npz --dtype uint16"
    ),
    "tiff_two_series": Export("series.ome.tif@1", "--patch-size 16,16 --filter max>60000"),
    "zarr_v2_pad_constant": Export(
        "v2.zarr",
        "--patch-size 50,40 --edge pad",
        with_strategy(kind="tiled", pad="constant", small="pad"),
    ),
    "zarr_v3_depth_z_pad_edge": Export(
        "v3.zarr",
        "--depth-axis Z --patch-size 3,24,24 --edge pad --filter mean>p25",
        with_strategy(kind="tiled", pad="edge"),
    ),
    "ome_zarr_0_4_whole": Export("old.ome.zarr", "--strategy whole --channels DAPI"),
    "ome_zarr_0_5_depth_z_npz": Export(
        "new.ome.zarr", "--depth-axis Z --patch-size 3,24,24 --edge balance --format npz"
    ),
    "tiff_and_zarr_together": Export(
        "plain.tif v2.zarr", "--patch-size 16,16 --edge drop --filter std>otsu --codec lz4"
    ),
}

READ_SOURCES = (
    *("mosaic.czi", "mosaic.czi@7", "single.czi", "rgb.czi", "float.czi", "pyramid.czi"),
    *("plain.tif", "image.ome.tif", "imagej.tif", "rgb.tif", "series.ome.tif", "series.ome.tif@1"),
    *("v2.zarr", "v3.zarr", "old.ome.zarr", "new.ome.zarr"),
)
"""What the reader is asked for."""

READ_SETS = (
    "czi_tiled_overlap_filters_split",
    "czi_pairs_labels_filter_zarr",
    "czi_whole_depth_z_tiff",
    "czi_tiled_drop_depth_t_npz",
)
"""The exports whose sets the reader is asked for."""
