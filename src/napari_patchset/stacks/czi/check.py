"""Refuse, before libCZI sees it, a CZI that libCZI can't read or that would make it crash or hang.

libCZI trusts the sizes and types in the directory; a corrupt one ends the process.
"""

from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi.directory import PLANE_AXES, CziDirectory, Subblocks

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
