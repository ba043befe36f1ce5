"""A TIFF's directories, checked before tifffile, which follows circles and drops bad tags."""

import struct
from codecs import BOM_UTF8
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tifffile import TIFF, TiffFormat

from napari_patchset.errors import UnreadableFileError

STATE_AXES = "Write it again as an OME-TIFF, or state the axes of its pages, such as ZYX."
"""What to do if pages are sound, but not what the file says of them."""

USE_FROM_TIFF = (
    "Write it again as an OME-TIFF; in Python, InMemoryImageStack.from_tiff reads it with axes "
    "that you name."
)

_BUFFER_BYTES = 2**16
"""Of one read: writers put many directories close to each other."""

_MAX_TAGS = 4096
_ESSENTIAL_TAGS = frozenset(
    {256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339, 347}
)
"""Tags without which the image would be read otherwise than it was written."""

_MARKED = BOM_UTF8 + b"ImageJ="

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


class Edit(NamedTuple):
    """Bytes of a file that must be read as others."""

    start: int
    data: bytes


class Chain(NamedTuple):
    """The directories of a file, one for each page."""

    n_pages: int
    """Number of pages; if they form a circle, of those before it closes. 0 if it is not known."""
    loop: Edit | None = None
    """The link by which the chain returns to an earlier page, read as the end of the chain."""
    bom: Edit | None = None
    """ImageJ's description without a byte order mark, behind which tifffile does not find it."""


class EditedFile(FileIO):
    """A file in which some bytes read as others, since tifffile would follow or miss them."""

    def __init__(self, path: Path, edit: Edit) -> None:
        super().__init__(str(path.absolute()))
        self._edit = edit

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: D102, documented on FileIO
        start = self.tell()
        data = super().read(-1 if size is None else size) or b""
        first = max(self._edit.start - start, 0)
        last = min(self._edit.start + len(self._edit.data) - start, len(data))
        if first >= last:
            return data
        skipped = start + first - self._edit.start
        new = self._edit.data[skipped : skipped + last - first]
        return data[:first] + new + data[last:]

    def readinto(self, buffer: Any, /) -> int:  # noqa: D102, documented on FileIO
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def check_structure(path: Path) -> Chain:
    """Follow the chain of directories to its end, or to where it forms a circle.

    Every directory, and the essential tags of the first one, must lie in the file, each tag once.
    """
    with path.open("rb", _BUFFER_BYTES) as file:
        head = file.read(4)
        if head not in _FORMATS:
            raise UnreadableFileError(f"{path}: not a TIFF file; it begins with {head!r}.")
        # An NDPI stores the high half of every offset elsewhere; tifffile tells it by suffix too.
        if path.suffix.lower() == ".ndpi":
            return Chain(0)
        return _DirectoryChain(file, path, _FORMATS[head]).check()


class _DirectoryChain:
    """The directories of a file, one for each page, each with the offset of the next."""

    def __init__(self, file: BinaryIO, path: Path, layout: TiffFormat) -> None:
        self.file, self.path, self.layout = file, path, layout
        self.size = file.seek(0, 2)
        self.link = 8 if layout.offsetsize == 8 else 4
        """The position of the offset of the next directory."""
        self.bom: Edit | None = None

    def check(self) -> Chain:
        self.file.seek(self.link)
        stored = self.file.read(self.layout.offsetsize)
        if len(stored) < self.layout.offsetsize:
            raise damaged(self.path, f"it ends after {self.size} bytes, within the header")
        (offset,) = struct.unpack(self.layout.offsetformat, stored)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                return Chain(len(seen), loop=Edit(self.link, bytes(self.layout.offsetsize)))
            seen.add(offset)
            tags, next_offset = self._read(offset, page=len(seen) - 1)
            if len(seen) == 1:
                self._check_tags(tags)
            offset = next_offset
        if not seen:
            raise damaged(self.path, "it has no page")
        return Chain(len(seen), bom=self.bom)

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
                if name == "ImageDescription":
                    self._find_bom(start, length)

    def _find_bom(self, start: int, length: int) -> None:
        self.file.seek(start)
        if self.file.read(len(_MARKED)) == _MARKED:
            text = _MARKED + self.file.read(length - len(_MARKED))
            self.bom = Edit(start, text.removeprefix(BOM_UTF8).ljust(length, b"\0"))
