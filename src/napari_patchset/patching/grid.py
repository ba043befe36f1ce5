"""PatchGrid: the patches of one size as columns, so that a million of them take milliseconds.

Also the starts along one axis (`axis_starts`), the order of patches: by source, sample and tile of
the source, in which reading them decodes each tile once (`starts_by_tile`, `sort_by_tile`), and the
pixels that fill a patch past the image (`padding_indices`, `pad_patch`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray


class PatchSpec(NamedTuple):
    """One patch: index of its source, sample along S, start and size along (Z)YX."""

    source_index: int
    sample: int
    start: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Draws:
    """The class that each patch was drawn for.

    Attributes
    ----------
    weights : dict of str to float
        By class, the weight of its patches, see `Balanced`.
    code : int16 array
        The class of each patch, as its index in `weights`.
    """

    weights: Mapping[str, float]
    code: NDArray[np.int16]

    @property
    def weight(self) -> NDArray[np.float64]:
        """The weight of each patch."""
        return np.array(list(self.weights.values()), np.float64)[self.code]


@dataclass(frozen=True, eq=False)
class PatchGrid(Sequence[PatchSpec]):
    """Patches of one size, in the order in which reading them decodes each source tile once.

    Attributes
    ----------
    size : tuple of int
        Size of every patch along (Z)YX.
    source_index : int32 array
        Index of the source among those planned for.
    sample : int32 array
        Index along S of that source.
    start : int32 array, (n, 2 or 3)
        Start along (Z)YX in the source; a patch may reach past the end, then it is padded. Each
        column is best contiguous, as `take_starts` makes it.
    excluded : dict of str to int
        Number of positions that are no candidates, by reason.
    valid : float32 array or None
        Share of each patch, of its part inside the image, that the source has pixels of; None if
        that is all of it.
    draws : Draws or None
        The class that each patch was drawn for; None if it was drawn for none.
    outline : int32 array or None
        The group of outlines that each patch touches, as the number of one of them in its source,
        -1 for none; None if the split does not go by annotation.
    """

    size: tuple[int, ...]
    source_index: NDArray[np.int32]
    sample: NDArray[np.int32]
    start: NDArray[np.int32]
    excluded: Mapping[str, int] = field(default_factory=dict)
    valid: NDArray[np.float32] | None = None
    draws: Draws | None = None
    outline: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.source_index)

    @overload
    def __getitem__(self, index: int) -> PatchSpec: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Self: ...
    def __getitem__(
        self, index: int | slice | NDArray[np.integer] | NDArray[np.bool_]
    ) -> "PatchSpec | PatchGrid":
        if isinstance(index, (slice, np.ndarray)):
            rows = index if isinstance(index, slice) else _row_numbers(index)
            columns = self.source_index[rows], self.sample[rows], take_starts(self.start, rows)
            valid = None if self.valid is None else self.valid[rows]
            draws = self.draws and replace(self.draws, code=self.draws.code[rows])
            outline = None if self.outline is None else self.outline[rows]
            return PatchGrid(self.size, *columns, self.excluded, valid, draws, outline)
        start = tuple(self.start[index].tolist())
        return PatchSpec(int(self.source_index[index]), int(self.sample[index]), start, self.size)

    def __iter__(self) -> Iterator[PatchSpec]:
        columns = (self.source_index.tolist(), self.sample.tolist(), self.start.tolist())
        for source_index, sample, start in zip(*columns, strict=True):
            yield PatchSpec(source_index, sample, tuple(start), self.size)

    @classmethod
    def concatenate(cls, grids: Sequence["PatchGrid"]) -> "PatchGrid":
        """Join grids of one patch size, adding up the excluded positions."""
        if len(grids) == 1:
            return grids[0]
        excluded: dict[str, int] = {}
        for grid in grids:
            for reason, count in grid.excluded.items():
                excluded[reason] = excluded.get(reason, 0) + count
        source_index, sample, start = (
            np.concatenate([getattr(grid, name) for grid in grids])
            for name in ("source_index", "sample", "start")
        )
        valid = None
        if any(grid.valid is not None for grid in grids):
            all_valid = (np.ones(len(grid), np.float32) for grid in grids)
            pairs = zip(grids, all_valid, strict=True)
            valid = np.concatenate([ones if g.valid is None else g.valid for g, ones in pairs])
        draws = grids[0].draws
        if draws is not None:  # all were drawn together
            codes = [grid.draws.code for grid in grids if grid.draws is not None]
            draws = replace(draws, code=np.concatenate(codes))
        outlines = [grid.outline for grid in grids if grid.outline is not None]
        outline = np.concatenate(outlines) if outlines else None
        return cls(grids[0].size, source_index, sample, start, excluded, valid, draws, outline)


def take_starts(start: NDArray[np.int32], index: slice | NDArray[np.integer]) -> NDArray[np.int32]:
    """Take rows of starts, (n, 2 or 3), so that each column is contiguous.

    Arithmetic on a column then takes a tenth of the time.
    """
    return start[index] if isinstance(index, slice) else start.T.take(index, axis=1).T


def _row_numbers(index: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.integer]:
    return np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp, copy=False)


Edge = Literal["shift", "drop", "pad", "balance"]


def axis_starts(n: int, size: int, overlap: int, edge: Edge) -> NDArray[np.int64]:
    """Return the patch starts along an axis of `n` pixels, ascending.

    With the stride s = size - overlap and k = ceil((n - overlap) / s), at least 1:

    - "shift": 0, s, 2 s, ..., the last one moved back to n - size (as CAREamics tiles);
    - "drop": the same without a last one that would not fit;
    - "pad": the same k starts, the last patch reaching past the end;
    - "balance": k starts spread evenly, round(i (n - size) / (k - 1)).

    An axis shorter than the patch has the one start 0.
    """
    stride = size - overlap
    count = max(1, ceil((n - overlap) / stride))
    starts = np.arange(count) * stride
    if n <= size or edge == "pad":
        return starts
    if edge == "drop":
        return starts[starts <= n - size]
    if edge == "balance":
        # Halves round to even, as everywhere in NumPy.
        return np.round(np.arange(count) * (n - size) / (count - 1)).astype(np.int64)
    return np.minimum(starts, n - size)


def starts_by_tile(
    axes: Sequence[NDArray[np.int64]], block_shape: tuple[int, int] | None
) -> NDArray[np.int32]:
    """Combine the starts along each axis of (Z)YX, those that begin in one source tile together.

    Tiles follow each other row by row; within a tile the order is that of the axes.

    Parameters
    ----------
    axes : sequence of int64 array
        Ascending starts along each axis.
    block_shape : (int, int) or None
        Height and width of a tile; None for one tile.

    Returns
    -------
    ndarray
        int32, (product of the lengths, 2 or 3), each column contiguous.
    """
    *depth, ys, xs = (starts.astype(np.int32) for starts in axes)
    height, width = block_shape or (2**31 - 1, 2**31 - 1)
    columns = np.empty((len(axes), prod(map(len, axes))), np.int32)
    bands: dict[int, Band] = {}
    first = 0
    for y in _split_by_tile(ys, height):
        if len(y) not in bands:
            bands[len(y)] = _band([*map(len, depth), len(y), len(xs)], _split_by_tile(xs, width))
        *z, row, x = bands[len(y)]
        last = first + len(row)
        for column, starts, index in zip(columns, (*depth, y, xs), (*z, row, x), strict=True):
            starts.take(index, out=column[first:last], mode="clip")
        first = last
    return columns.T


Band = list[NDArray[np.intp]]
"""The indices, along (Z)YX, of all starts in a row of tiles, in their order."""


def _band(shape: Sequence[int], xs_by_tile: Sequence[NDArray[np.int32]]) -> Band:
    borders = np.cumsum([len(xs) for xs in xs_by_tile])[:-1]
    indices = np.broadcast_arrays(*np.ix_(*map(np.arange, shape)))
    return [
        np.concatenate([tile.ravel() for tile in np.split(index, borders, axis=-1)])
        for index in indices
    ]


def _split_by_tile(starts: NDArray[np.int32], extent: int) -> list[NDArray[np.int32]]:
    """Split ascending starts by the tile, of `extent` pixels, that they begin in."""
    borders = np.flatnonzero(np.diff(starts // extent)) + 1
    return np.split(starts, borders)


def sort_by_tile(
    sample: NDArray[np.integer], start: NDArray[np.integer], block_shape: tuple[int, int] | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sort by sample, row and column of the source tile, and start along (Z)YX.

    This is the order of `starts_by_tile`, for starts in any order, (n, 2 or 3), none of them
    negative.

    Returns
    -------
    sample, start : int32 array
        Sorted; each column of the starts is contiguous.
    """
    if not len(start):
        return sample.astype(np.int32), start.astype(np.int32)
    (*depth, ys, xs), last = start.T, start.max(axis=0).tolist()
    height, width = block_shape or (last[-2] + 1, last[-1] + 1)
    rows, columns = last[-2] // height + 1, last[-1] // width + 1
    n_depth = last[0] + 1 if depth else 1
    # One integer per patch: numbers sort ten times faster than rows, and can be decoded again.
    # Below 2^63 for any image. In place, as a million take 8 MB.
    key = sample * np.int64(rows)
    key += ys // height
    key *= columns
    key += xs // width
    key *= n_depth
    key += depth[0] if depth else 0
    key *= height
    key += ys % height
    key *= width
    key += xs % width
    key.sort()
    sample, row, column, z, y, x = _digits(key, (rows, columns, n_depth, height, width))
    spatial = [z, row * np.int32(height) + y, column * np.int32(width) + x]
    return sample, np.stack(spatial[-start.shape[1] :]).T


def _digits(numbers: NDArray[np.int64], bases: Sequence[int]) -> list[NDArray[np.int32]]:
    """Return the digits of mixed-radix numbers, the most significant first."""
    digits = []
    for base in reversed(bases):
        digits.append((numbers % base).astype(np.int32))
        numbers = numbers // base
    return [numbers.astype(np.int32), *reversed(digits)]


PadMode = Literal["reflect", "symmetric", "edge", "constant"]


def padding_indices(
    start: Sequence[int], size: Sequence[int], bounds: Sequence[int], mode: PadMode
) -> list[NDArray[np.int64]]:
    """Return, along each axis, the pixel of an image of the size `bounds` that each pixel shows."""
    axes = zip(start, size, bounds, strict=True)
    return [axis_padding_indices(first, extent, n, mode) for first, extent, n in axes]


def axis_padding_indices(start: int, size: int, n: int, mode: PadMode) -> NDArray[np.int64]:
    """Return the pixel of an axis of `n` pixels that each pixel of a patch shows."""
    if mode == "constant":
        raise ValueError("'constant' padding shows no pixel of the image")
    indices = np.arange(start, start + size)
    if mode == "edge" or n == 1:
        return np.clip(indices, 0, n - 1)
    period = 2 * n - 2 if mode == "reflect" else 2 * n
    mirrored = indices % period
    last = period if mode == "reflect" else period - 1
    return np.where(mirrored < n, mirrored, last - mirrored)


def pad_patch(pixels: NDArray[Any], indices: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return a patch, by its `padding_indices`, from the smallest box that has all it shows."""
    for axis, index in enumerate(indices, pixels.ndim - len(indices)):
        pixels = np.take(pixels, index - index.min(), axis=axis)
    return pixels
