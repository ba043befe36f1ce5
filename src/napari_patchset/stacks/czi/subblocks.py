"""Check a subblock's own header before it is decoded: libCZI trusts the sizes in there.

A flipped bit in the size of a compressed tile makes libCZI read or write beyond its memory.
"""

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile
from napari_patchset.stacks.czi.directory import (
    DIMENSION,
    PIXEL_TYPES,
    PLANE_AXES,
    UNCOMPRESSED,
    Subblocks,
)

ZSTD0, ZSTD1 = 5, 6

_HEAD = struct.Struct("<16sqqiiq2siqii6xi")
"""Segment id, allocated, used; metadata, attachment and data size; the directory entry again."""
_AHEAD = 4096
"""Bytes that hold a header, most often what ZEN notes of a subblock, and the head of its data."""
_AT_ONCE = 16
"""Headers that are read at once."""

_FIXED_PART = 256
_SEGMENT_HEAD = 32
_ENTRY_AT, _ENTRY = 16, 32
_ZSTD_HEAD = 32
_ZSTD_MAGIC = 0xFD2FB528.to_bytes(4, "little")
_SPLIT_BYTES = b"\x03\x01"
_ZSTD1_OPTIONS = {b"\x01": b"\x01", b"\x03": _SPLIT_BYTES}
"""By the length of CZI's own header: how it begins. A third byte says whether bytes are split."""


class SubblockData(NamedTuple):
    """Where a subblock's stored pixels begin in the file, and how many bytes they take."""

    position: int
    size: int


_Dimension = tuple[bytes, int, int, float, int]
"""A `DIMENSION`: axis, start, size, coordinate, size on disk."""

ReadBytes = Callable[[int, int], bytes]
"""Read from a position so many bytes, fewer at the file's end."""


class Located:
    """Where the data of those subblocks lie whose headers were checked; threads may share it."""

    def __init__(self, count: int) -> None:
        self._found = np.zeros((count, 2), np.int64)

    def get(self, row: int) -> SubblockData | None:
        """Give where a subblock's data lie, None if its header was not checked."""
        position, size = self._found[row].tolist()
        return SubblockData(position, size) if position else None

    def add(self, row: int, data: SubblockData) -> None:
        """Take down where a subblock's data lie."""
        self._found[row] = data


def locate_all(path: Path, blocks: Subblocks, file_size: int, located: Located) -> None:
    """Check every subblock; many are read at once, as a slow storage answers late but in parallel.

    Raises
    ------
    UnreadableFileError
        See `locate_data`; of the first one that is not what the directory says.
    """
    file, count = OpenFile(path), len(blocks)

    def locate(rows: range) -> None:
        for row in rows:
            found = locate_data(_ahead(file.read), path, blocks, row, file_size)
            located.add(row, found)

    share = -(-count // _AT_ONCE)
    with ThreadPoolExecutor(_AT_ONCE, "subblocks") as pool:
        shares = [range(i, min(i + share, count)) for i in range(0, count, share)]
        list(pool.map(locate, shares))  # for what they raise


def _ahead(read: ReadBytes) -> ReadBytes:
    """Read more than is asked for first, so that what is asked for next is there."""
    first, data = 0, b""

    def read_ahead(position: int, length: int) -> bytes:
        nonlocal first, data
        if not first <= position <= position + length <= first + len(data):
            first, data = position, read(position, max(length, _AHEAD))
        return data[position - first : position - first + length]

    return read_ahead


def locate_data(
    read: ReadBytes, path: Path, blocks: Subblocks, row: int, file_size: int
) -> SubblockData:
    """Check that a subblock is what the directory says, and find its data.

    Raises
    ------
    UnreadableFileError
        With the fault, the subblock's position and what to do.
    """
    position = int(blocks.position[row])
    n_dimensions = int(blocks.n_dimensions[row])
    head = read(position, _HEAD.size + n_dimensions * DIMENSION.itemsize)
    try:
        data_at, size = _find_data(head, blocks, row, file_size - position)
        if blocks.compression[row] in (ZSTD0, ZSTD1):
            _check_zstd(read(position + data_at, min(size, _ZSTD_HEAD)), blocks, row)
    except _Fault as fault:
        raise UnreadableFileError(
            f"{path}: subblock {row} of {len(blocks)} at byte {position} {fault}; the file is "
            "damaged or of a kind that can't be read: copy it again, or save it anew in ZEN."
        ) from None
    return SubblockData(position + data_at, size)


class _Fault(Exception):
    """What is wrong with a subblock, as the rest of a sentence."""


def _find_data(head: bytes, blocks: Subblocks, row: int, room: int) -> tuple[int, int]:
    """Check a subblock's header; give where in it its data begin, and how long they are."""
    _, _, _, n_metadata, n_attachment, size, *_ = _checked_head(head, blocks, row)
    _check_entry(head[_HEAD.size :], blocks, row)
    fixed = max(_FIXED_PART, _ENTRY_AT + _ENTRY + len(head) - _HEAD.size)
    data_at = _SEGMENT_HEAD + fixed + max(n_metadata, 0)
    if min(n_metadata, n_attachment, size) < 0 or data_at + size > room:
        raise _Fault(f"claims {size} bytes of data where {max(room - data_at, 0)} are left")
    expected = decoded_bytes(blocks, row)
    if blocks.compression[row] == UNCOMPRESSED and size < expected:
        raise _Fault(f"holds {size} of {expected} bytes")
    return data_at, size


def _checked_head(head: bytes, blocks: Subblocks, row: int) -> tuple[Any, ...]:
    n_dimensions = int(blocks.n_dimensions[row])
    if len(head) < _HEAD.size + n_dimensions * DIMENSION.itemsize:
        raise _Fault("is cut short")
    fields = _HEAD.unpack_from(head)
    name, (pixel_type, _, _, compression, dimensions) = fields[0], fields[-5:]
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK":
        raise _Fault(f"begins with {name[:14]!r}")
    said = pixel_type, compression, dimensions
    if said != (blocks.pixel_type[row], blocks.compression[row], n_dimensions):
        raise _Fault("is of another kind than the directory says")
    return fields


def _check_entry(entry: bytes, blocks: Subblocks, row: int) -> None:
    starts, stored = _dimensions(entry)
    if stored != tuple(blocks.stored[row].tolist()):
        raise _Fault("is of another size than the directory says")
    expected = _expected_starts(blocks, row)
    if any(expected.get(axis, start) != start for axis, start in starts.items()):
        raise _Fault("lies at another place or plane than the directory says")


def _dimensions(entry: bytes) -> tuple[dict[str, int], tuple[int, int]]:
    """Read the start along each axis, and the width and height on disk, out of an entry."""
    starts, stored = {"S": -1}, {"X": 0, "Y": 0}
    dimensions = cast("list[_Dimension]", np.frombuffer(entry, DIMENSION).tolist())
    for axis, start, size, _, on_disk in dimensions:
        name = axis.decode("latin-1")
        starts[name] = start
        stored[name] = on_disk or size
    return starts, (stored["X"], stored["Y"])


def _expected_starts(blocks: Subblocks, row: int) -> dict[str, int]:
    """Give the start along each axis as the directory has it."""
    x, y = blocks.rect[row, :2].tolist()
    planes = dict(zip(PLANE_AXES, blocks.plane[row].tolist(), strict=True))
    return {**planes, "S": int(blocks.scene[row]), "X": x, "Y": y}


def decoded_bytes(blocks: Subblocks, row: int) -> int:
    """Give the size of a subblock's pixels."""
    _, dtype, components = PIXEL_TYPES[int(blocks.pixel_type[row])]
    width, height = blocks.stored[row].tolist()
    return int(width * height * components * dtype.itemsize)


def zstd1_header_size(data: bytes) -> int:
    """Give the length of CZI's own header before the zstd frame."""
    return data[0]


def splits_bytes(data: bytes) -> bool:
    """Whether zstd1 data hold all low bytes before all high bytes of 16-bit pixels."""
    return data.startswith(_SPLIT_BYTES) and bool(data[2] & 1)


def _check_zstd(data: bytes, blocks: Subblocks, row: int) -> None:
    """Check the head of zstd data: CZI's own, then the frame's (RFC 8878)."""
    if blocks.compression[row] == ZSTD1:
        options = _ZSTD1_OPTIONS.get(data[:1])
        if options is None or not data.startswith(options):
            raise _Fault(f"has an unknown zstd header {data[:3]!r}")
        data = data[zstd1_header_size(data) :]
    if not data.startswith(_ZSTD_MAGIC):
        raise _Fault("is no zstd data")
    content, expected = _zstd_content_size(data), decoded_bytes(blocks, row)
    if content not in (None, expected):
        raise _Fault(f"decodes to {content} bytes, not {expected}")


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
