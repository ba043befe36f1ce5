"""Write the shards of a set: one job of an export, in any thread, process or machine.

Patches are read in the order of tiles and go straight into the memory of their shard. A shard that
is full is written by another thread, with its done marker, while further ones are filled.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import LifoQueue
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.exporting.reading.failures import Failure, SourcesFailed
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.tile_reader import TileReader
from napari_patchset.exporting.reading.tiles import MIN_TILE_BYTES, Batches
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.selection import Shard
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patching.grid import PatchSpec

logger = logging.getLogger(__name__)

_WRITING_THREADS = 2
"""Shards that are written at once, each summed up by another thread while the disk is busy."""


class ShardBuffers:
    """Memory for shards that are being filled, and threads that write the full ones.

    A `with` statement waits at its end until every full shard is written (`write`). At most
    `n_buffers` shards are in memory, including those that are being written.
    """

    def __init__(self, write: Callable[[Shard, NDArray[Any]], None], n_buffers: int) -> None:
        self._write = write
        self._free: LifoQueue[NDArray[np.uint8]] = LifoQueue()
        for _ in range(n_buffers):
            self._free.put(np.empty(0, np.uint8))
        self._open: dict[Shard, tuple[NDArray[np.uint8], NDArray[Any], int]] = {}
        """By shard: buffer, the patches in it, and how many of them are missing."""
        self._pool = ThreadPoolExecutor(_WRITING_THREADS, "write")
        self._writing: list[Future[None]] = []

    def rows(self, shard: Shard, first: int, n: int) -> NDArray[Any]:
        """Return rows of a shard to be filled; a new shard may wait until another is written."""
        if shard not in self._open:
            layout, n_patches = shard.layout, len(shard.candidates)
            buffer = self._free.get()
            self._raise_failed()
            nbytes = min(layout.patches_per_shard, layout.n) * layout.patch_bytes
            if len(buffer) < nbytes:
                buffer = np.empty(nbytes, np.uint8)
            used = buffer[: n_patches * layout.patch_bytes].view(layout.pixel_type)
            self._open[shard] = buffer, used.reshape(shard.shape), n_patches
        return self._open[shard][1][first : first + n]

    def mark_filled(self, shard: Shard, n: int) -> None:
        """Count `n` more rows of a shard as filled; a full shard is written."""
        buffer, patches, n_missing = self._open[shard]
        self._open[shard] = buffer, patches, n_missing - n
        if n_missing == n:
            del self._open[shard]
            self._writing.append(self._pool.submit(self._write_and_free, shard, buffer, patches))
        self._raise_failed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # On an error or a stop, shards that wait to be written are read again later.
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._raise_failed()

    def _write_and_free(
        self, shard: Shard, buffer: NDArray[np.uint8], patches: NDArray[Any]
    ) -> None:
        try:
            self._write(shard, patches)
        finally:
            self._free.put(buffer)

    def _raise_failed(self) -> None:
        """Raise the error of a shard that could not be written."""
        done = [writing for writing in self._writing if writing.done()]
        self._writing = [writing for writing in self._writing if not writing.done()]
        for writing in done:
            writing.result()


def write_shards(
    root: str,
    first: int,
    last: int,
    *,
    memory: int = DEFAULT_MEMORY,
    threads: int = 1,
    token: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write the shards whose first candidate is one of `first` up to, not including, `last`.

    Shards that are already written are left as they are. If sources that must not be skipped can't
    be read, all shards without them are written before SourcesFailed is raised.

    Parameters
    ----------
    root : str
        The folder of the unfinished export.
    memory : int
        Bytes for decoded tiles and open shards; more if a batch of patches needs it.
    threads : int
        Number of threads that decode.
    token : str or None
        See `WorkDir`.
    progress : callable or None
        Called with the number of patches of these shards that are written, and of all.
    """
    workdir = WorkDir(Path(root), token)
    frozen = workdir.plan()
    arrays, needed = workdir.selection().arrays(frozen.arrays), dict[int, Failure]()
    by_role: dict[str, list[Shard]] = {layout.role: [] for layout in frozen.arrays}
    for array in arrays:
        by_role[array.layout.role] += [
            shard
            for shard in array.shards
            if first <= shard.candidates[0] < last and workdir.done_marker(shard) is None
        ]
    sizes = (len(shard.candidates) for shards in by_role.values() for shard in shards)
    mark_written = _Counter(sum(sizes), progress)
    with workdir.open_images(threads) as images:
        for shards_of_role in by_role.values():
            shards = shards_of_role
            while shards:
                try:
                    _fill_and_write(workdir, frozen, images, shards, memory, mark_written)
                    break
                except SourcesFailed as failed:
                    if workdir.may_skip(failed.failures):
                        raise  # the caller records it, and other patches are selected
                    needed |= failed.failures
                    shards = _without(shards, workdir, frozen, list(needed))
        if needed:
            raise workdir.needed(needed)


def _without(
    shards: Sequence[Shard], workdir: WorkDir, frozen: FrozenPlan, sources: list[int]
) -> list[Shard]:
    """Return the shards that are not written yet and hold no patch of some sources."""
    source_index = workdir.candidates(frozen).source_index
    return [
        shard
        for shard in shards
        if workdir.done_marker(shard) is None
        and not np.isin(source_index[shard.candidates], sources).any()
    ]


class _Counter:
    """Report how many patches are written; threads may share it."""

    def __init__(self, total: int, progress: Callable[[int, int], object] | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._lock = Lock()

    def __call__(self, n: int) -> None:
        with self._lock:
            self._done += n
            if self._progress is not None:
                self._progress(self._done, self._total)


def _fill_and_write(
    workdir: WorkDir,
    frozen: FrozenPlan,
    images: OpenImages,
    shards: Sequence[Shard],
    memory: int,
    mark_written: Callable[[int], None],
) -> None:
    """Read the patches of shards of one role, and write each shard that is full."""
    role, grid = shards[0].layout.role, workdir.candidates(frozen)
    shard_of = np.full(len(grid), -1, np.int32)
    for i, shard in enumerate(shards):
        shard_of[shard.candidates] = i
    candidates = np.flatnonzero(shard_of >= 0)
    sources, shard_of = frozen.images[role], shard_of[candidates]
    batches = Batches.from_candidates(
        grid, sources, frozen.plan.strategy.padding, candidates, shard_of
    )
    n_buffers = len({shard.layout.name for shard in shards}) + _WRITING_THREADS
    largest = max(len(shard.candidates) * shard.layout.patch_bytes for shard in shards)
    tile_memory = max(memory - n_buffers * largest, MIN_TILE_BYTES)
    reader = TileReader(batches, images, role, tile_memory)

    def write_shard(shard: Shard, patches: NDArray[Any]) -> None:
        workdir.write_shard(summing, shard, patches)
        mark_written(len(patches))
        logger.debug("wrote shard %d of %s", shard.number, shard.layout.name)

    with (
        ThreadPoolExecutor(_WRITING_THREADS, "sum") as summing,
        ShardBuffers(write_shard, n_buffers) as buffers,
        closing(reader.read()) as pending,
    ):
        for batch in pending:
            workdir.check_cancelled()
            shard, n = shards[batch.destination], len(batch.candidates)
            first = int(np.searchsorted(shard.candidates, batch.candidates[0]))
            rows = buffers.rows(shard, first, n)
            patches = rows if rows.dtype == batch.dtype else np.empty(rows.shape, batch.dtype)
            reader.fill(batch, patches)
            if patches is not rows:
                source = frozen.plan.sources[batch.source_index]
                rows[...] = cast_exactly(patches, rows.dtype, grid[batch.candidates], source)
            buffers.mark_filled(shard, n)


def cast_exactly(
    patches: NDArray[Any], dtype: np.dtype[Any], grid: Sequence[PatchSpec], source: object
) -> NDArray[Any]:
    """Cast patches, N, C, (Z), Y, X; they are not copied if they have the type already.

    Raise ExportError, which says by `grid` and `source` which patch it is, if the type can't hold a
    value exactly.
    """
    # NumPy takes int64 to float64 for safe, but 2^53 + 1 becomes 2^53.
    is_wide = patches.dtype in (np.int64, np.uint64) and dtype.kind in "fc"
    if np.can_cast(patches.dtype, dtype, "safe") and not is_wide:
        return patches.astype(dtype, copy=False)
    drops_imaginary = patches.dtype.kind == "c" and dtype.kind != "c"
    numbers = patches.real if drops_imaginary else patches
    with np.errstate(invalid="ignore", over="ignore"):
        cast = numbers.astype(dtype)
        is_exact = _is_exact(numbers, cast)
    if drops_imaginary:
        is_exact &= patches.imag == 0
    if not is_exact.all():
        first = tuple(np.argwhere(~is_exact)[0].tolist())
        spec = grid[first[0]]
        raise ExportError(
            f"{source}: {dtype} can't hold the value {patches[first]} of the patch at "
            f"{spec.start}, plane {spec.sample}; keep the pixel type of the files, "
            f"{patches.dtype}, or choose one that holds its values."
        )
    return cast


def _is_exact(patches: NDArray[Any], cast: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels are the same numbers in another type."""
    if cast.dtype.kind == "c" and patches.dtype.kind != "c":
        cast = cast.real
    is_exact = np.asarray((cast == patches) & (cast.astype(patches.dtype) == patches))
    # The first number past the range of an integer type is a float. What it is cast to depends on
    # the processor, and may be the last one of the range.
    for integers, numbers in ((patches, cast), (cast, patches)):
        if integers.dtype.kind in "ui" and numbers.dtype.kind == "f":
            is_exact &= numbers < float(np.iinfo(integers.dtype).max) + 1
    if patches.dtype.kind == "f" and cast.dtype.kind == "f":
        is_exact |= np.isnan(patches)
    return is_exact
