"""Metrics of candidates, which the filters of a plan compare with their limits.

Filters are sorted by the image that they need (`MetricRequest`). `MetricReader` reads candidates in
the order of tiles and measures each batch in a thread while the next ones are decoded; the export
(`score_chunks`) and the preview of the window both measure with it.
"""

import logging
from collections import deque
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.plans.image_refs import ANNOTATIONS, MASK
from napari_patchset.exporting.reading.failures import Failure, SourcesFailed
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.steps import Step
from napari_patchset.exporting.reading.tile_reader import TileReader
from napari_patchset.exporting.reading.tiles import MIN_TILE_BYTES, Batches
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patching.duplicates import HASH_HALVES, hash_columns, image_hashes
from napari_patchset.patching.filters.measurements import (
    Measurement,
    measurements,
    share_measurements,
)
from napari_patchset.patching.filters.patch_filters import MaskFilter, PatchFilter, ShareFilter
from napari_patchset.patching.filters.pixel_metrics import Metric
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.files import permitted_by
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import SourceInfo

logger = logging.getLogger(__name__)

_MEASURING_THREADS = 2

_READ_AT_ONCE = 2**16
"""Candidates of small sources that are read together, as each reading starts threads."""

_CUT_BYTES = 8 * 2**20
"""Bytes that are cut, then measured, at once; more only if a single patch has more."""


class MetricRequest(NamedTuple):
    """The metrics that are measured on the images of one role: image, mask or annotations."""

    role: str
    channels: list[int]
    """The channels that are read, ascending."""
    measurements: list[Measurement]
    """What is measured, by the index into `channels`."""
    hashed: Sequence[int] = ()
    """The channels whose hash is computed, by the index into `channels`; none for no hash."""

    @property
    def columns(self) -> list[str]:
        """The columns of what is measured."""
        return [each.column for each in self.measurements] + [*(HASH_HALVES if self.hashed else ())]

    def measure(self, patches: NDArray[Any]) -> dict[str, Metric]:
        """Measure patches, N, C, (Z), Y, X, of these channels and without padding."""
        columns = {e.column: e.measure(patches[:, e.channel]) for e in self.measurements}
        if self.hashed:
            columns |= hash_columns(image_hashes(patches[:, self.hashed]))
        return columns


def metric_requests(
    filters: Sequence[PatchFilter],
    sources: Sequence[SourceInfo],
    classes: Sequence[str] = (),
    hashes: bool = False,
) -> list[MetricRequest]:
    """Sort filters by the images that they need; the request for "image", if any, is the last.

    `classes` are those of the annotations, whose shares are measured whatever the filters; `hashes`
    tells whether the exported channels are hashed.
    """
    of_images = [each for each in filters if not isinstance(each, MaskFilter | ShareFilter)]
    of_masks = [each for each in filters if isinstance(each, MaskFilter)]
    by_role = {
        ANNOTATIONS: share_measurements(classes),
        MASK: measurements(of_masks, sources),
        IMAGE: measurements(of_images, sources),
    }
    requests = []
    for role, measured in by_role.items():
        hashed = range(len(sources[0].channels) if hashes and role == IMAGE else 0)
        channels = sorted({*hashed, *(each.channel for each in measured)})
        if channels:
            of_read = [each._replace(channel=channels.index(each.channel)) for each in measured]
            requests.append(MetricRequest(role, channels, of_read, hashed))
    return requests


class MetricReader:
    """Cut candidates and measure them.

    Parameters
    ----------
    sources : dict of role to sequence of SourceInfo
        Descriptions of the images.
    memory : int
        Bytes for decoded tiles and for the patches that are cut.
    chunk_length : int or None
        Candidates in a chunk: patches that are measured at once are of one chunk.
    classes : sequence of str
        The classes of the annotations, whose shares are measured.
    hashes : bool
        Whether the patches are hashed.
    """

    def __init__(
        self,
        filters: Sequence[PatchFilter],
        sources: Mapping[str, Sequence[SourceInfo]],
        images: OpenImages,
        *,
        memory: int = DEFAULT_MEMORY,
        chunk_length: int | None = None,
        classes: Sequence[str] = (),
        hashes: bool = False,
    ) -> None:
        self.requests = metric_requests(filters, sources[IMAGE], classes, hashes)
        self._sources, self._images, self._chunk_length = sources, images, chunk_length
        self._itemsize = {
            request.role: max(np.dtype(source.dtype).itemsize for source in sources[request.role])
            for request in self.requests
        }
        self._tile_memory = max(memory - (2 * _MEASURING_THREADS + 1) * _CUT_BYTES, MIN_TILE_BYTES)

    def read(
        self, request: MetricRequest, grid: PatchGrid, candidates: NDArray[np.int64]
    ) -> Generator[tuple[NDArray[np.int64], dict[str, Metric]], None, None]:
        """Measure candidates, ascending; yield some of them and their metrics at a time."""
        if not len(candidates):
            return
        reader = TileReader(
            self._batches(request, grid, candidates),
            self._images,
            request.role,
            self._tile_memory,
            request.channels,
        )
        waiting: deque[tuple[NDArray[np.int64], Future[dict[str, Metric]]]] = deque()
        pool = ThreadPoolExecutor(_MEASURING_THREADS, "measure")
        try:
            with closing(reader.read()) as batches:
                for batch in batches:
                    # One channel after the other, as they are measured.
                    shape = len(request.channels), len(batch.candidates), *grid.size
                    patches = np.empty(shape, batch.dtype).swapaxes(0, 1)
                    reader.fill(batch, patches)
                    start = grid.start[batch.candidates].astype(np.int64)
                    bounds = self._sources[request.role][batch.source_index].spatial_shape
                    inside = np.minimum(grid.size, bounds - start)
                    columns = pool.submit(_measure_inside, request, patches, inside)
                    waiting.append((batch.candidates, columns))
                    if len(waiting) > 2 * _MEASURING_THREADS:
                        measured, columns = waiting.popleft()
                        yield measured, columns.result()
            for measured, columns in waiting:
                yield measured, columns.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batches(
        self, request: MetricRequest, grid: PatchGrid, candidates: NDArray[np.int64]
    ) -> Batches:
        """Cut candidates into batches of at most `_CUT_BYTES`, each of one chunk."""
        sources, itemsize = self._sources[request.role], self._itemsize[request.role]
        n = max(1, _CUT_BYTES // (prod(grid.size) * len(request.channels) * itemsize))
        chunk_length = self._chunk_length or len(grid)
        chunk, index = np.divmod(candidates, chunk_length)
        part = chunk * -(-chunk_length // n) + index // n
        # Only pixels of the image are measured, so patches need not be filled beyond it.
        return Batches.from_candidates(grid, sources, "constant", candidates, part)


def _measure_inside(
    request: MetricRequest, patches: NDArray[Any], inside: NDArray[np.int64]
) -> dict[str, Metric]:
    """Measure the part of each patch that is inside of the image, of the size `inside`."""
    sizes, which = np.unique(inside, axis=0, return_inverse=True)
    columns = {column: np.empty(len(patches)) for column in request.columns}
    for i, size in enumerate(sizes.tolist()):
        part = (slice(None), slice(None), *map(slice, size))
        members = slice(None) if len(sizes) == 1 else np.flatnonzero(which == i)
        for column, values in request.measure(patches[members][part]).items():
            columns[column][members] = values
    return columns


def score_chunks(
    root: str,
    first: int,
    last: int,
    *,
    memory: int = DEFAULT_MEMORY,
    threads: int = 1,
    token: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Score the chunks of candidates from `first` up to, not including, `last`.

    Chunks that are already scored are left as they are. A source that can't be read is recorded,
    and its candidates get no metrics; if it is the last one, or must not be skipped, SourcesFailed
    is raised when all chunks without it are scored.

    See `write_shards` for the parameters; `progress` counts candidates.
    """
    workdir = WorkDir(Path(root), token)
    chunks = [i for i in range(first, last) if not workdir.scores.has(i)]
    if chunks:
        frozen = workdir.plan()
        with workdir.open_images(threads) as images:
            reader = _metric_reader(frozen, images, memory)
            with permitted_by(workdir.check_token):
                _ChunkScorer(workdir, frozen, chunks, reader, progress).score()


def find_outdated(
    workdir: WorkDir, ignored: Container[int] = ()
) -> Generator[Step, None, dict[int, Failure]]:
    """Measure sources again of which a file has another time, and find those whose metrics differ.

    A copy has another time and the same pixels, and an image with other pixels may have the same
    fingerprint. Yield how many of them are done.
    """
    frozen, failures = workdir.plan(), dict[int, Failure]()
    if not frozen.n_score_chunks or not (touched := frozen.find_touched()):
        return failures
    skipped, planned = workdir.failed(), frozen.planned_files
    grid, scores = workdir.candidates(frozen), workdir.scores.read(frozen)
    with workdir.open_images(1) as images:
        reader = _metric_reader(frozen, images, DEFAULT_MEMORY)
        for done, (index, path) in enumerate(touched.items()):
            yield Step(done, len(touched))
            if index in skipped or index in ignored:
                continue
            candidates = np.flatnonzero(grid.source_index == index)
            for request in reader.requests:
                with closing(reader.read(request, grid, candidates)) as parts:
                    for measured, columns in parts:
                        workdir.check_cancelled()
                        if not is_measured_as(columns, scores, measured):
                            ref = frozen.plan.sources[index]
                            failures[index] = Failure.from_error(ref, planned.changed(path))
                            break
    return failures


def is_measured_as(
    columns: Mapping[str, Metric], recorded: Mapping[str, Metric], rows: NDArray[np.int64]
) -> bool:
    """Return whether metrics are the recorded ones of some candidates, but for rounding."""
    return all(
        np.allclose(values, recorded[name][rows], rtol=1e-9, atol=1e-12, equal_nan=True)
        for name, values in columns.items()
    )


def _metric_reader(frozen: FrozenPlan, images: OpenImages, memory: int) -> MetricReader:
    return MetricReader(
        frozen.plan.filters,
        frozen.images,
        images,
        memory=memory,
        chunk_length=frozen.scored_at_once,
        classes=frozen.class_names,
        hashes=frozen.plan.dedupe is not None,
    )


class _ChunkScorer:
    """Score chunks of candidates, and write each as soon as all of it is measured."""

    def __init__(
        self,
        workdir: WorkDir,
        frozen: FrozenPlan,
        chunks: Sequence[int],
        reader: MetricReader,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._workdir, self._frozen, self._reader = workdir, frozen, reader
        self._progress = progress
        self._grid = workdir.candidates(frozen)
        self._candidates = np.concatenate([np.array(frozen.score_chunk(i)) for i in chunks])
        self._is_done = np.zeros(len(self._candidates), bool)
        names = frozen.plan.metric_columns(frozen.sources, frozen.class_names)
        self._columns = {name: np.full(len(self._candidates), np.nan) for name in names}
        self._needed: dict[int, Failure] = {}
        """Sources that can't be read now, but must not be skipped."""
        self._skipped = set[int]()
        """Sources that this job found unreadable, and that may be skipped."""

    def score(self) -> None:
        """Score whole sources; one that can't be read affects no other."""
        sources = self._grid.source_index[self._candidates]
        first, n = 0, len(sources)
        while first < n:
            last_source = sources[min(first + _READ_AT_ONCE, n) - 1]
            end = int(np.searchsorted(sources, last_source, "right"))
            self._score_readable(np.arange(first, end), sources[first:end])
            first = end
        if self._needed:
            raise self._workdir.refused(self._needed)

    def _score_readable(self, index: NDArray[np.intp], sources: NDArray[np.int32]) -> None:
        """Score candidates by their index; those of a source that can't be read get no metrics."""
        while len(index):
            try:
                return self._score(self._candidates[index])
            except SourcesFailed as failed:
                is_failed = np.isin(sources, list(failed.failures))
                if self._workdir.may_skip(failed.failures):
                    self._workdir.record(failed)
                    self._skipped |= failed.failures.keys()
                    for values in self._columns.values():
                        values[index[is_failed]] = np.nan
                    self._finish(index[is_failed])
                else:
                    self._needed |= failed.failures
                rest = ~is_failed & ~self._is_done[index]
                index, sources = index[rest], sources[rest]
        return None

    def _score(self, candidates: NDArray[np.int64]) -> None:
        *_, last = self._reader.requests
        for request in self._reader.requests:
            with closing(self._reader.read(request, self._grid, candidates)) as parts:
                for measured, columns in parts:
                    self._workdir.check_cancelled()
                    index = np.searchsorted(self._candidates, measured)
                    for column, values in columns.items():
                        self._columns[column][index] = values
                    if request is last:
                        self._finish(index)

    def _finish(self, index: NDArray[np.intp]) -> None:
        """Mark candidates as done, and write the chunks that they complete."""
        self._is_done[index] = True
        for chunk in np.unique(self._candidates[index] // self._frozen.scored_at_once).tolist():
            of_chunk = self._frozen.score_chunk(chunk)
            low, high = np.searchsorted(self._candidates, (of_chunk.start, of_chunk.stop)).tolist()
            if self._is_done[low:high].all() and not self._workdir.scores.has(chunk):
                columns = {name: values[low:high] for name, values in self._columns.items()}
                self._workdir.scores.write(chunk, columns)
                logger.debug("scored chunk %d: %d candidates", chunk, high - low)
                if self._progress is not None:
                    self._progress(int(self._is_done.sum()), len(self._is_done))
        # Another job may have found too many to skip since, so that all are read again: chunks that
        # were written here without their metrics must go, too.
        if self._skipped and (forgotten := self._skipped - self._workdir.failed().keys()):
            self._workdir.forget_failed(forgotten)
