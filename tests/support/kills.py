"""A process that is killed: from some change of a folder on, nothing reaches the disk."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class Killed(BaseException):
    """The process is gone: nothing that it does afterwards reaches the disk."""


class _Kill:
    """Raise at a file event in a folder, and at every later one, as if the process were killed."""

    def __init__(self) -> None:
        self.folder = ""
        self.after = 0
        self.changes: list[str] = []

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or name not in _EVENTS or not arguments:
            return
        if isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.startswith(self.folder) and not _is_read(name, arguments):
                if len(self.changes) >= self.after:
                    raise Killed
                self.changes.append(f"{name} {path.removeprefix(self.folder)}")


def _is_read(name: str, arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if name == "open" and len(arguments) > 2 else None
    return isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR)


_EVENTS = frozenset({"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"})
_KILL = _Kill()
sys.addaudithook(_KILL)  # it can't be taken off, but sleeps outside of `killed`


@contextmanager
def killed(folder: Path, after: int | None) -> Iterator[list[str]]:
    """End what is done within after so many changes of a folder, if any number is set.

    Yield the list of the changes that are made until then.
    """
    if after is None:
        yield []
        return
    _KILL.folder, _KILL.after, _KILL.changes = str(folder), after, []
    try:
        with suppress(Killed):
            yield _KILL.changes
    finally:
        _KILL.folder = ""
