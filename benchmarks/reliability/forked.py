"""Run a case, or a program, in a forked child, which may be killed.

Every child has the modules that the parent imported: a case costs milliseconds. The parent itself
must neither export nor read a set: libraries start threads then, which a fork does not copy.
"""

import json
import os
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

import psutil

PATIENCE = 300.0
"""Seconds after which a child hangs, on a machine that does much else too."""


class Died(Exception):
    """A child ended without a result."""


class Child:
    """A function in a process of its own.

    Parameters
    ----------
    work : callable
        Called there; what it returns must fit into JSON.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            os.close(self._read)
            _work(work, write)
        os.close(write)

    def kill(self, after: float = PATIENCE) -> bool:
        """Kill it after some seconds; return whether a signal ended it."""
        select.select([self._read], [], [], after)
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._read)
        return os.WIFSIGNALED(status)

    def kill_orphans(self) -> None:
        """Kill the processes that it started and that outlived it, as a pool's do."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def result(self, patience: float = PATIENCE) -> Any:
        """Wait for its result, at most so many seconds.

        Raises
        ------
        Died
            If it raised, died, or took longer.
        """
        ready, _, _ = select.select([self._read], [], [], patience)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self._read, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if not answer:
            raise Died(f"it hung, or ended with status {status} and no result")
        result = cast("dict[str, Any]", json.loads(answer))
        if "error" in result:
            raise Died(result["error"])
        return result["result"]


def in_child(work: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Call a function in a child and return its result."""
    return Child(work).result(patience)


def _work(work: Callable[[], Any], pipe: int) -> None:
    try:
        result = {"result": work()}
    except BaseException:
        result = {"error": traceback.format_exc(limit=-5)}
    with os.fdopen(pipe, "w") as file:
        json.dump(result, file)
    os._exit(0)


class Program(psutil.Process):
    """`python -m MODULE WORDS...` in a child, without the second that its imports take.

    It leads a process group, and writes to two files.

    Parameters
    ----------
    out : Path or None
        What it prints; its errors are written beside it. None for nowhere.
    before : callable or None
        Called in the child first.
    """

    def __init__(
        self,
        module: str,
        *words: str,
        out: Path | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        self.out = Path(os.devnull) if out is None else out
        self.errors = self.out if out is None else out.with_suffix(".errors")
        files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in (self.out, self.errors)]
        sys.stdout.flush()
        sys.stderr.flush()
        if (pid := os.fork()) == 0:
            os.setpgid(0, 0)
            for number, file in enumerate(files, 1):
                os.dup2(file, number)
            sys.argv = [module, *words]
            _run_module(module, before)
        for file in files:
            os.close(file)
        super().__init__(pid)

    def kill_group(self) -> None:
        """Kill it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess):
            self.wait()


def _run_module(module: str, before: Callable[[], object] | None) -> NoReturn:
    code: Any = 1
    try:
        if before is not None:
            before()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
