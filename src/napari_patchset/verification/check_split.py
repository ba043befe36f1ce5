"""Prove that training and validation patches share no place and no pixels.

`find_leak` compares positions, `check_repeats` checksums, so that it finds copies in any source.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits import TRAIN, VAL
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.source import SourceInfo
from napari_patchset.verification.check_pixels import PixelCheck
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates

Integers = NDArray[np.int64]


def check_split(patch_set: OpenedSet, candidates: RecordedCandidates) -> Iterator[Finding]:
    """Yield a training and a validation patch that share a place, if there are any."""
    if len(candidates.splits) < 2:
        return
    leak = find_leak(candidates.grid, candidates.split, patch_set.sources)
    if leak:
        train, val = leak
        source = patch_set.sources[int(candidates.grid.source_index[val])]
        yield Finding(
            "overlapping split",
            f"{patch_set.table_path}: the training patch in row {train} and the validation patch "
            f"in row {val} share pixels, of source {source.key}, scene {source.scene}; export "
            "again.",
        )


class Leak(NamedTuple):
    """A training and a validation patch that share a place, by their rows in the grid."""

    train: int
    val: int


def find_leak(
    grid: PatchGrid, split: NDArray[np.int8], sources: Sequence[SourceInfo]
) -> Leak | None:
    """Return a training and a validation patch whose rectangles overlap in the plane.

    T, Z and channels do not matter: one place must be in one split. Scenes that overlap on the
    stage are one plane, and so are equal files.

    Parameters
    ----------
    split : int8 array
        The code of each patch's split; patches in neither do not matter.
    """
    size = np.array(grid.size[-2:])
    plane, start = _positions(grid, sources)
    # An empty row and column of cells at the end keep the cells of two planes apart.
    rows, columns = start.max(axis=0, initial=0) // size + 2
    y, x = (start // size).T
    cell = (plane * rows + y) * columns + x
    place = cell * size.prod() + (start % size) @ [size[1], 1]
    train, val = (_group_by_cell(split == code, cell, place, start) for code in (TRAIN, VAL))
    for i, j in _near_cells(train, val, size, int(columns)):
        if leak := _overlap(train.rows_in(i), val.rows_in(j), start, size):
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
    """The patches of a split by the cell, of the size of a patch, that they start in.

    Attributes
    ----------
    cell : int64 array
        The cells that are not empty, ascending.
    first : int64 array
        The index in `rows` of the first patch of each cell, and the length of `rows`.
    rows : int64 array
        One patch for each start.
    low, high : int64 array, (cells, YX)
        The bounding box of the starts in each cell.
    """

    cell: Integers
    first: Integers
    rows: Integers
    low: Integers
    high: Integers

    def rows_in(self, i: int) -> Integers:
        return self.rows[self.first[i] : self.first[i + 1]]


def _group_by_cell(
    in_split: NDArray[np.bool_], cell: Integers, place: Integers, start: Integers
) -> _Cells:
    rows = np.flatnonzero(in_split)
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


def _overlap(train: Integers, val: Integers, start: Integers, size: Integers) -> Leak | None:
    """Return two patches that overlap."""
    for row in train.tolist():
        near = (np.abs(start[val] - start[row]) < size).all(axis=1)
        if near.any():
            return Leak(row, int(val[near.argmax()]))
    return None


def check_repeats(patch_set: OpenedSet, pixels: PixelCheck) -> Iterator[Finding]:
    """Yield a finding if two images of different splits hold the same pixels, naming the rows.

    Equal checksums are compared by their pixels. Patches of one value, such as the background of a
    mosaic or a saturated spot, are no repetition.

    Parameters
    ----------
    pixels : PixelCheck
        With the checksums of all patches.
    """
    images = [array for array in patch_set.arrays if array.role == IMAGE and array.n]
    for first, second in combinations(images, 2):
        if pairs := sorted(_equal_rows(patch_set, pixels, first, second)):
            a, b = pairs[0]
            yield Finding(
                "same pixels in two splits",
                f"{patch_set.path}: {len(pairs)} patches of {second.name} hold the same pixels as "
                f"one of {first.name}, the first are patch {a} of {first.name} and patch {b} of "
                f"{second.name}; name each image once, or split by what repeats, and export again.",
            )


def _equal_rows(
    patch_set: OpenedSet, pixels: PixelCheck, first: ArrayLayout, second: ArrayLayout
) -> Iterator[tuple[int, int]]:
    """Yield each row of the second array that is in the first, too, with the row there."""
    sums = [pixels.checksums[array.name] for array in (first, second)]
    readable = [~pixels.unreadable[array.name] for array in (first, second)]
    shared = np.intersect1d(sums[0][readable[0]], sums[1][readable[1]])
    with closing(patch_set.open(first)) as one, closing(patch_set.open(second)) as other:
        for checksum in shared:
            own, others = (
                np.flatnonzero((each == checksum) & mask).tolist()
                for each, mask in zip(sums, readable, strict=True)
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
