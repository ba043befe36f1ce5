"""Caches that threads and forked processes may share: decoded tiles, open files, file structures.

`SharedCache` is the one mechanism: a size-limited LRU cache in which each value is computed once,
however many threads ask for it at the same time. `TileCache` limits it by bytes of decoded pixels,
`FileCache` drops what was read of a file once the file changes, `OpenFiles` limits the number of
open file descriptors. `take_memory` recycles the memory of decoded tiles.
"""

import mmap
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from threading import Lock
from time import time
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import refuse_special_file
from napari_patchset.stacks.retrying import call_with_retries

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class SharedCache(Generic[_Key, _Value]):
    """A cache that drops the least recently used values; threads may share it.

    `limit` is the total size of the values that stay, where `size_of` returns the size of a value,
    or None for one that must not be cached; by default each has size 1. A key that several threads
    miss at once is computed by one of them; the others wait for it. The newest value always stays,
    even if it alone exceeds the limit. A forked child and an unpickled copy start empty.
    """

    def __init__(self, limit: int, size_of: Callable[[_Value], int | None] | None = None) -> None:
        self.limit = limit
        self._size_of = size_of or _one
        self._reset()
        _CACHES.add(self)

    def _reset(self) -> None:
        self._lock = Lock()
        self._drop_all()

    def _drop_all(self) -> None:
        # LRUCache refuses a value above its limit. The function must not refer to this object: the
        # cycle would keep what is cached, open files included, until a garbage collection.
        capped = partial(_capped_size, self._size_of, self.limit)
        self._values: LRUCache[_Key, _Value] = LRUCache(self.limit, capped)
        self._pending: dict[_Key, Future[_Value]] = {}

    def get(self, key: _Key, compute: Callable[[], _Value]) -> _Value:
        """Return the value of a key, computing it if it is not cached.

        An error of `compute` is raised in every waiting thread, and not cached. If the thread that
        computes it is told to stop, the others go on without it.
        """
        with self._lock:
            values, pending = self._values, self._pending
            try:
                return values[key]
            except KeyError:
                is_first = key not in pending
                future = pending.setdefault(key, Future())
        try:
            if not is_first:
                try:
                    return future.result()
                except CancelledError:
                    return self.get(key, compute)
            try:
                value = compute()
            except BaseException as error:
                with self._lock:
                    del pending[key]
                future.set_exception(error)
                raise
            with self._lock:
                if self._size_of(value) is not None:
                    values[key] = value  # in vain after `clear`, which replaces them
                del pending[key]
            future.set_result(value)
            return value
        finally:
            # An error's traceback refers to this frame; without the cycle both are freed at once,
            # with the stack and the file that `compute` refers to.
            del future

    def peek(self, key: _Key) -> _Value | None:
        """Return the value of a key if it is cached."""
        with self._lock:
            try:
                return self._values[key]
            except KeyError:
                return None

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Drop every value; one that is being computed will not be cached."""
        with self._lock:
            self._drop_all()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit, self._size_of)


def _one(_: object) -> int:
    return 1


def _capped_size(size_of: Callable[[Any], int | None], limit: int, value: Any) -> int:
    return min(size_of(value) or 0, limit)


_CACHES: weakref.WeakSet[SharedCache[Any, Any]] = weakref.WeakSet()


def _reset_caches() -> None:
    """Empty every cache in a forked child, where a lock held by another thread stays locked."""
    for cache in _CACHES:
        cache._reset()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_caches)


TILE_BYTES = 128 * 2**20
"""Bytes of decoded pixels that a stack caches by default."""


class TileCache(SharedCache[Hashable, NDArray[Any]]):
    """Decoded tiles by key, limited by their bytes; a tile from it must not be written to."""

    def __init__(self, limit: int = TILE_BYTES) -> None:
        super().__init__(limit, attrgetter("nbytes"))

    def __reduce__(self) -> tuple[Any, ...]:
        return TileCache, (self.limit,)


class FileStat(NamedTuple):
    """Size and time of a file, which reveal a change without opening it."""

    size: int
    """In bytes."""
    mtime_ns: int
    """Time of the last change, in nanoseconds since the epoch."""

    @classmethod
    def from_file(cls, file: str | Path | int) -> Self:
        """Return size and time of a path or an open file descriptor."""
        status = os.stat(file)
        return cls(status.st_size, status.st_mtime_ns)


_SETTLED_SECONDS = 2
"""A file modified so recently may be modified again without a change of its timestamps."""


class FileCache(Generic[_Value]):
    """Values read from files, each valid until its file changes; see `SharedCache`."""

    def __init__(self, limit: int, size_of: Callable[[_Value], int | None] | None = None) -> None:
        self._cache: SharedCache[tuple[Hashable, ...], _Value] = SharedCache(limit, size_of)

    def get(self, path: Path, read: Callable[[Path], _Value]) -> _Value:
        """Return `read(path)`, calling it only if the file is new or has changed.

        Raises UnreadableFileError if it is no regular file.
        """
        status = path.stat()
        refuse_special_file(path, status.st_mode)
        if time() - max(status.st_mtime, status.st_ctime) < _SETTLED_SECONDS:
            return read(path)
        # The inode and its time expose a replaced file that has the old size and time.
        inode = status.st_dev, status.st_ino, status.st_ctime_ns
        key = path, status.st_size, status.st_mtime_ns, *inode
        return self._cache.get(key, partial(read, path))


class OpenFile:
    """A file open for reading by position; threads may share it.

    It is closed with its last user, so that no thread reads from a reused descriptor.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from a position, fewer at the end of the file."""
        if sys.platform == "win32":
            with self._lock:
                os.lseek(self.descriptor, offset, os.SEEK_SET)
                return os.read(self.descriptor, length)
        else:
            return os.pread(self.descriptor, length, offset)

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fill memory from a position, as far as the file goes; return the number of bytes."""
        if sys.platform == "linux":
            return os.preadv(self.descriptor, [out], offset)
        else:
            data = self.read(offset, len(out))
            out[: len(data)] = data
            return len(data)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


_MAX_OPEN_FILES = 32


class OpenFiles:
    """The files of one image, each opened at its first read; threads may share it, and it pickles.

    Their paths are absolute. A file that has changed since is refused when it is opened.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stats = {path: FileStat.from_file(path) for path in paths}
        self._is_closed = False
        self._open: SharedCache[Path, OpenFile] = SharedCache(_MAX_OPEN_FILES)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes.

        Raises ValueError after `close`, UnreadableFileError if the file is too short or has
        changed.
        """
        return self._with_retries(path, partial(self._read, path, offset, length))

    def _read(self, path: Path, offset: int, length: int) -> bytes:
        file = self._file(path)
        # One call reads at most 2 GiB.
        parts = [file.read(offset, length)]
        while (done := sum(map(len, parts))) < length and parts[-1]:
            parts.append(file.read(offset + done, length - done))
        _check_read_all(path, offset, done, length)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, path: Path, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill a contiguous array; raises as `read` does."""
        self._with_retries(path, partial(self._read_into, path, offset, out))

    def _read_into(self, path: Path, offset: int, out: NDArray[np.uint8]) -> None:
        file, rest, done = self._file(path), out.data, 0
        while rest and (n := file.read_into(offset + done, rest)):
            rest, done = rest[n:], done + n
        _check_read_all(path, offset, done, len(out))

    def close(self) -> None:
        """Close the files, which can't be read any more."""
        self._is_closed = True
        self._open.clear()

    def check_open(self) -> None:
        """Raise ValueError if the files are closed."""
        if self._is_closed:
            first = next(iter(self._stats))
            raise ValueError(f"{first}: the stack is closed; open the file again.")

    def _with_retries(self, path: Path, read: Callable[[], _Value]) -> _Value:
        """Repeat a read that fails for a while, with the file opened again, as it may be stale."""

        def read_or_close() -> _Value:
            try:
                return read()
            except OSError:
                self._open.clear()
                raise

        return call_with_retries(str(path), read_or_close)

    def _file(self, path: Path) -> OpenFile:
        return self._open.get(path, partial(self._open_file, path))

    def _open_file(self, path: Path) -> OpenFile:
        self.check_open()
        file = OpenFile(path)
        if FileStat.from_file(file.descriptor) != self._stats[path]:
            raise UnreadableFileError(f"{path}: it was changed since it was opened; open it again.")
        return file


def _check_read_all(path: Path, offset: int, done: int, length: int) -> None:
    if done < length:
        raise UnreadableFileError(
            f"{path}: it ended at byte {offset + done} while {length} bytes were read from "
            f"{offset}; it was cut after it was opened."
        )


_MAPPED = 2**20
"""Bytes from which a tile gets a memory mapping of its own."""

_idle: deque[memoryview] = deque(maxlen=2)
"""Memory ready for the next tile of any file."""


def take_memory(nbytes: int) -> NDArray[np.uint8]:
    """Return uninitialised memory for a tile, reused once no array refers to it any more.

    New memory costs the system as much as reading a tile into it, and fragments the heap. What is
    mapped returns to the system as soon as it is freed; malloc may keep it.
    """
    memory = _find_idle(nbytes)
    if memory is None and sys.platform != "win32" and nbytes >= _MAPPED:
        mapped = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if sys.platform == "linux":
            with suppress(OSError):  # a kernel without huge pages
                mapped.madvise(mmap.MADV_HUGEPAGE)
        memory = memoryview(mapped)
    if memory is None:
        memory = np.empty(nbytes, np.uint8).data
    # Over a memoryview, so that views are based on this array and keep it alive.
    array = np.frombuffer(memory, np.uint8)
    weakref.finalize(array, _idle.append, memory).atexit = False
    return array


def _find_idle(nbytes: int) -> memoryview | None:
    with suppress(IndexError):  # another thread took the last one
        for _ in range(len(_idle)):
            memory = _idle.popleft()
            if len(memory) == nbytes:
                return memory
            _idle.append(memory)
    return None
