"""Check one subblock's own header before libCZI decodes it: libCZI trusts the sizes in there.

A flipped bit in the size of a compressed tile makes libCZI read or write beyond its memory.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi.check import PIXEL_TYPES, UNCOMPRESSED
from napari_patchset.stacks.czi.directory import Subblocks

ZSTD0, ZSTD1 = 5, 6

_HEAD = struct.Struct("<16sqqiiq2siqii")
"""Segment id, allocated, used; metadata, attachment and data size; the entry's first fields."""
_FIXED_PART = 256
_SEGMENT_HEAD = 32
_ENTRY_AT, _ENTRY, _DIMENSION = 16, 32, 20
_ZSTD_HEAD = 32
_ZSTD_MAGIC = 0xFD2FB528.to_bytes(4, "little")
_SPLIT_BYTES = b"\x03\x01"
_ZSTD1_OPTIONS = {b"\x01": b"\x01", b"\x03": _SPLIT_BYTES}
"""By the length of CZI's own header: how it begins. A third byte says whether bytes are split."""
_BGR48 = 4


def check_subblocks(path: Path, blocks: Subblocks, rows: Iterable[int], file_size: int) -> None:
    """Check that subblocks are what the directory says, and that their data have its size.

    Raises
    ------
    UnreadableFileError
        With the first fault, the subblock's position and what to do.
    """
    with path.open("rb") as file:
        for row in rows:
            if fault := _fault(file, blocks, row, file_size):
                raise UnreadableFileError(
                    f"{path}: subblock {row} of {len(blocks)} at byte {blocks.position[row]} "
                    f"{fault}; the file is damaged or of a kind that can't be read: copy it "
                    "again, or save it anew in ZEN."
                )


def _fault(file: BinaryIO, blocks: Subblocks, row: int, file_size: int) -> str:
    position = int(blocks.position[row])
    file.seek(position)
    head = file.read(_HEAD.size)
    fault, data_at, size = _header_fault(head, blocks, row, file_size - position)
    if fault or blocks.compression[row] not in (ZSTD0, ZSTD1):
        return fault
    file.seek(position + data_at)
    return _zstd_fault(file.read(min(size, _ZSTD_HEAD)), blocks, row)


def _header_fault(head: bytes, blocks: Subblocks, row: int, room: int) -> tuple[str, int, int]:
    """Give what is wrong with a subblock's header, where its data begin and how long they are."""
    if len(head) < _HEAD.size:
        return "is cut short", 0, 0
    name, _, _, n_metadata, n_attachment, size, _, pixel_type, _, _, compression = _HEAD.unpack(
        head
    )
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK":
        return f"begins with {name[:14]!r}", 0, 0
    if (pixel_type, compression) != (blocks.pixel_type[row], blocks.compression[row]):
        return "is of another type than the directory says", 0, 0
    n_dimensions = int(blocks.n_dimensions[row])
    fixed = max(_FIXED_PART, _ENTRY_AT + _ENTRY + _DIMENSION * n_dimensions)
    data_at = _SEGMENT_HEAD + fixed + max(n_metadata, 0)
    if min(n_metadata, n_attachment, size) < 0 or data_at + size > room:
        return f"claims {size} bytes of data where {max(room - data_at, 0)} are left", 0, 0
    if compression == UNCOMPRESSED and size < decoded_bytes(blocks, row):
        return f"holds {size} of {decoded_bytes(blocks, row)} bytes", 0, 0
    return "", data_at, size


def decoded_bytes(blocks: Subblocks, row: int) -> int:
    """Give the size of a subblock's pixels."""
    _, dtype, components = PIXEL_TYPES[int(blocks.pixel_type[row])]
    width, height = blocks.stored[row].tolist()
    return int(width * height * components * dtype.itemsize)


def _zstd_fault(data: bytes, blocks: Subblocks, row: int) -> str:
    """Say what is wrong with the head of zstd data: CZI's own, then the frame's (RFC 8878)."""
    if blocks.compression[row] == ZSTD1:
        options = _ZSTD1_OPTIONS.get(data[:1])
        if options is None or not data.startswith(options):
            return f"has an unknown zstd header {data[:3]!r}"
        if options == _SPLIT_BYTES and data[2] & 1 and blocks.pixel_type[row] == _BGR48:
            # libCZI leaves bytes of such pixels uninitialised.
            return "is 16-bit colour with its bytes split, which libCZI decodes wrongly"
        data = data[data[0] :]
    if not data.startswith(_ZSTD_MAGIC):
        return "is no zstd data"
    content, expected = _zstd_content_size(data), decoded_bytes(blocks, row)
    return "" if content in (None, expected) else f"decodes to {content} bytes, not {expected}"


def _zstd_content_size(frame: bytes) -> int | None:
    """Read the decoded size in a zstd frame's header, None where it does not say."""
    if len(frame) < 6:
        return None
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    at = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(frame[at : at + length], "little") + (256 if length == 2 else 0)
