"""Rows without a peer: plan a million patches, or within a million outlines, open a large slide."""

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench import Bench
from files import OUTLINE_CLASSES, Slide, write_outlines
from measure import Result, Target, in_turn, median_ratio, timed
from numpy.typing import NDArray

from napari_patchset import (
    Balanced,
    CziImageStack,
    ExportPlan,
    Random,
    SourceRef,
    Split,
    Tiled,
    export,
    list_scenes,
)
from napari_patchset.source import PixelSize, SourceInfo

MIB = 2**20


def opening(bench: Bench) -> Iterator[Result]:
    """Open a file of 100 000 subblocks, list its scenes, see its overview."""
    slide = Slide(bench.scale.subblocks)
    path = slide.write(bench.data)
    sides = {
        "list": lambda: _timed_uncached(path, lambda: list_scenes(path)),
        "stack": lambda: _timed_uncached(path, lambda: CziImageStack(path, 0).close()),
        "first": lambda: _timed_uncached(path, lambda: _first_picture(path)),
    }
    if bench.peers is not None:
        peers = bench.peers
        sides["peer"] = lambda: peers.seconds("opening", path=str(path))
    times = in_turn(sides, bench.scale.repeats)
    peer = median(times["peer"]) if "peer" in times else None
    target = Target("<=", 1, "s")
    what = f"{slide.total} subblocks"
    for key, name in {"list": "list_scenes", "stack": "CziImageStack"}.items():
        yield Result(f"{what}: {name}", "time", "s", median(times[key]), peer, target=target)
    name = f"{what}: first picture of {slide.size} px"
    note = "opening and overview, without napari's own start"
    yield Result(name, "time", "s", median(times["first"]), target=target, note=note)
    seconds = [_random_patch(path) for _ in range(bench.scale.repeats)]
    name, target = f"{what}: extract_patch at random, warm", Target("<=", 100, "us")
    yield Result(name, "time", "us", 1e6 * median(seconds), target=target)
    empty = float(np.mean(_first_picture(path) == 0))
    limit = Target("<=", 0.02, "empty")
    yield Result(f"{what}: empty share of the overview", "count", "", empty, target=limit)


def _timed_uncached(path: Path, action: Callable[[], object]) -> float:
    """Time an action on a file that was just changed, so that nothing is cached of it."""
    path.touch()
    return timed(action)


def _first_picture(path: Path) -> NDArray[Any]:
    with CziImageStack(path, 0) as stack:
        overview = stack.levels[-1]
        return overview.extract_patch(0, None, (0, 0), overview.data_shape[-2:])


def _random_patch(path: Path) -> float:
    """Return the seconds that a patch takes where all tiles are decoded."""
    corners = np.random.default_rng(1).integers(0, 900, (1000, 2)).tolist()
    with CziImageStack(path, 0) as stack:
        stack.extract_patch(0, None, (0, 0), (1000, 1000))

        def cut() -> None:
            for corner in corners:
                stack.extract_patch(0, None, corner, (64, 64))

        return timed(cut) / len(corners)


def resampled(bench: Bench) -> Iterator[Result]:
    """Export at twice the pixel size, against an export of the same fields of view as they are."""
    for compression in ("uncompressed", "zstd"):
        _, path = bench.mosaic(compression)
        sides = {}
        for name, size, wanted in (("ours", 32, 1.0), ("plain", 64, None)):
            plan = bench.plan(path, size, name)
            sources = [ref.model_copy(update={"pixel_size": _HALF}) for ref in plan.sources]
            fields = {**dict(plan), "sources": sources, "pixel_size": wanted}
            sides[name] = partial(_timed_export, ExportPlan.model_validate(fields))
        times = in_turn(sides, bench.scale.repeats)
        bench.clear()
        ours, plain = times["ours"], times["plain"]
        name = f"export {compression} at 2x the pixel size / as it is"
        ratio, target = median_ratio(ours, plain), Target("<=", 1.5)
        yield Result(name, "time", "s", median(ours), median(plain), ratio, target)


_HALF = PixelSize(y=0.5, x=0.5)


def _timed_export(plan: ExportPlan) -> float:
    return timed(lambda: export(plan, overwrite=True).close())


def planning(bench: Bench) -> Iterator[Result]:
    """Plan a million patches, tiled and drawn at random."""
    side = round(bench.scale.patches**0.5)
    yield from _planning(bench, Tiled(size=(64, 64)), 64 * side, side**2, 50)
    # Twice the area, so that a position is seldom drawn twice.
    random = Random(size=(64, 64), count=side**2)
    yield from _planning(bench, random, 128 * side, side**2, 500)


def _planning(
    bench: Bench, strategy: Tiled | Random, size: int, count: int, milliseconds: float
) -> Iterator[Result]:
    source = SourceInfo(
        key="0", axes="CYX", shape=(1, size, size), dtype="uint16", channels=("C",),
        block_shape=(2048, 2048),
    )  # fmt: skip
    times = in_turn({"ours": lambda: timed(lambda: strategy.plan([source]))}, bench.scale.repeats)
    tracemalloc.start()
    grid = strategy.plan([source])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    what = f"plan {count} patches, {strategy.kind}"
    limit = Target("<=", milliseconds, "ms")
    yield Result(what, "time", "ms", 1000 * median(times["ours"]), target=limit)
    size = sum(column.nbytes for column in (grid.source_index, grid.sample, grid.start))
    note = f"{size / MIB:.0f} MiB when planned"
    limit = Target("<=", 64, "MB")
    yield Result(f"{what}: peak", "memory", "MB", peak / 1e6, target=limit, note=note)
    missing = abs(len(grid) - count)
    limit = Target("<=", 0, "patches")
    yield Result(f"{what}: off the count", "count", "patches", missing, target=limit)


def annotated(bench: Bench) -> Iterator[Result]:
    """Plan patches inside of, drawn from, and split by a million outlines, each in a process."""
    n = bench.scale.features
    image, outlines = write_outlines(bench.data, n)
    source = SourceRef(path=image, annotations=outlines)
    classes = {**dict.fromkeys(OUTLINE_CLASSES, 1), "background": 2}
    choices: dict[str, dict[str, Any]] = {
        "inside of them": {
            "strategy": Tiled(size=(64, 64), region_classes=OUTLINE_CLASSES, min_inside=0.3)
        },
        "balanced": {"strategy": Balanced(size=(64, 64), count=1000, classes=classes)},
        "split by them": {
            "strategy": Tiled(size=(64, 64)), "split": Split(val=0.2, by="annotation")
        },
    }  # fmt: skip
    for name, fields in choices.items():
        bench.clear()
        plan = ExportPlan(
            sources=source, out=bench.out / "a.patches", format="coordinates", **fields
        )
        taken = bench.in_child(plan)
        what = f"plan {n} outlines, patches {name}"
        limit = Target("<=", 120, "s")
        yield Result(f"{what}: CPU time", "time", "s", taken["cpu_ms"] / 1000, target=limit)
        limit = Target("<=", 1500, "MB")
        yield Result(f"{what}: peak", "memory", "MB", taken["peak"] / 1e6, target=limit)
        # A step for every four megabytes.
        lacking = max(0, outlines.stat().st_size // 2**22 - taken["readings"])
        lacking += not taken["choices"]
        limit = Target("<=", 0, "steps")
        yield Result(f"{what}: steps that are not told", "count", "", lacking, target=limit)
