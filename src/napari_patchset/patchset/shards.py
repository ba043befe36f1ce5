"""The shard on disk: assembled in memory, written whole, mapped for reading.

A shard is a file of zarr v3's "sharding_indexed" codec with one patch per inner chunk: the
patches one after the other as raw little-endian bytes, then the index of (offset, length) pairs,
then the index's crc32c.
"""

import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError

EMPTY = 2**64 - 1
"""Offset and length of an inner chunk that is not there."""

_CHECKSUM_BYTES = 4


def encode_index(n: int, capacity: int, patch_bytes: int) -> bytes:
    """Encode the index of a shard that holds `n` of at most `capacity` patches."""
    index = np.full((capacity, 2), EMPTY, "<u8")
    index[:n, 0] = np.arange(n, dtype="<u8") * patch_bytes
    index[:n, 1] = patch_bytes
    data = index.tobytes()
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def write_shard(path: Path, patches: NDArray[Any], capacity: int) -> None:
    """Write a shard under a temporary name, sync it, and rename it into place.

    Parameters
    ----------
    path : Path
        The shard's file; its folder is made.
    patches : ndarray
        N, C, (Z), Y, X, contiguous, with N at most `capacity`.
    capacity : int
        Patches in a full shard.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb", buffering=0) as file:
            _write_all(file.fileno(), little.reshape(-1).view(np.uint8).data)
            index = encode_index(len(little), capacity, little[0].nbytes)
            _write_all(file.fileno(), memoryview(index))
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_all(fd: int, data: memoryview) -> None:
    """Write everything; one call writes at most 2 GiB."""
    while data:
        data = data[os.write(fd, data) :]


def map_shard(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], capacity: int
) -> NDArray[Any]:
    """Map the patches of a shard, of `shape` N, C, (Z), Y, X, for reading.

    Raises
    ------
    UnreadableFileError
        If the file is not exactly what `write_shard` writes for that shape.
    """
    n, *patch_shape = shape
    patch_bytes = int(np.prod(patch_shape)) * dtype.itemsize
    index = encode_index(n, capacity, patch_bytes)
    expected = n * patch_bytes + len(index)
    data = np.memmap(path, np.uint8, "r")
    if len(data) != expected or data[n * patch_bytes :].tobytes() != index:
        raise UnreadableFileError(
            f"{path}: damaged: {len(data)} bytes, or an index, that do not fit the {n} patches "
            f"({expected} bytes) that belong here; export the set again."
        )
    little = dtype.newbyteorder("<")
    return np.asarray(data[: n * patch_bytes]).view(little).reshape(shape)


def checksums(patches: NDArray[Any]) -> list[int]:
    """Give the crc32c of each patch's bytes as they lie in a shard."""
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    return [google_crc32c.value(patch.tobytes()) for patch in little]
