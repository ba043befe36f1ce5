"""Files open for reading by position: threads and forked processes may share them."""

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.forking import ForkAware

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
