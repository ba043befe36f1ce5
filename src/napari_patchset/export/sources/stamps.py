"""Stamps of files: what shows, without opening it, that a file is not the one it was."""

import os
from collections.abc import Mapping
from pathlib import Path

from napari_patchset.errors import UnreadableFileError

Stamp = tuple[int, int]
"""Size of a file, and when it was changed last, in ns."""


def find_stamp(path: str) -> Stamp | None:
    """Give size and time of a file, None for what is not a file."""
    if not Path(path).is_file():
        return None
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def require_stamp(path: str, stamps: Mapping[str, Stamp]) -> None:
    """Refuse a file whose size or time are not those that were found when the plan was made."""
    if find_stamp(path) != stamps.get(path):
        raise changed(path)


def changed(path: str) -> UnreadableFileError:
    """Say that a file is not the one that was planned for."""
    return UnreadableFileError(
        f"{path} has changed since the export began; export again with overwrite."
    )
