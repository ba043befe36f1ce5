"""What the filters look at: which images and channels, and the metrics of patches.

Look at candidates in tile order: each tile is decoded once, what is cut is measured at once.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.batches import Batches
from napari_patchset.exporting.open_sources import Images, OpenImage, OpenImages
from napari_patchset.exporting.plan import MASK
from napari_patchset.exporting.tile_buffer import LEAST_TILES
from napari_patchset.exporting.tile_reader import BatchReader, ReadBatch
from napari_patchset.patching.filters import Mask, PatchFilter, metric_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.padding import PadMode
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import SourceInfo

Columns = dict[str, NDArray[np.float64]]


class MetricRequest(NamedTuple):
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


def metric_requests(filters: Sequence[PatchFilter], names: Sequence[str]) -> list[MetricRequest]:
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
            found.append(MetricRequest(role, channels, columns))
    return found


def empty_metrics(filters: Sequence[PatchFilter], names: Sequence[str], n: int) -> Columns:
    """Give the columns of `n` candidates that nothing is known of: NaN."""
    return {column: np.full(n, np.nan) for column in metric_columns(filters, names)}


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
    columns = empty_metrics(filters, names, len(grid))
    for look in metric_requests(filters, names):
        for row in grid.runs():
            stack, channels = images[int(grid.source_index[row.start]), look.role]
            read = [channels[channel] for channel in look.channels]
            for part, patches in _read(stack, read, grid, row):
                for column, values in look.measure(patches).items():
                    columns[column][part] = values
    return columns


def _read(
    stack: Any, channels: Sequence[int], grid: PatchGrid, row: slice
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Read a row of patches (see `PatchGrid.runs`), N, C, (Z), Y, X, without their padding."""
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


_MEASURERS = 2
"""Threads that measure what was cut, while others decode."""

_CUT_BYTES = 8 * 2**20
"""Pixels that are cut, then measured, in one go; more only where a single patch has more."""

_PAD: PadMode = "constant"
"""Filters look at what lies in the image: nothing is filled from within beyond its edge."""

Measured = tuple[NDArray[np.int64], Columns]
"""Candidates, and their metrics."""


class MetricReader:
    """Cut what filters look at, and measure it.

    Parameters
    ----------
    sources : dict of role to sequence of SourceInfo
        What is known of the images.
    images : OpenImages
        Gives their pixels.
    at_once : int
        Candidates in a run; what is measured together lies in one run.
    memory : int
        Bytes for decoded tiles and for what is cut.
    threads : int
        How many decode.
    proceed : callable
        Asked before each tile; what it raises ends the reading.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[SourceInfo]],
        images: OpenImages,
        at_once: int,
        memory: int,
        threads: int,
        check_cancelled: Callable[[], None],
    ) -> None:
        self._sources, self._images, self._at_once = sources, images, at_once
        self._threads, self._proceed = threads, check_cancelled
        self._for_tiles = max(memory - (2 * _MEASURERS + 1) * _CUT_BYTES, LEAST_TILES)

    def read(
        self, look: MetricRequest, grid: PatchGrid, candidates: NDArray[np.int64]
    ) -> Generator[Measured, None, None]:
        """Measure candidates, ascending, giving them as they are measured."""
        images = _Looking(self._images, look)
        batches = self._batches(look, grid, candidates)
        limits = self._for_tiles, self._threads
        reader = BatchReader(batches, images, look.role, _PAD, *limits, self._proceed)
        pool = ThreadPoolExecutor(_MEASURERS, "measure")
        try:
            with closing(reader.read()) as read:
                tasks = (self._submit(pool, reader, batches, look, batch) for batch in read)
                yield from _in_order(tasks)
        finally:
            pool.shutdown(cancel_futures=True)

    def _batches(
        self, look: MetricRequest, grid: PatchGrid, candidates: NDArray[np.int64]
    ) -> Batches:
        """Cut candidates into batches of which none lies in two runs, or is too large."""
        sources = self._sources[look.role]
        itemsize = max(np.dtype(source.dtype).itemsize for source in sources)
        n = max(1, _CUT_BYTES // (prod(grid.size) * len(look.channels) * itemsize))
        run, within = np.divmod(candidates, self._at_once)
        place = run * -(-self._at_once // n) + within // n
        return Batches.of(grid, sources, _PAD, candidates, place)

    def _submit(
        self,
        pool: Executor,
        reader: BatchReader,
        batches: Batches,
        look: MetricRequest,
        batch: ReadBatch,
    ) -> tuple[NDArray[np.int64], Future[Columns]]:
        stack = self._images[batch.stack, look.role].stack
        start, size = batches.starts(batch.number), batches.grid.size
        # One channel after the other, as they are measured.
        cut = np.empty((len(look.channels), len(start), *size), stack.data_dtype)
        reader.fill(batch, cut.swapaxes(0, 1))
        inside = np.minimum(size, stack.data_shape[2:] - start)
        return batches.chosen(batch.number), pool.submit(_measure, look, cut.swapaxes(0, 1), inside)


class _Looking:
    """Images, and of their channels only those that are looked at."""

    def __init__(self, images: OpenImages, look: MetricRequest) -> None:
        self._images, self._look = images, look

    def __getitem__(self, which: tuple[int, str]) -> OpenImage:
        return self._seen(self._images[which])

    def keep(self, which: tuple[int, str]) -> OpenImage:
        return self._seen(self._images.keep(which))

    def let_go(self, which: tuple[int, str]) -> None:
        self._images.let_go(which)

    def _seen(self, image: OpenImage) -> OpenImage:
        return OpenImage(image.stack, [image.channels[channel] for channel in self._look.channels])

    def blaming(self, index: int) -> AbstractContextManager[None]:
        return self._images.blaming(index)


def _in_order(
    tasks: Iterator[tuple[NDArray[np.int64], Future[Columns]]],
) -> Iterator[Measured]:
    """Give what is measured, while a few more tasks are under way."""
    waiting: deque[tuple[NDArray[np.int64], Future[Columns]]] = deque()
    for task in tasks:
        waiting.append(task)
        if len(waiting) > 2 * _MEASURERS:
            candidates, columns = waiting.popleft()
            yield candidates, columns.result()
    for candidates, columns in waiting:
        yield candidates, columns.result()


def _measure(look: MetricRequest, patches: NDArray[Any], inside: NDArray[np.int64]) -> Columns:
    """Measure of each patch what lies inside the image."""
    sizes, which = np.unique(inside, axis=0, return_inverse=True)
    found: Columns = {name: np.empty(len(patches)) for _, _, name in look.columns}
    for i, size in enumerate(sizes.tolist()):
        part = (slice(None), slice(None), *map(slice, size))
        mine = slice(None) if len(sizes) == 1 else np.flatnonzero(which == i)
        for column, values in look.measure(patches[mine][part]).items():
            found[column][mine] = values
    return found
