"""zarr v3's codec "sharding_indexed": the chunks of a shard in one file, and where each lies.

A shard is its chunks one after the other, each as raw little-endian bytes or compressed by Blosc,
then the index of (offset, length) pairs, then the index's crc32c. See
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import google_crc32c
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError

CHECKSUM_BYTES = 4
"""Of an index, at its end."""

_ABSENT = 2**64 - 1
"""Offset and length of a chunk that is not there, which holds the fill value."""


@dataclass(frozen=True, slots=True)
class Codec:
    """zarr v3's "blosc" with bitshuffle: a compressor and its level."""

    compressor: str
    level: int

    def configuration(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Return the codec's configuration in a zarr.json."""
        return {
            "cname": self.compressor,
            "clevel": self.level,
            "shuffle": "bitshuffle",
            "typesize": dtype.itemsize,
            "blocksize": 0,
        }

    def encode(self, chunk: NDArray[Any]) -> bytes | bytearray | memoryview:
        """Compress a contiguous little-endian chunk; bits are shuffled by its item size."""
        return imagecodecs.blosc_encode(
            cast("bytes", chunk),  # as the stubs before imagecodecs 2026.10 want; any buffer works
            level=self.level,
            compressor=self.compressor,
            shuffle=2,  # bits
            typesize=chunk.dtype.itemsize,
            numthreads=1,  # the jobs have threads of their own, and the bytes must not depend on it
        )

    def decode(self, data: bytes, out: NDArray[Any]) -> None:
        """Decompress into a contiguous chunk; raise UnreadableFileError for damaged data."""
        flat = out.reshape(-1).view(np.uint8)
        try:
            nbytes = len(imagecodecs.blosc_decode(data, numthreads=1, out=flat.data))
        except imagecodecs.BloscError as error:
            raise UnreadableFileError(str(error)) from error
        if nbytes != flat.size:
            raise UnreadableFileError(f"{nbytes} bytes where a chunk has {flat.size}")


CodecName = Literal["none", "zstd", "lz4"]

CODECS: Mapping[CodecName, Codec | None] = {
    "none": None,
    "zstd": Codec("zstd", 1),
    "lz4": Codec("lz4", 5),
}
"""By the name that a plan uses; None stores chunks uncompressed, so that they can be mapped."""


def encode_index(lengths: Iterable[int], capacity: int) -> bytes:
    """Encode the index of a shard of `capacity` chunks.

    Parameters
    ----------
    lengths : iterable of int
        Bytes of each of the first chunks, in their order in the file; 0 for one that is not there.
    capacity : int
        Number of chunks; those after the last length are not there.
    """
    index = np.full((capacity, 2), _ABSENT, "<u8")
    sizes = np.fromiter(lengths, "<u8")
    index[: len(sizes), 0] = sizes.cumsum() - sizes
    index[: len(sizes), 1] = sizes
    index[: len(sizes)][sizes == 0] = _ABSENT
    data = index.tobytes()
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(CHECKSUM_BYTES, "little")
