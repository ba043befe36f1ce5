"""One job of an export: write a run of shards, in whatever thread, process or machine."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.export.partial import FrozenPlan, PartialExport, ShardSidecar
from napari_patchset.export.sources import open_source, read_row
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import ArrayLayout, write_json
from napari_patchset.patchset.shards import checksums, write_shard
from napari_patchset.patchset.statistics import channel_sums
from napari_patchset.source import channel_indices
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.describe import channel_names

_OPEN_STACKS = 4


class ExportStopped(Exception):
    """The job was asked to stop; what it has written stays."""


def write_shards(root: str, first: int, last: int) -> None:
    """Write the shards from `first` up to, not with, `last`; those already there stay.

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
    frozen = partial.frozen()
    if frozen is None:
        raise ExportError(f"{root}: there is no plan in it; plan the export first.")
    array, grid = frozen.array, partial.candidates(frozen)
    with _OpenSources(frozen) as sources:
        for shard in range(first, last):
            if partial.sidecar(array, shard) is None:
                rows = array.rows(shard)
                patches = _fill(partial, sources, array, grid[rows.start : rows.stop])
                write_shard(array.shard_path(partial.set, shard), patches, array.capacity)
                _write_sidecar(partial, array, shard, patches)


def _fill(
    partial: PartialExport, sources: "_OpenSources", array: ArrayLayout, grid: PatchGrid
) -> NDArray[Any]:
    patches = np.empty((len(grid), *array.patch_shape), array.dtype)
    for row in grid.rows():
        if partial.stop_requested:
            raise ExportStopped
        stack, channels = sources[int(grid.stack[row.start])]
        read_row(stack, channels, grid[row], sources.pad, patches[row])
    return patches


def _write_sidecar(
    partial: PartialExport, array: ArrayLayout, shard: int, patches: NDArray[Any]
) -> None:
    sidecar = ShardSidecar(checksums=tuple(checksums(patches)), sums=tuple(channel_sums(patches)))
    write_json(partial.sidecar_path(array, shard), sidecar.model_dump())


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
