"""Complete an export: merge what the jobs left, check it, and give the set its name."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from operator import add
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.exporting.frozen_plan import FrozenPlan, PlannedArray, Selection
from napari_patchset.exporting.ownership import require_only_own_files, require_replaceable
from napari_patchset.exporting.plan import SourcesFailed
from napari_patchset.exporting.stages import find_changed
from napari_patchset.exporting.workdir import PartialExport
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.disk import write_durably
from napari_patchset.patchset.layout import IMAGE, LABELS, MANIFEST, PROVENANCE, TABLE, ArrayLayout
from napari_patchset.patchset.manifest import ArrayEntry, Manifest, Provenance, digest_bytes
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums
from napari_patchset.patchset.table import patch_tables, tables_bytes

_VERSIONED = ("napari-patchset", "numpy", "pyarrow", "pylibCZIrw")


def finalize(partial: PartialExport, overwrite: bool = False) -> None:
    """Write table and manifest of a set whose shards are all there, and rename it into place.

    Raises
    ------
    ExportError
        If a shard is not there yet, the destination exists and is not to be overwritten, or
        something that is not ours lies there.
    SourcesFailed
        If a source has changed.
    ExportStopped
        If a stop is requested.
    """
    frozen, selection = partial.frozen(), partial.selection()
    if changed := find_changed(frozen, partial.failed(), partial.check_cancelled):
        raise SourcesFailed(changed)
    written = [WrittenArray.of(partial, array) for array in selection.arrays(frozen.kinds)]
    table = _table(partial.candidates(frozen), frozen, selection, written)
    manifest = _manifest(frozen, selection, written, digest_bytes(table))
    layouts = [array.layout for array in written]
    _remove_others(partial, layouts)
    write_durably(partial.set / TABLE, [table])
    attributes = {
        MANIFEST: manifest.model_dump(mode="json"),
        PROVENANCE: _provenance(frozen).model_dump(mode="json"),
    }
    partial.format.finish(partial.set, layouts, attributes)
    _put_in_place(partial, Path(frozen.plan.out), overwrite)


class WrittenArray(NamedTuple):
    """An array whose shards are all there.

    Attributes
    ----------
    members : int64 array
        The candidate of each row.
    checksums : uint32 array
        The crc32c of every patch, in order.
    statistics : tuple of ChannelStatistics
        Of each channel, over every patch.
    """

    layout: ArrayLayout
    members: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    statistics: tuple[ChannelStatistics, ...]

    @classmethod
    def of(cls, partial: PartialExport, array: PlannedArray) -> Self:
        """Merge the sidecars of an array, one after the other: all at once they may be large."""
        layout, absent, sums = array.layout, list[int](), tuple[ChannelSums, ...]()
        checksums = np.empty(layout.n, np.uint32)
        for i in range(layout.n_shards):
            partial.check_cancelled()
            done_marker, rows = partial.done_marker(array, i), layout.rows(i)
            if done_marker is None:
                absent.append(i)
                continue
            checksums[rows.start : rows.stop] = done_marker.checksums
            sums = tuple(map(add, sums, done_marker.sums)) if sums else done_marker.sums
        _require_all(partial, layout, absent)
        return cls(layout, array.members, checksums, tuple(map(ChannelStatistics.of, sums)))


def _require_all(partial: PartialExport, layout: ArrayLayout, absent: Sequence[int]) -> None:
    if absent:
        raise ExportError(
            f"{partial.root}: {len(absent)} of the {layout.n_shards} shards of {layout.name} are "
            f"not written yet, the first is {absent[0]}; run the same export again."
        )


def _table(
    grid: PatchGrid, frozen: FrozenPlan, selection: Selection, written: Sequence[WrittenArray]
) -> bytes:
    rows, checksums = selection.row, np.zeros(len(selection.row), np.uint32)
    if not written:  # a format without pixels has no rows
        rows = np.full_like(rows, -1)
    for array in written:
        if array.layout.role == IMAGE:
            checksums[array.members] = array.checksums
    return tables_bytes(patch_tables(frozen.sources, grid, selection.verdicts, rows, checksums))


def _manifest(
    frozen: FrozenPlan,
    selection: Selection,
    written: Sequence[WrittenArray],
    table_digest: str,
) -> Manifest:
    first, recipe = frozen.sources[0], frozen.plan.recipe
    training = selection.verdicts.splits[0]
    return Manifest(
        recipe=recipe.model_dump(mode="json"),
        recipe_hash=recipe.hash,
        sources=frozen.sources,
        depth_axis=first.depth_axis,
        channels=first.channels,
        pixel_size=first.pixel_size,
        counts=selection.counts,
        dropped=frozen.dropped,
        rejected=selection.rejected,
        limits=selection.verdicts.finite_limits,
        arrays={a.layout.name: ArrayEntry.of(a.layout, a.checksums) for a in written},
        table_digest=table_digest,
        statistics={
            a.layout.role: a.statistics
            for a in written
            if a.layout.split == training and a.layout.role != LABELS
        },
    )


def _provenance(frozen: FrozenPlan) -> Provenance:
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(ref.model_dump(exclude_none=True) for ref in frozen.plan.sources),
        versions={name: version(name) for name in _VERSIONED},
    )


def _remove_others(partial: PartialExport, arrays: Sequence[ArrayLayout]) -> None:
    """Delete what a killed job was writing, and shards of a selection that is not the last one."""
    require_only_own_files(partial.root)
    root = partial.set
    units = ((array, shard) for array in arrays for shard in range(array.n_shards))
    written = {path for unit in units for path in partial.format.unit_paths(root, *unit)}
    for path in root.rglob("*"):
        if path.is_file() and path not in written:
            path.unlink()


def _put_in_place(partial: PartialExport, out: Path, overwrite: bool) -> None:
    """Rename the complete set; one that it replaces steps aside first, and goes with the rest."""
    PatchSet(partial.set).close()
    if os.path.lexists(out):
        if not overwrite:
            raise ExportError(f"{out} exists; choose another name, remove it, or say --overwrite.")
        require_replaceable(out)
        out.rename(partial.root / "replaced")
    partial.set.rename(out)
    sync_folder(out.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system can do that."""
    if os.name == "posix":
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
