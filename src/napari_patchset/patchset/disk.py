"""Files that are there whole or not at all.

Keep a second export out of the folder of the first, and mark the folder as ours.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from uuid import uuid4

from napari_patchset.errors import ExportError


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


LOCK = "napari-patchset.lock"
"""The file in the folder that is locked. Its name, which nothing else has, marks the folder: it is
the first thing in it and the last, whenever an export ends or is killed."""

if sys.platform == "win32":

    @contextmanager
    def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
        """Mark a folder, but lock nothing: this system has no lock that ends with its process."""
        root.mkdir(parents=True, exist_ok=True)
        (root / LOCK).touch()
        try:
            yield
        finally:
            if not shared:
                _remove_bare(root)

else:
    import fcntl

    @contextmanager
    def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
        """Hold a folder, which is made, and leave none behind that holds nothing.

        The system gives the lock back when the process ends, however it ends.

        Parameters
        ----------
        shared : bool
            Whether other jobs of the same export may hold it too.

        Raises
        ------
        ExportError
            If another export holds it.
        """
        fd = _open_locked(root, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            if not shared:
                _remove_bare(root)
            os.close(fd)

    def _open_locked(root: Path, kind: int) -> int:
        while True:
            root.mkdir(parents=True, exist_ok=True)
            fd = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(root / LOCK)):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise ExportError(
                    f"{root}: another export is writing there; wait for it, stop it, or choose "
                    "another name."
                ) from None
            except FileNotFoundError:  # the one before has just ended and taken its lock along
                pass
            os.close(fd)


def _remove_bare(root: Path) -> None:
    """Remove a folder that holds nothing but the lock; any other stays, and stays marked."""
    with suppress(OSError):
        if os.listdir(root) == [LOCK]:
            (root / LOCK).unlink()
            root.rmdir()
