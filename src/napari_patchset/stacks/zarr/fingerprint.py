"""Tell the content of one array from another's, at a cost that does not grow with it."""

import hashlib
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import zarr

from napari_patchset.stacks.zarr.check import sampled_keys

_FILES = 256
_ENDS = 4096


def array_fingerprint(array: zarr.Array[Any], folder: Path) -> str:
    """Fingerprint an array on disk: its metadata, and size and ends of chunk files.

    A copy at another path has the same one. At most 256 files are read, 4 KiB at each end, so a
    change that leaves all of these alone is not seen.
    """
    return fingerprint_of(array, lambda key: _file_ends(folder / key))


def fingerprint_of(array: zarr.Array[Any], ends: Callable[[str], bytes]) -> str:
    """Fingerprint an array by its metadata and what `ends` gives for some of its chunks' keys."""
    doc: dict[str, Any] = array.metadata.to_dict()
    doc["attributes"] = None
    text = json.dumps(doc, sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for key in sampled_keys(array, _FILES):
        digest.update(ends(key))
    return digest.hexdigest()


def chunk_ends(stored: bytes) -> bytes:
    """Give what is looked at of a chunk: its size and its ends."""
    return _ends(BytesIO(stored), len(stored))


def _file_ends(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _ends(file, os.fstat(file.fileno()).st_size)
    except (FileNotFoundError, NotADirectoryError):
        return b"absent"


def _ends(file: BinaryIO, size: int) -> bytes:
    head = file.read(_ENDS)
    file.seek(max(size - _ENDS, 0))
    return size.to_bytes(8, "little") + head + file.read(_ENDS)
