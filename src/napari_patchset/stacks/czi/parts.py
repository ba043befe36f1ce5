"""The files of a CZI: those that belong together are read as one.

A CZI in several files is a master, `NAME.czi`, whose directory lists all subblocks, and its parts
`NAME (1).czi`, `NAME (2).czi`, ... No file stores the names of the others: they are found by this
pattern, as Bio-Formats finds them, and must have the number and the master's GUID in their header,
which a copy that a browser numbered does not have. What lies in an absent file is known, but
missing; without the master each part has its own subblocks.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile
from napari_patchset.stacks.czi.directory import (
    PLANE_AXES,
    FileHeader,
    Subblocks,
    distinct,
    read_directory,
    read_header,
)
from napari_patchset.stacks.czi.subblocks import CziFile, check_subblock

_MAX_PARTS = 999

_PART_NAME = re.compile(r"(.+?) ?\((\d+)\)", re.DOTALL)
"""The name of a part, without suffix."""


class CziParts(NamedTuple):
    """The structure of a CZI, read before its pixels."""

    subblocks: Subblocks
    """Those of all files; the `part` of one in an absent file is -1."""
    xml: bytes
    """The metadata."""
    files: Mapping[int, CziFile]
    """Each file by its number, the master's is 0."""
    absent: tuple[str, ...] = ()
    """The names of the missing files."""


def read_parts(path: Path) -> CziParts:
    """Read the structure of a CZI by any one of its files."""
    master, first = path, read_directory(path)
    if first.header.part and (found := _find_master(path, first.header)) is not None:
        master, first = found, read_directory(found)
    header, blocks, absent = first.header, first.subblocks, list[str]()
    files = {header.part: CziFile(master, first.file_size)}
    if header.part:  # without the master
        blocks = _in_part(blocks, header.part)
        if named := _PART_NAME.fullmatch(path.stem):
            master = path.with_name(named[1] + path.suffix)
            absent.append(master.name)
    listed = set(distinct(blocks.part).tolist())
    if listed and not 0 <= min(listed) <= max(listed) <= _MAX_PARTS:
        raise UnreadableFileError(
            f"{path}: its directory names the files {min(listed)} to {max(listed)} of one CZI; it "
            "is damaged, copy it again."
        )
    for number in range(1, _MAX_PARTS + 1):
        if number in files:
            continue
        part = _find_part(master, header, number)
        if part is not None:
            files[number] = CziFile(part, part.stat().st_size)
            if number not in listed:
                blocks = _join(blocks, _in_part(read_directory(part).subblocks, number))
        elif number in listed:
            rows = np.flatnonzero(blocks.part == number)
            if _is_in(files[header.part], blocks, int(rows[0])):
                blocks.part[rows] = header.part
            else:
                blocks.part[rows] = -1
                absent.append(f"{master.stem} ({number}){master.suffix}")
        elif number > max(listed, default=0):
            break
    if len(blocks) and (blocks.part < 0).all():
        raise UnreadableFileError(
            f"{path}: all of its pixels are in {' and '.join(absent)}, which is not in its folder; "
            "put it there."
        )
    return CziParts(blocks, first.xml, files, tuple(absent))


def _find_master(path: Path, header: FileHeader) -> Path | None:
    for each in _names(path):
        if match := _PART_NAME.fullmatch(each.stem):
            master = each.with_name(match[1] + each.suffix)
            if _is_part(master, header, 0):
                return master
    return None


def _find_part(master: Path, header: FileHeader, number: int) -> Path | None:
    ends = f" ({number})", f"({number})"
    names = (
        each.with_name(each.stem + end + each.suffix) for each in _names(master) for end in ends
    )
    return next((part for part in names if _is_part(part, header, number)), None)


def _names(path: Path) -> tuple[Path, ...]:
    """Return the path, and the target of a link: either folder may have the other files."""
    return (path, path.resolve()) if path.is_symlink() else (path,)


def _is_part(path: Path, header: FileHeader, number: int) -> bool:
    try:
        own = read_header(path) if path.is_file() else None
    except (OSError, UnreadableFileError):
        return False
    return own is not None and (own.part, own.master_guid) == (number, header.master_guid)


def _in_part(blocks: Subblocks, number: int) -> Subblocks:
    return replace(blocks, part=np.full(len(blocks), number, np.int32))


def _is_in(file: CziFile, blocks: Subblocks, row: int) -> bool:
    """Return whether a subblock of another part is in this file, as some writers store it."""
    try:
        check_subblock(OpenFile(file.path).read, file, blocks, row)
    except (UnreadableFileError, OSError, KeyError):  # a kind that is unknown is refused later
        return False
    return True


def _join(blocks: Subblocks, more: Subblocks) -> Subblocks:
    both = {
        field.name: np.concatenate([getattr(blocks, field.name), getattr(more, field.name)])
        for field in fields(blocks)
        if field.name != "axes"
    }
    axes = "".join(axis for axis in PLANE_AXES if axis in blocks.axes + more.axes)
    return Subblocks(**both, axes=axes)
