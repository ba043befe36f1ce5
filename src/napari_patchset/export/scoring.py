"""Score: read every candidate once, in tile order, and keep what the filters look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.failures import SourcesFailed
from napari_patchset.export.opened import OpenImage, OpenImages
from napari_patchset.export.partial import PartialExport
from napari_patchset.export.plan import MASK
from napari_patchset.patching.filter_base import PatchFilter
from napari_patchset.patching.filters import Mask, score_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import IMAGE


class Images(Protocol):
    """Give the image of a source, by (index of the source, role)."""

    def __getitem__(self, which: tuple[int, str]) -> OpenImage: ...


Columns = dict[str, NDArray[np.float64]]


def score_job(root: str, first: int, last: int) -> None:
    """Score the runs of candidates from `first` up to `last`; those already scored stay.

    A source that can't be read is recorded and its candidates stay without a metric.

    Parameters
    ----------
    root : str
        The folder of the partial export.

    Raises
    ------
    ExportStopped
        If a stop is requested.
    SourcesFailed
        If it is the last source that could be read.
    """
    partial = PartialExport(Path(root))
    frozen = partial.frozen()
    grid, plan = partial.candidates(frozen), frozen.plan
    with OpenImages(plan, stamps=frozen.stamps) as images:
        for run in range(first, last):
            if not partial.is_scored(run):
                chosen = grid[frozen.score_run(run)]
                names = frozen.sources[0].channels
                scored = _measured(partial, plan.filters, names, images, chosen)
                partial.write_scores(run, scored)


def measure(
    filters: Sequence[PatchFilter],
    names: Sequence[str],
    images: Images,
    grid: PatchGrid,
    proceed: Callable[[], None] = lambda: None,
) -> Columns:
    """Measure candidates, in the order of the grid.

    Parameters
    ----------
    names : sequence of str
        The channels of the images; see `PatchFilter.columns`.
    images : mapping
        By (index of the source, "image" or "mask").
    proceed : callable
        Asked before each read; what it raises ends the measuring.

    Returns
    -------
    dict of str to float64 array
        By column, one value a candidate.
    """
    columns = {column: np.full(len(grid), np.nan) for column in score_columns(filters, names)}
    for role in (IMAGE, MASK):
        looking = [each for each in filters if isinstance(each, Mask) == (role == MASK)]
        if looking:
            _measure_role(looking, names, images, role, grid, proceed, columns)
    return columns


def _measured(
    partial: PartialExport,
    filters: Sequence[PatchFilter],
    names: Sequence[str],
    images: OpenImages,
    grid: PatchGrid,
) -> Columns:
    """Measure source by source, so that a broken one leaves out no other."""
    columns = {column: np.full(len(grid), np.nan) for column in score_columns(filters, names)}
    for index in np.unique(grid.stack).tolist():
        mine = np.flatnonzero(grid.stack == index)
        try:
            with images.reading(index):
                found = measure(filters, names, images, grid[mine], partial.proceed)
        except SourcesFailed as failed:
            partial.record(failed)
        else:
            for column, values in found.items():
                columns[column][mine] = values
    return columns


def _measure_role(
    filters: Sequence[PatchFilter],
    names: Sequence[str],
    images: Images,
    role: str,
    grid: PatchGrid,
    proceed: Callable[[], None],
    columns: Mapping[str, NDArray[np.float64]],
) -> None:
    wanted = sorted({channel for each in filters for channel in each.columns(names)})
    for row in grid.rows():
        proceed()
        stack, channels = images[int(grid.stack[row.start]), role]
        read = [channels[channel] for channel in wanted]
        for part, patches in _read(stack, read, grid, row):
            for each in filters:
                for channel, column in each.columns(names).items():
                    columns[column][part] = each.measure(patches[:, wanted.index(channel)])


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
