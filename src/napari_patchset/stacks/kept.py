"""What was read of files and did not change since: kept, so that it is read once."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import time
from typing import Generic, TypeVar

from napari_patchset.forking import ForkAware

_SETTLED_S = 2
"""A file that changed so recently may change again without its times telling it."""

_Value = TypeVar("_Value")
_State = tuple[int, ...]


class Kept(ForkAware, Generic[_Value]):
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
