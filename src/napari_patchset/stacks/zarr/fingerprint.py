"""Tell the content of one array from another's, at a cost that does not grow with it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zarr

from napari_patchset.stacks.open_files import Descriptor
from napari_patchset.stacks.zarr.check import sampled_keys

_FILES = 256
_ENDS = 4096
_AT_ONCE = 16
"""Chunks that are read at once."""


def array_fingerprint(array: zarr.Array[Any], folder: Path) -> str:
    """Fingerprint an array on disk: its metadata, and size and ends of chunk files.

    A copy at another path has the same one. At most 256 files are read, 4 KiB at each end, so a
    change that leaves all of these alone is not seen.
    """
    with ThreadPoolExecutor(_AT_ONCE, "fingerprint") as pool:
        return fingerprint_of(array, lambda key: _file_ends(folder / key), pool.map)


def fingerprint_of(
    array: zarr.Array[Any],
    ends: Callable[[str], bytes],
    each: Callable[[Callable[[str], bytes], Iterable[str]], Iterable[bytes]] = map,
) -> str:
    """Fingerprint an array by its metadata and what `ends` gives for some of its chunks' keys.

    Parameters
    ----------
    each : callable
        Calls `ends` for each key, as `map` does.
    """
    doc: dict[str, Any] = array.metadata.to_dict()
    doc["attributes"] = None
    text = json.dumps(doc, sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for part in each(ends, sampled_keys(array, _FILES)):
        digest.update(part)
    return digest.hexdigest()


def chunk_ends(stored: bytes) -> bytes:
    """Give what is looked at of a chunk: its size and its ends."""
    return _ends(lambda start, length: stored[start : start + length], len(stored))


def _file_ends(path: Path) -> bytes:
    try:
        file = Descriptor(path)
    except (FileNotFoundError, NotADirectoryError):
        return b"absent"
    return _ends(file.read, os.fstat(file.number).st_size)


def _ends(read: Callable[[int, int], bytes], size: int) -> bytes:
    last = max(size - _ENDS, 0)
    if last <= _ENDS:
        whole = read(0, size)
        head, tail = whole[:_ENDS], whole[last:]
    else:
        head, tail = read(0, _ENDS), read(last, _ENDS)
    return size.to_bytes(8, "little") + head + tail
