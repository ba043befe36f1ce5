"""The pool of helper processes, shared by all that this process reads."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Condition, Lock
from typing import Any

from numpy.typing import NDArray

from napari_patchset.stacks.contained.process import ReaderError, ReaderProcess

_MOST_PROCESSES = os.cpu_count() or 1


class ReaderPool:
    """As many helper processes as threads read at once, at most one for each core.

    They are started when they are needed, kept, and replaced when they died.
    """

    def __init__(self) -> None:
        self._handles = count()
        self._reset()

    def _reset(self) -> None:
        self._changed = Condition(Lock())
        self._idle: list[ReaderProcess] = []
        self._all: tuple[ReaderProcess, ...] = ()

    def handle(self) -> int:
        """Give a number for a file, which `read` opens and `close` closes."""
        return next(self._handles)

    def read(self, handle: int, path: Path, n_bytes: int, **options: Any) -> NDArray[Any]:
        """Read a `window` of `n_bytes` of pixels; the options are those of pylibCZIrw's `read`.

        Raises
        ------
        ReaderError
            If libCZI refuses, or its process died or did not end in time.
        """
        with self._leased() as process:
            return process.read({"handle": handle, "path": str(path), **options}, n_bytes)

    def decode(self, data: bytes, n_bytes: int, **page: Any) -> NDArray[Any]:
        """Decode a tile or strip of a TIFF to `n_bytes` of pixels ZYXS.

        Parameters
        ----------
        data : bytes
            What is stored of it.
        **page
            Where its page is and which of its segments it is, as `program` takes it.

        Raises
        ------
        ReaderError
            If it can't be decoded, or its process died or did not end in time.
        """
        with self._leased() as process:
            return process.read({"length": len(data), **page}, n_bytes, data)

    def close(self, handle: int) -> None:
        """Close a file in every process, now or, where one is reading, before it reads again.

        Nothing here waits: the garbage collector may call it at any moment.
        """
        for process in self._all:
            process.closing.append(handle)
        if self._changed.acquire(blocking=False):
            try:
                for process in self._idle:
                    with suppress(BrokenPipeError):
                        process.close_handles()
            finally:
                self._changed.release()

    def end(self) -> None:
        """End every process; they are started anew when one is needed."""
        with self._changed:
            for process in self._all:
                process.end()
            self._all, self._idle = (), []

    def forget(self) -> None:
        """Let go of the processes in a forked child, whose they are not."""
        for process in self._all:
            process.forget()
        self._reset()

    @contextmanager
    def _leased(self) -> Iterator[ReaderProcess]:
        process = self._take()
        try:
            yield process
        except ReaderError:
            raise
        except BaseException:  # an interrupt may have come in the middle of an answer
            process.kill()
            raise
        finally:
            with self._changed:
                self._idle.append(process)
                self._changed.notify()

    def _take(self) -> ReaderProcess:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or len(self._all) < _MOST_PROCESSES)
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                process.end()
                self._all = tuple(p for p in self._all if p is not process)
            process = ReaderProcess()
            self._all = (*self._all, process)
            return process


POOL = ReaderPool()
"""One for the process; a forked child starts its own."""
atexit.register(POOL.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)
