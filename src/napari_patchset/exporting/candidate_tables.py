"""Candidates, metrics and verdicts of an unfinished export as parquet files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Metrics, Verdicts
from napari_patchset.patchset.files import write_file
from napari_patchset.patchset.table import column, column_values, encode_table, release_memory

_VERDICTS_METADATA = b"verdicts"


def write_grid(path: Path, grid: PatchGrid) -> None:
    """Write the columns of a grid."""
    columns: dict[str, NDArray[Any]] = {"stack": grid.source_index, "sample": grid.sample}
    columns |= {f"start{axis}": grid.start[:, axis] for axis in range(grid.start.shape[1])}
    valid = {} if grid.valid is None else {"valid": grid.valid}
    _write_columns(path, {**columns, **valid})


def read_grid(path: Path, size: tuple[int, ...]) -> PatchGrid:
    """Read a grid of patches of a size along (Z)YX."""
    columns, _ = _read_columns(path)
    start = np.stack([columns[f"start{axis}"] for axis in range(len(size))], axis=1)
    stack, sample, valid = columns["stack"], columns["sample"], columns.get("valid")
    return PatchGrid(size, stack, sample, start, valid=valid)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics by column."""
    _write_columns(path, metrics)


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read metrics by column."""
    return _read_columns(path)[0]


def write_verdicts(path: Path, verdicts: Verdicts) -> None:
    """Write the verdict on each candidate; what they share is in the schema's metadata."""
    codes: dict[str, NDArray[Any]] = {"split": verdicts.split, "reason": verdicts.reason}
    shared = {"splits": verdicts.splits, "reasons": verdicts.reasons, "limits": verdicts.limits}
    metadata = {_VERDICTS_METADATA: json.dumps(shared)}
    _write_columns(path, {**codes, **verdicts.metrics}, metadata)


def read_verdicts(path: Path) -> Verdicts:
    """Read the verdict on each candidate."""
    columns, metadata = _read_columns(path)
    shared = json.loads(metadata[_VERDICTS_METADATA])
    split, reason = columns.pop("split"), columns.pop("reason")
    splits, reasons = tuple(shared["splits"]), tuple(shared["reasons"])
    return Verdicts(splits, split, reason, reasons, columns, shared["limits"])


def _write_columns(
    path: Path,
    columns: Mapping[str, NDArray[Any]],
    metadata: Mapping[bytes, str] | None = None,
) -> None:
    table = pa.table({name: column(values) for name, values in columns.items()})
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    write_file(path, [encode_table([table])])


def _read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[bytes, bytes]]:
    """Read the columns of a table, and its schema's metadata."""
    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
        columns = {name: column_values(file.read([name])[name]) for name in names}
    release_memory()
    return columns, metadata
