"""One helper process: started, asked, and killed when it does not answer in time.

The pool of helper processes, shared by all that this process reads.

Fragile libraries in processes of their own: what kills, hangs or starves them costs no more.

libCZI decodes a CZI's JPEG XR and composes its pyramid; others decode a TIFF's JPEG XR, PNG
and lossless JPEG. No check of headers foresees what damaged data do to these. All others are
decoded in this process and pay nothing.
"""

import atexit
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Condition, Event, Lock, Timer
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from io import FileIO


_MOST_MEMORY = 8 * 2**30
"""Bytes of address space of a process: room for the largest tile, twice, and the libraries."""
_PATIENCE, _PATIENCE_PER_BYTE = 8.0, 1e-6
"""Seconds that a read may take: some, and more for more pixels; then its process is killed."""

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_PERTURB_": "255"}
"""With glibc the second one gives zeroed memory: pixels that jxrlib leaves out are the same ones
every time, and not what lay there before."""


class ReaderError(Exception):
    """Say what a library has against a read, or how its process ended over it."""


class ReaderProcess:
    """One helper process; one thread at a time talks to it."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("isolated_worker.py")
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(program), str(_MOST_MEMORY)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": paths},
        )
        self._requests = cast("FileIO", self._process.stdin)
        self._answers = cast("FileIO", self._process.stdout)
        self.closing: deque[int] = deque()
        """Handles that are to be closed before the next read."""

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def read(self, request: dict[str, Any], n_bytes: int, data: bytes = b"") -> NDArray[Any]:
        """Send a request and `data` that belong to it; give the pixels of the answer.

        Raises
        ------
        ReaderError
            If the library refuses, or the process died or did not answer in time.
        """
        patience = _PATIENCE + n_bytes * _PATIENCE_PER_BYTE
        with _watchdog(patience, self._process) as expired:
            try:
                self.close_handles()
                self._send(request, data)
                return self._receive()
            except (BrokenPipeError, EOFError):
                code = self._process.wait()
        late = f"it did not end within {patience:g} s"
        raise ReaderError(late if expired.is_set() else f"it ended its process (exit code {code})")

    def close_handles(self) -> None:
        """Have the files closed that are to be closed."""
        while self.closing:
            self._send({"close": self.closing.popleft()})

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Let it end, as it does when no more requests can come."""
        self._requests.close()
        self._process.wait()
        self._answers.close()

    def forget(self) -> None:
        """Close this end of its pipes, in a forked child whose process it is not."""
        self._requests.close()
        self._answers.close()
        self._process.returncode = 0

    def _send(self, request: dict[str, Any], data: bytes = b"") -> None:
        rest = memoryview(json.dumps(request).encode() + b"\n" + data)
        while rest:
            rest = rest[self._requests.write(rest) :]

    def _receive(self) -> NDArray[Any]:
        length = int.from_bytes(self._exactly(bytearray(4)), "little")
        head = json.loads(self._exactly(bytearray(length)))
        if "error" in head:
            raise ReaderError(head["error"])
        pixels = np.empty(head["shape"], head["dtype"])
        self._exactly(pixels.reshape(-1).view(np.uint8))
        return pixels

    def _exactly(self, buffer: Any) -> Any:
        view = memoryview(buffer)
        while view:
            if not (n := self._answers.readinto(view)):
                raise EOFError
            view = view[n:]
        return buffer


@contextmanager
def _watchdog(seconds: float, process: "subprocess.Popen[bytes]") -> Iterator[Event]:
    """Kill a process that is not done in time, and say so by the event."""
    expired = Event()

    def end() -> None:
        expired.set()
        process.kill()

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


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
