"""Candidates and verdicts as tables, and back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.arrow import column, column_values, release_memory
from napari_patchset.patchset.files import write_durably
from napari_patchset.patchset.table import table_bytes

_SAID = b"verdicts"


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table whole or not at all."""
    write_durably(path, [table_bytes(table)])


def as_table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Give columns of numbers as a table."""
    return pa.table({name: column(values) for name, values in columns.items()})


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[bytes, bytes]]:
    """Read the columns of a table, and what is said of them."""
    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
        columns = {name: column_values(file.read([name])[name]) for name in names}
    release_memory()
    return columns, metadata


def grid_table(grid: PatchGrid) -> pa.Table:
    """Give the columns of a grid."""
    columns: dict[str, NDArray[Any]] = {"stack": grid.stack, "sample": grid.sample}
    columns |= {f"start{axis}": grid.start[:, axis] for axis in range(grid.start.shape[1])}
    valid = {} if grid.valid is None else {"valid": grid.valid}
    return as_table({**columns, **valid})


def read_grid(path: Path, size: tuple[int, ...]) -> PatchGrid:
    """Read the grid that `grid_table` gave, of patches of a size."""
    columns, _ = read_columns(path)
    start = np.stack([columns[f"start{axis}"] for axis in range(len(size))], axis=1)
    stack, sample, valid = columns["stack"], columns["sample"], columns.get("valid")
    return PatchGrid(size, stack, sample, start, valid=valid)


def verdicts_table(verdicts: Verdicts) -> pa.Table:
    """Give the verdict on each candidate, and what is said once for all of them."""
    numbers: dict[str, NDArray[Any]] = {"split": verdicts.split, "reason": verdicts.reason}
    said = {"splits": verdicts.splits, "reasons": verdicts.reasons, "limits": verdicts.limits}
    return as_table({**numbers, **verdicts.metrics}).replace_schema_metadata(
        {_SAID: json.dumps(said)}
    )


def read_verdicts(path: Path) -> Verdicts:
    """Read what `verdicts_table` gave."""
    columns, metadata = read_columns(path)
    said = json.loads(metadata[_SAID])
    split, reason = columns.pop("split"), columns.pop("reason")
    splits, reasons = tuple(said["splits"]), tuple(said["reasons"])
    return Verdicts(splits, split, reason, reasons, columns, said["limits"])
