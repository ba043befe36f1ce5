"""Columns of the samples sheet that a split reads: the groups of sources, or the split itself.

A column that says which sources train, validate and test states the split: nothing is drawn, all
patches of a source are in its split. The column `split` always is one; another one is if all its
values are names of splits, "train" among them, and the split goes by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from napari_patchset.errors import SplitError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.groups import TEST, TRAINING, VALIDATION, Codes
from napari_patchset.patching.splits.sites import find_sites
from napari_patchset.source import SourceInfo

WELL = "well"
"""The column that a plate has without a sheet."""

SPLIT_COLUMN = "split"
"""The column that always states the split."""

_RENAME = "give the column another name"

_MAX_LISTED = 10
"""Values named in one message."""

_NAMES = {
    "train": TRAINING,
    "training": TRAINING,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
"""What a samples sheet may call a split, in lower case."""


def value_of(source: SourceInfo, column: str) -> str | None:
    """Return a source's value in the samples sheet, or the well that its file names."""
    return source.columns.get(column, source.well if column == WELL else None)


def list_values(sources: Sequence[SourceInfo], column: str) -> str:
    """Return what the sources have in a column, for a message."""
    values = dict.fromkeys(str(value_of(each, column)) for each in sources)
    more = ", ..." if len(values) > _MAX_LISTED else ""
    return ", ".join(list(values)[:_MAX_LISTED]) + more


def check_values(sources: Sequence[SourceInfo], column: str) -> None:
    """Raise SplitError if a source lacks a value in a column."""
    lacking = [each for each in sources if value_of(each, column) is None]
    if not lacking:
        return
    present = list(dict.fromkeys(name for source in sources for name in source.columns))
    if column == WELL and WELL not in present:
        raise SplitError(
            f"The well of {lacking[0].name} is not known ({len(lacking)} in all); add a samples "
            "sheet with a column well, or split by file, scene or block."
        )
    if not present:
        raise SplitError(
            f"The split goes by {column!r}, but there is no samples sheet; add one with a column "
            f"{column}, or split by something else."
        )
    if column not in present:
        raise SplitError(
            f"The samples sheet has no column {column!r}; its columns are {', '.join(present)}."
        )
    raise SplitError(
        f"The samples sheet has no {column} for {lacking[0].name} ({len(lacking)} in all); fill it "
        "in."
    )


def check_split_column(sources: Sequence[SourceInfo], by: str | None) -> None:
    """Raise SplitError if the sheet has a column `split`, and the split goes by something else.

    Parameters
    ----------
    by : str or None
        What the split goes by, None if nothing is split.
    """
    if by != SPLIT_COLUMN and any(SPLIT_COLUMN in source.columns for source in sources):
        raise SplitError(
            f"The samples sheet has a column {SPLIT_COLUMN}, which states the split: split by it, "
            f"or {_RENAME}."
        )


def _split_name(value: str) -> str:
    """Return the split that a value names, "" for none; capitals and spaces do not matter."""
    return _NAMES.get("".join(value.split()).casefold(), "")


def states_split(column: str, values: Iterable[str]) -> bool:
    """Return whether a column of a samples sheet with these values states the split."""
    named = {_split_name(value) for value in values}
    return column == SPLIT_COLUMN or (TRAINING in named and "" not in named)


@dataclass(frozen=True)
class StatedSplit:
    """The split of each source.

    Attributes
    ----------
    column : str
        The column that states it.
    sources : sequence of SourceInfo
        The sources.
    of_source : tuple of str
        The split of each.
    """

    column: str
    sources: Sequence[SourceInfo]
    of_source: tuple[str, ...]

    @classmethod
    def from_column(cls, column: str, sources: Sequence[SourceInfo]) -> Self | None:
        """Return the split that a column of the samples sheet states; None if it states none."""
        values = [source.columns.get(column, "") for source in sources]
        if not states_split(column, values):
            return None
        return cls(column, sources, tuple(map(_split_name, values)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the splits, by code."""
        return tuple(name for name in (TRAINING, VALIDATION, TEST) if name in self.of_source)

    def check(self, others: Mapping[str, object]) -> None:
        """Raise SplitError if a value names no split, if all train, or one place is in two.

        Parameters
        ----------
        others : dict of str to object
            Other settings of the split, by name, none of which can be set.
        """
        if listed := " and ".join(f"{name} ({value})" for name, value in others.items() if value):
            instead = "split by something else" if self.column != SPLIT_COLUMN else _RENAME
            raise SplitError(
                f"The column {self.column} of the samples sheet states which sources train, "
                f"validate and test, so {listed} can't go with it; leave that out, or {instead}."
            )
        for name, source in zip(self.of_source, self.sources, strict=True):
            if not name:
                raise SplitError(
                    f"The column {self.column} of the samples sheet is "
                    f"{source.columns.get(self.column)!r} for {_named(source)}, which is no split; "
                    f"write train, val or test, or {_RENAME}."
                )
        if TRAINING not in self.of_source:
            raise SplitError(
                f"By the column {self.column} of the samples sheet, no source is for {TRAINING}, "
                f"all are for {' or '.join(self.names)}. Add sources that train."
            )
        if len(self.names) < 2:
            instead = "leave the split out" if self.column != SPLIT_COLUMN else _RENAME
            raise SplitError(
                f"By the column {self.column} of the samples sheet, every source is for "
                f"{TRAINING}. Add sources for val or test, or {instead}."
            )
        first_of = dict[int, int]()
        for i, site in enumerate(find_sites(self.sources).index.tolist()):
            first = first_of.setdefault(site, i)
            self._check_same(first, i, "overlap on the stage, or others join them")

    def check_repeats(self, repeats: Mapping[int, int]) -> None:
        """Raise SplitError if a source is in another split than one that has its pixels.

        Parameters
        ----------
        repeats : dict of int to int
            The index of each source whose pixels are all in another one, and of that one.
        """
        for i, other in repeats.items():
            self._check_same(other, i, "have the same pixels")

    def assign(self, grid: PatchGrid) -> Codes:
        """Return the code of the split of each patch.

        Raises
        ------
        SplitError
            If one of the splits has no patch.
        """
        names = self.names
        codes = np.array([names.index(each) for each in self.of_source], np.int8)
        of_patch: Codes = codes[grid.source_index]
        for code, name in enumerate(names):
            if not np.any(of_patch == code):
                raise SplitError(
                    f"No patch is for {name}: none of a source whose {self.column} is {name} was "
                    "chosen. Choose other patches or filters, or leave those sources out."
                )
        return of_patch

    def _check_same(self, i: int, j: int, why: str) -> None:
        """Raise SplitError if two sources that belong together are in different splits."""
        if self.of_source[i] != self.of_source[j]:
            first, second = (
                f"{_named(self.sources[k])} is for {self.of_source[k]}" for k in (i, j)
            )
            raise SplitError(
                f"By the column {self.column} of the samples sheet, {first} and {second}, but they "
                f"{why}. Give both the same value, or leave one out."
            )


def _named(source: SourceInfo) -> str:
    return source.name if source.scene is None else f"scene {source.scene} of {source.name}"
