"""One job of an export: write shards, in whatever thread, process or machine."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.partial import PartialExport, ShardSidecar
from napari_patchset.export.selection import PlannedArray
from napari_patchset.export.sources import open_source, read_row
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import write_json
from napari_patchset.patchset.shards import checksums, write_shard
from napari_patchset.patchset.statistics import channel_sums
from napari_patchset.source import channel_indices
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.describe import channel_names

_OPEN_STACKS = 4


class ExportStopped(Exception):
    """The job was asked to stop; what it has written stays."""


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
    with _OpenSources(frozen) as sources:
        for array in selection.arrays(frozen.kinds):
            for shard in array.shards_begun(first, last):
                if partial.sidecar(array, shard) is None:
                    patches = _fill(partial, sources, array, grid[array.candidates(shard)])
                    path = array.layout.shard_path(partial.set, shard)
                    write_shard(path, array.layout, patches)
                    _write_sidecar(partial, array, shard, patches)


def _fill(
    partial: PartialExport, sources: "_OpenSources", array: PlannedArray, grid: PatchGrid
) -> NDArray[Any]:
    patches = np.empty((len(grid), *array.layout.patch_shape), array.layout.dtype)
    for row in grid.rows():
        if partial.stop_requested:
            raise ExportStopped
        stack, channels = sources[int(grid.stack[row.start])]
        read_row(stack, channels, grid[row], sources.pad, patches[row])
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


class _OpenSources:
    """Open a source when its first patch is read, and close it when its turn is over."""

    def __init__(self, frozen: FrozenPlan) -> None:
        self._plan = frozen.plan
        self.pad = frozen.plan.strategy.pad
        self._open: OrderedDict[int, tuple[ClosableStack, list[int]]] = OrderedDict()

    def __getitem__(self, index: int) -> tuple[ClosableStack, list[int]]:
        if index not in self._open:
            stack = open_source(self._plan, self._plan.sources[index])
            channels = channel_indices(channel_names(stack), self._plan.channels)
            self._open[index] = stack, channels
            if len(self._open) > _OPEN_STACKS:
                self._open.popitem(last=False)[1][0].close()
        return self._open[index]

    def __enter__(self) -> "_OpenSources":
        return self

    def __exit__(self, *_: object) -> None:
        for stack, _channels in self._open.values():
            stack.close()
