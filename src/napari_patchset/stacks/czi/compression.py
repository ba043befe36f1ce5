"""How the pixels of a subblock are compressed: what can be read, and zstd itself.

Raw and zstd data are decoded in this process, all else by libCZI in a helper process. A further
compression is an entry of `COMPRESSIONS`; if decoded in this process, one of `DECODED_HERE` too and
a case of `decompress`, and of `check_data` if its data declare sizes that a decoder trusts.
"""

from typing import cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.cache import take_memory

UNCOMPRESSED, JPEG_XR, ZSTD0, ZSTD1 = 0, 4, 5, 6
COMPRESSIONS = {UNCOMPRESSED: "uncompressed", JPEG_XR: "JPEG XR", ZSTD0: "zstd0", ZSTD1: "zstd1"}
"""The compressions that can be read, by their number in the file."""

DECODED_HERE = frozenset((UNCOMPRESSED, ZSTD0, ZSTD1))

HEAD_BYTES = {ZSTD0: 32, ZSTD1: 32}
"""How much of the stored data `check_data` needs, by compression; nothing of others."""

_ZSTD_MAGIC = 0xFD2FB528.to_bytes(4, "little")
_HILO = b"\x03\x01"
"""Begins a zstd1 header of 3 bytes; the last one tells whether high and low bytes are split."""
_ZSTD1_HEADERS = {b"\x01": b"\x01", b"\x03": _HILO}
"""What a zstd1 header begins with, by its first byte, which is its length."""


class DataError(Exception):
    """A fault of a subblock, as the rest of the sentence "The subblock ..."."""


def check_data(compression: int, head: bytes, n_bytes: int) -> None:
    """Check the first bytes of stored data, whose sizes a decoder would trust.

    Parameters
    ----------
    compression : int
        A key of `COMPRESSIONS`.
    head : bytes
        The first `HEAD_BYTES` of the data; the compression is one of these.
    n_bytes : int
        Bytes of the decoded pixels.

    Raises
    ------
    DataError
        If the data do not begin as they must, or declare another size.
    """
    if compression == ZSTD1:
        expected = _ZSTD1_HEADERS.get(head[:1])
        if expected is None or not head.startswith(expected):
            raise DataError(f"has an unknown zstd header {head[:3]!r}")
        head = head[head[0] :]
    if not head.startswith(_ZSTD_MAGIC):
        raise DataError("is no zstd data")
    if (size := _zstd_content_size(head)) not in (None, n_bytes):
        raise DataError(f"decodes to {size} bytes, not {n_bytes}")


def decompress(compression: int, data: bytes, pixels: NDArray[np.uint8]) -> None:
    """Decompress zstd data that `check_data` accepts into the bytes of the pixels.

    Raises
    ------
    DataError
        If they can't be decoded, or not to as many bytes.
    """
    frame = memoryview(data)
    if compression == ZSTD0:
        _decode_zstd(frame, pixels)
    elif data.startswith(_HILO) and data[2] & 1:
        halves = take_memory(len(pixels))
        _decode_zstd(frame[data[0] :], halves)
        _join_bytes(halves, pixels)
    else:
        _decode_zstd(frame[data[0] :], pixels)


def _decode_zstd(frame: memoryview, out: NDArray[np.uint8]) -> None:
    try:
        # The stubs before imagecodecs 2026.10 accept bytes only; any buffer works.
        n = len(imagecodecs.zstd_decode(cast("bytes", frame), out=out.data))
    except imagecodecs.ZstdError as error:
        raise DataError(f"has zstd data that can't be decoded: {error}") from error
    if n != len(out):
        raise DataError(f"decodes to {n} bytes, not {len(out)}")


def _zstd_content_size(frame: bytes) -> int | None:
    """Read the decoded size in a zstd frame's header (RFC 8878, 3.1.1.1), None if it has none."""
    if len(frame) < 6:
        return None
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def _join_bytes(halves: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """Undo the split of 16-bit pixels into all low bytes, then all high bytes."""
    low, high = halves.reshape(2, -1)
    joined = pixels.view("<u2")
    np.multiply(high, np.uint16(256), out=joined)
    np.add(joined, low, out=joined)
