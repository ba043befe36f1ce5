"""The table of a patch set, patches.parquet: one row per candidate, with where it was cut from.

`patch_tables` builds it in parts, `TableFile` reads it, `find_split_rows` checks it against the
manifest, and `grid_of` turns it back into a grid.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.patching.duplicates import NO_HASH, hashes_of, without_hashes
from napari_patchset.patching.grid import Draws, PatchGrid
from napari_patchset.patching.splits.sheet_columns import SPLIT_COLUMN
from napari_patchset.patching.verdicts import Metrics, Verdicts
from napari_patchset.patchset.columns import column, column_values, text_column
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import REMEDY, Manifest
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.cache import SharedCache

NUMBERED_AXES = "TZRIHVB"
"""The axes merged into S; each has a nullable column with the file's own number."""

_PART_ROWS = 2**16
"""Rows of a part: the whole table at once would take ten times its size."""


def patch_table(
    sources: Sequence[SourceInfo],
    grid: PatchGrid,
    verdicts: Verdicts,
    rows: NDArray[np.int64],
    checksums: NDArray[np.uint32],
    first: int = 0,
) -> pa.Table:
    """Build the table: one row per candidate, including the rejected ones.

    `id` counts the candidates; `array` and `index` locate the pixels, null if they are not written;
    `source` is the source's key and `source_index` its index in the manifest. `t`, `z`, ... are in
    the file's own numbering, null for an axis that is not merged into S. `*_start` and `*_size` are
    in pixels from the image's origin (`*_um` in micrometres, null if the pixel size is unknown;
    `*_level0` in the file's pixels, if an image was resampled), `pad_*` the pixels beyond the
    image's end, `valid` the share of the patch that the source has pixels for, `drawn_for` and
    `weight` the class that it was drawn for and the weight that undoes that, if it was drawn for
    one. The columns of a samples sheet have their own names (ArgumentError if that is the name of
    another column), as has the `well` if the split reads it; the sheet's column `split` is the
    `split`. `fold` is there if the split has folds. Each metric has a column of its own name, null
    where it was not measured; `hash` is there if near-duplicates are rejected.

    Parameters
    ----------
    rows : int64 array
        Row of each candidate in the array of its split, -1 if it is not written.
    checksums : uint32 array
        The crc32c of the bytes of each candidate's image; ignored if it is not written.
    first : int
        The `id` of the first row, if the table is a part of a larger one.
    """
    n, absent, metrics = len(grid), rows < 0, verdicts.metrics
    source_index = column(grid.source_index)
    scenes = [None if source.scene is None else str(source.scene) for source in sources]
    split = text_column(verdicts.splits).take(column(verdicts.split, verdicts.split < 0))
    images = text_column([f"{name}/{IMAGE}" for name in verdicts.splits])
    columns: dict[str, Any] = {
        "id": column(np.arange(first, first + n, dtype=np.int64)),
        "array": images.take(column(verdicts.split, absent)),
        "index": column(rows, absent),
        "source": text_column([source.key for source in sources]).take(source_index),
        "source_index": source_index,
        "scene": text_column(scenes).take(source_index),
        "sample": column(grid.sample),
        **_sample_numbers(sources, grid.source_index, grid.sample),
        **_extents(sources, grid.size, grid.source_index, grid.start),
        "valid": column(np.ones(n, np.float32) if grid.valid is None else grid.valid),
        **_draws(grid.draws),
        **_numbers_or_null("outline", grid.outline),
        "split": split,
        **_numbers_or_null("fold", verdicts.fold),
        "kept": column(verdicts.kept),
        "reason": text_column(verdicts.reasons).take(column(verdicts.reason, verdicts.reason < 0)),
        **{name: column(v, np.isnan(v)) for name, v in without_hashes(metrics).items()},
        **_hashes(metrics),
        "checksum": column(checksums, absent),
    }
    of_sheet = _sheet_columns(sources)
    if taken := sorted(columns.keys() & of_sheet.keys()):
        raise ArgumentError(
            f"The samples sheet has a column {taken[0]!r}, as the table of the patch set has; "
            "rename it in the sheet."
        )
    columns |= {name: texts.take(source_index) for name, texts in of_sheet.items()}
    return pa.table(columns)


def patch_tables(
    sources: Sequence[SourceInfo],
    grid: PatchGrid,
    verdicts: Verdicts,
    rows: NDArray[np.int64],
    checksums: NDArray[np.uint32],
) -> Iterator[pa.Table]:
    """Build the table in parts; see `patch_table`."""
    for first in range(0, len(grid), _PART_ROWS):
        part = slice(first, first + _PART_ROWS)
        columns = verdicts[part], rows[part], checksums[part]
        yield patch_table(sources, grid[part], *columns, first)


def _sample_numbers(
    sources: Sequence[SourceInfo], source_index: NDArray[np.int32], sample: NDArray[np.int32]
) -> Mapping[str, pa.Array]:
    """Return the columns `t`, `z`, ...: the index along each axis of S, as the file counts."""
    order = np.argsort(source_index, kind="stable")
    present, first = np.unique(source_index[order], return_index=True)
    numbers = {axis: np.zeros(len(order), np.int64) for axis in NUMBERED_AXES}
    has_axis = {axis: np.zeros(len(order), bool) for axis in NUMBERED_AXES}
    for i, rows in zip(present.tolist(), np.split(order, first[1:]), strict=True):
        layout, starts = sources[i].layout, sources[i].starts
        if not layout.sample_axes:
            continue
        indices = np.unravel_index(sample[rows], layout.sample_shape)
        for axis, index in zip(layout.sample_axes, indices, strict=True):
            if axis in numbers:
                numbers[axis][rows] = index + starts.get(axis, 0)
                has_axis[axis][rows] = True
    return {axis.lower(): column(numbers[axis], ~has_axis[axis]) for axis in NUMBERED_AXES}


def _extents(
    sources: Sequence[SourceInfo],
    size: Sequence[int],
    source_index: NDArray[np.int32],
    start: NDArray[np.int32],
) -> Mapping[str, pa.Array]:
    """Return the columns of start, size and padding along each axis of a patch."""
    columns = {}
    for i, name in enumerate(sources[0].layout.spatial_axes.lower()):
        begin = start[:, i].astype(np.int64)
        extents = np.array([source.spatial_shape[i] for source in sources], np.int64)
        sizes_um = [getattr(source.pixel_size, name, None) for source in sources]
        pixel_sizes = np.array(sizes_um, np.float64)
        extent, pixel_size = extents[source_index], pixel_sizes[source_index]
        unknown = np.isnan(pixel_size)
        columns[f"{name}_start"] = column(begin)
        columns[f"{name}_size"] = column(np.full(len(begin), size[i], np.int64))
        if name in "yx" and any(source.ratio for source in sources):
            ratios = [source.ratio["yx".index(name)] if source.ratio else 1 for source in sources]
            ratio = np.array(ratios, np.float64)[source_index]
            columns[f"{name}_start_level0"] = column(begin * ratio)
            columns[f"{name}_size_level0"] = column(size[i] * ratio)
        columns[f"{name}_start_um"] = column(begin * pixel_size, unknown)
        columns[f"{name}_size_um"] = column(size[i] * pixel_size, unknown)
        columns[f"pad_{name}"] = column(np.maximum(begin + size[i] - extent, 0))
    return columns


def _numbers_or_null(name: str, numbers: NDArray[np.integer] | None) -> dict[str, pa.Array]:
    """Return a column of numbers, of which -1 is null; none if there are no numbers."""
    return {} if numbers is None else {name: column(numbers, numbers < 0)}


def _hashes(metrics: Metrics) -> Mapping[str, pa.Array]:
    """Return the column of the hashes that near-duplicates are found by."""
    if (measured := hashes_of(metrics)) is None:
        return {}
    hashes, _ = measured
    return {"hash": column(hashes, hashes == NO_HASH)}


def _draws(draws: Draws | None) -> Mapping[str, pa.Array]:
    if draws is None:
        return {}
    names = text_column(list(draws.weights)).take(column(draws.code))
    return {"drawn_for": names, "weight": column(draws.weight)}


def _sheet_columns(sources: Sequence[SourceInfo]) -> dict[str, pa.Array]:
    """Return the columns of the samples sheet, and the wells, by source."""
    names = dict.fromkeys(name for source in sources for name in source.columns)
    names.pop(SPLIT_COLUMN, None)
    values = {name: [each.columns.get(name) for each in sources] for name in names}
    if "well" not in values and any(source.well for source in sources):
        values["well"] = [source.well for source in sources]
    return {name: text_column(texts) for name, texts in values.items()}


def check_sheet(sources: Sequence[SourceInfo], metrics: Iterable[str], grid: PatchGrid) -> None:
    """Raise ArgumentError early if a column of the samples sheet has the name of another one."""
    if any(source.columns for source in sources):
        codes, measured = np.zeros(1, np.int8), dict.fromkeys(metrics, np.zeros(1))
        verdicts = Verdicts(("train",), codes, codes - 1, metrics=measured, fold=codes)
        patch_table(sources, grid[:1], verdicts, np.zeros(1, np.int64), np.zeros(1, np.uint32))


def grid_of(table: pa.Table, sources: Sequence[SourceInfo], first: int = 0) -> PatchGrid:
    """Return the grid of the candidates in a table: the inverse of `patch_table`.

    If it is a part of a larger one, `first` is the number of its first row there. Raise
    UnreadableFileError if a column is missing or of another type, or a patch lies in none of the
    sources.
    """
    axes = sources[0].layout.spatial_axes.lower()
    source_index = _column(table, "source_index", pa.types.is_integer)
    sample = _column(table, "sample", pa.types.is_integer)
    starts = [_column(table, f"{axis}_start", pa.types.is_integer) for axis in axes]
    sizes = [_column(table, f"{axis}_size", pa.types.is_integer) for axis in axes]
    valid = _column(table, "valid", pa.types.is_floating)
    if not len(table) or any(np.ptp(size) for size in sizes):
        raise UnreadableFileError("its patches are not of one size")
    _check_below("source_index", source_index, np.array(len(sources)), first)
    least = int(source_index.min())
    present, source_of = sources[least : int(source_index.max()) + 1], source_index - least
    n_samples = np.array([source.n_samples for source in present])
    _check_below("sample", sample, n_samples[source_of], first)
    for i, start in enumerate(starts):
        extent = np.array([source.spatial_shape[i] for source in present])
        _check_below(f"{axes[i]}_start", start, extent[source_of], first)
    return PatchGrid(
        tuple(int(size[0]) for size in sizes),
        source_index.astype(np.int32),
        sample.astype(np.int32),
        np.stack(starts, dtype=np.int32, casting="unsafe").T,
        valid=valid.astype(np.float32),
        outline=_outline(table),
    )


def _outline(table: pa.Table) -> NDArray[np.int32] | None:
    if "outline" not in table.column_names or not pa.types.is_integer(table["outline"].type):
        return None  # or it is a column of the samples sheet
    return column_values(pc.fill_null(table["outline"].cast(pa.int32()), -1))


def _column(table: pa.Table, name: str, is_right: Callable[[pa.DataType], bool]) -> NDArray[Any]:
    if name not in table.column_names:
        raise UnreadableFileError(f"there is no column {name}")
    column = table[name]
    if column.null_count or not is_right(column.type):
        raise UnreadableFileError(f"the column {name} is {column.type}, or has gaps")
    return column_values(column)


def _check_below(name: str, values: NDArray[Any], end: NDArray[Any], first: int) -> None:
    outside = np.flatnonzero((values < 0) | (values >= end))
    if len(outside):
        row = int(outside[0])
        what = f"{name} of row {first + row} is {values[row]}"
        raise UnreadableFileError(f"{what}, which does not exist")


class TableFile:
    """A table on disk, read a row group at a time: one of millions of rows needs gigabytes.

    Threads may share it, and it pickles. Every method raises UnreadableFileError if the file is
    damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_parts: SharedCache[int, pa.Table] = SharedCache(2)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The number of rows up to the end of each row group."""
        with self._opened() as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        return np.cumsum(sizes, dtype=np.int64)

    @cached_property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        with self._opened() as file:
            return list(file.schema_arrow.names)

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the row groups in order, with some of the columns; None for all of them."""
        with self._opened() as file:
            for i in range(file.num_row_groups):
                yield file.read_row_group(i, columns)

    def read(self) -> pa.Table:
        """Return all of the table."""
        with self._opened() as file:
            return file.read()

    def row(self, row: int) -> dict[str, Any]:
        """Return a row, by the names of the columns."""
        number = int(np.searchsorted(self.ends, row, "right"))
        part = self._read_parts.get(number, partial(self._read_part, number))
        (values,) = part.slice(row - int(self.ends[number]) + len(part), 1).to_pylist()
        return dict(values)

    def _read_part(self, number: int) -> pa.Table:
        with self._opened() as file:
            return file.read_row_group(number)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            message = f"{self.path}: it can't be read: {error}; {REMEDY}."
            raise UnreadableFileError(message) from error


def find_split_rows(file: TableFile, manifest: Manifest) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the table that are the patches of each split, in order.

    Raise UnreadableFileError if the table is damaged, lacks a column by which patches are found, or
    contradicts the manifest.
    """
    types_of_lookup = {
        "kept": pa.types.is_boolean,
        "split": pa.types.is_string,
        "source_index": pa.types.is_integer,
    }
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in manifest.counts}
    path, n_sources, first = file.path, len(manifest.sources), 0
    for part in file.parts(list(types_of_lookup)):
        for name, is_right in types_of_lookup.items():
            if name not in part.column_names or not is_right(part[name].type):
                raise UnreadableFileError(
                    f"{path}: its column {name!r} is missing or wrong; {REMEDY}."
                )
        least, last = pc.min_max(part["source_index"], skip_nulls=False).as_py().values()
        if len(part) and (last is None or not 0 <= least <= last < n_sources):
            raise UnreadableFileError(
                f"{path}: it names source {last}, but there are {n_sources}; {REMEDY}."
            )
        for name, of_split in rows.items():
            is_of_split = pc.and_(part["kept"], pc.equal(part["split"], text_column([name])[0]))
            of_split.append(first + column_values(pc.indices_nonzero(is_of_split)).astype(np.int64))
        first += len(part)
    joined = {name: np.concatenate([*each, np.empty(0, np.int64)]) for name, each in rows.items()}
    for name, of_all in joined.items():
        if len(of_all) != manifest.counts[name]:
            raise UnreadableFileError(
                f"{path}: it has {len(of_all)} patches of {name}, but the manifest "
                f"{manifest.counts[name]}; {REMEDY}."
            )
    return joined
