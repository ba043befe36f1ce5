"""Files that are there whole or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[FileIO]:
    """Write a file under a temporary name; rename it into place at the end.

    Its folder is made. Nothing is left of one that could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads, or machines with equal process numbers, may write the same file.
    draft = path.with_name(f".{path.name}.{uuid4().hex}.draft")
    try:
        with draft.open("wb", buffering=0) as file:
            yield file
        draft.replace(path)
    except OSError as error:  # a write or sync that fails names no file
        error.filename = error.filename or str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def durable_file(path: Path) -> Iterator[FileIO]:
    """Write a file as `whole_file` does, and sync it before it is renamed."""
    with whole_file(path) as file:
        yield file
        os.fsync(file.fileno())


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file of several parts whole; a power cut may take it, or a part of it."""
    with whole_file(path) as file:
        for part in parts:
            write_all(file, part)


def write_durably(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file of several parts whole, and synced."""
    with durable_file(path) as file:
        for part in parts:
            write_all(file, part)


def write_all(file: FileIO, part: bytes | memoryview) -> None:
    """Write everything; one call to the system writes at most 2 GiB."""
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
