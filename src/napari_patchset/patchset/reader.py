"""PatchSet: open a patch set of any format.

The patches of a set as sequences: picklable, so a torch DataLoader takes them as they are.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import ArgumentError, IncompleteSetError, UnreadableFileError
from napari_patchset.patchset.consistency import (
    REMEDY,
    members_of,
    read_table,
    require_consistent,
    require_inside,
)
from napari_patchset.patchset.layout import (
    IMAGE,
    MANIFEST,
    PARTIAL_SUFFIX,
    PROVENANCE,
    ROLES,
    TABLE,
    ArrayLayout,
    read_attributes,
)
from napari_patchset.patchset.manifest import SCHEMA_VERSION, Manifest, Provenance
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.source import SourceInfo


class PatchArray:
    """The patches of one array of a set.

    An index gives a patch C(Z)YX in the native dtype, a slice gives N, C, (Z), Y, X; each is a
    copy, free to be changed.
    """

    def __init__(self, layout: ArrayLayout, store: PatchStore) -> None:
        self.layout = layout
        self._store = store
        self._n = layout.n

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self.layout.dtype

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[Any]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        if isinstance(index, slice):
            patches = [self[i] for i in range(*index.indices(self._n))]
            return np.stack(patches) if patches else np.empty((0, *self.shape[1:]), self.dtype)
        position = index + self._n if index < 0 else index
        if not 0 <= position < self._n:
            raise IndexError(f"Patch {index} is out of bounds for {self._n} patches.")
        return self._store.read(position)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(self._n))

    def close(self) -> None:
        """Give back every open file; the next patch opens it again."""
        self._store.close()


class PatchTuples:
    """Arrays of one split side by side: an index gives (image, target), each as `PatchArray`."""

    def __init__(self, arrays: Sequence[PatchArray]) -> None:
        self.arrays = tuple(arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        return tuple(array[index] for array in self.arrays)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        return (self[i] for i in range(len(self)))


class PatchSet(Mapping[str, PatchArray]):
    """A complete patch set on disk: `PatchSet(path)["train"][0]` is its first training patch.

    It maps each split to its images; `patch_set["train/target"]` are the targets, and
    `patch_set.pairs("train")` images and targets together. Of the format "coordinates", which
    holds no pixels, there are no splits to take patches from, but table and manifest.

    Parameters
    ----------
    path : str or Path
        The folder NAME.patches.zarr or NAME.patches.

    Attributes
    ----------
    manifest : Manifest
        How the set was made, what it holds, and its statistics.
    provenance : Provenance
        When, and from which paths.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    IncompleteSetError
        If it is no patch set, or one that was not completed.
    UnreadableFileError
        If one of its files is missing, lies elsewhere, or contradicts the others.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.manifest, self.provenance = read_description(self.path)
        require_consistent(self.manifest, self.path)
        for file in missing_files(self.path, self.manifest):
            raise UnreadableFileError(f"{self.path}: {file} is missing; {REMEDY}")
        for name in (TABLE, *self.manifest.arrays):
            require_inside(self.path, self.path / name)
        form = FORMATS[self.manifest.format]
        layouts = [self.manifest.layout(name) for name in self.manifest.arrays]
        self._arrays = {a.name: PatchArray(a, form.open(self.path, a)) for a in layouts}

    def __getitem__(self, name: str) -> PatchArray:
        return self._arrays[name if "/" in name else f"{name}/{IMAGE}"]

    def __iter__(self) -> Iterator[str]:
        return (split for split in self.manifest.counts if f"{split}/{IMAGE}" in self._arrays)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def pairs(self, split: str, *roles: str) -> PatchTuples:
        """Give a sequence of tuples: what the arrays of a split hold at the same place.

        Parameters
        ----------
        split : str
            "all", "train" or "val".
        roles : str
            "image", "target", "labels", in any order; without any, all that there are.

        Raises
        ------
        ArgumentError
            If there is no such array.
        """
        found = [role for role in ROLES if f"{split}/{role}" in self._arrays]
        absent = [role for role in roles if role not in found]
        if absent or not found:
            has = ", ".join(self._arrays) or "none"
            raise ArgumentError(f"There is no {split}/{(*absent, IMAGE)[0]}; the arrays are {has}.")
        return PatchTuples([self._arrays[f"{split}/{role}"] for role in roles or found])

    @cached_property
    def table(self) -> pa.Table:
        """The table: one row a candidate, the rejected ones too; see `patch_table`."""
        return read_table(self.path / TABLE, self.manifest)

    @property
    def statistics(self) -> Mapping[str, tuple[ChannelStatistics, ...]]:
        """Of each channel of "image", and of "target", over the training patches."""
        return self.manifest.statistics

    def locate(self, index: int, split: str | None = None) -> tuple[SourceInfo, dict[str, Any]]:
        """Say where a patch was cut: its source and its row of the table.

        Parameters
        ----------
        index : int
            As in `patch_set[split][index]`.
        split : str or None
            None for the only one.

        Raises
        ------
        ArgumentError, IndexError
            If there is no such split, or several and none is given; no such patch in it.
        """
        splits = list(self.manifest.counts)
        if split is None and len(splits) == 1:
            split = splits[0]
        if split not in splits:
            raise ArgumentError(f"There is no split {split}; choose one of {', '.join(splits)}.")
        (row,) = self.table.slice(int(self._members[split][index]), 1).to_pylist()
        return self.manifest.sources[row["source_index"]], row

    def close(self) -> None:
        """Give back every open file; the next patch opens it again."""
        for array in self._arrays.values():
            array.close()

    @cached_property
    def _members(self) -> dict[str, NDArray[np.int64]]:
        """The row of the table of each patch of a split."""
        return members_of(self.table, self.manifest)


def read_description(path: Path) -> tuple[Manifest, Provenance]:
    """Read what a set says of itself.

    Raises
    ------
    FileNotFoundError, IncompleteSetError
        If there is no such folder; if it is no patch set, or one that was not completed.
    """
    attributes = read_attributes(path)
    if attributes is None:
        raise _refusal(path)
    try:
        manifest = Manifest.model_validate(attributes[MANIFEST])
        provenance = Provenance.model_validate(attributes[PROVENANCE])
    except (ValidationError, KeyError) as error:
        raise IncompleteSetError(
            f"{path}: the manifest can't be read (this version reads schema {SCHEMA_VERSION}): "
            f"{error}"
        ) from error
    if manifest.format not in FORMATS:
        raise IncompleteSetError(
            f"{path}: a set of the format {manifest.format!r}, which this version does not know."
        )
    return manifest, provenance


def missing_files(path: Path, manifest: Manifest) -> Iterator[Path]:
    """Name the files of a set, relative to it, that are not there.

    One after the other: a manifest may declare more than there can be.
    """
    form, last = FORMATS[manifest.format], None
    arrays = [form.files(path, manifest.layout(name)) for name in manifest.arrays]
    for file in chain([path / TABLE], *arrays):
        if file != last and not file.is_file():
            yield file.relative_to(path)
        last = file


def _refusal(path: Path) -> Exception:
    if not path.exists():
        return FileNotFoundError(f"{path}: no such patch set.")
    if path.name.endswith(PARTIAL_SUFFIX):
        return IncompleteSetError(
            f"{path}: an export that was not completed; run the same export again to go on with it."
        )
    return IncompleteSetError(f"{path}: not a patch set (no manifest).")
