"""npz: one file per split, train.npz and val.npz, for CSBDeep's `load_training_data`.

Shards are written as raw files below `.parts`; when all are there, they are packed into the file.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from napari_patchset.errors import ExportError, UnreadableFileError
from napari_patchset.patchset.files import atomic_file, write_file
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    IMAGE,
    LABELS,
    SPLIT_PATTERN,
    TARGET,
    ArrayLayout,
)
from napari_patchset.patchset.manifest import SetIdentity
from napari_patchset.patchset.writers.base import SetFormat

MEMBERS = {IMAGE: "X", TARGET: "Y", LABELS: "labels"}
"""Name of each role's array in the file. CSBDeep requires Y, which is missing without a target."""

_PARTS = ".parts"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member, so that equal sets are equal files; the earliest that zip allows."""


class NpzSet(SetFormat):
    """X, Y and axes of a split, uncompressed, so that they can be mapped."""

    shard_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"{re.escape(_PARTS)}/{ARRAY_PATTERN}/[0-9]+|{SPLIT_PATTERN}[.]npz"
    )

    def check(self, arrays: Sequence[ArrayLayout]) -> None:
        """Refuse more than `numpy.load` can hold in memory, and pairs that CSBDeep rejects."""
        shapes = {array.name: array.shape for array in arrays}
        for array in arrays:
            image = f"{array.split}/{IMAGE}"
            if array.role == TARGET and shapes[image] != array.shape:
                raise ExportError(
                    f"An npz holds X and Y of one shape, but {image} is {shapes[image]} and "
                    f"{array.name} {array.shape}; choose the same channels, or export a zarr."
                )
        needed, memory = sum(array.n * array.patch_bytes for array in arrays), _memory()
        if memory is not None and needed > memory:
            raise ExportError(
                f"An npz is loaded whole: {needed / 1e9:.1f} GB do not fit into the memory of "
                f"this machine, {memory / 1e9:.1f} GB; export a zarr."
            )

    def shard_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Return the raw file of the shard."""
        return [root / _PARTS / array.name / str(shard)]

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write raw little-endian pixels."""
        little = np.ascontiguousarray(patches, patches.dtype.newbyteorder("<"))
        (path,) = self.shard_paths(root, array, shard)
        write_file(path, [little.reshape(-1).view(np.uint8).data])

    def complete(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> None:
        """Pack the shards of each split."""
        for split, members in groupby(arrays, key=lambda array: array.split):
            with atomic_file(root / f"{split}.npz") as file, ZipFile(file, "w") as archive:
                self._pack(archive, root, list(members))
        shutil.rmtree(root / _PARTS, ignore_errors=True)
        super().complete(root, arrays, attributes)

    def files(self, root: Path, array: ArrayLayout) -> Iterable[Path]:
        """Return the split's file."""
        return [_path(root, array)]

    def contains(self, arrays: Mapping[str, ArrayLayout], path: str) -> bool:
        """Return whether a path is that of a split's file."""
        return path in {f"{array.split}.npz" for array in arrays.values()}

    def find_damage(self, root: Path, array: ArrayLayout) -> str | None:
        """Check that `numpy.load` can read the array, and that its axes fit."""
        try:
            with ZipFile(_path(root, array)) as archive:
                for name in (MEMBERS[array.role], "axes"):
                    with archive.open(f"{name}.npy") as member:
                        while member.read(2**20):  # zipfile compares the checksum at the end
                            pass
                with archive.open("axes.npy") as member:
                    axes = str(npy.read_array(member))
        except (BadZipFile, KeyError, ValueError, NotImplementedError, EOFError) as error:
            return str(error)
        return None if axes == array.axes else f"its axes are {axes}, not {array.axes}"

    def open(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> "NpzPatches":
        """Open an array; the file is mapped when the first patch is read."""
        return NpzPatches(root, array, identity)

    def _pack(self, archive: ZipFile, root: Path, arrays: Sequence[ArrayLayout]) -> None:
        for array in arrays:
            parts = [p for i in range(array.n_shards) for p in self.shard_paths(root, array, i)]
            header = {
                "descr": npy.dtype_to_descr(array.pixel_type.newbyteorder("<")),
                "fortran_order": False,
                "shape": array.shape,
            }
            with archive.open(_member(MEMBERS[array.role]), "w", force_zip64=True) as out:
                npy.write_array_header_1_0(out, header)
                for part in parts:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, out, 2**20)
        with archive.open(_member("axes"), "w") as out:
            npy.write_array(out, np.array(arrays[0].axes))


class NpzPatches:
    """The patches of an array, mapped from the split's file."""

    def __init__(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> None:
        self._root, self._array, self._identity = root, array, identity
        self._mapped: NDArray[Any] | None = None

    def read(self, index: int) -> NDArray[Any]:
        """Return one patch C(Z)YX, a part of the map."""
        if self._mapped is None:
            with self._identity.checked():
                mapped = _map_member(_path(self._root, self._array), self._array)
            self._mapped = mapped
        patch: NDArray[Any] = self._mapped[index]
        return patch

    def close(self) -> None:
        """Unmap the file."""
        self._mapped = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapped again by its next read.
        return NpzPatches, (self._root, self._array, self._identity)


def _path(root: Path, array: ArrayLayout) -> Path:
    return root / f"{array.split}.npz"


def _member(name: str) -> ZipInfo:
    info = ZipInfo(f"{name}.npy", _EPOCH)
    info.create_system = 3  # otherwise the bytes depend on the system
    info.compress_type = ZIP_STORED
    return info


def _map_member(path: Path, array: ArrayLayout) -> NDArray[Any]:
    """Map an uncompressed member; raise UnreadableFileError if it is missing or does not fit."""
    name = MEMBERS[array.role]
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                npy.read_magic(member)
                shape, fortran, dtype = npy.read_array_header_1_0(member)
                header_bytes = member.tell()
            file.seek(info.header_offset + 26)
            names = np.frombuffer(file.read(4), "<u2")  # lengths of name and extra fields
        expected = (array.shape, False, array.pixel_type.newbyteorder("<"), ZIP_STORED)
        if (shape, fortran, dtype, info.compress_type) != expected:
            raise ValueError(f"{name} is {dtype} of shape {shape}")
        offset = info.header_offset + 30 + int(names.sum()) + header_bytes
        return np.asarray(np.memmap(path, dtype, "r", offset, shape))
    except (BadZipFile, KeyError, ValueError) as error:
        raise UnreadableFileError(f"{path}: damaged: {error}; export the set again.") from error


def _memory() -> int | None:
    """Return the memory of this machine in bytes, None if the system does not report it."""
    if sys.platform == "win32":
        return None
    else:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
