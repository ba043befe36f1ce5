"""Prove that the splits and folds of a set share no place, no group and no pixels.

`find_leak` compares positions, `check_repeats` checksums, so that it finds copies in any source,
and `find_alike` hashes, so that it finds patches that only look alike.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.duplicates import ALIKE, are_near
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.search import ANNOTATION
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.source import SourceInfo
from napari_patchset.verification.check_set import PixelCheck
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates

Integers = NDArray[np.int64]


def check_split(patch_set: OpenedSet, candidates: RecordedCandidates) -> Iterator[Finding]:
    """Yield patches of different splits or folds that share a place, and groups that they share."""
    if len(candidates.splits) < 2 and not patch_set.manifest.folds:
        return
    leak = find_leak(candidates.grid, candidates.part, patch_set.sources)
    if leak:
        names = [_patch_name(candidates, row) for row in leak]
        source = patch_set.sources[int(candidates.grid.source_index[leak.second])]
        yield Finding(
            "overlapping split",
            f"{patch_set.table_path}: {names[0]} and {names[1]} share pixels, of source "
            f"{source.key}, scene {source.scene}; export again.",
        )
    split = patch_set.recipe.split
    by = split.by if split else ""
    if by == ANNOTATION:
        yield from _divided_outlines(patch_set, candidates)
    if by == "file" or (split and by in split.columns):
        yield from _divided_groups(patch_set, candidates, by)


_KINDS = {"train": "training", "val": "validation"}


def _patch_name(candidates: RecordedCandidates, row: int) -> str:
    name = candidates.part_name(int(candidates.part[row]))
    return f"the {_KINDS.get(name, name)} patch in row {row}"


def _divided_groups(
    patch_set: OpenedSet, candidates: RecordedCandidates, by: str
) -> Iterator[Finding]:
    """Yield a finding for each group that has patches in several splits or folds."""
    of_source = [
        source.key if by == "file" else source.columns.get(by, source.well)
        for source in patch_set.sources
    ]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(of_source))}
    rows = np.flatnonzero(candidates.part >= 0)
    group = np.array([numbers[name] for name in of_source])[candidates.grid.source_index[rows]]
    pairs = np.unique(np.stack([group, candidates.part[rows]], axis=1), axis=0)
    for name, number in numbers.items():
        parts = pairs[pairs[:, 0] == number, 1].tolist()
        if len(parts) > 1:
            listed = " and ".join(candidates.part_name(part) for part in parts)
            yield Finding(
                "group in two splits",
                f"{patch_set.table_path}: {by} {name} has patches in {listed}; export again.",
            )


def _divided_outlines(patch_set: OpenedSet, candidates: RecordedCandidates) -> Iterator[Finding]:
    """Yield a finding if patches that touch outlines of one group are in several parts."""
    outline = candidates.grid.outline
    if outline is None:
        yield patch_set.edited_table("it has no column outline")
        return
    rows = np.flatnonzero((candidates.part >= 0) & (outline >= 0))
    keys = np.stack([candidates.grid.source_index[rows], outline[rows], candidates.part[rows]])
    source, group, part = np.unique(keys, axis=1)
    divided = np.flatnonzero((np.diff(source) == 0) & (np.diff(group) == 0))
    if len(divided):
        i = int(divided[0])
        listed = " and ".join(candidates.part_name(int(each)) for each in part[i : i + 2])
        yield Finding(
            "group in two splits",
            f"{patch_set.table_path}: outline {group[i]} of source {source[i]} has patches in "
            f"{listed}, and {len(divided) - 1} more outlines have; export again.",
        )


class Leak(NamedTuple):
    """Two patches of different parts that share a place, by their rows in the grid."""

    first: int
    second: int


def find_leak(
    grid: PatchGrid, part: NDArray[np.integer], sources: Sequence[SourceInfo]
) -> Leak | None:
    """Return two patches of different parts whose rectangles overlap in the plane.

    T, Z and channels do not matter: one place must be in one part. Scenes that overlap on the
    stage are one plane, and so are equal files. `part` has the code of each patch's part, a split
    or a fold; negative for patches that do not matter.
    """
    size = np.array(grid.size[-2:])
    plane, start = _positions(grid, sources)
    # An empty row and column of cells at the end keep the cells of two planes apart.
    rows, columns = start.max(axis=0, initial=0) // size + 2
    y, x = (start // size).T
    cell = (plane * rows + y) * columns + x
    place = cell * size.prod() + (start % size) @ [size[1], 1]
    codes = np.unique(part[part >= 0]).tolist()
    parts = [_group_by_cell(part == code, cell, place, start) for code in codes]
    for first, second in combinations(parts, 2):
        for i, j in _near_cells(first, second, size, int(columns)):
            if leak := _overlap(first.rows_in(i), second.rows_in(j), start, size):
                return leak
    return None


def _positions(grid: PatchGrid, sources: Sequence[SourceInfo]) -> tuple[Integers, Integers]:
    """Return the plane of each patch, and its start there along YX.

    All scenes of a file whose position is known lie on one plane, the stage. This is not the code
    by which patches are split, so that an error of one shows in the other. A patch that reaches
    past its image counts as the last one inside, whose pixels its padding shows.
    """
    names = [(s.key, None if s.rect else s.scene) for s in sources]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    plane_of = np.array([numbers[name] for name in names])
    corner = np.array([(s.rect.y, s.rect.x) if s.rect else (0, 0) for s in sources])
    last = np.array([s.spatial_shape[-2:] for s in sources]) - grid.size[-2:]
    which, start = grid.source_index, grid.start[:, -2:].astype(np.int64)
    start = np.minimum(start, np.maximum(last, 0)[which]) + corner[which]
    plane = plane_of[which]
    for starts in start.T:
        least = np.full(len(numbers), 2**62)
        np.minimum.at(least, plane, starts)
        starts -= least[plane]
    return plane, start


class _Cells(NamedTuple):
    """The patches of a part by the cell, of the size of a patch, that they start in."""

    cell: Integers
    """The cells that are not empty, ascending."""
    first: Integers
    """The index in `rows` of the first patch of each cell, and the length of `rows`."""
    rows: Integers
    """One patch for each start."""
    low: Integers
    high: Integers
    """The bounding box, YX, of the starts in each cell."""

    def rows_in(self, i: int) -> Integers:
        return self.rows[self.first[i] : self.first[i + 1]]


def _group_by_cell(
    is_in: NDArray[np.bool_], cell: Integers, place: Integers, start: Integers
) -> _Cells:
    rows = np.flatnonzero(is_in)
    rows = rows[np.unique(place[rows], return_index=True)[1]]
    first = np.flatnonzero(np.diff(cell[rows], prepend=-1))
    starts = start[rows]
    low, high = (edge.reduceat(starts, first, axis=0) for edge in (np.minimum, np.maximum))
    return _Cells(cell[rows[first]], np.append(first, len(rows)), rows, low, high)


def _near_cells(a: _Cells, b: _Cells, size: Integers, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of cells whose boxes are so near that their patches may overlap."""
    if not len(b.cell):
        return
    for down, right in product((-1, 0, 1), repeat=2):
        neighbour = a.cell + (down * columns + right)
        index = np.minimum(np.searchsorted(b.cell, neighbour), len(b.cell) - 1)
        i = np.flatnonzero(b.cell[index] == neighbour)
        j = index[i]
        near = (a.low[i] - b.high[j] < size) & (b.low[j] - a.high[i] < size)
        both = near.all(axis=1)
        yield from zip(i[both].tolist(), j[both].tolist(), strict=True)


def _overlap(first: Integers, second: Integers, start: Integers, size: Integers) -> Leak | None:
    """Return two patches that overlap."""
    for row in first.tolist():
        near = (np.abs(start[second] - start[row]) < size).all(axis=1)
        if near.any():
            return Leak(row, int(second[near.argmax()]))
    return None


class _Part(NamedTuple):
    """The images of one split or fold: their rows in an array."""

    name: str
    array: ArrayLayout
    rows: Integers


def _parts(patch_set: OpenedSet, candidates: RecordedCandidates | None) -> Iterator[_Part]:
    for array in patch_set.arrays:
        if array.role != IMAGE or not array.n:
            continue
        members = candidates.of_array(array) if candidates else None
        if candidates is None or members is None or not patch_set.manifest.folds:
            yield _Part(array.name, array, np.arange(array.n))
            continue
        part = candidates.part[members]
        for code in np.unique(part).tolist():
            name = candidates.part_name(code)
            of_fold = name if code >= len(candidates.splits) else array.name
            yield _Part(of_fold, array, np.flatnonzero(part == code))


def check_repeats(
    patch_set: OpenedSet, candidates: RecordedCandidates | None, pixels: PixelCheck
) -> Iterator[Finding]:
    """Yield a finding if two images of different splits or folds hold the same pixels.

    Equal checksums are compared by their pixels. Patches of one value, such as the background of a
    mosaic or a saturated spot, are no repetition. Without candidates folds are not compared.
    """
    for first, second in combinations(_parts(patch_set, candidates), 2):
        if pairs := sorted(_equal_rows(patch_set, pixels, first, second)):
            a, b = pairs[0]
            yield Finding(
                "same pixels in two splits",
                f"{patch_set.path}: {len(pairs)} patches of {second.name} hold the same pixels as "
                f"one of {first.name}, the first are patch {a} of {first.array.name} and patch {b} "
                f"of {second.array.name}; name each image once, or split by what repeats, and "
                "export again.",
            )


def find_alike(
    patch_set: OpenedSet, candidates: RecordedCandidates | None, pixels: PixelCheck
) -> Iterator[str]:
    """Yield a sentence for two splits or folds that have patches which look alike.

    Patches of one value look like no other one. See `check_repeats` for the parameters; `pixels`
    has the hashes, or there is nothing to compare.
    """
    parts = [part for part in _parts(patch_set, candidates) if part.array.name in pixels.hashes]
    for first, second in combinations(parts, 2):
        hashes = [pixels.hashes[part.array.name][part.rows] for part in (first, second)]
        rows = [part.rows[each > 0] for part, each in zip((first, second), hashes, strict=True)]
        one, other = (each[each > 0] for each in hashes)
        if (is_near := are_near(other, one, ALIKE)).any():
            example = int(is_near.argmax())
            like = int((np.bitwise_count(one ^ other[example]) <= ALIKE).argmax())
            yield (
                f"{patch_set.path}: {is_near.sum()} patches of {second.name} look like one of "
                f"{first.name}, the first are patch {rows[0][like]} of {first.array.name} and "
                f"patch {rows[1][example]} of {second.array.name} (their hashes differ in at most "
                f"{ALIKE} of 64 bits); look at them, then split by what repeats, or export with "
                f"dedupe={ALIKE}."
            )


def _equal_rows(
    patch_set: OpenedSet, pixels: PixelCheck, first: _Part, second: _Part
) -> Iterator[tuple[int, int]]:
    """Yield each row of the second part that is in the first, too, with the row there."""
    rows = [part.rows[~pixels.unreadable[part.array.name][part.rows]] for part in (first, second)]
    sums = [
        pixels.checksums[part.array.name][of]
        for part, of in zip((first, second), rows, strict=True)
    ]
    shared = np.intersect1d(sums[0], sums[1])
    if not len(shared):
        return
    with (
        closing(patch_set.open(first.array)) as one,
        closing(patch_set.open(second.array)) as other,
    ):
        for checksum in shared:
            own, others = (
                of[each == checksum].tolist() for each, of in zip(sums, rows, strict=True)
            )
            patch = one.read(own[0])
            if _has_one_value(patch):
                continue
            # Two different patches rarely have one checksum of 32 bits, three hardly ever.
            yield from ((own[0], b) for b in others if np.array_equal(patch, other.read(b)))


def _has_one_value(patch: NDArray[Any]) -> bool:
    """Return whether all pixels of each channel have the same value."""
    flat = patch.reshape(len(patch), -1)
    return bool((flat == flat[:, :1]).all())
