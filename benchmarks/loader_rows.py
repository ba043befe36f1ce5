"""Rows of training: shuffled batches of 32 patches, from a set and without an export.

The peers are CAREamics' stacks, patch by patch and stacked to batches: what its loaders read,
without the normalization and the collation that come on top of it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np
from bench import Bench
from files import Mosaic
from measure import Result, Side, Target, counted_tiles, in_turn, median_ratio

from napari_patchset import ExportPlan, LazyPatchSet, PatchSet, Tiled, expand_sources, export

BATCH = 32
Batches = Sequence[Sequence[int]]


def loaders(bench: Bench) -> Iterator[Result]:
    """Take shuffled batches: exported and not, in this process and in workers."""
    scale = bench.scale
    flat = Mosaic(scale.size, scale.tile)
    deep = Mosaic(scale.size // 4, scale.tile // 4, depth=16)
    yield from _loaders(bench, flat, (64, 64), "64 px")
    yield from _loaders(bench, deep, (16, 64, 64), "16 x 64 x 64")


def _loaders(bench: Bench, mosaic: Mosaic, size: tuple[int, ...], what: str) -> Iterator[Result]:
    path = mosaic.write(bench.data)
    plan = ExportPlan(
        sources=expand_sources([path]),
        out=bench.out / "loaded.patches.zarr",
        strategy=Tiled(size=size),
        depth_axis="none" if len(size) == 2 else "Z",
    )
    cache = 2 * mosaic.pixel_bytes  # decoded again are tiles that do not fit, whatever reads them
    lazy = LazyPatchSet(plan, threads=1, cache=cache)
    with export(plan, overwrite=True) as patches, lazy:
        order = np.random.default_rng(3).permutation(len(patches["all"]))
        n = min(len(order), max(1, bench.scale.reads // 10)) // BATCH or 1
        batches = [each.tolist() for each in np.array_split(order[: n * BATCH], n)]
        few = batches[: max(1, bench.scale.sample // BATCH)]
        sets: dict[str, PatchSet | LazyPatchSet] = {"PatchSet": patches, "LazyPatchSet": lazy}
        with counted_tiles() as decoded:
            first = _batches(lazy, batches)
        pairs = [[each["all"].__getitems__(batch) for each in sets.values()] for batch in few]
        differ = sum(not np.array_equal(one, other) for one, other in pairs)
        sides: dict[str, Side] = {
            name: partial(_batches, each, batches) for name, each in sets.items()
        }
        array = np.memmap(bench.out / "loaded.raw", np.uint16, "w+", shape=patches["all"].shape)
        array[:] = patches["all"][:]
        sides["memmap"] = partial(_of_map, array, batches)
        if bench.peers is not None:
            peers, spots = bench.peers, [[_spot(patches, i) for i in batch] for batch in few]
            of_zarr = {"path": str(patches.path), "batches": few, "size": size}
            of_czi = {"path": str(path), "batches": spots, "size": size}
            sides["zarr"] = lambda: peers.seconds("zarr_batches", **of_zarr) / len(few)
            sides["czi"] = lambda: peers.seconds("czi_batches", **of_czi) / len(few)
        times = in_turn(sides, bench.scale.repeats)
        name = f"batches of {BATCH}, {what}"
        yield _row(f"{name}: PatchSet / CAREamics, zarr", times, "PatchSet", "zarr", 50)
        note = f"the first {len(batches)} batches, which decode: {1000 * first:.3g} ms each"
        title = f"{name}: LazyPatchSet / CAREamics, CZI"
        yield _row(title, times, "LazyPatchSet", "czi", 300, note)
        yield _row(f"{name}: PatchSet / memmap", times, "PatchSet", "memmap", None)
        for workers in bench.scale.workers:
            for kind, each in sets.items():
                seconds = _in_workers(each, batches, workers)
                title = f"{name}: {kind}, {workers} worker{'s' if workers > 1 else ''}"
                yield Result(title, "time", "ms", 1000 * seconds)
        limit = Target("<=", 0, "batches")
        yield Result(f"{name}: differ without an export", "count", "batches", differ, target=limit)
        limit = Target("<=", mosaic.tiles, "tiles")
        yield Result(f"{name}: decoded", "count", "tiles", len(decoded), target=limit)


def _row(
    name: str,
    times: Mapping[str, list[float]],
    ours: str,
    peer: str,
    factor: float | None,
    note: str = "",
) -> Result:
    target = None if factor is None else Target(">=", factor)
    own = 1000 * median(times[ours])
    if peer not in times:
        note = f"peer not installed; {note}".removesuffix("; ")
        return Result(name, "time", "ms", own, target=target, note=note)
    ratio = median_ratio(times[peer], times[ours])
    return Result(name, "time", "ms", own, 1000 * median(times[peer]), ratio, target, note)


def _spot(patches: PatchSet, index: int) -> list[int]:
    """Return scene, sample and start of a patch."""
    source, row = patches.locate(index)
    axes = source.layout.spatial_axes.lower()
    return [source.scene, row["sample"], *(row[f"{axis}_start"] for axis in axes)]


def _batches(patches: Any, batches: Batches) -> float:
    """Return the seconds per batch."""
    array, start = patches["all"], time.perf_counter()
    for batch in batches:
        array[batch]
    return (time.perf_counter() - start) / len(batches)


def _of_map(array: Any, batches: Batches) -> float:
    start = time.perf_counter()
    for batch in batches:
        np.stack([array[i] for i in batch])
    return (time.perf_counter() - start) / len(batches)


_opened: list[Any] = []


def _open(patches: Any) -> None:
    _opened.append(patches["all"])


def _batch(batch: Sequence[int]) -> Any:
    return _opened[0][batch]


def _in_workers(patches: Any, batches: Batches, workers: int) -> float:
    """Return the seconds per batch that processes read and send, once each has read all."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open, (patches,)) as pool:
        for _ in range(2):
            start = time.perf_counter()
            for _batch_read in pool.map(_batch, batches):
                pass
            seconds = (time.perf_counter() - start) / len(batches)
    return seconds
