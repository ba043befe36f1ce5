"""A patch set on disk, of any format, as a mapping from names to sequences of patches.

Opening reads the manifest and checks that the files it declares are there; pixels are read patch by
patch. Set and arrays can be pickled, so that a torch `DataLoader` takes them with any number of
workers.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import IncompleteSetError, UnreadableFileError
from napari_patchset.patching.splits.groups import TRAINING
from napari_patchset.patchset.columns import column
from napari_patchset.patchset.files import check_inside
from napari_patchset.patchset.layout import (
    MANIFEST,
    PARTIAL_SUFFIX,
    PROVENANCE,
    ROLES,
    TABLE,
    ArrayLayout,
)
from napari_patchset.patchset.manifest import (
    REMEDY,
    SCHEMA_VERSIONS,
    Manifest,
    Provenance,
    SetIdentity,
    read_attributes,
)
from napari_patchset.patchset.patches import PatchMapping, PatchSequence, array_name
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.table import TableFile, find_split_rows
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.source import SourceInfo


class PatchArray(PatchSequence):
    """The patches of one array of a set, as a sequence.

    An index returns a patch C(Z)YX in the native dtype, a slice an array N, C, (Z), Y, X. Each is a
    copy that may be changed.
    """

    def __init__(self, layout: ArrayLayout, store: PatchStore) -> None:
        super().__init__(layout.shape, layout.pixel_type)
        self.layout, self._store = layout, store

    def _read(self, index: int) -> NDArray[Any]:
        return self._store.read(index).astype(self.dtype)

    def _read_many(self, indices: Sequence[int]) -> NDArray[Any]:
        patches = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for i, index in enumerate(indices):
            patches[i] = self._store.read(index)  # copied once, into the batch
        return patches

    def close(self) -> None:
        """Close every open file; reading a patch opens it again."""
        self._store.close()


class PatchSet(PatchMapping[PatchArray]):
    """A complete patch set on disk: `PatchSet(path)["train"][0]` is its first training patch.

    A mapping from names to arrays: the name of a split ("train", "val", "test", or "all" where
    nothing is split) is that of its images, "train/target" and "train/labels" are what was cut at
    the same positions, and `pairs("train")` returns images and targets together. A set with folds
    has their patches in "train"; `fold(0)` has them as its "train" and "val". A set of the format
    "coordinates" holds no pixels and so no arrays, but a table and a manifest.

    An open set, or a pickled one, is the set that was opened: once another one has its name,
    reading raises UnreadableFileError. Open files are closed by `close`, or at the end of a `with`
    statement.

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
        self._identity = SetIdentity(self.path)  # first, as the set may be replaced now
        self.manifest, self.provenance = read_description(self.path)
        self.manifest.check_consistent(self.path)
        for file in missing_files(self.path, self.manifest):
            raise UnreadableFileError(f"{self.path}: {file} is missing; {REMEDY}.")
        for name in (TABLE, *self.manifest.arrays):
            check_inside(self.path, self.path / name)
        set_format = FORMATS[self.manifest.format]
        self._table_file = TableFile(self.path / TABLE)
        self._arrays = {}
        for split, role in product(self.splits, ROLES):
            if layout := self.manifest.arrays.get(f"{split}/{role}"):
                name = array_name(split, role)
                self._arrays[name] = PatchArray(
                    layout, set_format.open(self.path, layout, self._identity)
                )

    @property
    def _title(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        shapes = [f"{name} {len(a)} x {a.shape[1:]} {a.dtype}" for name, a in self.items()]
        counts = [f"{split} {n}" for split, n in self.manifest.counts.items()]
        content = ", ".join(shapes or counts)
        return f"<PatchSet {self.path.name} ({self.manifest.format}): {content}>"

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: "train", "val" and "test", as far as there are any, or "all"."""
        return tuple(self.manifest.counts)

    @property
    def n_folds(self) -> int:
        """Number of folds, 0 without."""
        return len(self.manifest.folds)

    @cached_property
    def fold_numbers(self) -> NDArray[np.int8]:
        """The fold of each training patch."""
        if not self.n_folds:
            return np.full(len(self._rows(self.splits[0])), -1, np.int8)
        parts = [part["fold"] for part in self.table_parts(["fold"])]
        folds = [pc.fill_null(part, -1).to_numpy() for part in parts]
        of_training = np.concatenate(folds).astype(np.int8)[self._rows(TRAINING)]
        if tuple(np.bincount(of_training[of_training >= 0])) != self.manifest.folds:
            raise UnreadableFileError(
                f"{self.path / TABLE}: its folds are not those of the manifest; {REMEDY}."
            )
        return of_training

    @cached_property
    def table(self) -> pa.Table:
        """The table: one row per candidate, including the rejected ones; see `patch_table`.

        It takes about 400 bytes of memory for each candidate; `table_parts` reads less at a time.
        """
        self._rows_by_split  # noqa: B018  # checks the table
        table = self._table_file.read()
        self._identity.check_unchanged()
        return table

    def table_parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of `table` in parts of bounded memory.

        Parameters
        ----------
        columns : sequence of str or None
            Names of the columns to read; None for all.
        """
        for part in self._table_file.parts(columns):
            self._identity.check_unchanged()
            yield part

    @property
    def statistics(self) -> Mapping[str, tuple[ChannelStatistics, ...]]:
        """Statistics of each channel, by role ("image", "target"), over the training patches."""
        return self.manifest.statistics

    def close(self) -> None:
        """Close every open file; reading a patch opens it again."""
        for array in self._arrays.values():
            array.close()

    @cached_property
    def _rows_by_split(self) -> dict[str, NDArray[np.int64]]:
        rows = find_split_rows(self._table_file, self.manifest)
        self._identity.check_unchanged()
        return rows

    def _rows(self, split: str) -> NDArray[np.int64]:
        return self._rows_by_split[split]

    @property
    def _column_names(self) -> Sequence[str]:
        return self._table_file.column_names

    def _take(self, rows: NDArray[np.int64], name: str) -> pa.Table:
        first, parts = 0, list[pa.Table]()
        for part in self.table_parts([name]):
            low, high = np.searchsorted(rows, (first, first + len(part)))
            parts.append(part.take(column(rows[low:high] - first)))
            first += len(part)
        return pa.concat_tables(parts)

    def _locate(self, row: int) -> tuple[SourceInfo, dict[str, Any]]:
        values = self._table_file.row(row)
        self._identity.check_unchanged()
        return self.manifest.sources[values["source_index"]], values


def read_description(path: Path) -> tuple[Manifest, Provenance]:
    """Read the manifest and the provenance of a set.

    Raise FileNotFoundError if there is no such folder, IncompleteSetError if it is no patch set, or
    one that was not completed.
    """
    attributes = read_attributes(path)
    if attributes is None:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such patch set.")
        if path.name.endswith(PARTIAL_SUFFIX):
            raise IncompleteSetError(
                f"{path}: an export that was not completed; run the same export again to resume it."
            )
        raise IncompleteSetError(f"{path}: not a patch set (no manifest).")
    try:
        manifest = Manifest.model_validate(attributes[MANIFEST])
        provenance = Provenance.model_validate(attributes[PROVENANCE])
    except (ValidationError, KeyError) as error:
        raise IncompleteSetError(
            f"{path}: the manifest can't be read (this version reads schema {SCHEMA_VERSIONS}): "
            f"{error}"
        ) from error
    if manifest.format not in FORMATS:
        raise IncompleteSetError(
            f"{path}: its format is {manifest.format!r}, which this version does not know."
        )
    return manifest, provenance


def missing_files(path: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield the files of a set that are missing, relative to it.

    A generator, because a damaged manifest may declare more files than a list can hold.
    """
    set_format, last = FORMATS[manifest.format], None
    arrays = [set_format.files(path, layout) for layout in manifest.arrays.values()]
    for file in chain([path / TABLE], *arrays):
        if file != last and not file.is_file():
            yield file.relative_to(path)
        last = file
