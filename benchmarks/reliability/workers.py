"""Run numbered cases in a process that may die, hang or starve, and go on after it did."""

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast


@dataclass(frozen=True)
class Limits:
    """What a case may take: seconds, and bytes above what the worker took before the first."""

    seconds: float
    memory: int


def watched(
    command: list[str], first: int, last: int, limits: Limits
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Have a worker judge the cases `first` up to, not including, `last`; see `serve`.

    Yields
    ------
    tuple of int and dict
        The case's number and the worker's verdict, or the kind "death", "hang" or "memory".
    """
    number = first
    while number < last:
        with tempfile.TemporaryFile() as errors:
            worker = _Worker(command, errors)
            while number < last:
                verdict = worker.judge(number, limits)
                yield number, verdict
                number += 1
                if worker.is_gone:
                    break
            worker.stop()


class _Worker:
    def __init__(self, command: list[str], errors: BinaryIO) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, stderr=errors, **pipes)  # type: ignore[call-overload]
        self._errors = errors
        self._baseline = int(self._process.stdout.readline() or 0)

    @property
    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def judge(self, number: int, limits: Limits) -> dict[str, Any]:
        if self.is_gone:
            return {"kind": "death", "detail": self._last_words()}
        self._process.stdin.write(b"%d\n" % number)
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], limits.seconds)
        line = self._process.stdout.readline() if ready else b""
        if not line.endswith(b"\n"):
            self._abort()
            return {"kind": "death" if ready else "hang", "detail": self._last_words()}
        verdict = cast("dict[str, Any]", json.loads(line))
        if verdict["peak"] > self._baseline + limits.memory:
            megabytes = (verdict["peak"] - self._baseline) // 2**20
            verdict |= {"detail": f"{megabytes} MB: {verdict['kind']}: {verdict['detail']}"}
            verdict["kind"] = "memory"
        return verdict

    def _abort(self) -> None:
        """End the worker, which first prints where it is: see `serve`."""
        self._process.send_signal(signal.SIGABRT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip()
        return f"exit code {self._process.returncode}: {errors[-3000:]}"

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve(judge: Any) -> None:
    """Be the worker: read numbers, send each to a generator, print what it yields.

    Before the first, the memory that this process takes is printed. The one that waits ends it with
    a signal where it takes too long, at which it prints the stacks of its threads. (A time-out of
    `faulthandler` would read them while they run, and crash.)
    """
    faulthandler.enable()
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no result
    next(judge)
    print(_peak(), file=results, flush=True)
    for line in sys.stdin:
        _forget_peak()
        verdict = judge.send(int(line))
        print(json.dumps({**verdict, "peak": _peak()}), file=results, flush=True)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
