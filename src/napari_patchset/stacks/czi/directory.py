"""Read a CZI's own structure: its header, its subblock directory, its XML. No pixels, no libCZI.

Offsets and fields follow the ZISRAW (CZI) file format specification, "DV" schema.

Refuse, before libCZI sees it, a CZI that libCZI can't read or that would make it crash or hang.

libCZI trusts the sizes and types in the directory; a corrupt one ends the process.
"""

import os
import struct
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError

PLANE_AXES = "TZRIHVBC"
"""Every axis of a plane: the ones that merge into S in their order, then C."""

_SEGMENT = struct.Struct("<16sqq")
_HEADER = struct.Struct("<4i32siqqiq")
_ENTRY = np.dtype(
    [("schema", "S2"), ("pixel_type", "<i4"), ("position", "<i8"), ("part", "<i4"),
     ("compression", "<i4"), ("pyramid", "u1"), ("spare", "S5"), ("n_dimensions", "<i4")]
)  # fmt: skip
DIMENSION = np.dtype(
    [("axis", "S4"), ("start", "<i4"), ("size", "<i4"), ("origin", "<f4"), ("stored", "<i4")]
)
_FILE_HEAD = 1024
_DIRECTORY_HEAD = 128
_AT_ONCE = 2**16
"""Bytes of a read: most often a whole directory, or all of the XML."""

_A_ROW = 8
"""Entries of one length, one after the other, after which as many more are expected."""

_METADATA_HEAD = 256


@dataclass(frozen=True, slots=True)
class Subblocks:
    """The subblock directory as columns, one row a subblock (a tile of a plane, or of a pyramid).

    `rect` is x, y, w, h in level-0 pixels on the stage; `stored` the width and height on disk;
    `plane` the index along each of `PLANE_AXES`, 0 where a subblock does not name the axis;
    `axes` the ones that some subblock names. `scene` is -1 where there is none.
    """

    position: NDArray[np.int64]
    part: NDArray[np.int32]
    pixel_type: NDArray[np.int32]
    compression: NDArray[np.int32]
    rect: NDArray[np.int64]
    stored: NDArray[np.int64]
    plane: NDArray[np.int32]
    scene: NDArray[np.int32]
    m_index: NDArray[np.int32]
    n_dimensions: NDArray[np.int32]
    axes: str

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, slots=True)
class CziDirectory:
    """What a CZI says of itself before a pixel is read."""

    subblocks: Subblocks
    xml: bytes
    file_size: int


def is_czi(head: bytes) -> bool:
    """Whether a file begins as a CZI does."""
    return head.startswith(b"ZISRAWFILE")


def read_directory(path: Path) -> CziDirectory:
    """Read the structure of a CZI file.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError
        As the system says it.
    UnreadableFileError
        If the file is no CZI, or a part that it announces is not there.
    """
    with path.open("rb", 0) as raw, BufferedReader(raw, _AT_ONCE) as file:
        file_size = os.fstat(file.fileno()).st_size
        start = BytesIO(raw.read(_FILE_HEAD))
        header = _segment(start, path, 0, "ZISRAWFILE", file_size)[: _HEADER.size]
        if len(header) < _HEADER.size:
            raise UnreadableFileError(f"{path}: the file ends within its header; copy it again.")
        fields = _HEADER.unpack(header)
        file_part, directory_at, metadata_at = fields[5:8]
        if file_part:
            raise UnreadableFileError(
                f"{path}: this is part {file_part} of a CZI in several files; "
                "save it as one file in ZEN."
            )
        entries = _segment(file, path, directory_at, "ZISRAWDIRECTORY", file_size)
        xml = _read_xml(file, path, metadata_at, file_size) if metadata_at else b""
    return CziDirectory(_parse_entries(entries, path), xml, file_size)


def _name(head: bytes) -> str:
    return head[:16].rstrip(b"\0").decode("ascii", "backslashreplace")


def _segment(file: BinaryIO, path: Path, position: int, kind: str, file_size: int) -> bytes:
    """Read the data of the segment at a position, and refuse any other kind of segment."""
    head = b""
    if 0 <= position <= file_size - _SEGMENT.size:
        file.seek(position)
        head = file.read(_SEGMENT.size)
    if _name(head) != kind:
        if kind == "ZISRAWFILE":
            file.seek(0)
            raise UnreadableFileError(
                f"{path}: not a CZI file: it begins with {_name(file.read(16))!r}, not {kind!r}."
            )
        raise UnreadableFileError(
            f"{path}: damaged or cut short: no {kind} at byte {position} of {file_size}; "
            "copy the file again."
        )
    _, allocated, used = _SEGMENT.unpack(head)
    size = used or allocated
    if not 0 <= size <= file_size - position - _SEGMENT.size:
        raise UnreadableFileError(
            f"{path}: damaged or cut short: {kind} of {size} bytes at byte {position} "
            f"of {file_size}; copy the file again."
        )
    return file.read(size)


def _read_xml(file: BinaryIO, path: Path, position: int, file_size: int) -> bytes:
    data = _segment(file, path, position, "ZISRAWMETADATA", file_size)
    (size,) = struct.unpack_from("<i", data) if len(data) >= 4 else (0,)
    return data[_METADATA_HEAD : _METADATA_HEAD + max(size, 0)]


def _parse_entries(data: bytes, path: Path) -> Subblocks:
    """Parse the entries, which differ in length by the number of their dimensions."""
    count = struct.unpack_from("<i", data)[0] if len(data) >= _DIRECTORY_HEAD else 0
    offsets = _entry_offsets(data, count, path)
    raw = np.frombuffer(data, np.uint8)
    heads = _gather(raw, offsets, _ENTRY.itemsize).view(_ENTRY)[:, 0]
    table = _DimensionTable(len(offsets))
    for n in distinct(heads["n_dimensions"]).tolist():
        rows = np.flatnonzero(heads["n_dimensions"] == n)
        dims = _gather(raw, offsets[rows] + _ENTRY.itemsize, n * DIMENSION.itemsize)
        table.fill(rows, dims.view(DIMENSION))
    return table.subblocks(heads)


def _entry_offsets(data: bytes, count: int, path: Path) -> NDArray[np.int64]:
    """Find each entry by the length of the one before; alike ones in a row are looked at at once.

    Those of a slide come in few long rows: tiles, then its pyramid.
    """
    offsets: list[int] = []
    position, before, in_a_row = _DIRECTORY_HEAD, 0, 0
    while len(offsets) < count:
        n = _count_dimensions(data, position)
        if not n:
            raise UnreadableFileError(
                f"{path}: damaged: entry {len(offsets)} of {count} in the subblock directory "
                "can't be read; copy the file again, or save it anew in ZEN."
            )
        in_a_row = in_a_row if n == before else 0
        ahead = min(in_a_row, count - len(offsets)) if in_a_row >= _A_ROW else 1
        alike, size = _count_alike(data, position, n, ahead), _entry_size(n)
        offsets.extend(range(position, position + alike * size, size))
        position, before, in_a_row = position + alike * size, n, in_a_row + alike
    return np.array(offsets, np.int64)


def _entry_size(n_dimensions: int) -> int:
    return _ENTRY.itemsize + n_dimensions * DIMENSION.itemsize


def _count_dimensions(data: bytes, position: int) -> int:
    """Give the number of dimensions of an entry, 0 if it is none or reaches past the end."""
    fits = position + _ENTRY.itemsize <= len(data) and data[position : position + 2] == b"DV"
    n = int.from_bytes(data[position + 28 : position + 32], "little") if fits else 0
    return n if 0 < n <= 40 and position + _entry_size(n) <= len(data) else 0


def _count_alike(data: bytes, position: int, n: int, most: int) -> int:
    """Count the entries from a sound one of `n` dimensions on that are as sound and as long."""
    size = _entry_size(n)
    fit = min(most, (len(data) - position) // size)
    if fit == 1:
        return 1
    heads = np.ndarray((fit,), _ENTRY, data, position, (size,))
    alike = (heads["schema"] == b"DV") & (heads["n_dimensions"] == n)
    return fit if alike.all() else int(np.argmin(alike))


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Give the different values in order, sorting only where there are several."""
    first = values[:1]
    return first if (values == first).all() else np.unique(values)


def _gather(raw: NDArray[np.uint8], offsets: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    if not len(offsets):
        return np.empty((0, size), np.uint8)
    return sliding_window_view(raw, size)[offsets]


class _DimensionTable:
    """Collect the dimensions of all entries into columns."""

    def __init__(self, n: int) -> None:
        self.start = {axis: np.zeros(n, np.int32) for axis in f"{PLANE_AXES}XYM"}
        self.start["S"] = np.full(n, -1, np.int32)
        self.size = {axis: np.zeros((n, 2), np.int64) for axis in "XY"}
        self.named: set[str] = set()

    def fill(self, rows: NDArray[np.int64], dims: NDArray[np.void]) -> None:
        for column in dims.T:
            names = distinct(column["axis"])
            for name in names:
                mine = slice(None) if len(names) == 1 else column["axis"] == name
                self._fill_axis(name.decode("latin-1"), rows[mine], column[mine])

    def _fill_axis(self, axis: str, rows: NDArray[np.int64], column: NDArray[np.void]) -> None:
        if axis not in self.start:
            return
        self.named.add(axis)
        self.start[axis][rows] = column["start"]
        if axis in self.size:
            size, stored = column["size"], column["stored"]
            self.size[axis][rows, 0] = size
            self.size[axis][rows, 1] = np.where(stored, stored, size)

    def subblocks(self, heads: NDArray[np.void]) -> Subblocks:
        start, size = self.start, self.size
        return Subblocks(
            position=heads["position"],
            part=heads["part"],
            pixel_type=heads["pixel_type"],
            compression=heads["compression"],
            rect=_columns(start["X"], start["Y"], size["X"][:, 0], size["Y"][:, 0]),
            stored=_columns(size["X"][:, 1], size["Y"][:, 1]),
            plane=_columns(*(start[axis] for axis in PLANE_AXES)),
            scene=start["S"],
            m_index=start["M"],
            n_dimensions=heads["n_dimensions"],
            axes="".join(axis for axis in PLANE_AXES if axis in self.named),
        )


def _columns(*columns: NDArray[Any]) -> NDArray[Any]:
    """Put columns beside each other, each in one piece: it is along them that all is computed."""
    return np.stack(columns).T


PIXEL_TYPES: dict[int, tuple[str, np.dtype[np.generic], int]] = {
    0: ("Gray8", np.dtype(np.uint8), 1),
    1: ("Gray16", np.dtype(np.uint16), 1),
    2: ("Gray32Float", np.dtype(np.float32), 1),
    3: ("Bgr24", np.dtype(np.uint8), 3),
    4: ("Bgr48", np.dtype(np.uint16), 3),
    8: ("Bgr96Float", np.dtype(np.float32), 3),
}
"""By libCZI's number: its name, the dtype of a component, the number of components."""

UNCOMPRESSED = 0
COMPRESSIONS = {UNCOMPRESSED: "uncompressed", 4: "JPEG XR", 5: "zstd0", 6: "zstd1"}

MAX_COORDINATE = 2**30
MAX_TILE_BYTES = 2**31
MAX_PLANES_PER_SUBBLOCK = 1000
"""An axis or a plane count beyond this is a corrupt number: libCZI would loop over all of it."""


def check_structure(directory: CziDirectory, path: Path) -> None:
    """Check that each subblock lies in the file and is of a kind that can be read.

    Raises
    ------
    UnreadableFileError
        With the first fault found: its kind, its value and what to do.
    """
    blocks = directory.subblocks
    if not len(blocks):
        raise UnreadableFileError(f"{path}: the file holds no image (no subblocks).")
    _refuse(path, blocks, blocks.part != 0, _OTHER_PART, blocks.part)
    _refuse(path, blocks, ~np.isin(blocks.pixel_type, list(PIXEL_TYPES)), _TYPE, blocks.pixel_type)
    unknown = ~np.isin(blocks.compression, list(COMPRESSIONS))
    _refuse(path, blocks, unknown, _COMPRESSION, blocks.compression)
    _check_plane_count(path, blocks)
    area = _checked_areas(path, blocks)
    if not (blocks.rect[:, 2:] == blocks.stored).all(axis=1).any():
        raise UnreadableFileError(
            f"{path}: none of its {len(blocks)} subblocks is at full resolution; the file is "
            "damaged, copy it again."
        )
    needed = np.where(blocks.compression == UNCOMPRESSED, area, 1)
    starts, ends = blocks.position, blocks.position + needed
    outside = (starts < 0) | (np.maximum(starts, ends) > directory.file_size)
    _refuse(path, blocks, outside, _CUT, blocks.position)


_OTHER_PART = "lies in part {value} of a CZI in several files; save it as one file in ZEN"
_TYPE = "has pixel type {value}, which libCZI can't decode; convert it in ZEN to 8 or 16 bit"
_COMPRESSION = "has compression {value}, which libCZI can't read; save it as zstd in ZEN"
_SIZE = "has an impossible size ({value}); the file is damaged, copy it again"
_CUT = "at byte {value} reaches past the end of the file; it was cut short, copy it again"


def _check_plane_count(path: Path, blocks: Subblocks) -> None:
    spans = blocks.plane.max(axis=0).astype(int) - blocks.plane.min(axis=0) + 1
    limit = MAX_PLANES_PER_SUBBLOCK * max(len(blocks), 10)
    if prod(spans.tolist()) > limit:
        extents = ", ".join(f"{a} {n}" for a, n in zip(PLANE_AXES, spans, strict=True) if n > 1)
        raise UnreadableFileError(
            f"{path}: the directory of {len(blocks)} subblocks claims {extents}; "
            "the file is damaged, copy it again."
        )


def _checked_areas(path: Path, blocks: Subblocks) -> NDArray[np.int64]:
    """Give the bytes of each decoded subblock, having refused sizes that no image has."""
    sizes = np.concatenate([blocks.rect[:, 2:], blocks.stored], axis=1)
    far = np.abs(blocks.rect[:, :2]) > MAX_COORDINATE
    wild = np.concatenate([sizes < 1, sizes > MAX_COORDINATE, far], axis=1)
    _refuse(path, blocks, np.any(wild, axis=1), _SIZE, sizes)
    bytes_by_kind = np.zeros(max(PIXEL_TYPES) + 1, np.int64)
    for kind, (_, dtype, n) in PIXEL_TYPES.items():
        bytes_by_kind[kind] = dtype.itemsize * n
    bytes_each, stored = bytes_by_kind[blocks.pixel_type], blocks.stored
    huge = stored[:, 0] > MAX_TILE_BYTES // (stored[:, 1] * bytes_each)
    _refuse(path, blocks, huge, _SIZE, sizes)
    return stored[:, 0] * stored[:, 1] * bytes_each


def _refuse(
    path: Path,
    blocks: Subblocks,
    faulty: NDArray[np.bool_],
    what: str,
    values: NDArray[np.int32] | NDArray[np.int64],
) -> None:
    if faulty.any():
        row = int(np.argmax(faulty))
        fault = what.format(value=values[row].tolist())
        raise UnreadableFileError(f"{path}: subblock {row} of {len(blocks)} {fault}.")
