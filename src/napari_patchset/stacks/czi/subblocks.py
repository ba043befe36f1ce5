"""Single subblocks: their own headers are checked, then their pixels decoded.

A subblock repeats its directory entry. The two are compared before any data is decoded, as one
flipped bit in the size of a compressed tile makes a decoder read or write beyond its memory.
Subblocks are decoded one by one, because libCZI decodes every subblock that meets a rectangle,
again for each rectangle: in a mosaic whose tiles overlap, several times each.
"""

import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile, OpenFiles, take_memory
from napari_patchset.stacks.czi.compression import COMPRESSIONS, UNCOMPRESSED, DataError
from napari_patchset.stacks.czi.directory import DIMENSION, PLANE_AXES, Subblocks

_HEAD = struct.Struct("<16sqqiiq2siqii6xi")
"""Segment id, allocated, used; metadata, attachment and data size; the directory entry again."""

_FIXED_PART = 256
_SEGMENT_HEAD = 32
_ENTRY_AT, _ENTRY = 16, 32

_READ_AHEAD = 4096
"""Bytes that hold a header, most often ZEN's notes on the subblock, and the head of its data."""

_N_THREADS = 16

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


def check_all(files: Mapping[int, CziFile], blocks: Subblocks, spans: Spans) -> None:
    """Check every subblock and fill in its span, many at once.

    Slow storage answers late, but in parallel.

    Raises
    ------
    UnreadableFileError
        See `check_subblock`; for the first faulty one.
    """
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
    """Check that a subblock agrees with the directory, and return the span of its data.

    Raises
    ------
    UnreadableFileError
        Naming the fault, the subblock's position and the remedy.
    """
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


_Dimension = tuple[bytes, int, int, float, int]
"""A `DIMENSION`: axis, start, size, coordinate, stored size."""


def _check_dimensions(entry: bytes, blocks: Subblocks, row: int) -> None:
    """Compare start and stored size along each axis with the directory's."""
    x, y = blocks.rect[row, :2].tolist()
    width, height = blocks.stored[row].tolist()
    planes = dict(zip(PLANE_AXES, blocks.plane[row].tolist(), strict=True))
    expected = {**planes, "S": int(blocks.scene[row]), "X": x, "Y": y}
    starts, stored = {"S": -1}, {"X": 0, "Y": 0}
    for name, start, size, _, on_disk in cast(
        "list[_Dimension]", np.frombuffer(entry, DIMENSION).tolist()
    ):
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
        self._blocks = blocks
        self._spans = spans
        self._files = OpenFiles(file.path for file in self._parts.values())

    def decode(self, row: int) -> NDArray[Any]:
        """Decode a subblock.

        Returns
        -------
        ndarray
            YX for grey pixels, YXC with C in the order R, G, B for colour.

        Raises
        ------
        UnreadableFileError
            If the subblock is damaged, naming it.
        """
        span = self._check(row)
        path = self._file(row).path
        tile = self._blocks.tile_format(row)
        decode = COMPRESSIONS[int(self._blocks.compression[row])].decode
        if decode is None:
            stored = take_memory(tile.nbytes)
            self._files.read_into(path, span.position, stored)
            return tile.pixels(stored)
        try:
            return decode(self._files.read(path, *span), tile)
        except DataError as error:
            raise _unreadable(path, self._blocks, row, error) from error

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _file(self, row: int) -> CziFile:
        return self._parts[int(self._blocks.part[row])]

    def _check(self, row: int) -> DataSpan:
        """Check a subblock's header, once, and return where its data lie."""
        span = DataSpan(*self._spans[row].tolist())
        if not span.position:
            file = self._file(row)

            def read(position: int, length: int) -> bytes:
                left = max(file.size - position, 0)
                return self._files.read(file.path, position, min(length, left))

            span = check_subblock(read, file, self._blocks, row)
            self._spans[row] = span
        return span
