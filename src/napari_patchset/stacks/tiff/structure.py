"""Look at a TIFF's directories before tifffile does: it follows circles and drops bad tags."""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from napari_patchset.errors import UnreadableFileError

REMEDY = "The file is damaged or was cut short; copy it or export it again."

_AT_ONCE = 2**16
"""Bytes of a read: writers put many directories near to each other."""

_MOST_ENTRIES = 4096
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_ITEM_BYTES |= {16: 8, 17: 8, 18: 8}
_ESSENTIAL = {
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    270: "ImageDescription",
    273: "StripOffsets",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    284: "PlanarConfiguration",
    317: "Predictor",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
    330: "SubIFDs",
    339: "SampleFormat",
    347: "JPEGTables",
}
"""Tags without which the image would be read otherwise than it was written."""


class _Flavour(NamedTuple):
    """How a kind of TIFF writes its numbers."""

    length: struct.Struct
    """Number of entries of a directory."""
    entry: struct.Struct
    """Tag, type, number of items, and the value or its offset."""
    offset: struct.Struct


def _flavour(order: str, formats: tuple[str, str, str]) -> _Flavour:
    return _Flavour(*(struct.Struct(order + code) for code in formats))


_CLASSIC, _BIG = ("H", "HHI4s", "I"), ("Q", "HHQ8s", "Q")
_FLAVOURS = {
    b"II*\0": _flavour("<", _CLASSIC),
    b"MM\0*": _flavour(">", _CLASSIC),
    b"II+\0": _flavour("<", _BIG),
    b"MM\0+": _flavour(">", _BIG),
}


def is_tiff(head: bytes) -> bool:
    """Return whether the first bytes of a file are a classic or big TIFF's, of any byte order."""
    return head[:4] in _FLAVOURS


def check_structure(path: Path) -> None:
    """Follow the chain of directories to its end and check the first one's tags.

    Raises
    ------
    UnreadableFileError
        If the file is no TIFF, if a directory or an essential tag lies outside of the file or is
        there twice, or if the chain runs in a circle.
    """
    with path.open("rb", _AT_ONCE) as file:
        head = file.read(4)
        if head not in _FLAVOURS:
            raise UnreadableFileError(f"{path}: not a TIFF file; it begins with {head!r}.")
        # An NDPI keeps the high half of every offset elsewhere; tifffile goes by the suffix too.
        if path.suffix.lower() != ".ndpi":
            _Directories(file, path, _FLAVOURS[head]).check()


class _Directories:
    """The chain of directories, one for each page."""

    def __init__(self, file: BinaryIO, path: Path, flavour: _Flavour) -> None:
        self.file = file
        self.path = path
        self.flavour = flavour
        self.size = file.seek(0, 2)

    def check(self) -> None:
        offset = self._first()
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise self._damaged(f"its pages run in a circle at byte {offset}")
            seen.add(offset)
            entries, following = self._read(offset, len(seen) - 1)
            if len(seen) == 1:
                self._check_tags(entries)
            offset = following
        if not seen:
            raise self._damaged("it holds no page")

    def _first(self) -> int:
        self.file.seek(8 if self.flavour.offset.size == 8 else 4)
        head = self.file.read(self.flavour.offset.size)
        if len(head) < self.flavour.offset.size:
            raise self._damaged(f"it ends after {self.size} bytes, within the header")
        return int(self.flavour.offset.unpack(head)[0])

    def _read(self, offset: int, page: int) -> tuple[bytes, int]:
        """Give a directory's entries and the offset of the next one, 0 after the last."""
        count_format, entry_format, offset_format = self.flavour
        if offset + count_format.size > self.size:
            raise self._damaged(f"page {page} is said to be at byte {offset} of {self.size}")
        self.file.seek(offset)
        (count,) = count_format.unpack(self.file.read(count_format.size))
        if not 0 < count <= _MOST_ENTRIES:
            raise self._damaged(f"page {page} has {count} tags, not 1 to {_MOST_ENTRIES}")
        length = count * entry_format.size
        data = self.file.read(length + offset_format.size)
        if len(data) < length:
            raise self._damaged(f"the file ends within the tags of page {page}")
        # Some writers leave out the zero after the last directory of a file.
        following = data[length:].ljust(offset_format.size, b"\0")
        return data[:length], int(offset_format.unpack(following)[0])

    def _check_tags(self, entries: bytes) -> None:
        seen: set[int] = set()
        for tag, kind, count, value in self.flavour.entry.iter_unpack(entries):
            if (name := _ESSENTIAL.get(tag)) is None:
                continue
            if tag in seen and name != "ImageDescription":
                raise self._damaged(f"the tag {name} is there twice")
            seen.add(tag)
            if kind not in _ITEM_BYTES:
                raise self._damaged(f"the tag {name} is of the unknown type {kind}")
            length = count * _ITEM_BYTES[kind]
            if length > len(value):
                (start,) = self.flavour.offset.unpack(value)
                if start + length > self.size:
                    raise self._damaged(f"the tag {name} reaches byte {start + length}")

    def _damaged(self, what: str) -> UnreadableFileError:
        return UnreadableFileError(f"{self.path}: {what}. {REMEDY}")
