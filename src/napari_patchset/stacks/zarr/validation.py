"""Refuse damaged and hostile arrays before their pixels are decoded.

Checked are the sizes that the metadata declares, then a sample of the chunk files on disk: raw,
Blosc and LZ4 chunks and the indices of shards have a known length. Blosc is also checked whenever a
chunk is decoded, as it reads past the end of a buffer that is shorter than its header says.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, ShardingCodec

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import refuse_special_file
from napari_patchset.stacks.zarr.store import NUMBER_KINDS

_MAX_CHUNK_BYTES = 2 * 2**30
"""Of a decoded chunk, which is in memory as a whole; Blosc can't write a larger one."""

_MAX_CHANNELS = 2**14

_CHECKED_CHUNKS = 256
"""Chunk files checked when an array is opened: each takes 1 ms on a network drive."""

_MAX_INDEX_BYTES = 2**20
_ABSENT = np.uint64(2**64 - 1)
_BLOSC_HEADER = struct.Struct("<4x3I")
"""Bytes of the decoded data, of a block and of the stored data, after versions and flags."""

ChunkCheck = Callable[[BinaryIO, int], str | None]
"""Check of a chunk file of a number of bytes: returns the problem, None if there is none."""


def check_array(array: zarr.Array[Any], name: str) -> None:
    """Refuse an array whose pixels are no numbers, or whose chunks differ or are too large."""
    if array.dtype.kind not in NUMBER_KINDS:
        raise UnreadableFileError(
            f"{name}: pixels of type {array.dtype} can't be read; it must be a number type."
        )
    if prod(array.shape) >= 2**63 or min(array.shape) < 1:
        raise UnreadableFileError(f"{name}: no file holds an array of shape {array.shape}.")
    try:
        chunks = tuple(array.chunks)
    except NotImplementedError as error:
        raise UnreadableFileError(
            f"{name}: its chunks differ in size, which can't be read; write equal ones."
        ) from error
    if array.shards and min(array.shards) < 1:
        raise UnreadableFileError(f"{name}: shards of {array.shards} hold no pixels.")
    size = prod(chunks) * array.dtype.itemsize
    if size > _MAX_CHUNK_BYTES or min(chunks) < 1:
        raise UnreadableFileError(
            f"{name}: chunks of {chunks} take {size / 2**30:.1f} GiB each; at most "
            f"{_MAX_CHUNK_BYTES / 2**30:.0f} GiB can be decoded. Write it with smaller chunks."
        )


def check_channels(n: int, name: str) -> None:
    """Refuse more channels than can be named and shown: metadata may declare any number."""
    if n > _MAX_CHANNELS:
        raise UnreadableFileError(
            f"{name}: it has {n} channels; at most {_MAX_CHANNELS} can be read. "
            "Name another axis C, or none."
        )


def check_chunks(array: zarr.Array[Any], folder: Path, name: str) -> None:
    """Check that some chunk files, if they are there, are as long as they should be."""
    check = _chunk_check(array)
    if check is None:
        return
    for key in sampled_keys(array, _CHECKED_CHUNKS):
        try:
            refuse_special_file(folder / key, (folder / key).stat().st_mode)
            with (folder / key).open("rb") as file:
                problem = check(file, os.fstat(file.fileno()).st_size)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if problem:
            raise UnreadableFileError(
                f"{name}: chunk {key} {problem}. Copy or export the image again."
            )


def sampled_keys(array: zarr.Array[Any], limit: int) -> Iterator[str]:
    """Yield the keys of at most `limit` chunk files, spread evenly over the array."""
    sizes = array.shards or array.chunks
    grid = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    count = prod(grid)
    for i in range(min(count, limit)):
        number = np.unravel_index(count * i // min(count, limit), grid)
        yield array.metadata.encode_chunk_key(tuple(map(int, number)))


def _chunk_check(array: zarr.Array[Any]) -> ChunkCheck | None:
    """Return the check that fits the array's codecs, None if there is none."""
    if array.shards:
        return _shard_check(array)
    chunk_bytes = prod(array.chunks) * array.dtype.itemsize
    doc: dict[str, Any] = dict(array.metadata.to_dict())
    if array.metadata.zarr_format == 2:
        codecs = [*(doc.get("filters") or ()), doc.get("compressor")]
        names = [str(codec["id"]) for codec in codecs if isinstance(codec, dict)]
    else:
        names = [str(codec["name"]) for codec in doc["codecs"]]
    names = [name for name in names if name not in ("bytes", "transpose")]
    if names in ([], ["crc32c"]):
        expected = chunk_bytes + 4 * len(names)
        return lambda _, size: (
            None if size == expected else f"holds {size} bytes instead of {expected}"
        )
    if names == ["lz4"]:
        return lambda file, size: _lz4_problem(file, chunk_bytes)
    if names == ["blosc"]:
        return lambda file, size: _blosc_problem(file, size, chunk_bytes)
    return None


def _blosc_problem(file: BinaryIO, size: int, chunk_bytes: int) -> str | None:
    header = file.read(_BLOSC_HEADER.size)
    if len(header) < _BLOSC_HEADER.size:
        return f"is cut off after {size} bytes"
    decoded, _, stored = _BLOSC_HEADER.unpack(header)
    if stored > size:
        return f"is cut off: it holds {size} of {stored} bytes"
    if decoded != chunk_bytes:
        return f"would decode to {decoded} bytes instead of {chunk_bytes}"
    return None


def _lz4_problem(file: BinaryIO, chunk_bytes: int) -> str | None:
    """Check the size that numcodecs writes before the data, and allocates on decoding."""
    decoded = int.from_bytes(file.read(4), "little")
    return None if decoded == chunk_bytes else f"would decode to {decoded} bytes, not {chunk_bytes}"


def _shard_check(array: zarr.Array[Any]) -> ChunkCheck | None:
    """Return a check of shard indices, uncompressed and with or without checksum.

    Layout: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
    """
    doc: dict[str, Any] = dict(array.metadata.to_dict())
    config = doc["codecs"][-1]["configuration"]
    names = [codec["name"] for codec in config["index_codecs"]]
    pairs = zip(array.shards or (), array.chunks, strict=True)
    size = 16 * prod(shard // chunk for shard, chunk in pairs)
    if names not in (["bytes"], ["bytes", "crc32c"]) or size > _MAX_INDEX_BYTES:
        return None
    at_end, checksum = config.get("index_location", "end") == "end", 4 * (len(names) - 1)

    def check(file: BinaryIO, stored: int) -> str | None:
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

    return check


class CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]  # it has no types
    """Blosc of zarr v2 that refuses data shorter than its header declares."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk; ValueError if it ends before the length in its header."""
        data, size = memoryview(buf).cast("B"), _BLOSC_HEADER.size
        stored = _BLOSC_HEADER.unpack_from(data)[2] if len(data) >= size else size
        if not size <= stored <= len(data):
            raise ValueError(f"it holds {len(data)} of {stored} bytes")
        return super().decode(buf, out)


class CheckedBloscCodec(BloscCodec):
    """The same for zarr v3."""

    @cached_property
    def _blosc_codec(self) -> Any:
        return _checked_v2(super()._blosc_codec)


def with_checked_codecs(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return the same array, decoding Blosc with `CheckedBlosc`."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        checked = replace(metadata, compressor=_checked_v2(metadata.compressor))
    else:
        checked = replace(metadata, codecs=tuple(map(_checked_v3, metadata.codecs)))
    inner = array.async_array
    return zarr.Array(type(inner)(checked, inner.store_path, inner.config))


def _checked_v2(codec: Any) -> Any:
    if isinstance(codec, numcodecs.Blosc):
        return CheckedBlosc(**{k: v for k, v in codec.get_config().items() if k != "id"})
    return codec


def _checked_v3(codec: Any) -> Any:
    if isinstance(codec, BloscCodec):
        return CheckedBloscCodec.from_dict(codec.to_dict())
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_checked_v3, codec.codecs)))
    return codec
