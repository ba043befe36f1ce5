"""One job of an export: write shards, in whatever thread, process or machine."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.casting import cast_exactly
from napari_patchset.export.opened import OpenImages
from napari_patchset.export.partial import PartialExport, ShardSidecar
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.selection import PlannedArray
from napari_patchset.export.sources import read_row
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import write_json
from napari_patchset.patchset.shards import checksums, write_shard
from napari_patchset.patchset.statistics import channel_sums


def write_job(root: str, first: int, last: int) -> None:
    """Write every shard whose first patch is one of the candidates `first` up to `last`.

    Shards that are already there stay.

    Parameters
    ----------
    root : str
        The folder of the partial export.

    Raises
    ------
    ExportStopped
        If a stop is requested.
    """
    partial = PartialExport(Path(root))
    frozen, selection = partial.frozen(), partial.selection()
    grid = partial.candidates(frozen)
    with OpenImages(frozen.plan) as images:
        for array in selection.arrays(frozen.kinds):
            for shard in array.shards_begun(first, last):
                if partial.sidecar(array, shard) is None:
                    chosen = grid[array.candidates(shard)]
                    patches = _fill(partial, frozen.plan, images, array, chosen)
                    path = array.layout.shard_path(partial.set, shard)
                    write_shard(path, array.layout, patches)
                    _write_sidecar(partial, array, shard, patches)


def _fill(
    partial: PartialExport,
    plan: ExportPlan,
    images: OpenImages,
    array: PlannedArray,
    grid: PatchGrid,
) -> NDArray[Any]:
    patches = np.empty((len(grid), *array.layout.patch_shape), array.layout.dtype)
    for row in grid.rows():
        partial.proceed()
        index = int(grid.stack[row.start])
        stack, channels = images[index, array.layout.role]
        read = np.empty((row.stop - row.start, *array.layout.patch_shape), stack.data_dtype)
        with images.reading(index):
            read_row(stack, channels, grid[row], images.pad, read)
        patches[row] = cast_exactly(read, array.layout.dtype, grid[row], plan.sources[index])
    return patches


def _write_sidecar(
    partial: PartialExport, array: PlannedArray, shard: int, patches: NDArray[Any]
) -> None:
    sidecar = ShardSidecar(
        stamp=array.stamp(shard),
        checksums=tuple(checksums(patches)),
        sums=tuple(channel_sums(patches)),
    )
    write_json(partial.sidecar_path(array, shard), sidecar.model_dump(mode="json"))
