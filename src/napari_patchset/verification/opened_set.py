"""The patch set that is verified, the candidates in its table, and each `Finding`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.exporting.writing.selection import UNREADABLE
from napari_patchset.patching.duplicates import NO_HASH, hash_columns
from napari_patchset.patching.grid import Draws, PatchGrid
from napari_patchset.patching.splits.search import ANNOTATION
from napari_patchset.patching.strategies import Balanced
from napari_patchset.patchset.layout import IMAGE, TABLE, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, SetIdentity
from napari_patchset.patchset.reader import missing_files, read_description
from napari_patchset.patchset.table import TableFile, grid_of
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import PatchStore, SetFormat

FindingName = Literal[
    "missing file",
    "damaged file",
    "damaged patch",
    "edited manifest",
    "edited table",
    "wrong counts",
    "wrong statistics",
    "overlapping split",
    "group in two splits",
    "same pixels in two splits",
    "absent source",
    "changed source",
    "differs from source",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a set and what it should be."""

    name: FindingName
    """The kind of difference."""
    message: str
    """The file, shard or row that differs, and the remedy."""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


_MAX_MISSING = 1000
"""Most missing files that are reported."""


class OpenedSet:
    """A set on disk that has a manifest; everything else in it may be wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = SetIdentity(path)
        self.manifest, self.provenance = read_description(path)
        self.table_path = path / TABLE
        self.set_format: SetFormat = FORMATS[self.manifest.format]
        self.sources = self.manifest.sources
        self.arrays = list(self.manifest.arrays.values())
        self.class_names = tuple(each.name for each in self.manifest.classes)

    def open(self, array: ArrayLayout) -> PatchStore:
        """Open the patches of an array."""
        return self.set_format.open(self.path, array, self._identity)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe; raises ValidationError if it is invalid."""
        return Recipe.model_validate(self.manifest.recipe)

    @property
    def can_be_replanned(self) -> bool:
        """Whether there is a valid recipe and a source, to compare the table with."""
        try:
            Recipe.model_validate(self.manifest.recipe)
        except ValidationError:
            return False
        return len(self.sources) > 0

    @cached_property
    def missing(self) -> list[Path]:
        """The missing files, relative to the set, at most `_MAX_MISSING`."""
        return list(islice(missing_files(self.path, self.manifest), _MAX_MISSING))

    def finding(self, name: FindingName, difference: str, file: Path | None = None) -> Finding:
        """Return a difference in a file, by default the set itself, with the remedy."""
        return Finding(name, f"{file or self.path}: {difference}; {REMEDY}.")

    def edited_table(self, difference: str) -> Finding:
        """Return the finding that the table is not the one that was written."""
        return self.finding("edited table", difference, self.table_path)


@dataclass(frozen=True)
class RecordedCandidates:
    """The candidates as the table records them."""

    file: TableFile
    """The table on disk: one of millions of rows needs gigabytes."""
    metrics: dict[str, NDArray[np.float64]]
    """The columns of the recipe's filters, as far as there are any."""
    grid: PatchGrid
    splits: tuple[str, ...]
    """The names of the splits."""
    split: NDArray[np.int8]
    """Index of the split that each is exported in, -1 if it is in none."""
    checksums: NDArray[np.uint32]
    """Checksum of each image, 0 if there is none."""
    is_readable: NDArray[np.bool_]
    """Whether the source could be read when the set was made."""
    fold: NDArray[np.int8]
    """The fold that each is in, -1 if it is in none."""

    @classmethod
    def read(cls, patch_set: OpenedSet) -> "RecordedCandidates":
        """Read the table; UnreadableFileError if it is damaged or no table of these sources."""
        file, sources = TableFile(patch_set.table_path), patch_set.sources
        splits = tuple(patch_set.manifest.counts)
        names = patch_set.recipe.metric_columns(sources, patch_set.class_names)
        strategy = patch_set.recipe.strategy
        classes = list(strategy.classes) if isinstance(strategy, Balanced) else []
        parts, grids = list[dict[str, NDArray[Any]]](), list[PatchGrid]()
        try:
            axes = sources[0].layout.spatial_axes.lower()
            of_grid = [f"{axis}_{what}" for axis in axes for what in ("start", "size")]
            read = ["source_index", "sample", "valid", *of_grid]
            read += ["drawn_for", "weight"] if classes else []
            split = patch_set.recipe.split
            read += ["outline"] if split and split.by == ANNOTATION else []
            read += ["fold"] if patch_set.manifest.folds else []
            read += ["hash"] if patch_set.recipe.dedupe is not None else []
            for part in file.parts([*read, "kept", "split", "checksum", "reason", *names]):
                grids.append(grid_of(part, sources, sum(map(len, grids))))
                parts.append(_columns(part, read, splits, classes, names))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UnreadableFileError(str(error)) from error
        if len({grid.size for grid in grids}) != 1:
            raise UnreadableFileError("its patches are not of one size")
        grid = PatchGrid.concatenate(grids)
        joined = {
            name: np.concatenate([columns.pop(name) for columns in parts])
            for name in list(parts[0])
        }
        if classes:
            code, weight = joined.pop("code"), joined.pop("weight")
            weights = {name: weight[code == i][:1].sum() for i, name in enumerate(classes)}
            grid = replace(grid, draws=Draws(weights, code))
        metrics = {name: joined.pop(name) for name in names if name in joined}
        return cls(file, metrics, grid, splits, **joined)

    def of_array(self, array: ArrayLayout) -> NDArray[np.int64] | None:
        """Return the candidate of each row of an array, None if their numbers differ."""
        if array.split not in self.splits:
            return None
        candidates = np.flatnonzero(self.split == self.splits.index(array.split))
        return candidates if len(candidates) == array.n else None

    @cached_property
    def part(self) -> NDArray[np.int64]:
        """The part of each that shares no pixel with another one: a split, or a fold; -1 for none.

        Folds are counted behind the splits.
        """
        is_in_fold = (self.fold >= 0) & (self.split >= 0)
        return np.where(is_in_fold, len(self.splits) + self.fold.astype(np.int64), self.split)

    def part_name(self, part: int) -> str:
        """Return the name of a part: "train", "fold 3"."""
        n = len(self.splits)
        return self.splits[part] if part < n else f"fold {part - n}"

    def is_skipped(self, source_index: int) -> bool:
        """Return whether a source has no patch in the set because it could not be read."""
        rows = self.rows_of(source_index)
        return len(rows) > 0 and not self.is_readable[rows].any()

    def rows_of(self, source_index: int) -> NDArray[np.int64]:
        """Return the rows of a source."""
        of_each = self.grid.source_index
        if self._is_sorted:
            return np.arange(*np.searchsorted(of_each, (source_index, source_index + 1)))
        return np.flatnonzero(of_each == source_index)

    @cached_property
    def _is_sorted(self) -> bool:
        # By source, as any table is that nobody edited.
        of_each = self.grid.source_index
        return bool((of_each[1:] >= of_each[:-1]).all())

    def image_checksums(self, array: ArrayLayout) -> NDArray[np.uint32] | None:
        """Return the recorded checksums of an array's patches, None if there are none."""
        candidates = self.of_array(array) if array.role == IMAGE else None
        return None if candidates is None else self.checksums[candidates]


def _columns(
    part: pa.Table,
    read: Sequence[str],
    splits: Sequence[str],
    classes: Sequence[str],
    names: Sequence[str],
) -> dict[str, NDArray[Any]]:
    """Return what some rows of the table record of each candidate, besides its place.

    Parameters
    ----------
    read : sequence of str
        The columns that only some sets have, of those that this one must have.
    splits, classes, names : sequence of str
        The names of the splits, of the classes that patches are drawn for, and of the metrics.
    """
    named = pc.if_else(part["kept"], part["split"], None)
    code = pc.fill_null(pc.index_in(named, pa.array(splits)), -1)
    unreadable = pc.fill_null(pc.equal(part["reason"], UNREADABLE), False)
    columns = {
        "split": code.to_numpy().astype(np.int8),
        "checksums": pc.fill_null(part["checksum"], 0).to_numpy().astype(np.uint32),
        "is_readable": ~unreadable.to_numpy().astype(bool),
        "fold": np.full(len(part), -1, np.int8),
    }
    if "fold" in read:
        columns["fold"] = pc.fill_null(part["fold"], -1).to_numpy().astype(np.int8)
    if classes:
        drawn_for = pc.index_in(part["drawn_for"], pa.array(classes))
        columns["code"] = drawn_for.to_numpy().astype(np.int16)
        columns["weight"] = part["weight"].to_numpy()
    for name in names:
        if name in part.column_names:
            columns[name] = pc.fill_null(part[name], np.nan).to_numpy().astype(np.float64)
    if "hash" in read:
        columns |= hash_columns(pc.fill_null(part["hash"], NO_HASH).to_numpy())
    return columns
