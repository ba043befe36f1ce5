"""The structure of a CZI file: header, subblock directory and XML, read without libCZI.

Offsets and fields follow the ZISRAW (CZI) file format specification, schema "DV". What the
directory claims is checked in `subblocks`.
"""

import os
import struct
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi.compression import TileFormat

PLANE_AXES = "TZRIHVBC"
"""The axes that number a plane: those that may merge into S, in that order, then C."""


class PixelType(NamedTuple):
    """A pixel type: its name, the dtype of a component, the number of components."""

    name: str
    dtype: np.dtype[np.generic]
    components: int


BGR48, BGR96_FLOAT, GRAY32, GRAY64_FLOAT = 4, 8, 12, 13
PIXEL_TYPES: dict[int, PixelType] = {
    0: PixelType("Gray8", np.dtype(np.uint8), 1),
    1: PixelType("Gray16", np.dtype(np.uint16), 1),
    2: PixelType("Gray32Float", np.dtype(np.float32), 1),
    3: PixelType("Bgr24", np.dtype(np.uint8), 3),
    BGR48: PixelType("Bgr48", np.dtype(np.uint16), 3),
    BGR96_FLOAT: PixelType("Bgr96Float", np.dtype(np.float32), 3),
    GRAY32: PixelType("Gray32", np.dtype(np.int32), 1),
    GRAY64_FLOAT: PixelType("Gray64Float", np.dtype(np.float64), 1),
}
"""The pixel types that can be read, by their number in the file."""

_SEGMENT = struct.Struct("<16sqq")
_HEADER = struct.Struct("<16x16s16xiqq")
"""The master's GUID, the file's number, where its directory and its XML begin."""
_ENTRY = np.dtype(
    [("schema", "S2"), ("pixel_type", "<i4"), ("position", "<i8"), ("part", "<i4"),
     ("compression", "<i4"), ("pyramid", "u1"), ("spare", "S5"), ("n_dimensions", "<i4")]
)  # fmt: skip
DIMENSION = np.dtype(
    [("axis", "S4"), ("start", "<i4"), ("size", "<i4"), ("origin", "<f4"), ("stored", "<i4")]
)
_FILE_HEAD = 1024
_DIRECTORY_HEAD = 128
_SUBBLOCK_ENTRY_AT, _SUBBLOCK_HEAD = 16, 1024
"""Offset of the entry in a subblock, and bytes that hold it with all of its dimensions."""
_METADATA_HEAD = 256

_READ_BYTES = 2**16
"""Bytes of a read: most often a whole directory, or all of the XML."""

_RUN_LENGTH = 8
"""After this many consecutive entries of one length, as many more are expected."""


@dataclass(frozen=True, slots=True)
class Subblocks:
    """The subblock directory as columns: a row for each subblock, a tile or one of a pyramid."""

    position: NDArray[np.int64]
    """Byte of the file at which the subblock's segment begins."""
    part: NDArray[np.int32]
    """The number of the file that it lies in, 0 in a CZI of one file; -1 if that is absent."""
    pixel_type: NDArray[np.int32]
    compression: NDArray[np.int32]
    """Keys of `PIXEL_TYPES` and `COMPRESSIONS`."""
    rect: NDArray[np.int64]
    """Of shape (n, 4): x, y, width and height on the stage, in pixels of full resolution."""
    stored: NDArray[np.int64]
    """Of shape (n, 2): Width and height in stored pixels."""
    plane: NDArray[np.int32]
    """Of shape (n, 8): Index along each of `PLANE_AXES`, in the file's numbering; 0 along one that
    is not named."""
    scene: NDArray[np.int32]
    """Id of the scene, -1 if none."""
    m_index: NDArray[np.int32]
    """Order in which overlapping tiles lie on each other, the highest on top."""
    n_dimensions: NDArray[np.int32]
    """Number of dimensions that the entry names."""
    axes: str
    """Those of `PLANE_AXES` that some subblock names."""

    def __len__(self) -> int:
        return len(self.position)

    def at_full_resolution(self) -> NDArray[np.bool_]:
        """Return a mask of the subblocks that are tiles of the image, not of its pyramid."""
        width, height = self.rect[:, 2:].T
        mask: NDArray[np.bool_] = (width == self.stored[:, 0]) & (height == self.stored[:, 1])
        return mask

    def tile_format(self, row: int) -> TileFormat:
        """Return the decoded form of a subblock."""
        _, dtype, components = PIXEL_TYPES[int(self.pixel_type[row])]
        width, height = self.stored[row].tolist()
        return TileFormat(height, width, dtype, components)


class FileHeader(NamedTuple):
    """The header of a file."""

    master_guid: bytes
    """Of the master of a CZI in several files."""
    part: int
    """The file's number, 0 for the master and for a CZI in one file."""
    directory_at: int
    metadata_at: int
    """Where its directory and its XML begin; 0 if it has none."""


class CziDirectory(NamedTuple):
    """One file before a pixel is read: header, subblocks, metadata XML, size in bytes."""

    header: FileHeader
    subblocks: Subblocks
    xml: bytes
    file_size: int


def is_czi(head: bytes) -> bool:
    """Return whether a file begins as a CZI does."""
    return head.startswith(b"ZISRAWFILE")


def read_header(path: Path) -> FileHeader:
    """Read the header of a CZI file."""
    with path.open("rb", 0) as file:
        return _header(file, path, os.fstat(file.fileno()).st_size)


def _header(raw: BinaryIO, path: Path, file_size: int) -> FileHeader:
    start = BytesIO(raw.read(_FILE_HEAD))
    data = _segment(start, path, 0, "ZISRAWFILE", file_size)[: _HEADER.size]
    if len(data) < _HEADER.size:
        raise UnreadableFileError(f"{path}: the file ends within its header; copy it again.")
    return FileHeader(*_HEADER.unpack(data))


def read_directory(path: Path) -> CziDirectory:
    """Read the structure of one CZI file, which must have the segments that it refers to."""
    with path.open("rb", 0) as raw, BufferedReader(raw, _READ_BYTES) as file:
        file_size = os.fstat(file.fileno()).st_size
        header = _header(raw, path, file_size)
        if header.part and not header.directory_at:
            blocks = _scan_subblocks(file, path, file_size)
        else:
            entries = _segment(file, path, header.directory_at, "ZISRAWDIRECTORY", file_size)
            blocks = _parse_entries(entries, path)
        xml = b""
        if header.metadata_at:
            data = _segment(file, path, header.metadata_at, "ZISRAWMETADATA", file_size)
            (size,) = struct.unpack_from("<i", data) if len(data) >= 4 else (0,)
            xml = data[_METADATA_HEAD : _METADATA_HEAD + max(size, 0)]
    return CziDirectory(header, blocks, xml, file_size)


def _scan_subblocks(file: BinaryIO, path: Path, file_size: int) -> Subblocks:
    """Collect the entries of subblocks one by one, in a part that has no directory."""
    entries, position = list[bytes](), 0
    while 0 <= position <= file_size - _SEGMENT.size:
        file.seek(position)
        head = file.read(_SEGMENT.size + _SUBBLOCK_HEAD)
        name, allocated, _ = _SEGMENT.unpack_from(head)
        if not name.startswith(b"ZISRAW") or allocated < 0:
            break
        if name.rstrip(b"\0") == b"ZISRAWSUBBLOCK":
            entry = head[_SEGMENT.size + _SUBBLOCK_ENTRY_AT :]
            size = _entry_size(_count_dimensions(entry, 0)) if len(entry) >= _ENTRY.itemsize else 0
            entries.append(entry[:6] + struct.pack("<q", position) + entry[14:size])
        position += _SEGMENT.size + allocated
    head = struct.pack("<i", len(entries)).ljust(_DIRECTORY_HEAD, b"\0")
    return _parse_entries(head + b"".join(entries), path)


def _name(head: bytes) -> str:
    return head[:16].rstrip(b"\0").decode("ascii", "backslashreplace")


def _segment(file: BinaryIO, path: Path, position: int, kind: str, file_size: int) -> bytes:
    """Read the data of a segment; refuse one of another kind or beyond the end of the file."""
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


def _parse_entries(data: bytes, path: Path) -> Subblocks:
    """Parse the entries, whose lengths depend on the number of their dimensions."""
    count = struct.unpack_from("<i", data)[0] if len(data) >= _DIRECTORY_HEAD else 0
    offsets = _entry_offsets(data, count, path)
    raw = np.frombuffer(data, np.uint8)
    heads = _gather(raw, offsets, _ENTRY.itemsize).view(_ENTRY)[:, 0]
    count = len(offsets)
    start = {axis: np.zeros(count, np.int32) for axis in f"{PLANE_AXES}XYM"}
    start["S"] = np.full(count, -1, np.int32)
    size, stored = ({axis: np.zeros(count, np.int64) for axis in "XY"} for _ in range(2))
    named = set[str]()
    for n in distinct(heads["n_dimensions"]).tolist():
        rows = np.flatnonzero(heads["n_dimensions"] == n)
        dims = _gather(raw, offsets[rows] + _ENTRY.itemsize, n * DIMENSION.itemsize)
        for column in dims.view(DIMENSION).T:
            for code in (codes := distinct(column["axis"])):
                mine = slice(None) if len(codes) == 1 else column["axis"] == code
                axis = code.decode("latin-1")
                if axis in start:
                    named.add(axis)
                    start[axis][rows[mine]] = column["start"][mine]
                if axis in size:
                    in_file = column["stored"][mine]
                    size[axis][rows[mine]] = column["size"][mine]
                    stored[axis][rows[mine]] = np.where(in_file, in_file, column["size"][mine])
    return Subblocks(
        position=heads["position"],
        part=heads["part"],
        pixel_type=heads["pixel_type"],
        compression=heads["compression"],
        rect=_columns(start["X"], start["Y"], size["X"], size["Y"]),
        stored=_columns(stored["X"], stored["Y"]),
        plane=_columns(*(start[axis] for axis in PLANE_AXES)),
        scene=start["S"],
        m_index=start["M"],
        n_dimensions=heads["n_dimensions"],
        axes="".join(axis for axis in PLANE_AXES if axis in named),
    )


def _entry_offsets(data: bytes, count: int, path: Path) -> NDArray[np.int64]:
    """Find each entry by the length of the one before.

    A run of equal lengths is found at once: those of a slide form few, its tiles, then its pyramid.
    """
    offsets: list[int] = []
    position, last_n, run = _DIRECTORY_HEAD, 0, 0
    while len(offsets) < count:
        n = _count_dimensions(data, position)
        if not n:
            raise UnreadableFileError(
                f"{path}: damaged: entry {len(offsets)} of {count} in the subblock directory "
                "can't be read; copy the file again, or save it again in ZEN."
            )
        run, size, equal = run if n == last_n else 0, _entry_size(n), 1
        if run >= _RUN_LENGTH:
            equal = min(run, count - len(offsets), (len(data) - position) // size)
            heads = np.ndarray((equal,), _ENTRY, data, position, (size,))
            same = (heads["schema"] == b"DV") & (heads["n_dimensions"] == n)
            equal = equal if same.all() else int(np.argmin(same))
        offsets.extend(range(position, position + equal * size, size))
        position, last_n, run = position + equal * size, n, run + equal
    return np.array(offsets, np.int64)


def _entry_size(n_dimensions: int) -> int:
    return _ENTRY.itemsize + n_dimensions * DIMENSION.itemsize


def _count_dimensions(data: bytes, position: int) -> int:
    """Return the number of dimensions of an entry, 0 if it is invalid or past the end."""
    fits = position + _ENTRY.itemsize <= len(data) and data[position : position + 2] == b"DV"
    n = int.from_bytes(data[position + 28 : position + 32], "little") if fits else 0
    return n if 0 < n <= 40 and position + _entry_size(n) <= len(data) else 0


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values in ascending order; fast if there is only one."""
    first = values[:1]
    return first if (values == first).all() else np.unique(values)


def _gather(raw: NDArray[np.uint8], offsets: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    if not len(offsets):
        return np.empty((0, size), np.uint8)
    return sliding_window_view(raw, size)[offsets]


def _columns(*columns: NDArray[Any]) -> NDArray[Any]:
    """Join columns, each contiguous in memory, since computations run along them."""
    return np.stack(columns).T
