"""The rows of `make bench`: one function a row, one table of them at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np
import zarr
from bench import Bench
from files import JPEG_XR
from loader_rows import loaders
from measure import Result, Target, counted_tiles, in_turn, median_ratio, timed
from own_rows import annotated, opening, planning, resampled
from process_rows import (
    first_picture,
    key_strokes,
    memory,
    preview,
    start,
    transfers,
    transfers_overlapping,
)
from stitch_rows import stitching

from napari_patchset import CziImageStack, PatchSet

Row = Callable[[Bench], Iterator[Result]]

FASTER_THAN_CAREAMICS = {
    ("zstd", 64): 500,
    ("zstd", 256): 30,
    ("uncompressed", 64): 110,
    ("uncompressed", 256): 8,
}
OF_RAW = 0.9
"""Where decoding once and writing raw is less than that faster than CAREamics: the share of it."""

SLOWER_THAN_RAW = {
    ("zstd", 64): 1.15,
    ("zstd", 256): 1.05,
    ("uncompressed", 64): 1.3,
    ("uncompressed", 256): 1.2,
    (JPEG_XR, 64): 0.8,
    (JPEG_XR, 256): 0.8,
}
FASTER_THAN_COMPOSED = {64: 2.5, 256: 1.6}


def export_against_careamics(bench: Bench) -> Iterator[Result]:
    """Export, against CAREamics' stack and one TIFF a patch."""
    for key, factor in FASTER_THAN_CAREAMICS.items():
        raw = _raw_ratio(bench, key, "careamics")
        least = factor if raw is None else min(factor, OF_RAW * raw)
        note = f"peer: {bench.scale.sample} patches, scaled to all{_raw_note(raw)}"
        yield _export_row(bench, key, "careamics", Target(">=", least), note)


def _raw_ratio(bench: Bench, key: tuple[str, int], peer: str) -> float | None:
    """Return how many times faster decoding once and writing raw is: about the best possible."""
    times = bench.export_times(*key)
    return median_ratio(times[peer], times["raw"]) if peer in times else None


def _raw_note(raw: float | None) -> str:
    return "" if raw is None else f"; raw: {raw:.3g}x"


def export_against_raw(bench: Bench) -> Iterator[Result]:
    """Export, against decoding every tile once on one thread and writing the same bytes raw."""
    for key, limit in SLOWER_THAN_RAW.items():
        yield _export_row(bench, key, "raw", Target("<=", limit))


def export_against_composed(bench: Bench) -> Iterator[Result]:
    """Export, against planes read whole and written through zarrs."""
    for key in FASTER_THAN_CAREAMICS:
        target = Target(">=", FASTER_THAN_COMPOSED[key[1]])
        note = f"peer: planes and zarrs{_raw_note(_raw_ratio(bench, key, 'composed'))}"
        yield _export_row(bench, key, "composed", target, note)


def _export_row(
    bench: Bench, key: tuple[str, int], peer: str, target: Target, note: str = ""
) -> Result:
    compression, size = key
    times = bench.export_times(compression, size)
    name, ours = f"export {compression} {size} px / {peer}", times["ours"]
    if peer not in times:
        return Result(name, "time", "s", median(ours), target=target, note="peer not installed")
    theirs = times[peer]
    pair = (ours, theirs) if target.bound == "<=" else (theirs, ours)
    ratio = median_ratio(*pair)
    return Result(name, "time", "s", median(ours), median(theirs), ratio, target, note)


def random_patches(bench: Bench) -> Iterator[Result]:
    """Cut 64 px patches at random out of a warm stack, against CAREamics' stack."""
    _, path = bench.mosaic("zstd")
    rng = np.random.default_rng(1)
    # Warm are as many tiles as the stack keeps.
    side = min(bench.scale.size, 2 * bench.scale.tile)
    corners = rng.integers(0, side - 64, (bench.scale.reads, 2)).tolist()
    few = [(0, 0, y, x) for y, x in corners[: bench.scale.sample]]
    with CziImageStack(path, 0) as stack:
        stack.extract_patch(0, None, (0, 0), (side, side))

        def cut() -> None:
            for corner in corners:
                stack.extract_patch(0, None, corner, (64, 64))

        sides = {"ours": lambda: timed(cut) / len(corners)}
        if bench.peers is not None:
            peers = bench.peers
            sides["peer"] = lambda: (
                peers.seconds("patches", path=str(path), spots=few, size=64) / len(few)
            )
        with counted_tiles() as again:
            times = in_turn(sides, bench.scale.repeats)
    name = "extract_patch at random, zstd 64 px"
    yield _per_patch(name, times, "peer", Target(">=", 1000), f"peer: {len(few)} patches")
    limit = Target("<=", 0, "tiles")
    yield Result(f"{name}: decoded again", "count", "tiles", len(again), target=limit)


def random_reads(bench: Bench) -> Iterator[Result]:
    """Take 64 px patches at random out of a patch set, against a map and zarr-python."""
    with closing(bench.patch_set()) as patch_set:
        yield from _random_reads(bench, patch_set)


def _random_reads(bench: Bench, patch_set: PatchSet) -> Iterator[Result]:
    patches = patch_set["all"]
    raw = bench.data / "reads.raw"
    with raw.open("wb") as file:
        for patch in patches:
            file.write(patch.data)
    mapped = np.memmap(raw, patches.dtype, "r", shape=patches.shape)
    path = patch_set.path / "all" / "image"
    array: Any = zarr.open_array(str(path), mode="r")
    indices = np.random.default_rng(2).integers(0, len(patches), bench.scale.reads).tolist()
    few = indices[: max(1, bench.scale.reads // 50)]
    sides = {
        "ours": lambda: _read(patches.__getitem__, indices),
        "map": lambda: _read(lambda i: np.array(mapped[i]), indices),
        "zarr-python": lambda: _read(lambda i: array[i], few),
    }
    if bench.peers is not None:
        peers = bench.peers
        sides["tensorstore"] = lambda: (
            peers.seconds("tensorstore_reads", path=str(path), indices=few) / len(few)
        )
    times = in_turn(sides, bench.scale.repeats)
    name = "PatchSet[i] at random, 64 px"
    rate = f"{1 / median(times['ours']):.0f} a second"
    yield _per_patch(f"{name} / memmap", times, "map", Target(">=", 0.8), rate)
    yield _per_patch(f"{name} / zarr-python", times, "zarr-python", Target(">=", 50))
    yield _per_patch(f"{name} / tensorstore", times, "tensorstore", None)
    differ = sum(not np.array_equal(patches[i], array[i]) for i in few)
    limit = Target("<=", 0, "patches")
    yield Result(f"{name}: differ from zarr", "count", "patches", differ, target=limit)


def _read(get: Callable[[int], Any], indices: Sequence[int]) -> float:
    """Return the seconds per patch."""
    start = time.perf_counter()
    for i in indices:
        get(i)
    return (time.perf_counter() - start) / len(indices)


def _per_patch(
    name: str, times: dict[str, list[float]], peer: str, target: Target | None, note: str = ""
) -> Result:
    ours = 1e6 * median(times["ours"])
    if peer not in times:
        return Result(name, "time", "us", ours, target=target, note="peer not installed")
    theirs, ratio = 1e6 * median(times[peer]), median_ratio(times[peer], times["ours"])
    return Result(name, "time", "us", ours, theirs, ratio, target, note)


ROWS: dict[str, Row] = {
    "opening": opening,
    "planning": planning,
    "annotated": annotated,
    "resampled": resampled,
    "careamics": export_against_careamics,
    "raw": export_against_raw,
    "composed": export_against_composed,
    "random-patches": random_patches,
    "random-reads": random_reads,
    "loaders": loaders,
    "transfers": transfers,
    "transfers-overlapping": transfers_overlapping,
    "memory": memory,
    "stitching": stitching,
    "start": start,
    "preview": preview,
    "first-picture": first_picture,
    "key-strokes": key_strokes,
}
"""Every row by the name that `--only` takes."""
