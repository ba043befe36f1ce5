"""Shards that fill, each written by another thread as soon as it is full."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.keeping.selection import PlannedArray

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
