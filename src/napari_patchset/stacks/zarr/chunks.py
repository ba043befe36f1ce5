"""The chunks of an array: decoded block by block, each once, and fingerprinted.

A block is one chunk, or several neighbours where chunks are small. `ChunkReader` reads windows by
way of a cache of decoded blocks, and names the chunk that can't be decoded.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import FsspecStore, LocalStore

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile, TileCache
from napari_patchset.stacks.zarr.remote import RemoteStore, stored_ends
from napari_patchset.stacks.zarr.store import zarr_reason
from napari_patchset.stacks.zarr.validation import sampled_keys, with_checked_codecs

_SMALL_BLOCK_BYTES = 64 * 1024
"""Chunks smaller than this are decoded with their neighbours: a call to zarr costs as much."""

_LARGE_BLOCK_BYTES = 16 * 2**20
"""An absent chunk larger than this is one fill value instead of an array."""


class ChunkReader:
    """Read windows of an array, in its own axes and in native byte order; threads may share it.

    `plane_axes` are the dimensions that are Y and X, `block_shape` is the size of a block along
    each axis.
    """

    def __init__(self, array: zarr.Array[Any], name: str, plane_axes: tuple[int, int]) -> None:
        self.name = name
        self.dtype = array.dtype.newbyteorder("=")
        self.cache = TileCache()
        self.block_shape = _block_shape(
            array.shape, array.chunks, array.shards, plane_axes, array.dtype.itemsize
        )
        self._array: zarr.Array[Any] | None = with_checked_codecs(array)
        self._file_shape = tuple(array.shards or array.chunks)

    @property
    def array(self) -> zarr.Array[Any]:
        """The array itself; ValueError if the stack was closed."""
        if self._array is None:
            raise ValueError(f"{self.name}: the stack is closed; open the file again.")
        return self._array

    @property
    def folder(self) -> Path | None:
        """The folder of the array's chunks, None if it is not on a disk."""
        store = self.array.store
        return Path(store.root) / self.array.path if isinstance(store, LocalStore) else None

    def read(self, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill `out`, which has all dimensions of the array, with the window at `start`."""
        array = self.array
        stop = [a + n for a, n in zip(start, out.shape, strict=True)]
        for index in self._touched(start, stop):
            span = self._span(array, index)
            inside, outside = [], []
            for low, high, covered in zip(start, stop, span, strict=True):
                a, b = max(low, covered.start), min(high, covered.stop)
                inside.append(slice(a - covered.start, b - covered.start))
                outside.append(slice(a - low, b - low))
            block = self.cache.get(index, partial(self._decode, array, index))
            out[tuple(outside)] = block[tuple(inside)] if block.ndim else block

    def blocks(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], tuple[range, ...], Callable[[], NDArray[Any]]]]:
        """Yield the blocks that a window touches: index, range along each axis, and decoder.

        The decoder returns the block without caching it; see `_decode`.
        """
        array = self.array
        for index in self._touched(start, stop):
            decode = partial(self._decode, array, index)
            yield index, self._span(array, index), decode

    def close(self) -> None:
        """Drop the array and all decoded blocks, and end what is being read of a server."""
        array, self._array = self._array, None
        if array is not None and isinstance(array.store, RemoteStore):
            array.store.close()
        self.cache.clear()

    def fingerprint(self) -> str | None:
        """Return `fingerprint_array` of the stored chunks, None if they are in memory."""
        array = self.array
        ends_of: Callable[[str], bytes]
        if (folder := self.folder) is not None:
            ends_of = partial(_file_ends, folder)
        elif isinstance(store := array.store, FsspecStore):
            ends_of = partial(_remote_ends, store, array.path)
        else:
            return None
        with ThreadPoolExecutor(_N_FINGERPRINT_THREADS, "fingerprint") as pool:
            return fingerprint_array(array, ends_of, pool.map)

    @property
    def n_absent(self) -> int:
        """The number of chunks that a server was asked for and does not have; 0 on a disk."""
        prefix = f"{self.array.path}/".lstrip("/")
        absent = getattr(self.array.store, "absent", ())
        return sum(key.startswith(prefix) for key in absent)

    def _touched(self, start: Sequence[int], stop: Sequence[int]) -> Iterator[tuple[int, ...]]:
        bounds = zip(start, stop, self.block_shape, strict=True)
        return product(*(range(low // size, -(-high // size)) for low, high, size in bounds))

    def _span(self, array: zarr.Array[Any], index: tuple[int, ...]) -> tuple[range, ...]:
        bounds = zip(index, self.block_shape, array.shape, strict=True)
        return tuple(range(i * size, min((i + 1) * size, n)) for i, size, n in bounds)

    def _decode(self, array: zarr.Array[Any], index: tuple[int, ...]) -> NDArray[Any]:
        """Decode a block; an array without dimensions stands for a large absent chunk."""
        span = self._span(array, index)
        corner = [covered.start for covered in span]
        window = tuple(slice(covered.start, covered.stop) for covered in span)
        is_large = prod(self.block_shape) * self.dtype.itemsize > _LARGE_BLOCK_BYTES
        folder = self.folder if is_large else None
        is_absent = folder is not None and not (folder / self._key(corner)).exists()
        if is_absent:
            window = tuple(slice(i, i + 1) for i in corner)
        try:
            pixels = np.asarray(array[window]).astype(self.dtype, copy=False)
        except (UnreadableFileError, MemoryError):  # a server that fails, not the chunk
            raise
        except Exception as error:  # each codec raises errors of its own
            raise self._damaged(array, window, error) from error
        return pixels.reshape(()) if is_absent else pixels

    def _key(self, corner: Sequence[int]) -> str:
        """Return the key of the chunk file that holds a pixel."""
        number = tuple(i // size for i, size in zip(corner, self._file_shape, strict=True))
        return str(self.array.metadata.encode_chunk_key(number))

    def _damaged(
        self, array: zarr.Array[Any], window: tuple[slice, ...], error: Exception
    ) -> UnreadableFileError:
        """Name the first chunk of a block that can't be decoded on its own."""
        starts = [range(w.start, w.stop, n) for w, n in zip(window, array.chunks, strict=True)]
        damaged = (corner for corner in product(*starts) if not _is_decodable(array, corner))
        key = self._key(next(damaged, tuple(w.start for w in window)))
        return UnreadableFileError(
            f"{self.name}: chunk {key} can't be decoded: {zarr_reason(error)}. "
            f"Copy or export the image again."
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._array is not None:  # zarr pickles a shard's codecs by their names
            self._array = with_checked_codecs(self._array)


def _is_decodable(array: zarr.Array[Any], pixel: Sequence[int]) -> bool:
    try:
        array[tuple(slice(i, i + 1) for i in pixel)]
    except Exception:  # the reason is reported by the caller
        return False
    return True


def _block_shape(
    shape: Sequence[int],
    chunks: Sequence[int],
    shards: Sequence[int] | None,
    plane_axes: Sequence[int],
    itemsize: int,
) -> tuple[int, ...]:
    """Choose the block: one chunk, or neighbours in the plane until it is no longer small.

    It holds whole chunks and does not cross a shard.
    """
    block = [min(chunk, n) for chunk, n in zip(chunks, shape, strict=True)]
    growing = {axis for axis in plane_axes if block[axis] < shape[axis]}
    while growing and prod(block) * itemsize < _SMALL_BLOCK_BYTES:
        axis = min(growing, key=lambda a: block[a])
        grown = _grow(block[axis], chunks[axis], shards[axis] if shards else None)
        if grown is None or grown >= shape[axis]:
            growing.remove(axis)
        block[axis] = min(grown or block[axis], shape[axis])
    return tuple(block)


def _grow(size: int, chunk: int, shard: int | None) -> int | None:
    """Return at least twice the size, in whole chunks; None if none of up to 4x fits the shard."""
    if shard is None:
        return 2 * size
    wider = range(2 * size, min(shard, 4 * size) + 1, chunk)
    return next((n for n in wider if shard % n == 0), None)


_MAX_FINGERPRINTED = 256
_END_BYTES = 4096
_N_FINGERPRINT_THREADS = 16


def fingerprint_array(
    array: zarr.Array[Any],
    ends_of: Callable[[str], bytes],
    map_keys: Callable[[Callable[[str], bytes], Iterable[str]], Iterable[bytes]] = map,
) -> str:
    """Fingerprint an array: its metadata, and size and ends of up to 256 chunk files.

    A copy at another path has the same fingerprint. A change that leaves the first and last 4 KiB
    of these files as they are is not detected. `ends_of` returns `chunk_ends` of the chunk of a
    key; `map_keys` calls it for each key, as `map` does.
    """
    doc: dict[str, Any] = array.metadata.to_dict()
    doc["attributes"] = None
    text = json.dumps(doc, sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for ends in map_keys(ends_of, sampled_keys(array, _MAX_FINGERPRINTED)):
        digest.update(ends)
    return digest.hexdigest()


def chunk_ends(stored: bytes) -> bytes:
    """Return the size and the ends of a stored chunk, for its fingerprint."""
    return _read_ends(lambda start, length: stored[start : start + length], len(stored))


def _file_ends(folder: Path, key: str) -> bytes:
    try:
        file = OpenFile(folder / key)
    except (FileNotFoundError, NotADirectoryError):
        return b"absent"
    return _read_ends(file.read, os.fstat(file.descriptor).st_size)


def _remote_ends(store: FsspecStore, path: str, key: str) -> bytes:
    ends = stored_ends(store, f"{path}/{key}".lstrip("/"), _END_BYTES)
    if ends is None:
        return b"absent"
    size, head, tail = ends
    return size.to_bytes(8, "little") + head + tail


def _read_ends(read: Callable[[int, int], bytes], size: int) -> bytes:
    last = max(size - _END_BYTES, 0)
    if last <= _END_BYTES:
        whole = read(0, size)
        head, tail = whole[:_END_BYTES], whole[last:]
    else:
        head, tail = read(0, _END_BYTES), read(last, _END_BYTES)
    return size.to_bytes(8, "little") + head + tail
