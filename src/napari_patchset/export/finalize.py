"""Complete an export: merge what the jobs left, check it, and give the set its name."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from napari_patchset.errors import ExportError
from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.partial import PartialExport, ShardSidecar
from napari_patchset.export.selection import PlannedArray, Selection
from napari_patchset.export.sources import open_source
from napari_patchset.patchset.layout import (
    ATTRIBUTE,
    MANIFEST,
    PROVENANCE,
    TABLE,
    write_metadata,
)
from napari_patchset.patchset.manifest import (
    ArrayEntry,
    Manifest,
    Provenance,
    digest_bytes,
)
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums
from napari_patchset.patchset.table import patch_table, table_bytes
from napari_patchset.stacks.describe import content_key

_VERSIONED = ("napari-patchset", "numpy", "pyarrow", "pylibCZIrw")


def finalize(partial: PartialExport, overwrite: bool = False) -> Path:
    """Write table and manifest of a set whose shards are all there, and rename it into place.

    Raises
    ------
    ExportError
        If a shard is not there yet, a source has changed, or the destination exists and is not
        to be overwritten.
    """
    frozen, selection = partial.frozen(), partial.selection()
    _check_sources(frozen)
    arrays = selection.arrays(frozen.kinds)
    sidecars = [_sidecars(partial, array) for array in arrays]
    images = [value for sidecar in sidecars[0] for value in sidecar.checksums]
    grid = partial.candidates(frozen)
    table = table_bytes(
        patch_table(frozen.sources, grid.size, grid.stack, grid.sample, grid.start, images)
    )
    manifest = _manifest(frozen, selection, sidecars, digest_bytes(table))
    (partial.set / TABLE).write_bytes(table)
    attributes = {
        MANIFEST: manifest.model_dump(mode="json"),
        PROVENANCE: _provenance(frozen).model_dump(mode="json"),
    }
    write_metadata(partial.set, [array.layout for array in arrays], {ATTRIBUTE: attributes})
    return _put_in_place(partial, Path(frozen.plan.out), overwrite)


def _check_sources(frozen: FrozenPlan) -> None:
    """Refuse a set whose sources are not the ones that were planned for."""
    plan = frozen.plan
    planned = zip(plan.sources, frozen.sources, strict=True)
    for (path, key), ref in {(ref.path, info.key): ref for ref, info in planned}.items():
        with open_source(plan, ref) as stack:
            if content_key(stack) != key:
                raise ExportError(
                    f"{path} has changed since the export began; export again with overwrite."
                )


def _sidecars(partial: PartialExport, array: PlannedArray) -> list[ShardSidecar]:
    found = [partial.sidecar(array, i) for i in range(array.layout.n_shards)]
    absent = [i for i, sidecar in enumerate(found) if sidecar is None]
    if absent:
        raise ExportError(
            f"{partial.root}: {len(absent)} of the {len(found)} shards of {array.layout.name} are "
            f"not written yet, the first is {absent[0]}; run the same export again."
        )
    return [sidecar for sidecar in found if sidecar is not None]


def _manifest(
    frozen: FrozenPlan,
    selection: Selection,
    sidecars: Sequence[Sequence[ShardSidecar]],
    table_digest: str,
) -> Manifest:
    first, recipe = frozen.sources[0], frozen.plan.recipe
    arrays = selection.arrays(frozen.kinds)
    return Manifest(
        recipe=recipe.model_dump(mode="json"),
        recipe_hash=recipe.hash,
        sources=frozen.sources,
        depth_axis=first.depth_axis,
        channels=first.channels,
        pixel_size=first.pixel_size,
        counts=selection.counts,
        dropped=frozen.dropped,
        arrays={
            array.layout.name: ArrayEntry.of(array.layout, (v for s in shards for v in s.checksums))
            for array, shards in zip(arrays, sidecars, strict=True)
        },
        table_digest=table_digest,
        # The first array is the images of the training split, or of all patches.
        statistics={"image": tuple(map(ChannelStatistics.of, _merged(sidecars[0])))},
    )


def _merged(sidecars: Sequence[ShardSidecar]) -> list[ChannelSums]:
    totals = list(sidecars[0].sums)
    for sidecar in sidecars[1:]:
        totals = [total + sums for total, sums in zip(totals, sidecar.sums, strict=True)]
    return totals


def _provenance(frozen: FrozenPlan) -> Provenance:
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(str(ref) for ref in frozen.plan.sources),
        versions={name: version(name) for name in _VERSIONED},
    )


def _put_in_place(partial: PartialExport, out: Path, overwrite: bool) -> Path:
    """Rename the complete set; one that it replaces steps aside first and goes last."""
    PatchSet(partial.set).close()
    replaced = partial.root / "replaced"
    if out.exists():
        if not overwrite:
            raise ExportError(f"{out} exists; choose another name, or overwrite it.")
        out.rename(replaced)
    partial.set.rename(out)
    sync_folder(out.parent)
    partial.remove()
    return out


def sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system can do that."""
    if os.name == "posix":
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
