"""Run crash-prone decoders in helper processes, so that damaged data can't take this process down.

libCZI composes a CZI's pyramid; imagecodecs decodes a CZI's JPEG, JPEG XR and LZW, and a TIFF's
JPEG XR, PNG and lossless JPEG. No check of headers foresees what damaged data do to these: they
crash, hang or take all memory. All other decoders run in this process and pay nothing. A helper
process runs `isolated_worker`, and is killed when it does not answer in time.
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

from napari_patchset.stacks.cache import FileStat

if sys.platform == "linux":
    from fcntl import F_SETPIPE_SZ, fcntl

if TYPE_CHECKING:
    from io import FileIO


_MAX_MEMORY = 8 * 2**30
"""Bytes of address space of a process: enough for the largest tile, twice, and the libraries."""

_TIMEOUT_SECONDS, _SECONDS_PER_BYTE = 8.0, 1e-6
"""Seconds that a read may take before its process is killed, and more for each byte of pixels."""

_PIPE_BYTES = 2**20
"""Capacity of a pipe where it can be set: a tile of 8 MB passes in 8 turns instead of 128."""

_MAX_PROCESSES = os.cpu_count() or 1

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_PERTURB_": "255"}
"""With the latter glibc's malloc returns zeroed memory, so that pixels which jxrlib leaves out are
always zero instead of what was there before."""


class ReaderError(Exception):
    """A library refuses a read, or its process ended during it; the message says why."""


class ReaderProcess:
    """One helper process, used by one thread at a time."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("isolated_worker.py")
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(program), str(_MAX_MEMORY)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": paths},
        )
        self._requests = cast("FileIO", self._process.stdin)
        self._answers = cast("FileIO", self._process.stdout)
        if sys.platform == "linux":
            with suppress(OSError):  # the pipes of a user have a limit together
                for pipe in (self._requests, self._answers):
                    fcntl(pipe, F_SETPIPE_SZ, _PIPE_BYTES)
        self.closing: deque[int] = deque()
        """Handles to close before the next read."""

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def read(self, request: dict[str, Any], nbytes: int, data: bytes = b"") -> NDArray[Any]:
        """Send a request and its `data`; return the pixels of the answer.

        Raises ReaderError if the library refuses, or the process died or did not answer in time.
        """
        timeout = _TIMEOUT_SECONDS + nbytes * _SECONDS_PER_BYTE
        is_expired = Event()
        timer = Timer(timeout, self._expire, [is_expired])
        timer.daemon = True
        timer.start()
        try:
            self.close_handles()
            self._send(request, data)
            return self._receive()
        except (BrokenPipeError, EOFError):
            code = self._process.wait()
        finally:
            timer.cancel()
        if is_expired.is_set():
            raise ReaderError(f"it did not end within {timeout:g} s")
        raise ReaderError(f"it ended its process (exit code {code})")

    def _expire(self, is_expired: Event) -> None:
        is_expired.set()
        self._process.kill()

    def close_handles(self) -> None:
        """Send the requests to close files."""
        while self.closing:
            self._send({"close": self.closing.popleft()})

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Let the process end: it does when its input is closed."""
        self._requests.close()
        self._process.wait()
        self._answers.close()

    def abandon(self) -> None:
        """Close this end of the pipes, in a forked child: the process belongs to the parent."""
        self._requests.close()
        self._answers.close()
        self._process.returncode = 0

    def _send(self, request: dict[str, Any], data: bytes = b"") -> None:
        unsent = memoryview(json.dumps(request).encode() + b"\n" + data)
        while unsent:
            unsent = unsent[self._requests.write(unsent) :]

    def _receive(self) -> NDArray[Any]:
        length = int.from_bytes(self._fill(bytearray(4)), "little")
        head = json.loads(self._fill(bytearray(length)))
        if head.get("lacks_memory"):
            raise MemoryError(head["error"])
        if "error" in head:
            raise ReaderError(head["error"])
        pixels = np.empty(head["shape"], head["dtype"])
        self._fill(pixels.reshape(-1).view(np.uint8))
        return pixels

    def _fill(self, buffer: Any) -> Any:
        view = memoryview(buffer)
        while view:
            if not (n := self._answers.readinto(view)):
                raise EOFError
            view = view[n:]
        return buffer


class ReaderPool:
    """Helper processes, one for each thread that reads, at most one for each core.

    They are started when first needed, reused, and replaced when they died.
    """

    def __init__(self) -> None:
        self._handles = count()
        self._reset()

    def _reset(self) -> None:
        self._changed = Condition(Lock())
        self._idle: list[ReaderProcess] = []
        self._all: tuple[ReaderProcess, ...] = ()

    def new_handle(self) -> int:
        """Return a number for a file, which `read` opens and `close` closes."""
        return next(self._handles)

    def read(self, handle: int, path: Path, nbytes: int, **options: Any) -> NDArray[Any]:
        """Read a `window` of a CZI to `nbytes` of pixels, with options of pylibCZIrw's `read`."""
        with self._leased() as process:
            return process.read({"handle": handle, "path": str(path), **options}, nbytes)

    def decode(self, data: bytes, nbytes: int, path: str, **page: Any) -> NDArray[Any]:
        """Decode a tile or strip of a TIFF to `nbytes` of pixels ZYXS.

        `page` is its page in the file at `path` and its index in the page, see `isolated_worker`.
        """
        request = {"length": len(data), "path": path, "stat": FileStat.from_file(path), **page}
        with self._leased() as process:
            return process.read(request, nbytes, data)

    def decompress(self, codec: str, data: bytes, nbytes: int, **options: Any) -> NDArray[Any]:
        """Decode data with a codec of imagecodecs to an image, or to bytes if it returns these.

        `codec` is the name of the decoder without "_decode". Of more than four times `nbytes`,
        which are expected, it is an error.
        """
        request = {"length": len(data), "codec": codec, "limit": 4 * nbytes, "options": options}
        with self._leased() as process:
            return process.read(request, nbytes, data)

    def close(self, handle: int) -> None:
        """Close a file in every process: now, or in one that is reading before its next read.

        It never waits, as the garbage collector may call it at any moment.
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
        """End every process; the next read starts a new one."""
        with self._changed:
            for process in self._all:
                process.end()
            self._all, self._idle = (), []

    def abandon(self) -> None:
        """Drop the processes in a forked child: they belong to the parent."""
        for process in self._all:
            process.abandon()
        self._reset()

    @contextmanager
    def _leased(self) -> Iterator[ReaderProcess]:
        process = self._take()
        try:
            yield process
        except ReaderError:
            raise
        except BaseException:  # an interrupt may have left half an answer in the pipe
            process.kill()
            raise
        finally:
            with self._changed:
                self._idle.append(process)
                self._changed.notify()

    def _take(self) -> ReaderProcess:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or len(self._all) < _MAX_PROCESSES)
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
"""The pool of this process; a forked child starts helper processes of its own."""
atexit.register(POOL.end)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=POOL.abandon)
