"""zarr: one zarr v3 group, an array for each split and role.

The shard on disk: assembled in memory, written whole, mapped for reading.

A shard is a file of zarr v3's "sharding_indexed" codec with one patch per inner chunk: the
patches one after the other, each as raw little-endian bytes or compressed, then the index of
(offset, length) pairs, then the index's crc32c.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.consistency import require_inside
from napari_patchset.patchset.disk import write_durably
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    ATTRIBUTE,
    CODECS,
    SUFFIX,
    ArrayLayout,
    Codec,
    zarr_descriptions,
)
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.stacks.cache import SharedCache

EMPTY = 2**64 - 1
"""Offset and length of an inner chunk that is not there."""

_CHECKSUM_BYTES = 4


class Shard(Protocol):
    """The patches of a shard, by their row in it."""

    def __getitem__(self, row: int, /) -> NDArray[Any]: ...


def encode_index(lengths: Iterable[int], capacity: int) -> bytes:
    """Encode the index of a shard that holds at most `capacity` patches of these lengths."""
    index = np.full((capacity, 2), EMPTY, "<u8")
    sizes = np.fromiter(lengths, "<u8")
    index[: len(sizes), 0] = sizes.cumsum() - sizes
    index[: len(sizes), 1] = sizes
    data = index.tobytes()
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def write_shard(path: Path, array: ArrayLayout, patches: NDArray[Any]) -> None:
    """Write a shard under a temporary name, sync it, and rename it into place.

    Parameters
    ----------
    path : Path
        The shard's file; its folder is made.
    array : ArrayLayout
        What the shard is a part of.
    patches : ndarray
        N, C, (Z), Y, X, contiguous, with N at most the array's capacity.
    """
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    codec = CODECS[array.codec]
    if codec is None:
        chunks = [little.reshape(-1).view(np.uint8).data]
        lengths = [array.patch_bytes] * len(little)
    else:
        chunks = [memoryview(codec.encode(patch)) for patch in little]
        lengths = [len(chunk) for chunk in chunks]
    write_durably(path, [*chunks, encode_index(lengths, array.capacity)])


def open_shard(path: Path, array: ArrayLayout, n: int) -> Shard:
    """Map a shard that holds `n` patches for reading.

    Raises
    ------
    UnreadableFileError
        If the file is not what `write_shard` writes for that array.
    """
    codec = CODECS[array.codec]
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    if codec is None:
        return _raw_shard(path, data, array, n)
    return _CompressedShard(path, data, array, n, codec)


def checksums(patches: NDArray[Any]) -> NDArray[np.uint32]:
    """Give the crc32c of each patch's pixels in little-endian order."""
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    return np.fromiter(map(google_crc32c.value, little), np.uint32, len(little))


def _raw_shard(path: Path, data: NDArray[np.uint8], array: ArrayLayout, n: int) -> NDArray[Any]:
    index = encode_index([array.patch_bytes] * n, array.capacity)
    end = n * array.patch_bytes
    if len(data) != end + len(index) or data[end:].tobytes() != index:
        raise _unfit(path, data, n)
    little = array.dtype.newbyteorder("<")
    return np.asarray(data[:end]).view(little).reshape(n, *array.patch_shape)


class _CompressedShard:
    """Patches that are decompressed one by one; whether each fits is known at opening."""

    def __init__(
        self, path: Path, data: NDArray[np.uint8], array: ArrayLayout, n: int, codec: Codec
    ) -> None:
        size = array.capacity * 16
        start = len(data) - size - _CHECKSUM_BYTES
        lengths = data[max(start, 0) :][:size].view("<u8").reshape(-1, 2)[:n, 1].tolist()
        index = encode_index(lengths, array.capacity) if start >= 0 else b""
        if start < 0 or sum(lengths) != start or data[start:].tobytes() != index:
            raise _unfit(path, data, n)
        self._path, self._array, self._codec = path, array, codec
        self._data = np.asarray(data)
        self._ends = [0, *accumulate(lengths)]

    def __getitem__(self, row: int) -> NDArray[Any]:
        patch = np.empty(self._array.patch_shape, self._array.dtype.newbyteorder("<"))
        data = self._data[self._ends[row] : self._ends[row + 1]].tobytes()
        try:
            self._codec.decode(data, patch)
        except UnreadableFileError as error:
            raise _damaged(self._path, f"patch {row} can't be decompressed: {error}") from error
        return patch


def _unfit(path: Path, data: NDArray[np.uint8], n: int) -> UnreadableFileError:
    return _damaged(path, f"{len(data)} bytes, or an index, that do not fit its {n} patches")


def _damaged(path: Path, what: str) -> UnreadableFileError:
    return UnreadableFileError(f"{path}: damaged: {what}; copy the set again, or export it again.")


_MAPPED_SHARDS = 128
"""Each mapped shard holds a file descriptor; a process often has no more than 1024."""


class ZarrSet(SetFormat):
    """Shards that are mapped for reading; see `layout` and `shards`."""

    suffix: ClassVar[str] = SUFFIX
    unit_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<array>{ARRAY_PATTERN})/c/(?P<number>0|[1-9][0-9]*)(/0)+"
    )

    def unit_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Give the shard's file."""
        return [array.shard_path(root, shard)]

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a shard."""
        write_shard(array.shard_path(root, shard), array, patches)

    def descriptions(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> dict[Path, dict[str, Any]]:
        """Give the metadata of every array and group, the root's last."""
        return zarr_descriptions(root, arrays, {ATTRIBUTE: attributes})

    def open(self, root: Path, array: ArrayLayout) -> "MappedShards":
        """Open an array; a shard is mapped when its first patch is read."""
        return MappedShards(root, array)


class MappedShards:
    """The shards of an array, of which the last ones used stay mapped."""

    def __init__(self, root: Path, array: ArrayLayout) -> None:
        self._root, self._array = root, array
        self._mapped: SharedCache[int, Shard] = SharedCache(_MAPPED_SHARDS)

    def read(self, index: int) -> NDArray[Any]:
        """Read one patch C(Z)YX: a copy."""
        shard, row = divmod(index, self._array.capacity)
        patch: NDArray[Any] = self._mapped.get(shard, partial(self._map, shard))[row].astype(
            self._array.dtype
        )
        return patch

    def close(self) -> None:
        """Unmap every shard."""
        self._mapped.clear()

    def _map(self, shard: int) -> Shard:
        path, n = self._array.shard_path(self._root, shard), len(self._array.rows(shard))
        require_inside(self._root, path)
        return open_shard(path, self._array, n)
