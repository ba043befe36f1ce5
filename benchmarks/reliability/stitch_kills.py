"""kill -9 at random moments of a stitching, then the same stitching again.

usage: stitch_kills.py [--n KILLS] [--seed S] [--json FILE]

After each kill no OME-Zarr may have the name; then the stitching is killed again, or goes on to the
bytes of the uninterrupted one, with nothing left behind. Every fifth one runs in processes.
"""

import argparse
import hashlib
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tifffile
from forked import Child, Died, in_child
from reporting import Row, run_row

from napari_patchset import ExportPlan, Tiled, export, stitch

AGAIN = 0.3
"""Share of the kills after which what goes on is killed again."""

BLENDS = ("crop", "average", "hann")


def main() -> int:
    """Run the row."""
    return run_row("stitch kills", run, 200)


def run(options: argparse.Namespace, row: Row) -> None:
    """Kill `n` times, going on in between."""
    patch_set = in_child(partial(_make, options.work, options.seed))
    references, seconds = {}, 0.0
    for blend in BLENDS:
        whole = options.work / f"{blend}.ome.zarr"
        began = time.monotonic()
        in_child(partial(_stitch, patch_set, whole, blend, False))
        seconds = time.monotonic() - began
        references[blend] = _digest(whole)
    row.figures["ms each"] = round(1000 * seconds)
    killed = number = 0
    while killed < options.n:
        chance = Random(f"{options.seed}:{number}")
        folder, blend = options.work / str(number), BLENDS[number % 3]
        work = partial(_stitch, patch_set, folder / "a.ome.zarr", blend, number % 5 == 4)
        folder.mkdir()
        kills, children = 0, []
        try:
            while not kills or chance.random() < AGAIN:
                children.append(Child(work))
                if not children[-1].kill(chance.uniform(0, 1.1 * seconds)):
                    break  # it was faster
                kills += 1
                if (out := folder / "a.ome.zarr").exists():
                    assert _digest(out) == references[blend], f"{out} is there and is not whole"
            in_child(work)
            assert _digest(folder / "a.ome.zarr") == references[blend], "other bytes"
            left = sorted(path.name for path in folder.iterdir())
            assert left == ["a.ome.zarr"], f"left behind: {left}"
        except (Died, AssertionError) as error:
            row.add("lost", f"{number}: {error}")
        for child in children:  # whose pools were still there while others went on
            child.kill_orphans()
        for _ in range(kills):
            row.add("resumed")
        killed += max(kills, 1)
        number += 1
        shutil.rmtree(folder)
    row.figures["stitchings"] = number


def _make(work: Path, seed: int) -> str:
    pixels = np.random.default_rng(seed).random((3, 1500, 1400), np.float32)
    tifffile.imwrite(work / "a.tif", pixels, metadata={"axes": "ZYX"})
    tiling = Tiled(size=(128, 128), overlap=(24, 17))
    plan = ExportPlan(sources=work / "a.tif", strategy=tiling, out=work / "a.patches.zarr")
    return str(export(plan).path)


def _stitch(patch_set: str, out: Path, blend: Any, in_processes: bool) -> None:
    if out.exists():  # it was killed right before its end
        return
    pool: Any = nullcontext()
    if in_processes:
        pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    with pool as executor:
        stitch(patch_set, patch_set, out, blend=blend, executor=executor, workers=2)


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
