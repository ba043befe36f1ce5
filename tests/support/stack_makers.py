"""A stack of every kind over self-proving pixels: a further one is a line in STACKS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_patchset import (
    CziImageStack,
    FileImageStack,
    InMemoryImageStack,
    TiffImageStack,
    ZarrImageStack,
)
from napari_patchset.source import PixelSize
from napari_patchset.stacks.resampled import ResampledStack
from support.czi_maker import SceneSpec, make_czi
from support.pixels import expected


class Case(NamedTuple):
    """A stack, and the array SC(Z)YX that it must show."""

    stack: Any
    reference: NDArray[Any]


def memory_2d(folder: Path) -> Case:
    data = np.stack([[expected(0, 0, 21, 34, T=t, C=c) for c in range(3)] for t in range(4)])
    return Case(InMemoryImageStack("array", data), data)


def memory_3d(folder: Path) -> Case:
    data = expected(0, 0, 14, 2 * 3 * 5 * 19, np.float32).reshape(2, 3, 5, 14, 19)
    return Case(InMemoryImageStack.from_array(np.moveaxis(data, 1, -1), "TZYXC"), data)


def czi_2d(folder: Path) -> Case:
    scene = SceneSpec(3, (-70, 25, 34, 21), t=range(2, 4), z=range(1, 3), c=3, kind="Gray8")
    path = make_czi(folder / "2d.czi", [scene], tile=(8, 16))
    planes = [[(t, z, c) for c in range(3)] for t in (2, 3) for z in (1, 2)]
    return Case(CziImageStack(path, scene=3), _planes(scene, planes))


def czi_depth_z(folder: Path) -> Case:
    scene = SceneSpec(None, (5, -9, 20, 17), t=2, z=range(1, 6), c=3, missing=({"Z": 3, "C": 1},))
    path = make_czi(folder / "z.czi", [scene])
    planes = [[[(t, z, c) for z in range(1, 6)] for c in range(3)] for t in range(2)]
    reference = _planes(scene, planes)
    reference[:, 1, 2] = 0
    return Case(CziImageStack(path, depth_axis="Z"), reference)


def czi_depth_t(folder: Path) -> Case:
    scene = SceneSpec(0, (0, 0, 20, 17), t=3, z=2, c=3, kind="Gray32Float")
    path = make_czi(folder / "t.czi", [scene], tile=(10, 10), compression="zstd1:")
    planes = [[[(t, z, c) for t in range(3)] for c in range(3)] for z in range(2)]
    return Case(CziImageStack(f"{path}@0", depth_axis="T"), _planes(scene, planes))


def czi_all_scenes(folder: Path) -> Case:
    left = SceneSpec(0, (-40, 10, 16, 12), t=2, c=3)
    right = SceneSpec(1, (-10, 4, 10, 12), t=2, c=3)
    path = make_czi(folder / "scenes.czi", [left, right])
    planes = [[(t, 0, c) for c in range(3)] for t in range(2)]
    reference = np.zeros((2, 3, 18, 40), np.uint16)
    reference[..., 6:18, :16] = _planes(left, planes)
    reference[..., :12, 30:] = _planes(right, planes)
    return Case(CziImageStack(path), reference)


def file_in_memory(folder: Path) -> Case:
    data = expected(0, 0, 21, 4 * 3 * 34).reshape(21, 4, 3, 34).transpose(1, 2, 0, 3)
    tifffile.imwrite(folder / "file.tif", data, photometric="minisblack")
    stack = FileImageStack.from_tiff(folder / "file.tif", "TCYX")
    stack.load()
    return Case(stack, data)


def tiff_2d(folder: Path) -> Case:
    data = expected(0, 0, 34, 4 * 3 * 50).reshape(4, 3, 34, 50)
    path = folder / "2d.ome.tif"
    options = {"tile": (16, 32), "compression": "zlib", "predictor": True, "byteorder": ">"}
    tifffile.imwrite(path, data, metadata={"axes": "TCYX"}, photometric="minisblack", **options)
    return Case(TiffImageStack(path), data)


def tiff_depth_z(folder: Path) -> Case:
    data = expected(0, 0, 17, 2 * 5 * 3 * 20, np.uint8).reshape(2, 5, 3, 17, 20)
    path = folder / "z.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "TZCYX"})
    return Case(TiffImageStack(path, depth_axis="Z"), data.swapaxes(1, 2))


def tiff_resampled(folder: Path) -> Case:
    data = expected(0, 0, 34, 4 * 3 * 50).reshape(4, 3, 34, 50)
    path = folder / "resampled.tif"
    tifffile.imwrite(path, data, photometric="minisblack", tile=(16, 32))
    stack = ResampledStack(
        TiffImageStack(path, axes="TCYX"),
        PixelSize(y=0.5, x=1.0),
        source_pixel_size=PixelSize(y=0.25, x=0.25),
    )
    sums = data[..., :48].reshape(4, 3, 17, 2, 12, 4).sum(axis=(3, 5), dtype=np.int64)
    return Case(stack, ((sums + 4) // 8).astype(np.uint16))


def zarr_v2_fortran(folder: Path) -> Case:
    data = expected(0, 0, 21, 4 * 3 * 34).reshape(21, 4, 3, 34).transpose(1, 2, 0, 3)
    group = zarr.open_group(folder / "v2.zarr", mode="w", zarr_format=2)
    array = group.create_array(
        "a", shape=data.shape, chunks=(1, 2, 8, 16), dtype=">u2", order="F", fill_value=0
    )
    array[:] = data
    return Case(ZarrImageStack(group, "a", "TCYX"), data)


def zarr_v3_sharded_depth_z(folder: Path) -> Case:
    data = expected(0, 0, 14, 2 * 3 * 5 * 19, np.float32).reshape(2, 3, 5, 14, 19)
    group = zarr.open_group(folder / "v3.zarr", mode="w", zarr_format=3)
    shape, shards, chunks = data.shape, (1, 1, 4, 16, 16), (1, 1, 2, 8, 8)
    array = group.create_array("a", shape=shape, shards=shards, chunks=chunks, dtype="float32")
    array[:] = data
    return Case(ZarrImageStack(group, "a", "TCZYX", depth_axis="Z"), data)


def _planes(scene: SceneSpec, numbers: list[Any]) -> NDArray[Any]:
    """Stack a scene's planes, given as nested lists of (t, z, c)."""
    if isinstance(numbers, tuple):
        return scene.pixels(dict(zip("TZC", numbers, strict=True)))
    return np.stack([_planes(scene, part) for part in numbers])


STACKS: list[Callable[[Path], Case]] = [
    memory_2d,
    memory_3d,
    czi_2d,
    czi_depth_z,
    czi_depth_t,
    czi_all_scenes,
    file_in_memory,
    tiff_2d,
    tiff_depth_z,
    tiff_resampled,
    zarr_v2_fortran,
    zarr_v3_sharded_depth_z,
]
