"""CPU, memory and requests of the steps of an export, by the number of files and of candidates.

usage: scale.py [--files 1000,5000,20000] [--candidates 100000,1000000,10000000] [--folder DIR]

Each step is a process of its own, as on a cluster; it prints a table for docs/performance.md. Files
are TIFFs of 64 x 64 pixels, scored, split and written whole; candidates lie in one image without
pixels, and are written as coordinates.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr
from child import peak_memory
from rich.console import Console

from napari_patchset import ExportPlan, PatchSet, Tiled, verify
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job

STEPS = ("plan", "score", "write", "finalize", "verify", "table")


def write_files(folder: Path, n: int) -> Path:
    """Write images that differ from each other."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        noise = rng.integers(0, 1000, (64, 64), np.uint16)
        tifffile.imwrite(folder / f"{i:06d}.tif", noise, photometric="minisblack")
    return folder


def write_large(path: Path, n_candidates: int) -> Path:
    """Write an image without pixels that has about this many patches of 8 x 8."""
    side = round(n_candidates**0.5) * 8
    zarr.create_array(path, shape=(side, side), chunks=(1024, 1024), dtype="uint8")
    return path


def run_step(step: str, source: Path, out: Path) -> None:
    """Carry out one step of an export, and print what it took."""
    if step == "plan":
        is_large = source.suffix == ".zarr"
        plan = ExportPlan(
            sources=expand_sources([source]),
            out=out,
            strategy=Tiled(size=(8, 8) if is_large else (32, 32)),
            filters=() if is_large else ("std>1",),
            split=None if is_large else 0.1,
            format="coordinates" if is_large else "zarr",
        )
        plan_export(plan)
    elif step == "score":
        score_job(out, 0, 1)
    elif step == "write":
        write_job(out, 0, 1)
    elif step == "finalize":
        finalize_export(out)
    elif step == "verify":
        assert not list(verify(out, sources=source.suffix != ".zarr"))
    else:
        with PatchSet(out) as made:
            assert sum(map(len, made.table_parts()))
    print(json.dumps({"cpu": time.process_time(), "peak": peak_memory()}))


def measure(source: Path, out: Path) -> dict[str, dict[str, float]]:
    """Run every step in a process of its own."""
    results = {}
    for step in STEPS:
        command = [sys.executable, __file__, "--step", step, str(source), str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[step] = json.loads(done.stdout.splitlines()[-1])
    return results


def print_row(name: str, results: dict[str, dict[str, float]], per: int) -> None:
    """Print the CPU of each step, that of an export per file or thousand candidates, and memory."""
    cpu = [f"{results[step]['cpu']:.1f} s" for step in STEPS]
    export = sum(results[step]["cpu"] for step in STEPS[:4]) / per * 1000
    peak = max(each["peak"] for each in results.values()) / 1e6
    Console(width=200).print(f"| {name} | {' | '.join(cpu)} | {export:.2f} ms | {peak:.0f} MB |")


def main() -> None:
    """Measure, or run one step for that."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", default="1000,5000,20000")
    parser.add_argument("--candidates", default="100000,1000000,10000000")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, source, out = options.step
        run_step(step, Path(source), Path(out))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n in map(int, filter(None, options.files.split(","))):
            source = write_files(Path(folder) / str(n), n)
            print_row(f"{n} files", measure(source, Path(folder) / f"{n}.patches.zarr"), n)
        for n in map(int, filter(None, options.candidates.split(","))):
            source = write_large(Path(folder) / f"{n}.zarr", n)
            results = measure(source, Path(folder) / f"{n}c.patches")
            print_row(f"{n} candidates", results, n // 1000)


if __name__ == "__main__":
    main()
