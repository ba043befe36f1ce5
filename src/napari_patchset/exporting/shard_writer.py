"""One job of an export: write shards, in whatever thread, process or machine.

Shards that fill, each written by another thread as soon as it is full.

Cast pixels to the type that a plan asks for, only without loss.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.exporting.batches import Batches
from napari_patchset.exporting.frozen_plan import FrozenPlan, PlannedArray
from napari_patchset.exporting.open_sources import OpenImages
from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY, LEAST_TILES
from napari_patchset.exporting.tile_reader import BatchReader, ReadBatch
from napari_patchset.exporting.workdir import DoneMarker, PartialExport
from napari_patchset.patching.grid import PatchSpec
from napari_patchset.patching.padding import PadMode

WRITERS = 2
"""One waits for the disk while others sum up."""


class Shard(NamedTuple):
    """A shard of an array."""

    array: PlannedArray
    number: int

    @property
    def n(self) -> int:
        """How many patches it holds."""
        return len(self.array.layout.rows(self.number))

    @property
    def candidates(self) -> NDArray[np.int64]:
        """The candidates that lie in it."""
        return self.array.candidates(self.number)

    def row(self, candidate: int) -> int:
        """Give the row of a candidate."""
        return int(np.searchsorted(self.candidates, candidate))


class FillingShards:
    """Memory for the shards that fill; use it in a `with` statement, which awaits the writing.

    What is being written at the end of it is written whole.

    Parameters
    ----------
    write : callable
        Writes a full shard, given its patches.
    buffers : int
        How many shards are in memory at most, those being written too.
    """

    def __init__(self, write: Callable[[Shard, NDArray[Any]], None], buffers: int) -> None:
        self._write = write
        self._unused = buffers
        self._free: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
        self._open: dict[tuple[str, int], tuple[NDArray[np.uint8], NDArray[Any], int]] = {}
        self._pool = ThreadPoolExecutor(WRITERS, "write")
        self._writing: list[Future[None]] = []

    def rows(self, shard: Shard, first: int, n: int) -> NDArray[Any]:
        """Give the rows of a shard to be filled; a new shard waits for one to be written."""
        key = shard.array.layout.name, shard.number
        if key not in self._open:
            layout = shard.array.layout
            buffer = self._buffer(min(layout.capacity, layout.n) * layout.patch_bytes)
            used = buffer[: shard.n * layout.patch_bytes].view(layout.dtype)
            self._open[key] = buffer, used.reshape(shard.n, *layout.patch_shape), shard.n
        return self._open[key][1][first : first + n]

    def filled(self, shard: Shard, n: int) -> None:
        """Count rows as filled; a full shard is written."""
        key = shard.array.layout.name, shard.number
        buffer, patches, left = self._open[key]
        self._open[key] = buffer, patches, left - n
        if left == n:
            del self._open[key]
            self._writing.append(self._pool.submit(self._finish, shard, buffer, patches))
        self._raise_failed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What waits to be written when something went wrong, or is to stop, is read again later.
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._raise_failed()

    def _buffer(self, nbytes: int) -> NDArray[np.uint8]:
        """Take a buffer that is free and large enough, waiting for one if all are in use."""
        buffer = None
        with suppress(Empty):
            buffer = self._free.get_nowait()
        if buffer is None and self._unused:
            self._unused -= 1
            return np.empty(nbytes, np.uint8)
        if buffer is None:
            buffer = self._free.get()
        self._raise_failed()
        return buffer if len(buffer) >= nbytes else np.empty(nbytes, np.uint8)

    def _finish(self, shard: Shard, buffer: NDArray[np.uint8], patches: NDArray[Any]) -> None:
        try:
            self._write(shard, patches)
        finally:
            self._free.put(buffer)

    def _raise_failed(self) -> None:
        """Raise what a writer has raised."""
        done = [writing for writing in self._writing if writing.done()]
        self._writing = [writing for writing in self._writing if not writing.done()]
        for writing in done:
            writing.result()


def cast_exactly(
    patches: NDArray[Any], dtype: np.dtype[Any], grid: Sequence[PatchSpec], source: object
) -> NDArray[Any]:
    """Cast patches, N, C, (Z), Y, X; those that have the type already are not copied.

    Parameters
    ----------
    grid : sequence of PatchSpec
        Where each lies, to name the one that does not fit.
    source : object
        What they were cut from, to name it.

    Raises
    ------
    ExportError
        If the type can't hold a value exactly.
    """
    if np.can_cast(patches.dtype, dtype, "safe"):
        return patches.astype(dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = patches.astype(dtype)
        kept = (cast == patches) & (cast.astype(patches.dtype) == patches)
    if patches.dtype.kind == "f" and dtype.kind == "f":
        kept |= np.isnan(patches)
    if not kept.all():
        _refuse(patches, kept, dtype, grid, source)
    return cast


def _refuse(
    patches: NDArray[Any],
    kept: NDArray[np.bool_],
    dtype: np.dtype[Any],
    grid: Sequence[PatchSpec],
    source: object,
) -> None:
    where = np.argwhere(~kept)[0]
    spec, value = grid[int(where[0])], patches[tuple(where)]
    raise ExportError(
        f"{source}: {dtype} can't hold the value {value} of the patch at {spec.start}, sample "
        f"{spec.sample}; leave dtype out, or choose one that holds {patches.dtype}."
    )


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
            if export.done_marker(array, index) is None:
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
        check_cancelled = self._export.check_cancelled
        limits = self._for_tiles, threads
        reader = BatchReader(batches, images, self._role, images.pad, *limits, check_cancelled)
        with (
            ThreadPoolExecutor(WRITERS, "disk") as disk,
            FillingShards(partial(self._finish, disk), self._buffers) as filling,
            closing(reader.read()) as read,
        ):
            for batch in read:
                check_cancelled()
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
        done_marker = DoneMarker.of(array.stamp(number), patches)
        written.result()
        self._export.write_done_marker(array, number, done_marker)
