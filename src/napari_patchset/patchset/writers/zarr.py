"""zarr: one zarr v3 group per set, with an array for each split and role.

A shard (see `patchset.sharding`) has one patch per chunk. It is assembled in memory, written whole,
and mapped for reading.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.files import check_inside, write_file
from napari_patchset.patchset.layout import ARRAY_PATTERN, ATTRIBUTE, SUFFIX, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, SetIdentity
from napari_patchset.patchset.sharding import CHECKSUM_BYTES, CODECS, Codec, encode_index
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.stacks.cache import SharedCache


class ZarrSet(SetFormat):
    """Arrays of shards, which are mapped for reading."""

    suffix: ClassVar[str] = SUFFIX
    shard_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<array>{ARRAY_PATTERN})/c/(?P<number>0|[1-9][0-9]*)(/0)+"
    )

    def shard_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Return the shard's file."""
        return [shard_path(root, array, shard)]

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a shard."""
        write_shard(shard_path(root, array, shard), array, patches)

    def metadata_files(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> dict[Path, dict[str, Any]]:
        """Return every zarr.json; the root's is the last, with all others consolidated in it."""
        nodes: dict[str, dict[str, Any]] = {}
        for array in arrays:
            nodes[array.split] = _group_metadata({})
            nodes[array.name] = _array_metadata(array)
        consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
        of_root = _group_metadata({ATTRIBUTE: attributes})
        of_root["consolidated_metadata"] = consolidated
        contents = {**nodes, "": of_root}
        return {root / name / "zarr.json": content for name, content in contents.items()}

    def open(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> "MappedShards":
        """Open an array; a shard is mapped when its first patch is read."""
        return MappedShards(root, array, identity)


def shard_path(root: Path, array: ArrayLayout, shard: int) -> Path:
    """Return the file of a shard in the set at `root`."""
    return root.joinpath(array.name, "c", str(shard), *"0" * len(array.patch_shape))


def _array_metadata(array: ArrayLayout) -> dict[str, Any]:
    dtype, codec = array.pixel_type, CODECS[array.codec]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = [{"name": "blosc", "configuration": codec.configuration(dtype)}] if codec else []
    sharding = {
        "chunk_shape": [1, *array.patch_shape],
        "codecs": [little, *blosc],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    zeros = {"b": False, "c": [0.0, 0.0]}
    grid = {"chunk_shape": [array.patches_per_shard, *array.patch_shape]}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": zeros.get(dtype.kind, 0),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {"channels": list(array.channels), "pixel_size_um": array.scale},
        "dimension_names": list(array.axes.lower()),
    }


def _group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def write_shard(path: Path, array: ArrayLayout, patches: NDArray[Any]) -> None:
    """Write a shard of an array atomically: patches N, C, (Z), Y, X, contiguous."""
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    codec = CODECS[array.codec]
    if codec is None:
        chunks = [little.reshape(-1).view(np.uint8).data]
        lengths = [array.patch_bytes] * len(little)
    else:
        # As bytes, not pixels: shards of a set have the bytes that version 0.1 wrote.
        chunks = [memoryview(codec.encode(patch.reshape(-1).view(np.uint8))) for patch in little]
        lengths = [len(chunk) for chunk in chunks]
    write_file(path, [*chunks, encode_index(lengths, array.patches_per_shard)])


def checksums(patches: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the crc32c of each patch's pixels in little-endian order."""
    little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
    return np.fromiter(map(google_crc32c.value, little), np.uint32, len(little))


def open_shard(path: Path, array: ArrayLayout, n: int) -> "NDArray[Any] | CompressedShard":
    """Map a shard of `n` patches for reading; an index returns a patch.

    Raise UnreadableFileError if the file is not what `write_shard` writes for that array.
    """
    codec = CODECS[array.codec]
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    if codec is not None:
        return CompressedShard(path, data, array, n, codec)
    index = encode_index([array.patch_bytes] * n, array.patches_per_shard)
    end = n * array.patch_bytes
    if len(data) != end + len(index) or data[end:].tobytes() != index:
        raise _wrong_length(path, data, n)
    little = array.pixel_type.newbyteorder("<")
    return np.asarray(data[:end]).view(little).reshape(n, *array.patch_shape)


class CompressedShard:
    """Patches that are decompressed one by one; their lengths are checked at opening."""

    def __init__(
        self, path: Path, data: NDArray[np.uint8], array: ArrayLayout, n: int, codec: Codec
    ) -> None:
        size = array.patches_per_shard * 16
        start = len(data) - size - CHECKSUM_BYTES
        lengths = data[max(start, 0) :][:size].view("<u8").reshape(-1, 2)[:n, 1].tolist()
        index = encode_index(lengths, array.patches_per_shard) if start >= 0 else b""
        if start < 0 or sum(lengths) != start or data[start:].tobytes() != index:
            raise _wrong_length(path, data, n)
        self._path, self._codec, self._data = path, codec, np.asarray(data)
        self._shape, self._dtype = array.patch_shape, array.pixel_type.newbyteorder("<")
        self._ends = [0, *accumulate(lengths)]

    def __getitem__(self, row: int) -> NDArray[Any]:
        patch = np.empty(self._shape, self._dtype)
        data = self._data[self._ends[row] : self._ends[row + 1]].tobytes()
        try:
            self._codec.decode(data, patch)
        except UnreadableFileError as error:
            raise _damaged(self._path, f"patch {row} can't be decompressed: {error}") from error
        return patch


def _wrong_length(path: Path, data: NDArray[np.uint8], n: int) -> UnreadableFileError:
    return _damaged(path, f"{len(data)} bytes, or an index, that do not fit its {n} patches")


def _damaged(path: Path, what: str) -> UnreadableFileError:
    return UnreadableFileError(f"{path}: damaged: {what}; {REMEDY}.")


_MAPPED_SHARDS = 128
"""Each mapped shard takes a file descriptor; a process often has no more than 1024."""


class MappedShards:
    """The shards of an array; the most recently used ones stay mapped."""

    def __init__(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> None:
        self._root, self._array = root, array
        self._identity = identity
        self._mapped: SharedCache[int, NDArray[Any] | CompressedShard] = SharedCache(_MAPPED_SHARDS)

    def read(self, index: int) -> NDArray[Any]:
        """Return one patch C(Z)YX, without a codec a part of the map."""
        number, row = divmod(index, self._array.patches_per_shard)
        shard = self._mapped.get(number, partial(self._map, number))
        patch: NDArray[Any] = shard[row]
        return patch

    def close(self) -> None:
        """Unmap every shard."""
        self._mapped.clear()

    def _map(self, number: int) -> NDArray[Any] | CompressedShard:
        path = shard_path(self._root, self._array, number)
        with self._identity.checked():
            check_inside(self._root, path)
            return open_shard(path, self._array, len(self._array.rows(number)))
