"""Candidates and verdicts as tables, and back."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.patchset.files import write_durably
from napari_patchset.patchset.table import table_bytes

_SAID = b"verdicts"


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table whole or not at all."""
    write_durably(path, [table_bytes(table)])


def grid_table(grid: PatchGrid) -> pa.Table:
    """Give the columns of a grid."""
    columns = {"stack": grid.stack, "sample": grid.sample}
    columns |= {f"start{axis}": grid.start[:, axis] for axis in range(grid.start.shape[1])}
    valid = {} if grid.valid is None else {"valid": grid.valid}
    return pa.table({**columns, **valid})


def read_grid(path: Path, size: tuple[int, ...]) -> PatchGrid:
    """Read the grid that `grid_table` gave, of patches of a size."""
    table = pq.read_table(path)
    start = np.stack([table[f"start{axis}"].to_numpy() for axis in range(len(size))], axis=1)
    valid = table["valid"].to_numpy() if "valid" in table.column_names else None
    stack, sample = table["stack"].to_numpy(), table["sample"].to_numpy()
    return PatchGrid(size, stack, sample, start, valid=valid)


def verdicts_table(verdicts: Verdicts) -> pa.Table:
    """Give the verdict on each candidate, and what is said once for all of them."""
    columns = {"split": verdicts.split, "reason": verdicts.reason, **verdicts.metrics}
    said = {"splits": verdicts.splits, "reasons": verdicts.reasons, "limits": verdicts.limits}
    return pa.table(columns).replace_schema_metadata({_SAID: json.dumps(said)})


def read_verdicts(path: Path) -> Verdicts:
    """Read what `verdicts_table` gave."""
    table = pq.read_table(path)
    said = json.loads(table.schema.metadata[_SAID])
    columns = {name: table[name].to_numpy() for name in table.column_names}
    split, reason = columns.pop("split"), columns.pop("reason")
    splits, reasons = tuple(said["splits"]), tuple(said["reasons"])
    return Verdicts(splits, split, reason, reasons, columns, said["limits"])
