"""What the filters look at: which images and channels, and the metrics of patches."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.refs import MASK
from napari_patchset.export.sources.opened import Images
from napari_patchset.patching.filters import Mask, score_columns
from napari_patchset.patching.filters.base import PatchFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import IMAGE

Columns = dict[str, NDArray[np.float64]]


class Look(NamedTuple):
    """The filters that look at one role of the sources.

    Attributes
    ----------
    role : {"image", "mask"}
        Which images are read.
    channels : list of int
        Their channels that are looked at, ascending.
    columns : list of (PatchFilter, int, str)
        What is measured: with which filter, on which of `channels`, and the column's name.
    """

    role: str
    channels: list[int]
    columns: list[tuple[PatchFilter, int, str]]

    def measure(self, patches: NDArray[Any]) -> Columns:
        """Measure patches, N, C, (Z), Y, X, that hold these channels and no padding."""
        return {column: each.measure(patches[:, channel]) for each, channel, column in self.columns}


def looks(filters: Sequence[PatchFilter], names: Sequence[str]) -> list[Look]:
    """Sort filters by what they look at; the image, if it is, comes last.

    Parameters
    ----------
    names : sequence of str
        The channels of the images; see `PatchFilter.columns`.
    """
    found = []
    for role in (MASK, IMAGE):
        mine = [each for each in filters if isinstance(each, Mask) == (role == MASK)]
        named = [(each, *item) for each in mine for item in each.columns(names).items()]
        channels = sorted({channel for _, channel, _ in named})
        columns = [(each, channels.index(channel), name) for each, channel, name in named]
        if columns:
            found.append(Look(role, channels, columns))
    return found


def unmeasured(filters: Sequence[PatchFilter], names: Sequence[str], n: int) -> Columns:
    """Give the columns of `n` candidates that nothing is known of: NaN."""
    return {column: np.full(n, np.nan) for column in score_columns(filters, names)}


def measure(
    filters: Sequence[PatchFilter], names: Sequence[str], images: Images, grid: PatchGrid
) -> Columns:
    """Measure few candidates, through the stacks' own caches, in the order of the grid.

    Parameters
    ----------
    names : sequence of str
        The channels of the images; see `PatchFilter.columns`.
    images : mapping
        By (index of the source, "image" or "mask").

    Returns
    -------
    dict of str to float64 array
        By column, one value a candidate.
    """
    columns = unmeasured(filters, names, len(grid))
    for look in looks(filters, names):
        for row in grid.rows():
            stack, channels = images[int(grid.stack[row.start]), look.role]
            read = [channels[channel] for channel in look.channels]
            for part, patches in _read(stack, read, grid, row):
                for column, values in look.measure(patches).items():
                    columns[column][part] = values
    return columns


def _read(
    stack: Any, channels: Sequence[int], grid: PatchGrid, row: slice
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Read a row of patches (see `PatchGrid.rows`), N, C, (Z), Y, X, without their padding."""
    ends = np.minimum(grid.start[row] + grid.size, stack.data_shape[2:])
    size = ends - grid.start[row]
    cuts = np.flatnonzero((np.diff(size, axis=0) != 0).any(axis=1)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(size)]):
        start, width = grid.start[row.start + first].tolist(), int(size[first, -1])
        x = (grid.start[row.start + first : row.start + last, -1] - start[-1]).tolist()
        extent = (*size[first, :-1].tolist(), x[-1] + width)
        band = stack.extract_patch(int(grid.sample[row.start]), channels, start, extent)
        part = slice(row.start + first, row.start + last)
        yield part, np.stack([band[..., a : a + width] for a in x])
