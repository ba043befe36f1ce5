"""A TIFF's directories, checked before tifffile, which follows circles and drops bad tags."""

import struct
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from napari_patchset.errors import UnreadableFileError

COPY_AGAIN = "The file is damaged or was cut short; copy it or export it again."
USE_FROM_TIFF = "If you know the axes of its pages, read it with InMemoryImageStack.from_tiff."

_BUFFER_BYTES = 2**16
"""Of one read: writers put many directories close to each other."""

_MAX_TAGS = 4096
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_ESSENTIAL_TAGS = {
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
    """The binary layout of a directory, by classic or big TIFF and byte order."""

    tag_count: struct.Struct
    tag: struct.Struct
    """Code, type, number of items, and the value or its offset."""
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


class Loop(NamedTuple):
    """The link by which a chain of directories returns to one before."""

    start: int
    length: int
    """Where the link is in the file, in bytes."""
    n_pages: int
    """Number of pages up to it."""


class FileWithoutLoop(FileIO):
    """A TIFF in which the link that closes a circle reads as the end of the chain.

    tifffile follows circles.
    """

    def __init__(self, path: Path, loop: Loop) -> None:
        super().__init__(str(path.absolute()))
        self._loop = loop

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: D102, documented on FileIO
        start = self.tell()
        data = super().read(-1 if size is None else size) or b""
        first = max(self._loop.start - start, 0)
        last = min(self._loop.start + self._loop.length - start, len(data))
        return data if first >= last else data[:first] + bytes(last - first) + data[last:]

    def readinto(self, buffer: Any, /) -> int:  # noqa: D102, documented on FileIO
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def check_structure(path: Path) -> Loop | None:
    """Follow the chain of directories to its end and check the tags of the first one.

    Returns
    -------
    Loop or None
        Where the chain forms a circle, if it does.

    Raises
    ------
    UnreadableFileError
        If the file is not a TIFF, if a directory or an essential tag lies outside of the file, or
        if such a tag occurs twice.
    """
    with path.open("rb", _BUFFER_BYTES) as file:
        head = file.read(4)
        if head not in _FLAVOURS:
            raise UnreadableFileError(f"{path}: not a TIFF file; it begins with {head!r}.")
        # An NDPI stores the high half of every offset elsewhere; tifffile tells it by suffix too.
        if path.suffix.lower() == ".ndpi":
            return None
        return _DirectoryChain(file, path, _FLAVOURS[head]).check()


class _DirectoryChain:
    """The directories of a file, one for each page, each with the offset of the next."""

    def __init__(self, file: BinaryIO, path: Path, flavour: _Flavour) -> None:
        self.file = file
        self.path = path
        self.flavour = flavour
        self.size = file.seek(0, 2)
        self.link = 0
        """The position of the offset of the next directory."""

    def check(self) -> Loop | None:
        offset = self._first_offset()
        seen: set[int] = set()
        while offset:
            if offset in seen:
                return Loop(self.link, self.flavour.offset.size, len(seen))
            seen.add(offset)
            tags, next_offset = self._read(offset, page=len(seen) - 1)
            if len(seen) == 1:
                self._check_tags(tags)
            offset = next_offset
        if not seen:
            raise self._damaged("it has no page")
        return None

    def _first_offset(self) -> int:
        self.file.seek(8 if self.flavour.offset.size == 8 else 4)
        stored = self.file.read(self.flavour.offset.size)
        if len(stored) < self.flavour.offset.size:
            raise self._damaged(f"it ends after {self.size} bytes, within the header")
        return int(self.flavour.offset.unpack(stored)[0])

    def _read(self, offset: int, page: int) -> tuple[bytes, int]:
        """Return a directory's tags and the offset of the next one, 0 after the last."""
        if offset + self.flavour.tag_count.size > self.size:
            raise self._damaged(
                f"page {page} should begin at byte {offset}, but the file has {self.size} bytes"
            )
        self.file.seek(offset)
        (count,) = self.flavour.tag_count.unpack(self.file.read(self.flavour.tag_count.size))
        if not 0 < count <= _MAX_TAGS:
            raise self._damaged(f"page {page} has {count} tags, not 1 to {_MAX_TAGS}")
        length = count * self.flavour.tag.size
        self.link = offset + self.flavour.tag_count.size + length
        data = self.file.read(length + self.flavour.offset.size)
        if len(data) < length:
            raise self._damaged(f"the file ends within the tags of page {page}")
        # Some writers leave out the zero after the last directory of a file.
        next_offset = data[length:].ljust(self.flavour.offset.size, b"\0")
        return data[:length], int(self.flavour.offset.unpack(next_offset)[0])

    def _check_tags(self, tags: bytes) -> None:
        seen: set[int] = set()
        for code, kind, count, value in self.flavour.tag.iter_unpack(tags):
            if (name := _ESSENTIAL_TAGS.get(code)) is None:
                continue
            if code in seen and name != "ImageDescription":
                raise self._damaged(f"the tag {name} occurs twice")
            seen.add(code)
            if kind not in _TYPE_BYTES:
                raise self._damaged(f"the tag {name} is of the unknown type {kind}")
            length = count * _TYPE_BYTES[kind]
            if length > len(value):
                (start,) = self.flavour.offset.unpack(value)
                if start + length > self.size:
                    raise self._damaged(
                        f"the tag {name} ends at byte {start + length}, but the file has "
                        f"{self.size} bytes"
                    )

    def _damaged(self, problem: str) -> UnreadableFileError:
        return UnreadableFileError(f"{self.path}: {problem}. {COPY_AGAIN}")
