"""Atomic files, which are complete or absent, and the JSON files of a patch set.

A file is written under a temporary name (a draft) in its own folder, synced, and renamed into
place, so that neither a killed process nor a power cut leaves half of it under its name.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import FileIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_patchset.errors import UnreadableFileError

DRAFT_PATTERN = r"[.](?P<name>[^/]+)[.][0-9a-f]{32}[.]draft"
"""Regular expression of a draft's name; the group is the name of the file that it becomes."""


_permit: ContextVar[Callable[[], None]] = ContextVar("permit", default=lambda: None)


@contextmanager
def permitted_by(permit: Callable[[], None]) -> Iterator[None]:
    """Call a function before each file is begun within, and before it is renamed into place.

    An exception that it raises leaves no file: for work that may have been given to another process
    in the meantime.
    """
    token = _permit.set(permit)
    try:
        yield
    finally:
        _permit.reset(token)


@contextmanager
def atomic_file(path: Path, *, sync: bool = True) -> Iterator[FileIO]:
    """Open a draft for writing and rename it into place at the end; delete it on any error.

    The folder is created. With `sync` the content survives a power cut. A device or a pipe, such as
    /dev/stdout, is written to instead of replaced.
    """
    permit = _permit.get()
    permit()
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb", buffering=0) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads, or machines with equal process numbers, may write the same file.
    draft = path.with_name(f".{path.name}.{uuid4().hex}.draft")
    try:
        with draft.open("wb", buffering=0) as file:
            yield file
            if sync:
                os.fsync(file.fileno())
        permit()
        draft.replace(path)
    except OSError as error:  # a write or sync that fails names no file
        error.filename = error.filename or str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_file(
    path: Path, parts: Iterable[bytes | bytearray | memoryview], *, sync: bool = True
) -> None:
    """Write a file of several parts atomically; see `atomic_file`."""
    with atomic_file(path, sync=sync) as file:
        for part in parts:
            write_all(file, part)


def write_all(file: FileIO, part: bytes | bytearray | memoryview) -> None:
    """Write all bytes; one system call writes at most 2 GiB."""
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system supports it."""
    if os.name == "posix":
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_file(path, [(json.dumps(content, indent=1) + "\n").encode()])


def check_inside(root: Path, path: Path) -> None:
    """Raise UnreadableFileError if a file or folder of the set at `root` is a link out of it."""
    folder = os.path.realpath(root)
    if os.path.commonpath([folder, os.path.realpath(path)]) != folder:
        raise UnreadableFileError(f"{path}: a link leads out of the set; put a copy in its place.")
