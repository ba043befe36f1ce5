"""Rows measured in separate processes: bytes, tiles and memory of an export, and the window."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median

from bench import Bench
from files import COMPRESSIONS, Mosaic, Slide, stored_bytes
from measure import Result, Target, in_turn, median_ratio, timed

MIB = 2**20
FIXED_BYTES = 2 * MIB
"""What an export may read and write besides pixels: fingerprints, directory, plan, manifest."""

_ANSWER_MS = 100
"""Limit within which the window answers, unless napari alone takes longer."""

_NOISE = 1.25
"""By how much the longest of some waits differs from run to run."""


def transfers(bench: Bench) -> Iterator[Result]:
    """Count the bytes, the tiles and the memory of an export in a fresh process."""
    return _transfers(bench, 0, 400)


def transfers_overlapping(bench: Bench) -> Iterator[Result]:
    """Count the same for a mosaic whose tiles overlap by a tenth."""
    return _transfers(bench, bench.scale.tile // 10, 600)


def _transfers(bench: Bench, overlap: int, megabytes: int) -> Iterator[Result]:
    for compression, size in product(COMPRESSIONS, bench.scale.patch_sizes):
        mosaic, path = bench.mosaic(compression, overlap)
        took = bench.export_in_child(path, size)
        what = f"{compression}{' overlapping' if overlap else ''} {size} px"
        yield _traffic(f"bytes read, {what}", took["read"], stored_bytes(path))
        yield _traffic(f"bytes written, {what}", took["written"], took["output"])
        target, name = Target("<=", mosaic.tiles, "tiles"), f"tiles decoded, {what}"
        yield Result(name, "count", "tiles", took["tiles"], mosaic.tiles, target=target)
        limit, peak = Target("<=", megabytes, "MB"), took["peak"] / 1e6
        yield Result(f"peak memory, {what}", "memory", "MB", peak, target=limit)


def _traffic(name: str, took: int, needed: int) -> Result:
    """Limit bytes to 1.01 times the needed ones, and in small files to a fixed sum beyond them."""
    limit = max(1.01, 1 + FIXED_BYTES / needed)
    note = "" if limit == 1.01 else f"small file: {FIXED_BYTES / MIB:.0f} MiB allowed"
    target = Target("<=", limit)
    return Result(name, "count", "MB", took / 1e6, needed / 1e6, took / needed, target, note)


def memory(bench: Bench) -> Iterator[Result]:
    """Compare the memory of exporting a file with that for a file of an eighth of its size."""
    peaks = {}
    for depth in (2, 16):
        mosaic = Mosaic(bench.scale.size, bench.scale.tile, depth=depth, compression="uncompressed")
        peaks[mosaic.pixel_bytes] = (
            bench.export_in_child(mosaic.write(bench.data), 64)["peak"] / 1e6
        )
    (small, less), (large, more) = peaks.items()
    what, target = f"{large / 1e9:.2g} GB against {small / 1e9:.2g} GB", Target("<=", 1.2)
    yield Result(f"peak memory, {what}", "memory", "MB", more, less, more / less, target)


def start(bench: Bench) -> Iterator[Result]:
    """Start the command, against an import of NumPy."""
    _, path = bench.mosaic("zstd")
    patchset = [sys.executable, "-m", "napari_patchset"]
    commands = {
        "numpy": [sys.executable, "-c", "import numpy"],
        "patchset --help": [*patchset, "--help"],
        "patchset info": [*patchset, "info", str(path)],
        "import napari_patchset": [sys.executable, "-c", "import napari_patchset"],
    }
    sides = {name: partial(_seconds, command) for name, command in commands.items()}
    in_turn(sides, 1)  # what is imported is in the disk's cache
    times = in_turn(sides, bench.scale.repeats)
    for name, limit in (
        ("patchset --help", 3),
        ("patchset info", 5),
        ("import napari_patchset", 3),
    ):
        own, plain = times[name], times["numpy"]
        ratio, target = median_ratio(own, plain), Target("<=", limit)
        what = f"start: {name} / import numpy"
        yield Result(what, "time", "s", median(own), median(plain), ratio, target)


def _seconds(command: Sequence[str]) -> float:
    return timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))


def preview(bench: Bench) -> Iterator[Result]:
    """From a changed value to a drawn grid of a million patches, whatever the scale."""
    names = {"map": "all in view", "outlines": "outlines in view", "split": "all, with a split"}
    if find_spec("napari") is None:
        yield Result("preview, changed value to drawn grid", "time", "ms", 0, note="no napari")
        return
    took = _in_window("preview.py")
    for key, name in names.items():
        note = f"{took['patches']} patches"
        limit = Target("<=", 100, "ms")
        yield Result(f"preview, {name}", "time", "ms", took[key], target=limit, note=note)
    limit = Target("<=", 16, "ms")
    yield Result(
        "preview, from the mouse on a patch to its highlight",
        "time",
        "ms",
        took["hover"],
        target=limit,
        note=note,
    )
    for key in ("pan", "zoom", "slide"):
        ours, plain = took[key], took[f"{key}_plain"]
        name, target = f"preview, {key}: the window's thread / plain napari", Target("<=", 1.3)
        yield Result(name, "time", "ms", ours, plain, ours / plain, target)


def first_picture(bench: Bench) -> Iterator[Result]:
    """Show a slide of 100 000 px in the window, at every level."""
    if find_spec("napari") is None:
        yield Result("slide in the window: first picture", "time", "s", 0, note="no napari")
        return
    slide = Slide(bench.scale.subblocks)
    took = _in_window("first_picture.py", slide.write(bench.data))
    what, note = f"slide of {slide.size} px in the window", f"{took['first_cpu_s']:.2f} s computing"
    first, limit = took["first_s"], Target("<=", 1, "s")
    yield Result(f"{what}: first picture", "time", "s", first, target=limit, note=note)
    limit = Target("<=", 1000, "MB")
    yield Result(f"{what}: peak memory", "memory", "MB", took["peak_mb"], target=limit)


def key_strokes(bench: Bench) -> Iterator[Result]:
    """Strike keys while a person opens, plans and exports, on storage that takes 200 ms a read."""
    name = "key strokes at 200 ms a read"
    if find_spec("napari") is None:
        yield Result(f"{name}: longest wait", "time", "ms", 0, note="no napari")
        return
    mosaic = Mosaic(1024, 512, depth=3)
    took = _in_window("key_strokes.py", mosaic.write(bench.data))
    kinds = {
        "docking": "docking the widget",
        "opening": "opening, without its reads",
        "scene": "another scene",
        "removing": "removing all layers",
    }
    for key, what in kinds.items():
        wait, plain = took[key], took[f"{key}_plain"]
        target = Target("<=", max(_NOISE, _ANSWER_MS / plain))
        what = f"{name}: {what} / plain napari"
        note = f"{took['reads']} reads of 200 ms" if key == "opening" else ""
        yield Result(what, "time", "ms", wait, plain, wait / plain, target, note=note)
    limit = Target("<=", _ANSWER_MS, "ms")
    yield Result(f"{name}: everything else", "time", "ms", took["longest"], target=limit)


def _in_window(script: str, *arguments: Path) -> dict[str, float]:
    """Run a script on a display; it prints what it measured."""
    here = Path(__file__).parent
    command = [here.parent / "tools" / "display", sys.executable, here / script, *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    took: dict[str, float] = json.loads(answer.splitlines()[-1])
    return took
