"""Keep decoded tiles: each is decoded once, whoever asks for it and however often."""

import mmap
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.forking import ForkAware

DEFAULT_LIMIT = 128 * 2**20

_MAPPED = 2**20
"""Bytes above which a tile has a mapping of its own."""

_idle: deque[memoryview] = deque(maxlen=2)
"""Memory that waits for a new tile, whichever file's: it is what this process can spare."""


def take_memory(nbytes: int) -> NDArray[np.uint8]:
    """Give memory of any content for a tile; it is used again when no array looks at it any more.

    New memory costs the system as much as reading a tile into it, and lies about in pieces.
    """
    memory = _find_idle(nbytes) or _new_memory(nbytes)
    # Over a memoryview, so that views are based on this array and keep it alive.
    array = np.frombuffer(memory, np.uint8)
    weakref.finalize(array, _idle.append, memory).atexit = False
    return array


def _new_memory(nbytes: int) -> memoryview:
    """Map memory that goes back to the system as soon as it is let go: malloc may keep it."""
    if nbytes < _MAPPED or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(nbytes, np.uint8).data
    mapped = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapped)


def _find_idle(nbytes: int) -> memoryview | None:
    with suppress(IndexError):  # another thread was quicker
        for _ in range(len(_idle)):
            memory = _idle.popleft()
            if len(memory) == nbytes:
                return memory
            _idle.append(memory)
    return None


class TileCache(ForkAware):
    """Least recently used tiles go first when the byte limit is passed.

    Two threads that ask for the same tile at once decode it once. The newest tile is always
    kept, even one larger than the limit.

    Parameters
    ----------
    limit : int
        Bytes of decoded pixels to keep.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.decoded = 0
        """How many tiles were decoded so far."""
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._tiles: OrderedDict[Hashable, NDArray[Any] | Future[NDArray[Any]]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Give the tile of a key, decoding it if it is not there; it must not be written to."""
        self._mind_fork()
        with self._lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
            else:
                mine = self._tiles[key] = Future()
        if found is None:
            return self._decode(key, decode, mine)
        return found.result() if isinstance(found, Future) else found

    def count(self, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Decode a tile that the caller keeps, counting it."""
        self._mind_fork()
        tile = decode()
        with self._lock:
            self.decoded += 1
        return tile

    def clear(self) -> None:
        """Forget every tile."""
        self._mind_fork()
        with self._lock:
            self._tiles.clear()
            self._bytes = 0

    def _decode(
        self, key: Hashable, decode: Callable[[], NDArray[Any]], mine: Future[NDArray[Any]]
    ) -> NDArray[Any]:
        try:
            tile = self.count(decode)
        except BaseException as error:
            with self._lock:
                self._tiles.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(tile)
        with self._lock:
            if self._tiles.get(key) is mine:
                self._tiles[key] = tile
                self._bytes += tile.nbytes
                self._drop_oldest()
        return tile

    def _drop_oldest(self) -> None:
        for key in list(self._tiles)[:-1]:
            if self._bytes <= self.limit:
                break
            tile = self._tiles[key]
            if not isinstance(tile, Future):
                self._bytes -= tile.nbytes
                del self._tiles[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]  # an empty cache is what it needs
