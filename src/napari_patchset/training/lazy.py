"""LazyPatchSet: the patches of a plan, cut from their sources when they are used.

Sources, candidates, filters and split are those of an export of the same plan, so that every index
returns the same bytes. They are cut by a `SourceReader`, so that a set pickles, and works in the
workers of a torch `DataLoader` however these are started.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_patchset import __version__
from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.reading.steps import run_steps
from napari_patchset.exporting.stages import check_candidates
from napari_patchset.exporting.writing.freezing import freeze_plan
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.metrics import score_chunks
from napari_patchset.exporting.writing.selection import ArraySelection, select_candidates
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_WORKERS
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.columns import read_columns, write_columns
from napari_patchset.patchset.layout import LABELS
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.patches import PatchMapping, PatchSequence, array_name, statistics_of
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.table import patch_table
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo
from napari_patchset.training.source_reader import SourceReader

DEFAULT_CACHE = 512 * 2**20
"""Bytes of decoded tiles that a process caches."""

_DIGEST = b"measured"


class LazyPatchArray(PatchSequence):
    """The patches of one array of a set that was not exported, as a sequence.

    An index returns a patch C(Z)YX in the native dtype, a slice an array N, C, (Z), Y, X. Each is a
    copy that may be changed. `__getitems__`, which torch's `DataLoader` calls, decodes each tile of
    a batch once.
    """

    def __init__(self, array: ArraySelection, reader: SourceReader) -> None:
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

    def _read_many(self, indices: Sequence[int]) -> NDArray[Any]:
        candidates = self.candidates[np.asarray(indices, np.int64)]
        distinct, where = np.unique(candidates, return_inverse=True)
        if len(distinct) == len(candidates):
            return self._reader.read(self.layout, candidates)
        patches: NDArray[Any] = self._reader.read(self.layout, distinct)[where]  # some twice
        return patches


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
        self._reader = SourceReader(frozen, grid, threads, cache)
        metrics, failed = _scores(frozen, grid, threads, Path(scores) if scores else None)
        self.failures = (*frozen.failures, *failed.values())
        is_readable = ~np.isin(grid.source_index, list(failed))
        self._selection = select_candidates(plan, grid, frozen.sources, metrics, is_readable)
        self._selection.check_not_empty()
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
        """The table: one row per candidate, including the rejected ones; no column `checksum`."""
        return self._table(slice(None))

    def _rows(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self._selection.split == self.splits.index(split))

    @property
    def _column_names(self) -> Sequence[str]:
        names: list[str] = self._table(slice(1)).column_names
        return names

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
        except UnreadableFileError:  # damaged: it is measured and written again
            metadata = {}
        if metadata.get(_DIGEST, b"").decode() == digest:
            return metrics, {}
    metrics, failed = measure_candidates(frozen, grid, threads)
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


def measure_candidates(
    frozen: FrozenPlan, grid: PatchGrid, threads: int
) -> tuple[dict[str, NDArray[np.float64]], dict[int, Failure]]:
    """Score the candidates as an export does, in a folder that is deleted afterwards.

    Return the metrics, none if nothing is to be measured, and the sources that can't be read.
    """
    if not frozen.n_score_chunks:
        return {}, {}
    with TemporaryDirectory(prefix="napari-patchset-") as folder:
        workdir = WorkDir.for_set(Path(folder) / Path(frozen.plan.out).name)
        workdir.freeze(frozen, grid)
        score_chunks(str(workdir.root), 0, frozen.n_score_chunks, threads=threads)
        return workdir.scores.read(frozen), workdir.failed()
