"""The most memory that a stitching takes, in a process of its own, for predictions of any size.

usage: stitch_memory.py [--gigabytes 8] [--patches 64,256] [--workers 2] [--folder DIR]

The folder needs twice the size of the predictions; all of them are read, for each blend.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from child import peak_memory, transfers
from stitch_rows import BLENDS

from napari_patchset import ExportPlan, Tiled, export, stitch


def write_predictions(folder: Path, patch: int, nbytes: float) -> tuple[Path, Path]:
    """Plan patches of an image without pixels, and write noise as predictions of them."""
    step = patch - patch // 8
    side = round((nbytes / 4) ** 0.5 / patch) * step
    source = folder / f"{patch}.zarr"
    zarr.create_array(source, shape=(side, side), dtype="uint8", chunks=(1024, 1024))
    tiling = Tiled(size=patch, overlap=patch // 8)
    out, predictions = folder / f"{patch}.patches", folder / f"{patch}.npy"
    plan = ExportPlan(sources=source, strategy=tiling, format="coordinates", out=out)
    n = export(plan).manifest.counts["all"]
    shape = n, 1, patch, patch
    offset = np.lib.format.open_memmap(predictions, "w+", np.float32, shape).offset
    noise = np.random.default_rng(0).random((2**24 // patch**2, *shape[1:]), np.float32)
    with predictions.open("r+b") as file:
        file.seek(offset)
        for first in range(0, n, len(noise)):
            file.write(noise[: n - first].data)
    return out, predictions


def main() -> None:
    """Measure, or stitch once for that."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--patches", default="64,256", help="sizes in pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    workers = options.workers
    if options.one:
        patch_set, predictions, image, blend = options.one
        stitch(patch_set, predictions, image, blend=blend, workers=workers)
        print(json.dumps({**transfers(), "peak": peak_memory()}))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for patch in map(int, options.patches.split(",")):
            patch_set, predictions = write_predictions(Path(folder), patch, options.gigabytes * 1e9)
            image = Path(folder, "a.ome.zarr")
            for blend in BLENDS:
                words = ["--workers", workers, "--one", patch_set, predictions, image, blend]
                began = time.monotonic()
                command = [sys.executable, __file__, *map(str, words)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                took = {name: n / 1e6 for name, n in json.loads(done.stdout).items()}
                figures = ", ".join(f"{name} {n:.0f} MB" for name, n in took.items())
                seconds = time.monotonic() - began
                print(f"{patch} px, {blend}: {figures}, {seconds:.0f} s", flush=True)
                shutil.rmtree(image)
            predictions.unlink()


if __name__ == "__main__":
    main()
