"""Rows of stitching: predictions back into an image, against reading them and writing it raw."""

import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr
from bench import Bench
from measure import Result, Side, Target, in_turn, median_ratio
from zarr.codecs import BloscCodec

from napari_patchset import ExportPlan, Tiled, export, stitch

BLENDS: tuple[Any, ...] = ("crop", "average", "hann")

COMPRESSORS: dict[str, Any] = {
    "none": None,
    "zstd": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
}


def stitching(bench: Bench) -> Iterator[Result]:
    """Stitch float predictions of 64 and 256 px, against their bytes read and the image's written.

    The peer reads every prediction, and writes an image of its size with zarr, compressed as ours
    and synced; it blends nothing and makes no coarser levels.
    """
    size = bench.scale.size
    source = bench.data / "stitch.zarr"
    if not source.exists():
        zarr.create_array(source, shape=(size, size), dtype="uint8", chunks=(1024, 1024))
    for patch in bench.scale.patch_sizes:
        patch_set, predictions = _predicted(bench, source, patch)
        image = bench.out / "stitched.ome.zarr"
        for codec in COMPRESSORS:
            sides: dict[str, Side] = {
                blend: partial(_stitch, patch_set, predictions, image, blend, codec)
                for blend in BLENDS
            }
            sides["raw"] = partial(_read_and_write, predictions, image, size, codec)
            times = in_turn(sides, bench.scale.repeats)
            for blend in BLENDS:
                ratio = median_ratio(times[blend], times["raw"])
                kind = "raw" if codec == "none" else codec
                name = f"stitch {patch} px, {blend}, {kind} / read and write {kind}"
                both = median(times[blend]), median(times["raw"])
                yield Result(name, "time", "s", *both, ratio, Target("<=", 2.0))


def _predicted(bench: Bench, source: Path, patch: int) -> tuple[Path, Path]:
    """Plan patches that overlap by an eighth, and write predictions of them."""
    tiling = Tiled(size=patch, overlap=patch // 8)
    out, predictions = bench.out / f"stitch{patch}.patches", bench.out / f"{patch}.npy"
    plan = ExportPlan(sources=source, strategy=tiling, format="coordinates", out=out)
    n = export(plan, overwrite=True).manifest.counts["all"]
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:patch, :patch]
    smooth = 500 + 400 * np.sin(x / 17) * np.cos(y / 23)
    values = np.lib.format.open_memmap(predictions, "w+", np.float32, (n, 1, patch, patch))
    for row in range(n):  # floats as a denoiser predicts them, whose last bits are noise
        values[row, 0] = smooth + rng.random((patch, patch), np.float32)
    values.flush()
    return out, predictions


def _stitch(patch_set: Path, predictions: Path, image: Path, blend: Any, codec: Any) -> float:
    began = time.perf_counter()
    stitch(patch_set, predictions, image, blend=blend, codec=codec)
    seconds = time.perf_counter() - began
    shutil.rmtree(image)
    return seconds


def _read_and_write(predictions: Path, image: Path, size: int, codec: str) -> float:
    began = time.perf_counter()
    pixels = np.fromfile(predictions, np.float32)[: size * size].reshape(size, size)
    zarr.create_array(image, data=pixels, chunks=(1024, 1024), compressors=COMPRESSORS[codec])
    for path in image.rglob("c/*/*"):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    shutil.rmtree(image)
    return seconds
