"""The peers' side, run by the peers' own Python: one JSON request a line, one JSON answer a line.

It must not import napari_patchset, which is not installed there.
"""

import importlib.util
import json
import os
import shutil
import sys
import time
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from pylibCZIrw.czi import open_czi

Spot = tuple[int, int, int, int]
"""Scene, sample, y, x."""


@cache
def careamics_folder() -> Path:
    """Return the folder of the package, which is not imported itself, as it would import torch."""
    package = importlib.util.find_spec("careamics")
    if package is None or package.submodule_search_locations is None:
        raise ImportError("careamics is not installed")
    return Path(next(iter(package.submodule_search_locations)))


@cache
def careamics_stack() -> Any:
    """Load CAREamics' stack class by its file."""
    file = careamics_folder() / "dataset" / "image_stack" / "czi_image_stack.py"
    spec = importlib.util.spec_from_file_location("careamics_czi_image_stack", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CziImageStack


def opening(path: str) -> float:
    """Time CAREamics' list of scenes and the opening of its stack."""
    CziImageStack = careamics_stack()
    start = time.perf_counter()
    scenes = CziImageStack.get_bounding_rectangles(path)
    stack = CziImageStack(path, next(iter(scenes)))
    seconds = time.perf_counter() - start
    del stack
    return seconds


def patches(path: str, spots: list[Spot], size: int) -> float:
    """Time CAREamics' extract_patch at each spot; opening is not counted."""
    stacks = {scene: careamics_stack()(path, scene) for scene in {spot[0] for spot in spots}}
    start = time.perf_counter()
    for scene, sample, y, x in spots:
        stacks[scene].extract_patch(sample, None, (y, x), (size, size))
    return time.perf_counter() - start


@cache
def careamics_zarr_stack() -> Any:
    """Load CAREamics' stack of a zarr, with empty packages in the place of its own."""
    folder = careamics_folder()
    for name in ("careamics", "careamics.utils", "careamics.dataset", _IMAGE_STACK):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    return importlib.import_module(f"{_IMAGE_STACK}.zarr_image_stack").ZarrImageStack


_IMAGE_STACK = "careamics.dataset.image_stack"


def zarr_batches(path: str, batches: list[list[int]], size: list[int]) -> float:
    """Time batches of patches out of CAREamics' stack of a patch set."""
    axes = "SCYX" if len(size) == 2 else "SCZYX"
    stack = careamics_zarr_stack()(zarr.open_group(path, mode="r"), "all/image", axes)
    start = time.perf_counter()
    for batch in batches:
        np.stack([stack.extract_patch(i, None, [0] * len(size), size) for i in batch])
    return time.perf_counter() - start


def czi_batches(path: str, batches: list[list[list[int]]], size: list[int]) -> float:
    """Time batches of patches, each by scene, sample and start, out of CAREamics' stacks."""
    depth = {} if len(size) == 2 else {"depth_axis": "Z"}
    scenes = {spot[0] for batch in batches for spot in batch}
    stacks = {scene: careamics_stack()(path, scene, **depth) for scene in scenes}
    start = time.perf_counter()
    for batch in batches:
        np.stack([stacks[spot[0]].extract_patch(spot[1], None, spot[2:], size) for spot in batch])
    return time.perf_counter() - start


def tiff_export(path: str, spots: list[Spot], size: int, out: str) -> float:
    """Time CAREamics' extract_patch and one TIFF a patch; neither opening nor sync is counted."""
    folder = _empty(out)
    stacks = {scene: careamics_stack()(path, scene) for scene in {spot[0] for spot in spots}}
    start = time.perf_counter()
    for i, (scene, sample, y, x) in enumerate(spots):
        patch = stacks[scene].extract_patch(sample, None, (y, x), (size, size))
        tifffile.imwrite(folder / f"{i}.tif", patch)
    return time.perf_counter() - start


def composed_export(path: str, shape: list[int], size: int, capacity: int, out: str) -> float:
    """Time the best one can compose: planes read whole, cut by NumPy, written by zarrs, synced.

    Parameters
    ----------
    path : str
        A mosaic.
    shape : list of int
        Scenes, Z, C, side of a scene.
    size, capacity : int
        Side of a patch, patches in a shard.
    out : str
        The array's folder.
    """
    import zarrs  # else zarr would write without it

    assert zarrs
    folder = _empty(out)
    scenes, depth, channels, side = shape
    k = side // size
    os.sync()
    start = time.perf_counter()
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.create_array(
            str(folder / "a.zarr"),
            shape=(scenes * depth * k * k, channels, size, size),
            chunks=(1, channels, size, size),
            shards=(min(capacity, k * k), channels, size, size),
            dtype="uint16",
            compressors=None,
        )
        with open_czi(path) as czi:
            for i in range(scenes * depth):
                scene, z = divmod(i, depth)
                roi = czi.scenes_bounding_rectangle[scene]
                planes = [
                    czi.read(roi=roi, plane={"Z": z, "C": c, "T": 0}, scene=scene)[..., 0]
                    for c in range(channels)
                ]
                cut = np.stack(planes)[:, : k * size, : k * size]
                cut = cut.reshape(channels, k, size, k, size).transpose(1, 3, 0, 2, 4)
                array[i * k * k : (i + 1) * k * k] = cut.reshape(-1, channels, size, size)
    os.sync()
    return time.perf_counter() - start


def tensorstore_reads(path: str, indices: list[int]) -> float:
    """Time tensorstore at single patches; opening is not counted."""
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    array = tensorstore.open(spec).result()
    start = time.perf_counter()
    for i in indices:
        array[i].read().result()
    return time.perf_counter() - start


def _empty(out: str) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    return Path(out)


CALLS: dict[str, Callable[..., float]] = {
    call.__name__: call
    for call in (
        opening,
        patches,
        zarr_batches,
        czi_batches,
        tiff_export,
        composed_export,
        tensorstore_reads,
    )
}


def serve() -> None:
    """Answer until the input ends: with seconds, or with words where it failed."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: float | str = CALLS[request["call"]](**request["arguments"])
        except Exception as error:  # whatever it is, the other rows go on
            answer = f"{request['call']}: {type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
