"""Complete an export: merge the results of the jobs, write table and manifest, rename the set."""

import os
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from operator import add
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import DestinationExistsError, ExportError
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.reading.steps import Step
from napari_patchset.exporting.writing.destination import check_replaceable
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.metrics import find_outdated
from napari_patchset.exporting.writing.selection import ArraySelection, Selection
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import GeoJsonRegion
from napari_patchset.patching.splits.groups import TEST
from napari_patchset.patchset.columns import encode_table
from napari_patchset.patchset.files import write_file
from napari_patchset.patchset.layout import IMAGE, LABELS, MANIFEST, PROVENANCE, TABLE, ArrayLayout
from napari_patchset.patchset.manifest import ArrayEntry, Manifest, Provenance, digest_bytes
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums
from napari_patchset.patchset.table import patch_tables

_RECORDED_PACKAGES = ("napari-patchset", "numpy", "pyarrow", "pylibCZIrw")

_version = cache(version)  # it parses all of a package's metadata


def finalize(workdir: WorkDir, overwrite: bool = False) -> Generator[Step, None, None]:
    """Write table and manifest of a set whose shards are all written, and rename it into place.

    Yield how many sources were checked. Raise ExportError if a shard is missing, the destination
    exists and must not be overwritten, something that is not ours is in the way, or a source has
    changed (SourcesFailed).
    """
    frozen, selection = workdir.plan(), workdir.selection()
    changed = yield from frozen.find_changed(workdir.failed(), workdir.check_cancelled)
    changed |= yield from find_outdated(workdir, changed)
    if changed:
        raise SourcesFailed(changed)
    arrays = [
        WrittenArray.from_done_markers(workdir, array) for array in selection.arrays(frozen.arrays)
    ]
    table = _table(workdir.candidates(frozen), frozen, selection, arrays)
    manifest = _manifest(frozen, selection, arrays, digest_bytes(table))
    layouts = [array.layout for array in arrays]
    skipped = (*frozen.failures, *workdir.failed().values())
    _remove_leftovers(workdir, layouts)
    write_file(workdir.result / TABLE, [table])
    attributes = {
        MANIFEST: manifest.model_dump(mode="json"),
        PROVENANCE: Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            sources=tuple(ref.model_dump(exclude_none=True) for ref in frozen.plan.sources),
            versions={name: _version(name) for name in _RECORDED_PACKAGES},
            skipped=tuple(each.model_dump(include={"source", "message"}) for each in skipped),
        ).model_dump(mode="json", exclude_defaults=True),
    }
    workdir.format.complete(workdir.result, layouts, attributes)
    _rename_into_place(workdir, Path(frozen.plan.out), overwrite)


class WrittenArray(NamedTuple):
    """An array whose shards are all written."""

    layout: ArrayLayout
    candidates: NDArray[np.int64]
    """The candidate of each row."""
    checksums: NDArray[np.uint32]
    """The crc32c of each patch."""
    statistics: tuple[ChannelStatistics, ...]

    @classmethod
    def from_done_markers(cls, workdir: WorkDir, array: ArraySelection) -> Self:
        """Merge the done markers of an array, one by one, as all at once may be large."""
        layout, missing, sums = array.layout, list[int](), tuple[ChannelSums, ...]()
        checksums = np.empty(layout.n, np.uint32)
        for shard in array.shards:
            workdir.check_cancelled()
            done_marker, rows = workdir.done_marker(shard), layout.rows(shard.number)
            if done_marker is None:
                missing.append(shard.number)
                continue
            checksums[rows.start : rows.stop] = done_marker.checksums
            sums = tuple(map(add, sums, done_marker.sums)) if sums else done_marker.sums
        if missing:
            n_skipped = len(workdir.failed())
            why = f", as {n_skipped} of the sources can't be read" if n_skipped else ""
            raise ExportError(
                f"{workdir.root}: {len(missing)} of the {layout.n_shards} shards of {layout.name} "
                f"are not written yet{why}. {workdir.do_rest()}"
            )
        return cls(
            layout, array.candidates, checksums, tuple(map(ChannelStatistics.from_sums, sums))
        )


def _table(
    grid: PatchGrid, frozen: FrozenPlan, selection: Selection, arrays: Sequence[WrittenArray]
) -> bytes:
    rows, checksums = selection.row, np.zeros(len(selection.row), np.uint32)
    if not arrays:  # a format without pixels
        rows = np.full_like(rows, -1)
    for array in arrays:
        if array.layout.role == IMAGE:
            checksums[array.candidates] = array.checksums
    return encode_table(patch_tables(frozen.sources, grid, selection.verdicts, rows, checksums))


def _manifest(
    frozen: FrozenPlan, selection: Selection, arrays: Sequence[WrittenArray], table_digest: str
) -> Manifest:
    first, recipe = frozen.sources[0], frozen.plan.recipe
    training = selection.verdicts.splits[0]
    is_new = any(
        each.source_pixel_size or each.filter_channels or each.columns or each.well
        for each in frozen.sources
    )
    is_new |= bool(selection.folds) or TEST in selection.counts
    # Whose tables have further columns.
    is_new |= recipe.dedupe is not None
    is_new |= recipe.strategy.reads_labels or bool(frozen.classes)
    is_new |= recipe.strategy.min_inside < 1 or isinstance(recipe.strategy.region, GeoJsonRegion)
    return Manifest(
        schema_version=2 if is_new else 1,
        recipe=recipe.model_dump(mode="json"),
        recipe_hash=recipe.hash,
        sources=frozen.sources,
        depth_axis=first.depth_axis,
        channels=first.channels,
        pixel_size=first.pixel_size,
        classes=frozen.classes,
        counts=selection.counts,
        folds=selection.folds,
        dropped=frozen.dropped,
        rejected=selection.rejected,
        limits=selection.verdicts.finite_limits,
        arrays={a.layout.name: ArrayEntry.from_checksums(a.layout, a.checksums) for a in arrays},
        table_digest=table_digest,
        statistics={
            a.layout.role: a.statistics
            for a in arrays
            if a.layout.split == training and a.layout.role != LABELS
        },
    )


def _remove_leftovers(workdir: WorkDir, arrays: Sequence[ArrayLayout]) -> None:
    """Delete drafts of a killed job, and shards of an earlier selection."""
    workdir.check_only_own_files()
    root = workdir.result
    shards = ((array, shard) for array in arrays for shard in range(array.n_shards))
    written = {path for shard in shards for path in workdir.format.shard_paths(root, *shard)}
    for path in root.rglob("*"):
        if path.is_file() and path not in written:
            path.unlink()


def _rename_into_place(workdir: WorkDir, out: Path, overwrite: bool) -> None:
    """Rename the complete set; it may replace another one on request only."""
    PatchSet(workdir.result).close()
    if os.path.lexists(out):
        if not overwrite:
            raise DestinationExistsError(f"{out} exists; choose another name or delete it.")
        check_replaceable(out)
    workdir.rename_into_place(out)
