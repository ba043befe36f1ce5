"""The set that is looked at, and what its table says of each candidate.

What can be wrong with a patch set, each by its name.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plan import Recipe
from napari_patchset.exporting.selection import UNREADABLE
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import IMAGE, TABLE, ArrayLayout
from napari_patchset.patchset.reader import missing_files, read_description
from napari_patchset.patchset.table import grid_of
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers.base import SetFormat
from napari_patchset.source import SourceInfo

_MOST_MISSING = 1000


class OpenedSet:
    """A set on disk that has a manifest; everything else in it may be wrong.

    Raises
    ------
    FileNotFoundError, IncompleteSetError
        If there is no such set, or one that was not completed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest, self.provenance = read_description(path)

    @property
    def form(self) -> SetFormat:
        """How the set is written."""
        return FORMATS[self.manifest.format]

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What the patches were cut from."""
        return self.manifest.sources

    @cached_property
    def recipe(self) -> Recipe:
        """How the patches were chosen; raises ValidationError if that can't be understood."""
        return Recipe.model_validate(self.manifest.recipe)

    @property
    def is_understood(self) -> bool:
        """Whether there is a recipe, and a source, to hold the table against."""
        try:
            Recipe.model_validate(self.manifest.recipe)
        except ValidationError:
            return False
        return len(self.sources) > 0

    @cached_property
    def arrays(self) -> list[ArrayLayout]:
        """Every array, split by split."""
        return list(self.manifest.arrays.values())

    @cached_property
    def missing(self) -> list[Path]:
        """The files that are not there, relative to the set; not more than a list can show."""
        return list(islice(missing_files(self.path, self.manifest), _MOST_MISSING))

    @property
    def table_path(self) -> Path:
        """Where the table lies."""
        return self.path / TABLE


@dataclass(frozen=True)
class Candidates:
    """What the table says of each candidate.

    Attributes
    ----------
    grid : PatchGrid
        Where it lies.
    splits : tuple of str
        Their names.
    split : int8 array
        Index of the split that it is exported in, -1 if it is in none.
    checksums : uint32 array
        Of its image, 0 where there is none.
    is_readable : bool array
        Whether its source could be read when the set was made.
    """

    table: pa.Table
    grid: PatchGrid
    splits: tuple[str, ...]
    split: NDArray[np.int8]
    checksums: NDArray[np.uint32]
    is_readable: NDArray[np.bool_]

    @classmethod
    def of(cls, table: pa.Table, subject: OpenedSet) -> "Candidates":
        """Read a table.

        Raises
        ------
        UnreadableFileError
            If it is no table of the set's sources.
        """
        grid, splits = grid_of(table, subject.sources), tuple(subject.manifest.counts)
        try:
            named = pc.if_else(table["kept"], table["split"], None)
            split = pc.fill_null(pc.index_in(named, pa.array(splits)), -1)
            checksums = pc.fill_null(table["checksum"], 0)
            lost = pc.fill_null(pc.equal(table["reason"], UNREADABLE), False)
        except (KeyError, pa.ArrowException) as error:
            raise UnreadableFileError(str(error)) from error
        codes, sums = split.to_numpy().astype(np.int8), checksums.to_numpy().astype(np.uint32)
        return cls(table, grid, splits, codes, sums, ~lost.to_numpy().astype(bool))

    def members(self, array: ArrayLayout) -> NDArray[np.int64] | None:
        """Give the candidate of each row of an array, None if the table has another number."""
        if array.split not in self.splits:
            return None
        found = np.flatnonzero(self.split == self.splits.index(array.split))
        return found if len(found) == array.n else None

    def is_left_out(self, source: int) -> bool:
        """Whether nothing of a source is in the set, because it could not be read."""
        mine = self.grid.source_index == source
        return bool(mine.any()) and not self.is_readable[mine].any()

    def image_checksums(self, array: ArrayLayout) -> NDArray[np.uint32] | None:
        """Give what the table says of an array's patches, None where it says nothing."""
        members = self.members(array) if array.role == IMAGE else None
        return None if members is None else self.checksums[members]


FindingName = Literal[
    "missing file",
    "damaged file",
    "damaged patch",
    "edited manifest",
    "edited table",
    "wrong counts",
    "wrong statistics",
    "overlapping split",
    "absent source",
    "changed source",
    "differs from source",
]

REMEDY = "copy the set again, or export it again"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a set and what it should be.

    Attributes
    ----------
    name : str
        What kind of difference.
    message : str
        The file, shard or row that differs, and what to do.
    """

    name: FindingName
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"
