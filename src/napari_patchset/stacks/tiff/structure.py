"""A TIFF's directories, checked before tifffile, which follows circles and drops bad tags."""

import struct
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tifffile import TIFF, TiffFormat

from napari_patchset.errors import UnreadableFileError

USE_FROM_TIFF = "If you know the axes of its pages, read it with InMemoryImageStack.from_tiff."

_BUFFER_BYTES = 2**16
"""Of one read: writers put many directories close to each other."""

_MAX_TAGS = 4096
_ESSENTIAL_TAGS = frozenset(
    {256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339, 347}
)
"""Tags without which the image would be read otherwise than it was written."""

_FORMATS: dict[bytes, TiffFormat] = {
    **{b"II*\0": TIFF.CLASSIC_LE, b"MM\0*": TIFF.CLASSIC_BE},
    **{b"II+\0": TIFF.BIG_LE, b"MM\0+": TIFF.BIG_BE},
}


def is_tiff(head: bytes) -> bool:
    """Return whether the first bytes of a file are a classic or big TIFF's, of any byte order."""
    return head[:4] in _FORMATS


def damaged(where: object, problem: str) -> UnreadableFileError:
    """Return the error for a file, or a place in it, that is damaged."""
    remedy = "The file is damaged or was cut short; copy it or export it again."
    return UnreadableFileError(f"{where}: {problem}. {remedy}")


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
    """Follow the chain of directories to its end; return where it forms a circle, if it does.

    Every directory, and the essential tags of the first one, must lie in the file, each tag once.
    """
    with path.open("rb", _BUFFER_BYTES) as file:
        head = file.read(4)
        if head not in _FORMATS:
            raise UnreadableFileError(f"{path}: not a TIFF file; it begins with {head!r}.")
        # An NDPI stores the high half of every offset elsewhere; tifffile tells it by suffix too.
        if path.suffix.lower() == ".ndpi":
            return None
        return _DirectoryChain(file, path, _FORMATS[head]).check()


class _DirectoryChain:
    """The directories of a file, one for each page, each with the offset of the next."""

    def __init__(self, file: BinaryIO, path: Path, layout: TiffFormat) -> None:
        self.file, self.path, self.layout = file, path, layout
        self.size = file.seek(0, 2)
        self.link = 8 if layout.offsetsize == 8 else 4
        """The position of the offset of the next directory."""

    def check(self) -> Loop | None:
        self.file.seek(self.link)
        stored = self.file.read(self.layout.offsetsize)
        if len(stored) < self.layout.offsetsize:
            raise damaged(self.path, f"it ends after {self.size} bytes, within the header")
        (offset,) = struct.unpack(self.layout.offsetformat, stored)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                return Loop(self.link, self.layout.offsetsize, len(seen))
            seen.add(offset)
            tags, next_offset = self._read(offset, page=len(seen) - 1)
            if len(seen) == 1:
                self._check_tags(tags)
            offset = next_offset
        if not seen:
            raise damaged(self.path, "it has no page")
        return None

    def _read(self, offset: int, page: int) -> tuple[bytes, int]:
        """Return a directory's tags and the offset of the next one, 0 after the last."""
        layout = self.layout
        if offset + layout.tagnosize > self.size:
            raise damaged(
                self.path,
                f"page {page} should begin at byte {offset}, but the file has {self.size} bytes",
            )
        self.file.seek(offset)
        (count,) = struct.unpack(layout.tagnoformat, self.file.read(layout.tagnosize))
        if not 0 < count <= _MAX_TAGS:
            raise damaged(self.path, f"page {page} has {count} tags, not 1 to {_MAX_TAGS}")
        length = count * layout.tagsize
        self.link = offset + layout.tagnosize + length
        data = self.file.read(length + layout.offsetsize)
        if len(data) < length:
            raise damaged(self.path, f"the file ends within the tags of page {page}")
        # Some writers leave out the zero after the last directory of a file.
        next_offset = data[length:].ljust(layout.offsetsize, b"\0")
        return data[:length], int(struct.unpack(layout.offsetformat, next_offset)[0])

    def _check_tags(self, tags: bytes) -> None:
        layout, seen = self.layout, set[int]()
        for code, kind, count, value in struct.iter_unpack(
            layout.tagformat1 + layout.tagformat2[1:], tags
        ):
            if code not in _ESSENTIAL_TAGS:
                continue
            name = TIFF.TAGS[code]
            if code in seen and name != "ImageDescription":
                raise damaged(self.path, f"the tag {name} occurs twice")
            seen.add(code)
            if kind not in TIFF.DATA_FORMATS:
                raise damaged(self.path, f"the tag {name} is of the unknown type {kind}")
            length = count * struct.calcsize(f"={TIFF.DATA_FORMATS[kind]}")
            if length > len(value):
                (start,) = struct.unpack(layout.offsetformat, value)
                if start + length > self.size:
                    raise damaged(
                        self.path,
                        f"the tag {name} ends at byte {start + length}, but the file has "
                        f"{self.size} bytes",
                    )
