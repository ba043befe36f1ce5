"""A small export of several shards: what is killed, starved, cancelled and deceived."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_patchset import ExportPlan, PatchSet, Tiled, iter_export
from napari_patchset.errors import IncompleteSetError
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patchset import layout
from napari_patchset.patchset.writers.zarr import shard_path

SHARD_BYTES = 8 * 16 * 16 * 2
N_SOURCES = 3

with suppress(ImportError):  # pyarrow would do it in every forked child, and take most of its time
    import_module("pandas")

_EVENTS = frozenset({"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"})


def write_sources(
    folder: Path, seed: int = 0, shape: tuple[int, int, int] = (2, 96, 112)
) -> list[Path]:
    """Write TIFFs of noise, each another one, and put only few patches into a shard from now on."""
    layout.SHARD_BYTES = SHARD_BYTES
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.tif" for i in range(N_SOURCES)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng((seed, i)).integers(0, 4096, shape, np.uint16)
        options: dict[str, Any] = {"tile": (32, 32), "compression": "zlib"}
        tifffile.imwrite(
            path, pixels, metadata={"axes": "ZYX"}, photometric="minisblack", **options
        )
    return paths


def plan_of(sources: Iterable[Path], out: Path, size: int = 16, **more: Any) -> ExportPlan:
    """Plan a filtered set of many small shards."""
    strategy = Tiled(size=(size, size))
    options = {"filters": [parse_filter("std>p10")], **more}
    return ExportPlan(sources=list(sources), strategy=strategy, out=out, **options)


def export(plan: ExportPlan, **options: Any) -> list[str]:
    """Export, and return the sources that were skipped."""
    *_, last = iter_export(plan, workers=2, **options)
    return [str(failure) for failure in last.failures]


def digests(root: Path) -> dict[str, str]:
    """Digest every file of a set, and of its description all but the provenance."""
    files = [path for path in root.rglob("*") if path.is_file() and path != root / "zarr.json"]
    contents = {str(path.relative_to(root)): path.read_bytes() for path in files}
    made = PatchSet(root)
    contents["manifest"] = made.manifest.model_dump_json().encode()
    made.close()
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def digests_if_complete(root: Path) -> dict[str, str] | None:
    """Digest a folder that passes for a patch set; None for one that does not."""
    try:
        PatchSet(root).close()
    except (FileNotFoundError, IncompleteSetError):
        return None
    return digests(root)


def finished_shards(plan: ExportPlan) -> dict[str, list[int]]:
    """Find the shards that a partial export counts as written, and what tells them from others."""
    workdir = WorkDir.for_set(plan.out)
    if not (workdir.root / "selection.parquet").is_file():
        return {}
    arrays = workdir.selection().arrays(workdir.plan().arrays)
    paths = {
        f"{shard.layout.name}/{shard.number}": shard_path(
            workdir.result, shard.layout, shard.number
        )
        for array in arrays
        for shard in array.shards
        if workdir.done_marker(shard)
    }
    return {name: _identity(path) for name, path in paths.items()}


def shards_in_place(plan: ExportPlan) -> dict[str, list[int]]:
    """Identify the shards of a complete set as `finished_shards` does."""
    made = PatchSet(plan.out)
    arrays = list(made.manifest.arrays.values())
    made.close()
    return {
        f"{array.name}/{i}": _identity(shard_path(Path(plan.out), array, i))
        for array in arrays
        for i in range(array.n_shards)
    }


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_mtime_ns]


@dataclass
class Watch:
    """Count what a process does to files in a folder, and act at one of these moments.

    It can't be taken off again: only for a forked child.
    """

    folder: Path
    at: int = -1
    act: Callable[[], None] = lambda: None
    count: int = 0

    def __post_init__(self) -> None:
        self._folder = os.fspath(self.folder)
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and str(arguments[0]).startswith(self._folder):
            self.count += 1
            if self.count == self.at:
                self.act()
