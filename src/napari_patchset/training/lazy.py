"""LazyPatchSet: the patches of a plan, cut from their sources when they are used.

Sources, candidates, filters and split are those of an export of the same plan, so that every index
returns the same bytes. A batch is read tile by tile, as an export reads: each tile that it needs is
decoded once, or taken from a cache that outlasts the batch.

It pickles, and works in the workers of a torch `DataLoader` however these are started: each process
opens the files for itself, at its first patch.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from itertools import product
from operator import gt
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_patchset import __version__
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.planned_files import PlannedFiles
from napari_patchset.exporting.reading.steps import run_steps
from napari_patchset.exporting.reading.tile_reader import TileReader
from napari_patchset.exporting.reading.tiles import Batches
from napari_patchset.exporting.stages import check_candidates, check_selection
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan, freeze_plan
from napari_patchset.exporting.writing.metrics import score_chunks
from napari_patchset.exporting.writing.selection import ArraySelection, select_candidates
from napari_patchset.exporting.writing.shard_writer import cast_exactly
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_WORKERS
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.columns import read_columns, write_columns
from napari_patchset.patchset.layout import LABELS, ArrayLayout
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.patches import PatchMapping, PatchSequence, array_name, statistics_of
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.table import patch_table
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.protocol import BlockStack, has_blocks

DEFAULT_CACHE = 512 * 2**20
"""Bytes of decoded tiles that a process caches."""

_NO_LIMIT = sys.maxsize
"""Bytes of the tiles of one batch, none of which is decoded twice."""

_DIGEST = b"measured"


class LazyPatchArray(PatchSequence):
    """The patches of one array of a set that was not exported, as a sequence.

    An index returns a patch C(Z)YX in the native dtype, a slice an array N, C, (Z), Y, X. Each is a
    copy that may be changed. `__getitems__`, which torch's `DataLoader` calls, decodes each tile of
    a batch once.
    """

    def __init__(self, array: ArraySelection, reader: "_SourceReader") -> None:
        super().__init__(array.layout.shape, array.layout.pixel_type)
        self.layout = array.layout
        self.candidates = array.candidates
        """The row in the table of each patch."""
        self._reader = reader

    @property
    def tiles(self) -> NDArray[np.int64]:
        """A number for each patch: patches that begin in one tile of a plane have the same one."""
        return self._reader.tiles(self.candidates)

    @property
    def n_cached_tiles(self) -> int:
        """About the number of tiles, with all their planes, that the cache holds."""
        return self._reader.n_cached_tiles(self.layout)

    def _read(self, index: int) -> NDArray[Any]:
        patch: NDArray[Any] = self._read_many([index])[0]
        return patch

    def _read_many(self, indices: Sequence[int]) -> Sequence[NDArray[Any]] | NDArray[Any]:
        candidates = self.candidates[np.asarray(indices, np.int64)]
        distinct, where = np.unique(candidates, return_inverse=True)
        patches = self._reader.read(self.layout, distinct)
        if np.array_equal(where, np.arange(len(distinct))):
            return patches
        if len(where) > len(distinct):  # some twice, each a copy of its own
            return patches[where]
        return [patches[i] for i in where.tolist()]


class LazyPatchSet(PatchMapping[LazyPatchArray]):
    """The patch set of a plan, without an export: `LazyPatchSet(plan)["train"][0]`.

    It is used as `PatchSet` is, and has the same patches, byte for byte, in the same order. All
    candidates are read once, when it is made, if there are filters, and their annotations, if any.

    Parameters
    ----------
    plan : ExportPlan, str or Path
        A plan, or the file of a saved one; its destination is not written to.
    scores : str, Path or None
        A file in which what is measured is kept, for the next time; by default
        NAME.scores.parquet beside the file of the plan NAME.json, and for a plan in memory none.
    threads : int
        Number of threads that decode, in each process.
    cache : int
        Bytes of decoded tiles that each process caches; more while a batch needs them.

    Attributes
    ----------
    plan : ExportPlan
        The plan, with the sources that could be opened.
    sources : tuple of SourceInfo
        What the patches are cut from.
    failures : tuple of Failure
        The sources that were skipped since they can't be read.

    Raises
    ------
    PatchsetError, OSError
        If the plan can't be carried out, or no source can be read.
    """

    def __init__(
        self,
        plan: ExportPlan | str | Path,
        *,
        scores: str | Path | None = None,
        threads: int = DEFAULT_WORKERS,
        cache: int = DEFAULT_CACHE,
    ) -> None:
        if not isinstance(plan, ExportPlan):
            scores = scores or Path(plan).with_suffix(".scores.parquet")
            plan = make_plan([], None, plan=Path(plan))
        if not FORMATS[plan.format].has_pixels:  # the patches are cut all the same
            plan = plan.model_copy(update={"format": "zarr", "out": f"{plan.out}.zarr"})
        frozen, grid = run_steps(freeze_plan(plan, lambda: None))
        check_candidates(frozen, grid)
        self.plan, self.sources = frozen.plan, frozen.sources
        self._reader = _SourceReader(frozen, grid, threads, cache)
        metrics, failed = _scores(frozen, grid, threads, Path(scores) if scores else None)
        self.failures = (*frozen.failures, *failed.values())
        is_readable = ~np.isin(grid.source_index, list(failed))
        self._selection = select_candidates(plan, grid, frozen.sources, metrics, is_readable)
        check_selection(self._selection)
        self._arrays = {
            array_name(each.layout.split, each.layout.role): LazyPatchArray(each, self._reader)
            for each in self._selection.arrays(frozen.arrays)
        }

    @property
    def _title(self) -> str:
        return f"The plan of {self.plan.out}"

    def __repr__(self) -> str:
        shapes = [f"{name} {len(a)} x {a.shape[1:]} {a.dtype}" for name, a in self.items()]
        return f"<LazyPatchSet: {', '.join(shapes)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every open file and free the decoded tiles; reading a patch opens it again."""
        self._reader.close()

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: "train", "val" and "test", as far as there are any, or "all"."""
        return self._selection.verdicts.splits

    @property
    def n_folds(self) -> int:
        """Number of folds, 0 without."""
        return len(self._selection.folds)

    @property
    def fold_numbers(self) -> NDArray[np.int8]:
        """The fold of each training patch."""
        rows, fold = self._rows(self.splits[0]), self._selection.verdicts.fold
        return np.full(len(rows), -1, np.int8) if fold is None else fold[rows]

    @cached_property
    def statistics(self) -> Mapping[str, tuple[ChannelStatistics, ...]]:
        """Statistics of each channel, by role, over the training patches, which are all read."""
        training = self.splits[0]
        return {
            array.layout.role: statistics_of(array)
            for array in self.values()
            if array.layout.split == training and array.layout.role != LABELS
        }

    @cached_property
    def table(self) -> pa.Table:
        """The table: one row per candidate, including the rejected ones; without checksums."""
        return self._table(slice(None))

    def _rows(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self._selection.split == self.splits.index(split))

    def _take(self, rows: NDArray[np.int64], name: str) -> pa.Table:
        return self._table(rows)

    def _locate(self, row: int) -> tuple[SourceInfo, dict[str, Any]]:
        (values,) = self._table(np.array([row])).to_pylist()
        return self.sources[values["source_index"]], {**values, "id": row}

    def _table(self, which: slice | NDArray[np.int64]) -> pa.Table:
        selection = self._selection
        grid, row = self._reader.grid[which], selection.row[which]
        checksums = np.zeros(len(row), np.uint32)
        table = patch_table(self.sources, grid, selection.verdicts[which], row, checksums)
        return table.drop_columns(["checksum"])


def _scores(
    frozen: FrozenPlan, grid: PatchGrid, threads: int, path: Path | None
) -> tuple[dict[str, NDArray[np.float64]], dict[int, Failure]]:
    """Measure the candidates, or read what was measured before; return also what failed."""
    if not frozen.n_score_chunks:
        return {}, {}
    digest = _digest(frozen, grid)
    if path is not None and path.exists():
        try:
            metrics, metadata = read_columns(path)
        except pa.ArrowInvalid:  # damaged: it is measured and written again
            metadata = {}
        if metadata.get(_DIGEST, b"").decode() == digest:
            return metrics, {}
    metrics, failed = _measure(frozen, grid, threads)
    if path is not None and not failed:
        write_columns(path, metrics, {_DIGEST: digest})
    return metrics, failed


def _digest(frozen: FrozenPlan, grid: PatchGrid) -> str:
    """Return a digest of all that metrics depend on, and of the version that measures them.

    Whatever a plan gains counts too, as only what certainly does not matter is left out.
    """
    chosen_later = {"out", "format", "codec", "split", "overrides", "keep_fraction"}
    text = frozen.model_dump_json(
        exclude={"plan": chosen_later, "arrays": True, "max_failures": True, "failures": True}
    )
    texts = [__version__, text]
    columns = (grid.source_index, grid.sample, grid.start)
    texts += [digest_bytes(np.ascontiguousarray(each).tobytes()) for each in columns]
    return digest_bytes(json.dumps(texts).encode())


def _measure(
    frozen: FrozenPlan, grid: PatchGrid, threads: int
) -> tuple[dict[str, NDArray[np.float64]], dict[int, Failure]]:
    """Score the candidates as an export does, in a folder that is deleted afterwards."""
    with TemporaryDirectory(prefix="napari-patchset-") as folder:
        workdir = WorkDir.for_set(Path(folder) / Path(frozen.plan.out).name)
        workdir.freeze(frozen, grid)
        score_chunks(str(workdir.root), 0, frozen.n_score_chunks, threads=threads)
        return workdir.scores.read(frozen), workdir.failed()


class _SourceReader:
    """Cut candidates of a frozen plan; threads may share it, a forked child opens files anew."""

    def __init__(self, frozen: FrozenPlan, grid: PatchGrid, threads: int, cache: int) -> None:
        self.frozen, self.grid = frozen, grid
        self._threads, self._cache = threads, cache
        self._start()

    def _start(self) -> None:
        self._process, frozen = os.getpid(), self.frozen
        self._lock, self._tiles = Lock(), TileCache(self._cache)
        self._images = OpenImages(
            frozen.plan,
            planned=PlannedFiles(
                frozen.plan,
                frozen.images,
                frozen.file_stats,
                "this set was made",
                "make the LazyPatchSet again",
            ),
            threads=self._threads,
            classes=frozen.classes,
        )

    def __getstate__(self) -> tuple[Any, ...]:
        return self.frozen, self.grid, self._threads, self._cache

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.frozen, self.grid, self._threads, self._cache = state
        self._start()

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            self._images.close()
            self._tiles.clear()

    def read(self, layout: ArrayLayout, candidates: NDArray[np.int64]) -> NDArray[Any]:
        """Return candidates, distinct and ascending, as N, C, (Z), Y, X."""
        if os.getpid() != self._process:
            self._start()
        out = np.empty((len(candidates), *layout.patch_shape), layout.pixel_type)
        if not len(candidates):
            return out
        with self._lock:
            if self._paste_cached(layout, candidates, out):
                return out
            frozen = self.frozen
            batches = Batches.from_candidates(
                self.grid,
                frozen.images[layout.role],
                frozen.plan.strategy.padding,
                candidates,
                np.zeros(len(candidates), np.int64),
            )
            tiles = self._tiles if self._cache else None
            reader = TileReader(batches, self._images, layout.role, _NO_LIMIT, tiles=tiles)
            with closing(reader.read()) as pending:
                for batch in pending:
                    rows = np.searchsorted(candidates, batch.candidates)
                    patches = np.empty((len(rows), *layout.patch_shape), batch.dtype)
                    reader.fill(batch, patches)
                    source = frozen.plan.sources[batch.source_index]
                    specs = self.grid[batch.candidates]
                    out[rows] = cast_exactly(patches, layout.pixel_type, specs, source)
        return out

    def _paste_cached(
        self, layout: ArrayLayout, candidates: NDArray[np.int64], out: NDArray[Any]
    ) -> bool:
        """Fill `out` if every tile of the candidates is cached, which takes a fifth of the time."""
        if not len(self._tiles):
            return False
        patches = list[tuple[NDArray[Any], Rect, list[tuple[NDArray[Any], Rect]]]]()
        planes = out.reshape(*out.shape[:2], -1, *out.shape[-2:])
        pad, stacks = self.frozen.plan.strategy.padding, dict[int, tuple[BlockStack, list[int]]]()
        for index in np.unique(self.grid.source_index[candidates]).tolist():
            image = self._images[index, layout.role]
            if image.stack.data_dtype != out.dtype or not has_blocks(image.stack):
                return False
            stacks[index] = image.stack, image.channels
        for row, candidate in enumerate(candidates.tolist()):
            spec = self.grid[candidate]
            stack, channels = stacks[spec.source_index]
            bounds = self.frozen.images[layout.role][spec.source_index].spatial_shape
            ends = (a + n for a, n in zip(spec.start, spec.size, strict=True))
            if pad != "constant" and any(map(gt, ends, bounds)):
                return False
            *depth, y, x = spec.start
            first, (height, width) = (depth or [0])[0], spec.size[-2:]
            window = Rect(x, y, min(width, bounds[-1] - x), min(height, bounds[-2] - y))
            n_planes = min(planes.shape[2], (*bounds[:-2], 1)[0] - first)
            for c, z in product(range(len(channels)), range(n_planes)):
                tiles = []
                for block in stack.blocks(spec.sample, channels[c], first + z, window):
                    pixels = self._tiles.peek((spec.source_index, layout.role, block.key))
                    if pixels is None:
                        return False
                    tiles.append((block.plane(pixels), block.rect))
                patches.append((planes[row, c, z], window, tiles))
        out.fill(0)
        for plane, window, tiles in patches:
            for pixels, rect in tiles:
                inside, outside = rect.overlap_slices(window)
                plane[outside] = pixels[inside]
        return True

    def tiles(self, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the tile that each candidate begins in."""
        grid = self.grid[candidates]
        blocks = np.array([source.block_shape or source.spatial_shape[-2:]
                           for source in self.frozen.sources])  # fmt: skip
        *depth, y, x = grid.start.T
        height, width = blocks[grid.source_index].T
        keys = np.stack([grid.source_index, grid.sample, *depth, y // height, x // width], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def n_cached_tiles(self, layout: ArrayLayout) -> int:
        """Return about the number of tiles, each of all planes of a patch, that the cache holds."""
        sources = self.frozen.images[layout.role]
        areas = [np.prod(each.block_shape or each.spatial_shape[-2:]) for each in sources]
        planes = np.prod(layout.patch_shape[:-2], dtype=np.int64)
        nbytes = int(max(areas) * planes) * np.dtype(sources[0].dtype).itemsize
        return max(1, self._cache // nbytes)
