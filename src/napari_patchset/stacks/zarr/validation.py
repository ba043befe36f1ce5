"""Look at an array's codecs and chunk files before its first pixel is decoded.

Tell the content of one array from another's, at a cost that does not grow with it.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import zarr

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import Descriptor
from napari_patchset.stacks.zarr.store import NUMBERS

LARGEST_CHUNK = 2 * 2**30
"""Bytes of a decoded chunk, which is held as a whole; blosc can't make a larger one."""

MOST_CHANNELS = 2**14

CHECKED_CHUNKS = 256
"""Chunk files looked at when an array is opened, spread evenly.

Each costs an open and 16 bytes, some 20 us on a disk and 1 ms on a network drive: a quarter of a
second at the worst. What is damaged elsewhere is found when it is decoded.
"""

_LARGEST_INDEX = 2**20
_ABSENT = np.uint64(2**64 - 1)
_BLOSC = struct.Struct("<4x3I")

Finding = Callable[[BinaryIO, int], str | None]
"""Say what is wrong with a chunk file of so many bytes."""


def check_array(array: zarr.Array[Any], label: str) -> None:
    """Refuse an array that can't be decoded.

    Raises
    ------
    UnreadableFileError
        If it is no array of numbers on a regular grid, or the array or a chunk is larger than
        can be.
    """
    if array.dtype.kind not in NUMBERS:
        raise UnreadableFileError(
            f"{label}: pixels of type {array.dtype} can't be read; it must be a number type."
        )
    if prod(array.shape) >= 2**63 or min(array.shape) < 1:
        raise UnreadableFileError(f"{label}: no file holds an array of shape {array.shape}.")
    chunks = _regular(array, label)
    size = prod(chunks) * array.dtype.itemsize
    if array.shards and min(array.shards) < 1:
        raise UnreadableFileError(f"{label}: shards of {array.shards} hold no pixels.")
    if size > LARGEST_CHUNK or min(chunks) < 1:
        raise UnreadableFileError(
            f"{label}: chunks of {chunks} take {size / 2**30:.1f} GiB each; at most "
            f"{LARGEST_CHUNK / 2**30:.0f} GiB can be decoded. Write it with smaller chunks."
        )


def check_channels(n: int, label: str) -> None:
    """Refuse more channels than can be named and shown: metadata may declare any number.

    Raises
    ------
    UnreadableFileError
        Naming the limit.
    """
    if n > MOST_CHANNELS:
        raise UnreadableFileError(
            f"{label}: it has {n} channels; at most {MOST_CHANNELS} can be read. "
            "Name another axis C, or none."
        )


def _regular(array: zarr.Array[Any], label: str) -> tuple[int, ...]:
    try:
        return tuple(array.chunks)
    except NotImplementedError as error:
        raise UnreadableFileError(
            f"{label}: its chunks differ in size, which can't be read; write equal ones."
        ) from error


def check_chunks(array: zarr.Array[Any], folder: Path, label: str) -> None:
    """Look whether chunk files are as long as they say they are; a file may be absent.

    Raises
    ------
    UnreadableFileError
        If one is cut off or belongs to another kind of array, naming it.
    """
    finding = _finding(array)
    for key in sampled_keys(array, CHECKED_CHUNKS) if finding else ():
        try:
            with (folder / key).open("rb") as file:
                problem = finding(file, os.fstat(file.fileno()).st_size) if finding else None
        except (FileNotFoundError, NotADirectoryError):
            continue
        if problem:
            raise UnreadableFileError(
                f"{label}: chunk {key} {problem}. Copy or export the image again."
            )


def sampled_keys(array: zarr.Array[Any], limit: int) -> Iterator[str]:
    """Give the keys of at most so many chunk files, spread evenly over the array."""
    sizes = array.shards or array.chunks
    grid = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    count = prod(grid)
    for i in range(min(count, limit)):
        yield array.metadata.encode_chunk_key(_unravel(count * i // min(count, limit), grid))


def _unravel(index: int, grid: Sequence[int]) -> tuple[int, ...]:
    """Unravel in C order; NumPy's own fails beyond 2**63 chunks, which a file may declare."""
    found = []
    for n in reversed(grid):
        index, i = divmod(index, n)
        found.append(i)
    return tuple(reversed(found))


def codec_names(array: zarr.Array[Any]) -> list[str]:
    """Name the codecs in the order of encoding, those inside of a shard after it."""
    doc: dict[str, Any] = dict(array.metadata.to_dict())
    if array.metadata.zarr_format == 2:
        used = [*(doc.get("filters") or ()), doc.get("compressor")]
        return [str(codec["id"]) for codec in used if isinstance(codec, dict)]
    return list(_names(doc["codecs"]))


def _names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        yield str(codec["name"])
        yield from _names((codec.get("configuration") or {}).get("codecs") or ())


def _finding(array: zarr.Array[Any]) -> Finding | None:
    """Choose what is known of this array's chunk files, None if nothing is."""
    chunk_bytes = prod(array.chunks) * array.dtype.itemsize
    names = [name for name in codec_names(array) if name not in ("bytes", "transpose")]
    if array.shards:
        return _shard_finding(array)
    if names in ([], ["crc32c"]):
        return lambda _, size: _raw_problem(size, chunk_bytes + 4 * len(names))
    if names == ["lz4"]:
        return lambda file, size: _lz4_problem(file, chunk_bytes)
    if names == ["blosc"]:
        return lambda file, size: _blosc_problem(file, size, chunk_bytes)
    return None


def _raw_problem(size: int, expected: int) -> str | None:
    return None if size == expected else f"holds {size} bytes instead of {expected}"


def _blosc_problem(file: BinaryIO, size: int, chunk_bytes: int) -> str | None:
    head = file.read(16)
    if len(head) < 16:
        return f"is cut off after {size} bytes"
    decoded, _, stored = _BLOSC.unpack(head)
    if stored > size:
        return f"is cut off: it holds {size} of {stored} bytes"
    if decoded != chunk_bytes:
        return f"would decode to {decoded} bytes instead of {chunk_bytes}"
    return None


def _lz4_problem(file: BinaryIO, chunk_bytes: int) -> str | None:
    """Look at the size that numcodecs writes before the data, and takes memory for."""
    decoded = int.from_bytes(file.read(4), "little")
    return None if decoded == chunk_bytes else f"would decode to {decoded} bytes, not {chunk_bytes}"


def _shard_finding(array: zarr.Array[Any]) -> Finding | None:
    """Know a shard's index if it is plain or with a checksum, as all writers make it."""
    doc: dict[str, Any] = dict(array.metadata.to_dict())
    config = doc["codecs"][-1]["configuration"]
    names = [codec["name"] for codec in config["index_codecs"]]
    pairs = zip(array.shards or (), array.chunks, strict=True)
    size = 16 * prod(shard // chunk for shard, chunk in pairs)
    if names not in (["bytes"], ["bytes", "crc32c"]) or size > _LARGEST_INDEX:
        return None
    at_end, checksum = config.get("index_location", "end") == "end", 4 * (len(names) - 1)
    return lambda file, stored: _shard_problem(file, stored, size, checksum, at_end)


def _shard_problem(
    file: BinaryIO, stored: int, size: int, checksum: int, at_end: bool
) -> str | None:
    if stored < size + checksum:
        return f"is cut off: {stored} bytes are too few for its index"
    file.seek(stored - size - checksum if at_end else 0)
    index = file.read(size)
    if checksum and google_crc32c.value(index) != int.from_bytes(file.read(4), "little"):
        return "is cut off or damaged: its index does not fit the checksum"
    starts, lengths = np.frombuffer(index, "<u8").reshape(-1, 2).T
    present = (starts != _ABSENT) | (lengths != _ABSENT)
    inside = (starts <= stored) & (lengths <= np.uint64(stored) - np.minimum(starts, stored))
    return "is damaged: its index leads out of it" if (present & ~inside).any() else None


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
