"""Run a case in a forked child, which may be killed, and return its result.

Every child has the modules that the parent imported: a case costs milliseconds. The parent itself
must neither export nor read a set: libraries start threads then, which a fork does not copy.
"""

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

PATIENCE = 60.0
"""Seconds after which a child hangs."""


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
