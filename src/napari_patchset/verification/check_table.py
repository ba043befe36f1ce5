"""Hold the table against the manifest, and prove the split.

The proof of a split: no place of a validation patch lies in a training patch.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.exporting.selection import Selection, select_candidates
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.sites import find_sites
from napari_patchset.patching.splits import TRAIN, VAL
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.table import patch_tables
from napari_patchset.source import SourceInfo
from napari_patchset.verification.subject import REMEDY, Candidates, Finding, OpenedSet

Integers = NDArray[np.int64]


class Leak(NamedTuple):
    """A training and a validation patch that share a place, by their rows in the grid."""

    train: int
    val: int


def find_leak(
    grid: PatchGrid, split: NDArray[np.int8], sources: Sequence[SourceInfo]
) -> Leak | None:
    """Find a training and a validation patch whose rectangles overlap in the plane.

    T, Z and channels do not matter: what lies at one place must be in one split. Scenes that
    overlap on the stage are one plane, and so are equal files.

    Parameters
    ----------
    split : int8 array
        The code of each patch's split; patches that are in none do not matter.
    """
    sites, size = find_sites(sources), np.array(grid.size[-2:])
    start = np.stack([sites.starts(grid, axis) for axis in (0, 1)], axis=1).astype(np.int64)
    # An empty row and column of cells at the end, so that no cell's neighbour is that of another.
    rows, columns = start.max(axis=0, initial=0) // size + 2
    y, x = (start // size).T
    cell = (sites.index[grid.source_index] * rows + y) * columns + x
    place = cell * size.prod() + (start % size) @ [size[1], 1]
    train, val = (_gather(split == code, cell, place, start) for code in (TRAIN, VAL))
    for i, j in _near(train, val, size, int(columns)):
        if leak := _overlap(train.rows_in(i), val.rows_in(j), start, size):
            return leak
    return None


class _Cells(NamedTuple):
    """The patches of a split by the cell, of the size of a patch, that they start in.

    Attributes
    ----------
    cell : int64 array
        The cells that hold any, ascending.
    first : int64 array
        Where the patches of each begin in `rows`, and the end.
    rows : int64 array
        One patch of each place.
    low, high : int64 array, (cells, YX)
        The box around their starts.
    """

    cell: Integers
    first: Integers
    rows: Integers
    low: Integers
    high: Integers

    def rows_in(self, i: int) -> Integers:
        return self.rows[self.first[i] : self.first[i + 1]]


def _gather(chosen: NDArray[np.bool_], cell: Integers, place: Integers, start: Integers) -> _Cells:
    rows = np.flatnonzero(chosen)
    rows = rows[np.unique(place[rows], return_index=True)[1]]
    first = np.flatnonzero(np.diff(cell[rows], prepend=-1))
    starts = start[rows]
    low, high = (edge.reduceat(starts, first, axis=0) for edge in (np.minimum, np.maximum))
    return _Cells(cell[rows[first]], np.append(first, len(rows)), rows, low, high)


def _near(a: _Cells, b: _Cells, size: Integers, columns: int) -> Iterator[tuple[int, int]]:
    """Give the pairs of cells whose boxes are so near that patches of the two may overlap."""
    if not len(b.cell):
        return
    for down, right in product((-1, 0, 1), repeat=2):
        wanted = a.cell + (down * columns + right)
        at = np.minimum(np.searchsorted(b.cell, wanted), len(b.cell) - 1)
        i = np.flatnonzero(b.cell[at] == wanted)
        j = at[i]
        near = (a.low[i] - b.high[j] < size) & (b.low[j] - a.high[i] < size)
        found = near.all(axis=1)
        yield from zip(i[found].tolist(), j[found].tolist(), strict=True)


def _overlap(train: Integers, val: Integers, start: Integers, size: Integers) -> Leak | None:
    """Find two patches that overlap."""
    for row in train.tolist():
        near = (np.abs(start[val] - start[row]) < size).all(axis=1)
        if near.any():
            return Leak(row, int(val[near.argmax()]))
    return None


def read_candidates(subject: OpenedSet) -> Candidates:
    """Read the table.

    Raises
    ------
    UnreadableFileError
        If that is not possible.
    """
    try:
        with pq.ParquetFile(subject.table_path) as file:
            return Candidates.of(file.read(), subject)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFileError(str(error)) from error


def check_table(subject: OpenedSet, candidates: Candidates) -> Iterator[Finding]:
    """Find rows, counts and limits that do not follow from the recipe and the metrics."""
    digest, said = digest_bytes(subject.table_path.read_bytes()), subject.manifest.table_digest
    if digest != said:
        yield edited(subject, f"its digest is {digest}, the manifest says {said}")
    try:
        selection = _judged(subject, candidates)
    except (PatchsetError, KeyError, pa.ArrowException) as error:
        yield edited(subject, f"its candidates can't be judged again: {error}")
        return
    yield from _check_columns(subject, candidates, selection)
    yield from _check_counts(subject, selection)


def check_split(subject: OpenedSet, candidates: Candidates) -> Iterator[Finding]:
    """Find a training and a validation patch that share a place."""
    if len(candidates.splits) < 2:
        return
    leak = find_leak(candidates.grid, candidates.split, subject.sources)
    if leak:
        train, val = leak
        source = subject.sources[int(candidates.grid.source_index[val])]
        yield Finding(
            "overlapping split",
            f"{subject.table_path}: the training patch in row {train} and the validation patch in "
            f"row {val} share pixels, of source {source.key}, scene {source.scene}; export again.",
        )


def edited(subject: OpenedSet, what: str) -> Finding:
    """Say that the table is not what was written."""
    return Finding("edited table", f"{subject.table_path}: {what}; {REMEDY}.")


def _judged(subject: OpenedSet, candidates: Candidates) -> Selection:
    """Judge the candidates again, by the metrics in the table."""
    recipe, table = subject.recipe, candidates.table
    columns = metric_columns(recipe.filters, subject.sources[0].channels)
    metrics = {c: pc.fill_null(table[c], np.nan).to_numpy().astype(np.float64) for c in columns}
    grid, is_readable = candidates.grid, candidates.is_readable
    return select_candidates(recipe, grid, subject.sources, metrics, is_readable)


def _check_columns(
    subject: OpenedSet, candidates: Candidates, selection: Selection
) -> Iterator[Finding]:
    rows = selection.row if subject.form.has_pixels else np.full_like(selection.row, -1)
    grid, verdicts = candidates.grid, selection.verdicts
    parts = patch_tables(subject.sources, grid, verdicts, rows, candidates.checksums)
    first, wrong = 0, set[str]()
    for expected in parts:
        found = candidates.table.slice(first, len(expected))
        if not first and (unlike := {*found.schema.names} ^ {*expected.schema.names}):
            yield edited(subject, f"its columns are not those of this set: {sorted(unlike)}")
        for name in expected.schema.names:
            held = name in found.schema.names and name not in wrong
            if held and not found[name].equals(expected[name]):
                wrong.add(name)
                row, has, wants = _first_difference(found[name], expected[name])
                yield edited(subject, f"{name} of row {first + row} is {has}, not {wants}")
        first += len(expected)


def _first_difference(found: pa.ChunkedArray, expected: pa.ChunkedArray) -> tuple[int, Any, Any]:
    for row, (has, wants) in enumerate(zip(found, expected, strict=True)):
        if not has.equals(wants):
            return row, has.as_py(), wants.as_py()
    return 0, found.type, expected.type


def _check_counts(subject: OpenedSet, selection: Selection) -> Iterator[Finding]:
    manifest = subject.manifest
    counted: dict[str, tuple[Any, Any]] = {
        "patches": (manifest.counts, selection.counts),
        "rejected candidates": (manifest.rejected, selection.rejected),
        "limits": (manifest.limits, selection.verdicts.finite_limits),
    }
    for what, (said, found) in counted.items():
        if said != found:
            yield Finding(
                "wrong counts",
                f"{subject.path}: {what} by the manifest: {said}, by the table: {found}; {REMEDY}.",
            )
