"""What every row needs: its files, its sizes, the exports that several rows share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from files import COMPRESSIONS, JPEG_XR, Mosaic
from measure import Side, in_turn, timed
from peers import Peers
from pylibCZIrw.czi import open_czi

from napari_patchset import ExportPlan, PatchSet, Tiled, export
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.patchset.layout import shard_capacity

Spot = tuple[int | None, int, int, int]
"""Scene, sample, y, x."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    size, tile : int
        Pixels of a side of a mosaic's scene, and of its tiles.
    subblocks : int
        Of the slide.
    patches : int
        To be planned.
    features : int
        Outlines in a GeoJSON file.
    reads : int
        Random reads of a patch set or a warm stack.
    sample : int
        Patches for which a peer that is hundreds of times slower is run.
    repeats : int
        Turns.
    patch_sizes : tuple of int
        Sides of the patches whose export is counted.
    workers : tuple of int
        Processes that read batches.
    """

    size: int = 4096
    tile: int = 2048
    subblocks: int = 100_000
    patches: int = 1_000_000
    features: int = 1_000_000
    reads: int = 20_000
    sample: int = 48
    repeats: int = 5
    patch_sizes: tuple[int, ...] = (64, 256)
    workers: tuple[int, ...] = (1, 2)


FULL = 8192
TINY = Scale(
    size=512,
    tile=256,
    subblocks=3000,
    patches=10_000,
    features=3000,
    reads=50,
    sample=2,
    repeats=1,
    patch_sizes=(64,),
    workers=(1,),
)  # fmt: skip


@dataclass
class Bench:
    """One run of the benchmarks.

    Attributes
    ----------
    data, out : Path
        Folders for the files that are measured, and for what is written while measuring.
    scale : Scale
        How much is measured.
    peers : Peers or None
        None to measure our own side only.
    """

    data: Path
    out: Path
    scale: Scale = field(default_factory=Scale)
    peers: Peers | None = None

    def mosaic(self, compression: str, overlap: int = 0) -> tuple[Mosaic, Path]:
        """Return a mosaic's description and its file, written if it does not exist."""
        scale = self.scale
        # JPEG XR takes twenty times as long to decode.
        size = max(scale.size // 2, scale.tile) if compression == JPEG_XR else scale.size
        mosaic = Mosaic(size, scale.tile, overlap, compression=compression)
        return mosaic, mosaic.write(self.data)

    def plan(self, path: Path, size: int, name: str = "ours") -> ExportPlan:
        """Plan the export of every scene of a file in square patches without overlap."""
        sources, strategy = tuple(expand_sources([path])), Tiled(size=(size, size))
        out = self.out / f"{name}.patches.zarr"
        return ExportPlan(sources=sources, strategy=strategy, out=str(out))

    def clear(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)

    def patch_set(self) -> PatchSet:
        """Export a patch set of 64 px and open it."""
        _, path = self.mosaic("zstd")
        plan = self.plan(path, 64)
        self._export(plan)
        return PatchSet(plan.out)

    @cached_property
    def _export_times(self) -> dict[tuple[str, int], dict[str, list[float]]]:
        return {}

    def export_times(self, compression: str, size: int) -> dict[str, list[float]]:
        """Time an export by us ("ours"), and where there are peers by them, in turn.

        "raw": every tile decoded once on one thread, the same bytes written raw. "careamics":
        CAREamics' stack and one TIFF a patch, measured on a sample and scaled to all. "composed":
        planes read whole and written through zarrs.
        """
        key = compression, size
        if key not in self._export_times:
            self._export_times[key] = in_turn(
                self._export_sides(compression, size), self.scale.repeats
            )
            self.clear()
        return self._export_times[key]

    def _export_sides(self, compression: str, size: int) -> dict[str, Side]:
        mosaic, path = self.mosaic(compression)
        plan, raw = self.plan(path, size), self.out / "raw"
        sides: dict[str, Side] = {
            "ours": lambda: self._timed(Path(plan.out), lambda: self._export(plan)),
            "raw": lambda: self._timed(raw, lambda: decode_and_write(mosaic, path, raw)),
        }
        if self.peers is not None and compression in COMPRESSIONS:
            sides |= self._peer_sides(self.peers, mosaic, path, size)
        return sides

    def _timed(self, out: Path, work: Callable[[], object]) -> float:
        """Time a side that writes into an empty folder."""
        remove(out)
        seconds = timed(work)
        remove(out)
        return seconds

    def _export(self, plan: ExportPlan) -> None:
        export(plan, overwrite=True).close()

    def _peer_sides(self, peers: Peers, mosaic: Mosaic, path: Path, size: int) -> dict[str, Side]:
        spots, total = self.sample(path, size)
        out = str(self.out / "peer")
        common: dict[str, Any] = {"path": str(path), "size": size, "out": out}
        shape = [mosaic.scenes, mosaic.depth, mosaic.channels, mosaic.size]
        capacity = shard_capacity((mosaic.channels, size, size), np.dtype(np.uint16))
        scale = total / len(spots)
        return {
            "careamics": lambda: scale * peers.seconds("tiff_export", spots=spots, **common),
            "composed": lambda: peers.seconds(
                "composed_export", shape=shape, capacity=capacity, **common
            ),
        }

    def sample(self, path: Path, size: int) -> tuple[list[Spot], int]:
        """Choose patches evenly from an export's grid; return them and the size of the grid."""
        plan = self.plan(path, size)
        sources = describe_sources(plan)
        grid = plan.strategy.plan(sources)
        chosen = np.linspace(0, len(grid) - 1, self.scale.sample).astype(int)
        spots: list[Spot] = []
        for i in chosen.tolist():
            stack, sample, (y, x), _ = grid[i]
            scene = plan.sources[stack].scene
            spots.append((None if scene is None else int(scene), sample, y, x))
        return spots, len(grid)

    def export_in_child(self, path: Path, size: int) -> dict[str, int]:
        """Export in a new process; return what that took beyond a file of one tile.

        Returns
        -------
        dict
            "read" and "written" (bytes, less those of an export that does next to nothing),
            "peak" (bytes of memory, all of them), "tiles" (decoded), "output" (bytes of the set).
        """
        took, output = self._child(path, size)
        net = {name: took[name] - self._idle[name] for name in ("read", "written")}
        return {**took, **net, "output": output}

    @cached_property
    def _idle(self) -> dict[str, int]:
        tile = Mosaic(64, 64, scenes=1, channels=1, depth=1)
        return self._child(tile.write(self.data), 64)[0]

    def _child(self, path: Path, size: int) -> tuple[dict[str, int], int]:
        plan = self.plan(path, size, "child")
        took = self.in_child(plan)
        output = sum(file.stat().st_size for file in _files(Path(plan.out)))
        self.clear()
        return took, output

    def in_child(self, plan: ExportPlan) -> dict[str, int]:
        """Export in a new process; return what that took, see `child.py`."""
        plan_path = self.out / "plan.json"
        plan_path.write_text(plan.model_dump_json())
        child = Path(__file__).parent / "child.py"
        command = [sys.executable, str(child), str(plan_path)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        took: dict[str, int] = json.loads(answer)
        return took


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def decode_and_write(mosaic: Mosaic, path: Path, out: Path) -> None:
    """Decode every tile once on this thread and write its bytes to one file, synced."""
    with open_czi(str(path)) as czi, out.open("wb", buffering=0) as file:
        for scene, rect in czi.scenes_bounding_rectangle.items():
            for z in range(mosaic.depth):
                for c in range(mosaic.channels):
                    for y in mosaic.starts:
                        for x in mosaic.starts:
                            w, h = min(mosaic.tile, rect.w - x), min(mosaic.tile, rect.h - y)
                            roi = (rect.x + x, rect.y + y, w, h)
                            plane = {"Z": z, "C": c, "T": 0}
                            pixels = czi.read(
                                roi=roi, plane=plane, scene=scene, pixel_type="Gray16"
                            )
                            file.write(pixels)
        os.fsync(file.fileno())
