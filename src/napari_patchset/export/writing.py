"""One job of an export: write shards, in whatever thread, process or machine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.cutting.batches import Batches
from napari_patchset.export.cutting.casting import cast_exactly
from napari_patchset.export.cutting.holding import DEFAULT_MEMORY, LEAST_TILES
from napari_patchset.export.cutting.reading import BatchReader, ReadBatch
from napari_patchset.export.filling import WRITERS, FillingShards, Shard
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.keeping.selection import PlannedArray
from napari_patchset.export.keeping.sidecar import ShardSidecar
from napari_patchset.export.sources.opened import OpenImages
from napari_patchset.patching.padding import PadMode


def write_job(
    root: str, first: int, last: int, *, memory: int = DEFAULT_MEMORY, threads: int = 1
) -> None:
    """Write every shard whose first patch is one of the candidates `first` up to `last`.

    Shards that are already there stay.

    Parameters
    ----------
    root : str
        The folder of the partial export.
    memory : int
        Bytes for decoded tiles and open shards; more where a batch of patches needs it.
    threads : int
        How many decode.

    Raises
    ------
    ExportStopped
        If a stop is requested.
    """
    export = PartialExport(Path(root))
    frozen = export.frozen()
    planned = export.selection().arrays(frozen.kinds)
    with OpenImages(frozen.plan, stamps=frozen.stamps) as images:
        for kind in frozen.kinds:
            arrays = [array for array in planned if array.layout.role == kind.role]
            shards = list(_absent(export, arrays, first, last))
            if shards:
                _Pass(export, frozen, shards, memory).run(images, threads)


def _absent(
    export: PartialExport, arrays: Sequence[PlannedArray], first: int, last: int
) -> Iterator[Shard]:
    for array in arrays:
        for index in array.shards_begun(first, last):
            if export.sidecar(array, index) is None:
                yield Shard(array, index)


class _Pass:
    """Write shards of the images, or the targets, or the labels: of all splits at once."""

    def __init__(
        self, export: PartialExport, frozen: FrozenPlan, shards: Sequence[Shard], memory: int
    ) -> None:
        self._export, self._frozen, self._shards = export, frozen, shards
        self._role = shards[0].array.layout.role
        self._grid = export.candidates(frozen)
        self._buffers = len({shard.array.layout.name for shard in shards}) + WRITERS
        largest = max(shard.n * shard.array.layout.patch_bytes for shard in shards)
        self._for_tiles = max(memory - self._buffers * largest, LEAST_TILES)

    def run(self, images: OpenImages, threads: int) -> None:
        batches = self._batches(images.pad)
        proceed = self._export.proceed
        limits = self._for_tiles, threads
        reader = BatchReader(batches, images, self._role, images.pad, *limits, proceed)
        with (
            ThreadPoolExecutor(WRITERS, "disk") as disk,
            FillingShards(partial(self._finish, disk), self._buffers) as filling,
            closing(reader.read()) as read,
        ):
            for batch in read:
                proceed()
                shard = self._shards[int(batches.place[batch.number])]
                chosen = batches.chosen(batch.number)
                out = filling.rows(shard, shard.row(chosen[0]), len(chosen))
                self._fill(reader, batch, out, images, chosen)
                filling.filled(shard, len(chosen))

    def _batches(self, pad: PadMode) -> Batches:
        """Order the candidates of all shards as their sources are best read."""
        place = np.full(len(self._grid), -1, np.int32)
        for i, shard in enumerate(self._shards):
            place[shard.candidates] = i
        candidates = np.flatnonzero(place >= 0)
        sources = self._frozen.images[self._role]
        return Batches.of(self._grid, sources, pad, candidates, place[candidates])

    def _fill(
        self,
        reader: BatchReader,
        batch: ReadBatch,
        out: NDArray[Any],
        images: OpenImages,
        chosen: NDArray[np.int64],
    ) -> None:
        """Fill rows of a shard, casting what the source holds to the array's type."""
        dtype = images[batch.stack, self._role].stack.data_dtype
        read = out if out.dtype == dtype else np.empty(out.shape, dtype)
        reader.fill(batch, read)
        if read is not out:
            source = self._frozen.plan.sources[batch.stack]
            out[...] = cast_exactly(read, out.dtype, self._grid[chosen], source)

    def _finish(self, disk: Executor, shard: Shard, patches: NDArray[Any]) -> None:
        """Write a full shard, summing up while the disk is busy; then what is kept of it."""
        array, number = shard.array, shard.number
        write = self._export.format.write
        written = disk.submit(write, self._export.set, array.layout, number, patches)
        sidecar = ShardSidecar.of(array.stamp(number), patches)
        written.result()
        self._export.write_sidecar(array, number, sidecar)
