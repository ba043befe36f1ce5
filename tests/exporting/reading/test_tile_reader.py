"""What an export reads, decodes and writes: everything once, counted."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset import ExportPlan, PatchSet, Tiled, export
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.tile_reader import TileReader
from napari_patchset.exporting.reading.tiles import Batches
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.writing import metrics, shard_writer
from napari_patchset.exporting.writing.workdir import DoneMarker
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.splits.split import Split
from napari_patchset.patchset import layout
from napari_patchset.stacks import protocol
from napari_patchset.stacks.memory import InMemoryImageStack
from support.counting import (
    CHANNELS,
    KINDS,
    PER_SHARD,
    SIZE,
    STRATEGIES,
    counting,
    make_plan,
    shards_of,
    size_of,
)
from support.export_makers import digests
from support.strategy_makers import source

IO = Path("/proc/self/io")
SPLIT = {"split": Split(val=0.2, by="block")}


@pytest.fixture(autouse=True)
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 32 patches without depth into a shard."""
    monkeypatch.setattr(layout, "SHARD_BYTES", PER_SHARD * CHANNELS * 24 * 10 * 2)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return counting(monkeypatch)


def with_target(plan: ExportPlan, folder: Path, kind: str) -> ExportPlan:
    target = ImageRef(path=make_plan(folder, kind).sources[0].path)
    sources = [ref.model_copy(update={"target": target}) for ref in plan.sources]
    return plan.model_copy(update={"sources": tuple(sources)})


@pytest.mark.parametrize("paired", [False, True], ids=["alone", "split, target and filter"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_tile_and_each_stored_byte_is_read_once(
    tmp_path: Path, counted: Counter[str], kind: str, paired: bool
) -> None:
    fields: dict[str, Any] = SPLIT | {"filters": [parse_filter("std>p5")]} if paired else {}
    plan = make_plan(tmp_path / "a", kind, **fields)
    stored = size_of(Path(plan.sources[0].path))
    if paired:
        plan = with_target(plan, tmp_path / "target", kind)
    plan_export(plan)
    for part, times in ((score_job, paired), (write_job, 1 + paired)):
        counted.clear()
        part(plan.out, 0, 1)
        assert counted["tiles"] == times * KINDS[kind].blocks
        assert 0.8 * times * stored <= counted["bytes"] <= 1.01 * times * stored
    finalize_export(plan.out)
    assert len(PatchSet(plan.out).manifest.arrays) == (4 if paired else 1)


@pytest.mark.parametrize("strategy", ["reflected", "random"])
@pytest.mark.parametrize("kind", ["overlapping", "tiff", "zarr"])
def test_each_tile_is_decoded_once_however_patches_lie(
    tmp_path: Path, counted: Counter[str], kind: str, strategy: str
) -> None:
    filters = [parse_filter("std[1]>p5")]
    plan = make_plan(tmp_path / "a", kind, strategy=STRATEGIES[strategy], filters=filters)
    plan_export(plan)
    for part, channels in ((score_job, 1), (write_job, CHANNELS)):
        counted.clear()
        part(plan.out, 0, 1)
        assert counted["tiles"] == channels * KINDS[kind].blocks / CHANNELS


@pytest.mark.parametrize("kind", ["overlapping", "tiff", "zarr"])
def test_less_memory_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str], kind: str
) -> None:
    plan = make_plan(tmp_path / "a", kind, filters=[parse_filter("std>p5")])
    reference = export(plan)
    enough = counted["tiles"]
    for module in (metrics, shard_writer):
        monkeypatch.setattr(module, "MIN_TILE_BYTES", 0)
    scarce = plan.model_copy(update={"out": str(tmp_path / "b.patches.zarr")})
    assert digests(export(scarce, memory=0).path) == digests(reference.path)
    assert counted["tiles"] > 2 * enough


@pytest.mark.parametrize("kind", ["overlapping zstd", "tiff", "zarr"])
def test_jobs_decode_again_at_most_the_tiles_of_one_shard_each(
    tmp_path: Path, counted: Counter[str], kind: str
) -> None:
    plan = make_plan(tmp_path / "a", kind, filters=[parse_filter("std>-1")])
    plan_export(plan)
    decoded = {}
    for part in (score_job, write_job):
        counted.clear()
        for job in range(4):
            part(plan.out, job, 4)
        decoded[part] = counted["tiles"]
    finalize_export(plan.out)
    most = max(map(KINDS[kind].met, shards_of(PatchSet(plan.out))))
    for total in decoded.values():
        assert KINDS[kind].blocks < total <= KINDS[kind].blocks + 3 * most


@pytest.mark.skipif(not IO.exists(), reason=f"no {IO} here")
@pytest.mark.parametrize("paired", [False, True], ids=["alone", "split, target and filter"])
def test_each_byte_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paired: bool
) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 2**21)
    fields: dict[str, Any] = SPLIT | {"filters": [parse_filter("std>p5")]} if paired else {}
    sides = []
    for n in (1, 8):
        folder = tmp_path / f"{n}"
        plan = make_plan(folder, "tiff", n * SIZE, strategy=Tiled(size=(128, 128)), **fields)
        sides.append(written(plan))
    small, large = sides
    assert large[0] - small[0] <= 1.01 * (large[1] - small[1])


def test_a_stack_without_blocks_is_read_in_squares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_DEFAULT_BLOCK", 16)
    pixels = np.random.default_rng(0).integers(0, 2**16, (2, 1, 50, 40), np.uint16)
    stack, strategy = InMemoryImageStack("array", pixels), STRATEGIES["tiled"]
    plan = ExportPlan(sources="a.tif", strategy=strategy, out=tmp_path / "a.patches.zarr")
    grid = strategy.plan([source(*pixels.shape)])
    with OpenImages(plan, lambda *_: stack, threads=2) as images:
        batches = Batches.from_candidates(
            grid,
            [source(*pixels.shape)],
            "constant",
            np.arange(len(grid)),
            np.zeros(len(grid), int),
        )
        reader = TileReader(batches, images, "image", memory=2**20)
        for batch in reader.read():
            patches = np.empty((len(batch.candidates), 1, *grid.size), np.uint16)
            reader.fill(batch, patches)
            for patch, candidate in zip(patches, batch.candidates.tolist(), strict=True):
                _, sample, start, size = grid[candidate]
                np.testing.assert_array_equal(patch, stack.extract_patch(sample, [0], start, size))


def test_a_done_marker_is_small_even_for_noise() -> None:
    shape = 2048, 2, 64, 64  # 32 MiB
    patches = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    assert len(DoneMarker.from_patches("", patches).model_dump_json()) < 0.006 * patches.nbytes


def written(plan: ExportPlan) -> tuple[int, int]:
    """Export; give the bytes written meanwhile, and those of the set."""
    before = bytes_written()
    made = export(plan)
    return bytes_written() - before, size_of(made.path)


def bytes_written() -> int:
    counts = dict(line.split(": ") for line in IO.read_text().splitlines())
    return int(counts["wchar"])
