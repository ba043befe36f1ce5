"""Run a case in a forked child, which may be killed, and hear what it found.

What is imported once is there in each child: a case costs milliseconds. The parent itself must
neither export nor read a set: libraries start threads then, and threads do not live through a fork.
"""

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
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
            os.close(self._read)
            _work(work, write)
        os.close(write)

    def kill(self, after: float = PATIENCE) -> bool:
        """Kill it after some seconds, and say whether that, or its own hand, ended it."""
        select.select([self._read], [], [], after)
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._read)
        return os.WIFSIGNALED(status)

    def result(self, patience: float = PATIENCE) -> Any:
        """Wait for what it found, so many seconds.

        Raises
        ------
        Died
            If it raised, died, or took longer.
        """
        ready, _, _ = select.select([self._read], [], [], patience)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self._read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if not said:
            raise Died(f"it hung, or ended with status {status} and without a word")
        found = cast("dict[str, Any]", json.loads(said))
        if "error" in found:
            raise Died(found["error"])
        return found["result"]


def in_child(work: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Call a function in a child and give what it returns."""
    return Child(work).result(patience)


def _work(work: Callable[[], Any], pipe: int) -> None:
    try:
        found = {"result": work()}
    except BaseException:
        found = {"error": traceback.format_exc(limit=-5)}
    with os.fdopen(pipe, "w") as file:
        json.dump(found, file)
    os._exit(0)
