"""Plans and sets for every test of the export."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from napari_patchset import ExportPlan, Tiled
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.stages import Progress
from napari_patchset.patchset import layout
from support.czi_maker import SceneSpec

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 70, 50), t=range(1, 3), z=range(2, 5), c=2),
    SceneSpec(id=7, rect=(500, 0, 48, 64), t=1, z=range(2, 4), c=2),
)


@contextmanager
def small_shards() -> Iterator[None]:
    """Put 8 patches of 2 x 16 x 16 uint16 into a shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_BYTES", 8 * 2 * 16 * 16 * 2)
        yield


def plan_for(path: Path, out: Path, **fields: Any) -> ExportPlan:
    fields = {"strategy": Tiled(size=(16, 16), overlap=(4, 0)), **fields}
    return ExportPlan(sources=expand_sources([path]), out=out, **fields)


def advance(events: Iterator[Progress], stage: str) -> Progress:
    """Run an export up to the first event of a stage, and return that."""
    return next(event for event in events if event.stage == stage)


def digests(root: Path) -> dict[str, str]:
    """Digest every file of a set but the one that holds the provenance."""
    described = root / "zarr.json", root / "patchset.json"
    files = [path for path in root.rglob("*") if path.is_file() and path not in described]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
