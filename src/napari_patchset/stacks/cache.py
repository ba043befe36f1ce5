"""What a forked child inherits and can't use: locks, and what lies behind them.

What was read of files and did not change since: kept, so that it is read once.

Files open for reading by position: threads and forked processes may share them.

Keep decoded tiles: each is decoded once, whoever asks for it and however often.
"""

import mmap
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import time
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError


class ForkAware:
    """Begin anew in a forked child: a lock that another thread held there is never released.

    A subclass makes its locks, and what they guard, in `_reset`, which its `__init__` calls; and
    calls `_mind_fork` before it uses them.
    """

    def _reset(self) -> None:
        self._process = os.getpid()

    def _mind_fork(self) -> None:
        if self._process != os.getpid():
            self._reset()


_SETTLED_S = 2
"""A file that changed so recently may change again without its times telling it."""

_Value = TypeVar("_Value")
_State = tuple[int, ...]


class FileCache(ForkAware, Generic[_Value]):
    """Keep what was read of the files that were asked for last; threads may share it.

    Parameters
    ----------
    most : int
        How much is kept; what is newest is kept even if it is more.
    weigh : callable or None
        Gives how much of that a value takes, None for a value that is not kept; by default 1.
    """

    def __init__(self, most: int, weigh: Callable[[_Value], int | None] = lambda _: 1) -> None:
        self._most, self._weigh = most, weigh
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._found: OrderedDict[Path, tuple[_State, _Value]] = OrderedDict()
        self._lock = Lock()

    def get(self, path: Path, read: Callable[[Path], _Value]) -> _Value:
        """Give what `read` gives of a file, reading it only where the file is another one now.

        Raises
        ------
        OSError
            If there is no such file, as the system says it, and whatever `read` raises.
        """
        status = path.stat()
        if time() - max(status.st_mtime, status.st_ctime) < _SETTLED_S:
            return read(path)
        self._mind_fork()
        state = _state(status)
        with self._lock:
            before, value = self._found.get(path, (None, None))
            if before == state:
                self._found.move_to_end(path)
                return value  # type: ignore[return-value]  # it has a state, so it was read
        return self._keep(path, state, read(path))

    def _keep(self, path: Path, state: _State, value: _Value) -> _Value:
        if self._weigh(value) is None:
            return value
        with self._lock:
            self._found[path] = state, value
            self._found.move_to_end(path)
            left = sum(map(self._weight, self._found))
            while left > self._most and len(self._found) > 1:
                left -= self._weight(oldest := next(iter(self._found)))
                del self._found[oldest]
        return value

    def _weight(self, path: Path) -> int:
        return self._weigh(self._found[path][1]) or 0


def _state(status: os.stat_result) -> _State:
    which, when = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_ctime_ns)
    return (*which, status.st_size, *when)


_MOST_OPEN = 32


class Descriptor:
    """A file that is closed with its last user, so that no thread reads from a number used anew.

    Threads may share it.
    """

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.lock = Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Read from a position; shorter at the file's end."""
        if hasattr(os, "pread"):
            return os.pread(self.number, length, offset)
        with self.lock:
            os.lseek(self.number, offset, os.SEEK_SET)
            return os.read(self.number, length)

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fill memory from a position, as far as the file goes; give how many bytes that were."""
        if hasattr(os, "preadv"):
            return os.preadv(self.number, [out], offset)
        data = self.read(offset, len(out))
        out[: len(data)] = data
        return len(data)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class Files(ForkAware):
    """The files of one image; each is opened at its first read, and again after pickling.

    Parameters
    ----------
    paths : iterable of Path
        Absolute. A file that was changed since is refused when it is opened again.
    """

    def __init__(self, paths: set[Path]) -> None:
        self._stamps = {path: _stamp(path.stat()) for path in paths}
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._open: OrderedDict[Path, Descriptor] = OrderedDict()
        self._lock = Lock()

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes.

        Raises
        ------
        ValueError
            If the files were closed.
        UnreadableFileError
            If the file is shorter now, or is another one than it was.
        """
        descriptor = self._descriptor(path)
        # One call gives at most 2 GiB.
        parts = [descriptor.read(offset, length)]
        while (done := sum(map(len, parts))) < length and parts[-1]:
            parts.append(descriptor.read(offset + done, length - done))
        _require_all(path, offset, done, length)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, path: Path, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill an array, contiguous, instead of new memory; else as `read`."""
        descriptor, rest, done = self._descriptor(path), out.data, 0
        while rest and (n := descriptor.read_into(offset + done, rest)):
            rest, done = rest[n:], done + n
        _require_all(path, offset, done, len(out))

    def close(self) -> None:
        """Give back the files; reading then raises, closing again does nothing."""
        self._closed = True
        self._open.clear()

    def require_open(self) -> None:
        """Raise ValueError if the files were closed."""
        if self._closed:
            first = next(iter(self._stamps))
            raise ValueError(f"{first}: the stack is closed; open the file again.")

    def _descriptor(self, path: Path) -> Descriptor:
        self._mind_fork()
        with self._lock:
            self.require_open()
            if path not in self._open:
                self._open[path] = self._opened(path)
            self._open.move_to_end(path)
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return self._open[path]

    def _opened(self, path: Path) -> Descriptor:
        descriptor = Descriptor(path)
        if _stamp(os.fstat(descriptor.number)) != self._stamps[path]:
            raise UnreadableFileError(f"{path}: it was changed since it was opened; open it again.")
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        return {"_stamps": self._stamps, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _require_all(path: Path, offset: int, done: int, length: int) -> None:
    if done < length:
        raise UnreadableFileError(
            f"{path}: it ended at byte {offset + done} while {length} bytes were read from "
            f"{offset}; it was cut after it was opened."
        )


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


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
