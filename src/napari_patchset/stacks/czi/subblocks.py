"""Subblocks: checked as the directory lists them, then each by its own header, and decoded.

libCZI trusts the sizes and types in the directory, and a corrupt one crashes it or makes it loop. A
subblock repeats its directory entry: the two are compared before any data is decoded, as one
flipped bit in the size of a compressed tile makes a decoder read or write beyond its memory.
Subblocks are decoded one by one, because libCZI decodes every subblock that meets a rectangle,
again for each rectangle.
"""

import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile, OpenFiles, take_memory
from napari_patchset.stacks.czi.compression import COMPRESSIONS, UNCOMPRESSED, DataError
from napari_patchset.stacks.czi.directory import DIMENSION, PIXEL_TYPES, PLANE_AXES, Subblocks

_HEAD = struct.Struct("<16sqqiiq2siqii6xi")
"""Segment id, allocated, used; metadata, attachment and data size; the directory entry again."""

_FIXED_PART = 256
_SEGMENT_HEAD = 32
_ENTRY_AT, _ENTRY = 16, 32

_READ_AHEAD = 4096
"""Bytes that hold a header, most often ZEN's notes on the subblock, and the head of its data."""

_N_THREADS = 16

_MAX_SIZE = 2**30
"""Pixels along an axis of a subblock."""
_MAX_EXTENT = 2**31
"""Pixels along an axis of the whole image."""
_MAX_TILE_BYTES = 2**31
_MAX_PLANES_PER_SUBBLOCK = 1000
"""More planes than this for each subblock are a corrupt number: libCZI would loop over them."""

ReadBytes = Callable[[int, int], bytes]
"""Function that reads a number of bytes from a position, fewer at the end of the file."""


class CziFile(NamedTuple):
    """A file with subblocks, and its size in bytes."""

    path: Path
    size: int


class DataSpan(NamedTuple):
    """Offset of a subblock's stored pixels in the file, and their number of bytes."""

    position: int
    size: int


Spans = NDArray[np.int64]
"""Of shape (n, 2): the span of each subblock, zeros until its header was checked."""


def check_structure(blocks: Subblocks, files: Mapping[int, CziFile], path: Path) -> None:
    """Check that each subblock lies in its file and is of a kind that can be read."""
    if not len(blocks):
        raise UnreadableFileError(f"{path}: the file contains no image (no subblocks).")
    _refuse(path, blocks, ~np.isin(blocks.pixel_type, list(PIXEL_TYPES)), _TYPE, blocks.pixel_type)
    unknown = ~np.isin(blocks.compression, list(COMPRESSIONS))
    _refuse(path, blocks, unknown, _COMPRESSION, blocks.compression)
    spans = blocks.plane.max(axis=0).astype(int) - blocks.plane.min(axis=0) + 1
    if prod(spans.tolist()) > _MAX_PLANES_PER_SUBBLOCK * max(len(blocks), 10):
        extents = ", ".join(f"{a} {n}" for a, n in zip(PLANE_AXES, spans, strict=True) if n > 1)
        raise UnreadableFileError(
            f"{path}: the directory of {len(blocks)} subblocks claims {extents}; "
            "the file is damaged, copy it again."
        )
    decoded_bytes = _decoded_bytes(path, blocks)
    if not blocks.at_full_resolution().any():
        raise UnreadableFileError(
            f"{path}: none of its {len(blocks)} subblocks is at full resolution; the file is "
            "damaged, copy it again."
        )
    needed = np.where(blocks.compression == UNCOMPRESSED, decoded_bytes, 1)
    starts, ends = blocks.position, blocks.position + needed
    for part, file in files.items():
        outside = (starts < 0) | (np.maximum(starts, ends) > file.size)
        _refuse(path, blocks, outside & (blocks.part == part), _CUT, blocks.position)


_TYPE = "has pixel type {value}, which can't be read; convert it in ZEN to 8 or 16 bit"
_COMPRESSION = (
    "has compression {value}; only "
    f"{', '.join(each.name for each in COMPRESSIONS.values())} can be read, save it as zstd in ZEN"
)
_SIZE = "has an impossible size ({value}); the file is damaged, copy it again"
_CUT = "at byte {value} reaches past the end of the file; it was cut short, copy it again"


def _decoded_bytes(path: Path, blocks: Subblocks) -> NDArray[np.int64]:
    """Return the bytes of each decoded subblock; refuse sizes that no image has."""
    sizes = np.concatenate([blocks.rect[:, 2:], blocks.stored], axis=1)
    _refuse(path, blocks, np.any((sizes < 1) | (sizes > _MAX_SIZE), axis=1), _SIZE, sizes)
    starts = blocks.rect[:, :2]
    extent = (starts + blocks.rect[:, 2:]).max(axis=0) - starts.min(axis=0)
    if extent.max() > _MAX_EXTENT:
        width, height = extent.tolist()
        raise UnreadableFileError(
            f"{path}: its subblocks lie {width} x {height} px apart, an impossible size; the file "
            "is damaged, copy it again."
        )
    bytes_by_kind = np.zeros(max(PIXEL_TYPES) + 1, np.int64)
    for kind, pixel_type in PIXEL_TYPES.items():
        bytes_by_kind[kind] = pixel_type.dtype.itemsize * pixel_type.components
    bytes_each, stored = bytes_by_kind[blocks.pixel_type], blocks.stored
    huge = stored[:, 0] > _MAX_TILE_BYTES // (stored[:, 1] * bytes_each)
    _refuse(path, blocks, huge, _SIZE, sizes)
    return stored[:, 0] * stored[:, 1] * bytes_each


def _refuse(
    path: Path,
    blocks: Subblocks,
    faulty: NDArray[np.bool_],
    fault: str,
    values: NDArray[np.int32] | NDArray[np.int64],
) -> None:
    if faulty.any():
        row = int(np.argmax(faulty))
        text = fault.format(value=values[row].tolist())
        raise UnreadableFileError(f"{path}: subblock {row} of {len(blocks)} {text}.")


def check_all(files: Mapping[int, CziFile], blocks: Subblocks, spans: Spans) -> None:
    """Check every subblock and fill in its span, many at once: slow storage answers in parallel."""
    opened = {part: OpenFile(file.path) for part, file in files.items()}
    present = np.flatnonzero(blocks.part >= 0).tolist()

    def check(rows: list[int]) -> None:
        for row in rows:
            part = int(blocks.part[row])
            read = _buffered(opened[part].read)
            spans[row] = check_subblock(read, files[part], blocks, row)

    share = -(-len(present) // _N_THREADS)
    with ThreadPoolExecutor(_N_THREADS, "subblocks") as pool:
        shares = [present[i : i + share] for i in range(0, len(present), share)]
        list(pool.map(check, shares))  # raises what they raise


def _buffered(read: ReadBytes) -> ReadBytes:
    """Read ahead, so that header, notes and data head are most often one read."""
    first, data = 0, b""

    def read_ahead(position: int, length: int) -> bytes:
        nonlocal first, data
        if not first <= position <= position + length <= first + len(data):
            first, data = position, read(position, max(length, _READ_AHEAD))
        return data[position - first : position - first + length]

    return read_ahead


def check_subblock(read: ReadBytes, file: CziFile, blocks: Subblocks, row: int) -> DataSpan:
    """Check that a subblock agrees with the directory, and return the span of its data."""
    position = int(blocks.position[row])
    head = read(position, _HEAD.size + int(blocks.n_dimensions[row]) * DIMENSION.itemsize)
    try:
        start, size = _data_span(head, blocks, row, file.size - position)
        compression = COMPRESSIONS[int(blocks.compression[row])]
        if compression.head_bytes:
            data_head = read(position + start, min(size, compression.head_bytes))
            compression.check(data_head, blocks.tile_format(row))
    except DataError as error:
        raise _unreadable(file.path, blocks, row, error) from None
    return DataSpan(position + start, size)


def _unreadable(path: Path, blocks: Subblocks, row: int, error: DataError) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: subblock {row} of {len(blocks)} at byte {blocks.position[row]} {error}; the file "
        "is damaged or of a kind that can't be read: copy it again, or save it again in ZEN."
    )


def _data_span(head: bytes, blocks: Subblocks, row: int, left: int) -> tuple[int, int]:
    """Check a subblock's header; return where its data begin in it, and their size in bytes."""
    n_dimensions = int(blocks.n_dimensions[row])
    if len(head) < _HEAD.size + n_dimensions * DIMENSION.itemsize:
        raise DataError("is cut short")
    name, _, _, n_metadata, n_attachment, size, _, *entry = _HEAD.unpack_from(head)
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK":
        raise DataError(f"begins with {name[:14]!r}")
    pixel_type, _, _, compression, dimensions = entry
    kind = blocks.pixel_type[row], blocks.compression[row], n_dimensions
    if (pixel_type, compression, dimensions) != kind:
        raise DataError("is of another kind than the directory says")
    _check_dimensions(head[_HEAD.size :], blocks, row)
    fixed = max(_FIXED_PART, _ENTRY_AT + _ENTRY + len(head) - _HEAD.size)
    start = _SEGMENT_HEAD + fixed + max(n_metadata, 0)
    if min(n_metadata, n_attachment, size) < 0 or start + size > left:
        raise DataError(f"claims {size} bytes of data where {max(left - start, 0)} are left")
    expected = blocks.tile_format(row).nbytes
    if blocks.compression[row] == UNCOMPRESSED and size < expected:
        raise DataError(f"holds {size} of {expected} bytes")
    return start, size


def _check_dimensions(entry: bytes, blocks: Subblocks, row: int) -> None:
    """Compare start and stored size along each axis with the directory's."""
    x, y = blocks.rect[row, :2].tolist()
    width, height = blocks.stored[row].tolist()
    planes = dict(zip(PLANE_AXES, blocks.plane[row].tolist(), strict=True))
    expected = {**planes, "S": int(blocks.scene[row]), "X": x, "Y": y}
    starts, stored = {"S": -1}, {"X": 0, "Y": 0}
    dimensions: Any = np.frombuffer(entry, DIMENSION).tolist()
    for name, start, size, _, on_disk in dimensions:
        axis = name.decode("latin-1")
        starts[axis] = start
        stored[axis] = on_disk or size
    if (stored["X"], stored["Y"]) != (width, height):
        raise DataError("is of another size than the directory says")
    if any(expected.get(axis, start) != start for axis, start in starts.items()):
        raise DataError("lies at another position or plane than the directory says")


class SubblockDecoder:
    """Decoder of single subblocks; it opens a file at the first one in it.

    Threads and forked processes may share it, and it pickles.
    """

    def __init__(self, files: Mapping[int, CziFile], blocks: Subblocks, spans: Spans) -> None:
        self._parts = {n: file._replace(path=file.path.absolute()) for n, file in files.items()}
        self._blocks, self._spans = blocks, spans
        self._files = OpenFiles(file.path for file in self._parts.values())

    def decode(self, row: int) -> NDArray[Any]:
        """Decode a subblock to YX, or for colour to YXC with C in the order R, G, B."""
        span = self._checked_span(row)
        path = self._file(row).path
        tile = self._blocks.tile_format(row)
        compression = COMPRESSIONS[int(self._blocks.compression[row])]
        if compression.decode is None:
            stored = take_memory(tile.nbytes)
            self._files.read_into(path, span.position, stored)
            return tile.pixels(stored)
        try:
            data = self._files.read(path, *span)
            compression.check(data, tile)
            return compression.decode(data, tile)
        except DataError as error:
            raise _unreadable(path, self._blocks, row, error) from error

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _file(self, row: int) -> CziFile:
        return self._parts[int(self._blocks.part[row])]

    def _checked_span(self, row: int) -> DataSpan:
        span = DataSpan(*self._spans[row].tolist())
        if not span.position:
            file = self._file(row)

            def read(position: int, length: int) -> bytes:
                left = max(file.size - position, 0)
                return self._files.read(file.path, position, min(length, left))

            span = check_subblock(read, file, self._blocks, row)
            self._spans[row] = span
        return span
