"""Complete an export: merge what the jobs left, check it, and give the set its name."""

import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from napari_patchset.errors import ExportError
from napari_patchset.export.partial import FrozenPlan, PartialExport, ShardSidecar
from napari_patchset.export.sources import open_source
from napari_patchset.patchset.layout import ATTRIBUTE, MANIFEST, PROVENANCE, TABLE, write_metadata
from napari_patchset.patchset.manifest import (
    ArrayEntry,
    Manifest,
    Provenance,
    digest_bytes,
    digest_checksums,
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
    frozen = partial.frozen()
    if frozen is None:
        raise ExportError(f"{partial.root}: there is no plan in it; plan the export first.")
    _check_sources(frozen)
    sidecars = _sidecars(partial, frozen)
    checksums = [value for sidecar in sidecars for value in sidecar.checksums]
    grid = partial.candidates(frozen)
    table = table_bytes(
        patch_table(frozen.sources, grid.size, grid.stack, grid.sample, grid.start, checksums)
    )
    manifest = _manifest(frozen, sidecars, checksums, digest_bytes(table))
    (partial.set / TABLE).write_bytes(table)
    attributes = {
        MANIFEST: manifest.model_dump(mode="json"),
        PROVENANCE: _provenance(frozen).model_dump(mode="json"),
    }
    write_metadata(partial.set, [frozen.array], {ATTRIBUTE: attributes})
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


def _sidecars(partial: PartialExport, frozen: FrozenPlan) -> list[ShardSidecar]:
    found = [partial.sidecar(frozen.array, i) for i in range(frozen.array.n_shards)]
    absent = [i for i, sidecar in enumerate(found) if sidecar is None]
    if absent:
        raise ExportError(
            f"{partial.root}: {len(absent)} of {len(found)} shards are not written yet, the first "
            f"is {absent[0]}; run the same export again."
        )
    return [sidecar for sidecar in found if sidecar is not None]


def _manifest(
    frozen: FrozenPlan, sidecars: list[ShardSidecar], checksums: list[int], table_digest: str
) -> Manifest:
    array, first = frozen.array, frozen.sources[0]
    split = array.name.partition("/")[0]
    entry = ArrayEntry(
        shape=array.shape,
        patches_per_shard=array.capacity,
        dtype=array.dtype.name,
        axes=array.axes,
        digest=digest_checksums(checksums),
    )
    return Manifest(
        recipe=frozen.plan.recipe.model_dump(mode="json"),
        recipe_hash=frozen.plan.recipe.hash,
        sources=frozen.sources,
        depth_axis=first.depth_axis,
        channels=first.channels,
        pixel_size=first.pixel_size,
        counts={split: array.n},
        dropped=frozen.dropped,
        arrays={array.name: entry},
        table_digest=table_digest,
        statistics=tuple(ChannelStatistics.of(sums) for sums in _merged(sidecars)),
    )


def _merged(sidecars: list[ShardSidecar]) -> list[ChannelSums]:
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
