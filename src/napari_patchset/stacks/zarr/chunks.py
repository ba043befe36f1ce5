"""Decode an array block by block, each once, and say which chunk is damaged.

The blocks in which an array is decoded: a chunk, or several small ones.

Blosc that looks before it decodes: else it reads as far as its data say they go.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ShardingCodec
from zarr.storage import LocalStore

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import DEFAULT_LIMIT, TileCache
from napari_patchset.stacks.zarr.store import reason

SMALL = 64 * 1024
"""Bytes below which a chunk is decoded with its neighbours: a call to zarr costs as much."""


def block_shape(
    shape: Sequence[int],
    chunks: Sequence[int],
    shards: Sequence[int] | None,
    plane: Sequence[int],
    itemsize: int,
) -> tuple[int, ...]:
    """Choose the block: one chunk, or as many of a plane's as make it no longer small.

    It holds whole chunks and does not cross a shard.
    """
    block = [min(chunk, n) for chunk, n in zip(chunks, shape, strict=True)]
    growing = {axis for axis in plane if block[axis] < shape[axis]}
    while growing and prod(block) * itemsize < SMALL:
        axis = min(growing, key=lambda a: block[a])
        shard = shards[axis] if shards else None
        grown = _grown(block[axis], chunks[axis], shard)
        if grown is None or grown >= shape[axis]:
            growing.remove(axis)
        block[axis] = min(grown or block[axis], shape[axis])
    return tuple(block)


def _grown(size: int, chunk: int, shard: int | None) -> int | None:
    """Give at least twice as many chunks, None if no whole number of such fits the shard."""
    if shard is None:
        return 2 * size
    wider = range(2 * size, min(shard, 4 * size) + 1, chunk)
    return next((n for n in wider if shard % n == 0), None)


def overlapping(
    start: Sequence[int], stop: Sequence[int], block: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """Give each block that a window touches: its index, the slices of it, and of the window."""
    ranges = [
        range(low // size, -(-high // size))
        for low, high, size in zip(start, stop, block, strict=True)
    ]
    for index in product(*ranges):
        corner = [i * size for i, size in zip(index, block, strict=True)]
        low = [max(a, b) for a, b in zip(start, corner, strict=True)]
        high = [min(a, b + size) for a, b, size in zip(stop, corner, block, strict=True)]
        inside = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
        outside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        yield index, inside, outside


_HEADER = 16
_STORED = struct.Struct("<12xI")


class CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]  # it has no types
    """Blosc of zarr v2, which refuses data that are shorter than they declare."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk.

        Raises
        ------
        ValueError
            If it ends before the length in its header.
        """
        data = memoryview(buf).cast("B")
        stored = _STORED.unpack_from(data)[0] if len(data) >= _HEADER else _HEADER
        if not _HEADER <= stored <= len(data):
            raise ValueError(f"it holds {len(data)} of {stored} bytes")
        return super().decode(buf, out)


class CheckedBloscCodec(BloscCodec):
    """The same of zarr v3."""

    @cached_property
    def _blosc_codec(self) -> Any:
        return _checked_v2(super()._blosc_codec)


def with_checked_codecs(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Give the same array, which decodes its chunks with `CheckedBlosc` where it has Blosc."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        checked = replace(metadata, compressor=_checked_v2(metadata.compressor))
    else:
        checked = replace(metadata, codecs=tuple(map(_checked, metadata.codecs)))
    inner = array.async_array
    return zarr.Array(type(inner)(checked, inner.store_path, inner.config))


def _checked_v2(codec: Any) -> Any:
    if isinstance(codec, numcodecs.Blosc):
        return CheckedBlosc(**{k: v for k, v in codec.get_config().items() if k != "id"})
    return codec


def _checked(codec: Any) -> Any:
    if isinstance(codec, BloscCodec):
        return CheckedBloscCodec.from_dict(codec.to_dict())
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_checked, codec.codecs)))
    return codec


_LARGE = 16 * 2**20
"""Bytes above which a chunk that is absent is not filled in memory."""


class ZarrPixels:
    """Read windows of an array, in its own axes and the machine's byte order.

    Threads share it. A pickled copy opens the array again where it is, with an empty cache.

    Parameters
    ----------
    array : zarr.Array
        Numbers on a regular grid of chunks.
    label : str
        What an error calls the array.
    plane : tuple of int
        The dimensions that are Y and X.
    """

    def __init__(self, array: zarr.Array[Any], label: str, plane: tuple[int, int]) -> None:
        self.label = label
        self.dtype = array.dtype.newbyteorder("=")
        self.cache = TileCache()
        self.block = block_shape(
            array.shape, array.chunks, array.shards, plane, array.dtype.itemsize
        )
        self._array: zarr.Array[Any] | None = with_checked_codecs(array)
        self._files = tuple(array.shards or array.chunks)

    def read(self, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill `out`, which has all dimensions of the array, with the window at `start`."""
        stop = [a + n for a, n in zip(start, out.shape, strict=True)]
        for index, inside, outside in overlapping(start, stop, self.block):
            block = self._decoded(index)
            out[outside] = block[inside] if block.ndim else block

    def blocks(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], Callable[[], NDArray[Any]]]]:
        """Give the index of each block that a window touches, and what decodes it whole."""
        array = self.array
        for index, _, _ in overlapping(start, stop, self.block):
            yield index, partial(self.cache.count, partial(self._decode, array, index))

    def close(self) -> None:
        """Forget the array and every block."""
        self._array = None
        self.cache.clear()

    @property
    def array(self) -> zarr.Array[Any]:
        """The array itself.

        Raises
        ------
        ValueError
            If the stack was closed.
        """
        if self._array is None:
            raise ValueError(f"{self.label}: the stack is closed; open the file again.")
        return self._array

    @property
    def folder(self) -> Path | None:
        """The folder of the array's chunks, None if it is not on a disk."""
        store = self.array.store
        return Path(store.root) / self.array.path if isinstance(store, LocalStore) else None

    def _decoded(self, index: tuple[int, ...]) -> NDArray[Any]:
        array = self.array
        return self.cache.get(index, lambda: self._decode(array, index))

    def _decode(self, array: zarr.Array[Any], index: tuple[int, ...]) -> NDArray[Any]:
        """Decode a block; one value, without dimensions, stands for a large absent chunk."""
        low = [i * size for i, size in zip(index, self.block, strict=True)]
        high = [min(a + b, n) for a, b, n in zip(low, self.block, array.shape, strict=True)]
        absent = prod(self.block) * self.dtype.itemsize > _LARGE and self._is_absent(low)
        if absent:
            high = [a + 1 for a in low]
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        try:
            pixels = np.asarray(array[window]).astype(self.dtype, copy=False)
        except Exception as error:  # each codec fails in its own way
            raise self._damaged(array, window, error) from error
        return pixels.reshape(()) if absent else pixels

    def _is_absent(self, corner: Sequence[int]) -> bool:
        folder = self.folder
        return folder is not None and not (folder / self._key(corner)).exists()

    def _key(self, corner: Sequence[int]) -> str:
        """Name the chunk file that holds a pixel."""
        number = tuple(i // size for i, size in zip(corner, self._files, strict=True))
        return str(self.array.metadata.encode_chunk_key(number))

    def _damaged(
        self, array: zarr.Array[Any], window: tuple[slice, ...], error: Exception
    ) -> UnreadableFileError:
        """Name the first chunk of the block that can't be decoded on its own."""
        starts = [range(w.start, w.stop, n) for w, n in zip(window, array.chunks, strict=True)]
        corner = next(
            (c for c in product(*starts) if not _decodes(array, c)), [w.start for w in window]
        )
        return UnreadableFileError(
            f"{self.label}: chunk {self._key(corner)} can't be decoded: {reason(error)}. "
            f"Copy or export the image again."
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["cache"] = self.cache.limit
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.cache = TileCache(state["cache"] or DEFAULT_LIMIT)
        if self._array is not None:  # zarr pickles a shard's codecs by their names
            self._array = with_checked_codecs(self._array)


def _decodes(array: zarr.Array[Any], pixel: Sequence[int]) -> bool:
    try:
        array[tuple(slice(i, i + 1) for i in pixel)]
    except Exception:  # which chunk it is is all that is asked here
        return False
    return True
