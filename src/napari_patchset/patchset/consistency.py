"""Hold the parts of a set against each other before they are used: anyone can edit them."""

import os
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.manifest import Manifest

REMEDY = "copy the set again, or export it again."

_COLUMNS = {"kept": pa.types.is_boolean, "split": pa.types.is_string}
_COLUMNS |= {"source_index": pa.types.is_integer}
"""What of the table is used to find a patch, and of which type it is."""


def require_consistent(manifest: Manifest, path: Path) -> None:
    """Refuse a manifest that contradicts itself.

    Raises
    ------
    UnreadableFileError
        Naming the set and the contradiction.
    """
    for name, entry in manifest.arrays.items():
        n, *patch = entry.shape or (0,)
        count = manifest.counts.get(name.partition("/")[0])
        fits = len(entry.shape) == len(entry.axes) and patch[0] == len(entry.channels)
        if n != count or not fits or min(patch) < 1 or prod(entry.shape) >= 2**63:
            raise UnreadableFileError(
                f"{path}: its manifest contradicts itself: {name} of shape {entry.shape} and axes "
                f"{entry.axes}, {count} patches, {len(entry.channels)} channels; {REMEDY}"
            )
    if not manifest.sources:
        raise UnreadableFileError(f"{path}: its manifest names no source; {REMEDY}")


def require_inside(root: Path, path: Path) -> None:
    """Refuse a file or folder of a set that lies elsewhere.

    Raises
    ------
    UnreadableFileError
        If a link leads out of the set.
    """
    folder = os.path.realpath(root)
    if os.path.commonpath([folder, os.path.realpath(path)]) != folder:
        raise UnreadableFileError(f"{path}: a link leads out of the set; put a copy in its place.")


def read_table(path: Path, manifest: Manifest) -> pa.Table:
    """Read the table of a set.

    Raises
    ------
    UnreadableFileError
        If it is damaged, lacks what a patch is found by, or names sources that there are not.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableFileError(f"{path}: it can't be read: {error}; {REMEDY}") from error
    for name, is_right in _COLUMNS.items():
        if name not in table.column_names or not is_right(table[name].type):
            raise UnreadableFileError(f"{path}: it has no column {name!r} as there was; {REMEDY}")
    which = np.asarray(table["source_index"].to_numpy())
    if which.size and not 0 <= which.min() <= which.max() < len(manifest.sources):
        raise UnreadableFileError(
            f"{path}: it names source {which.max()}, but there are {len(manifest.sources)}; "
            f"{REMEDY}"
        )
    members_of(table, manifest, path)
    return table


def members_of(
    table: pa.Table, manifest: Manifest, path: Path | None = None
) -> dict[str, NDArray[np.int64]]:
    """Give the row of the table of each patch of a split.

    Raises
    ------
    UnreadableFileError
        If `path` is given and there are not as many as the manifest says.
    """
    split = pc.if_else(table["kept"], table["split"], None)
    found = {
        name: np.flatnonzero(pc.fill_null(pc.equal(split, name), False)) for name in manifest.counts
    }
    for name, rows in found.items():
        if path and len(rows) != manifest.counts[name]:
            raise UnreadableFileError(
                f"{path}: it has {len(rows)} patches of {name}, but the manifest "
                f"{manifest.counts[name]}; {REMEDY}"
            )
    return found
