"""What an export reads, decodes and writes: everything once, counted."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from czi_maker import SceneSpec, make_czi
from export_makers import digests, export, plan_for
from napari_patchset import ExportPlan, PatchSet, Random, Tiled
from napari_patchset.export import writing
from napari_patchset.export.jobs import finalize_export, plan_export, write_part
from napari_patchset.export.plan import ImageRef
from napari_patchset.export.sidecar import ShardSidecar
from napari_patchset.patching.splits import Split
from napari_patchset.patchset import layout
from napari_patchset.stacks.czi.decoding import SubblockDecoder
from napari_patchset.stacks.files import Files
from napari_patchset.stacks.tiles import TileCache

SIZE, TILE, CHANNELS = 256, 64, 2
IO = Path("/proc/self/io")


@pytest.fixture(autouse=True)
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 32 patches into a shard."""
    monkeypatch.setattr(layout, "SHARD_BYTES", 32 * CHANNELS * 24 * 20 * 2)


def write_mosaic(path: Path, size: int, overlap: int = 0, compression: str | None = None) -> None:
    scene = SceneSpec(rect=(0, 0, size, size), c=CHANNELS, overlap=overlap)
    make_czi(path, [scene], tile=(TILE, TILE), compression=compression)


def write_tiff(path: Path, size: int) -> None:
    tifffile.imwrite(
        path, noise(size), tile=(TILE, TILE), compression="zstd", photometric="minisblack",
        metadata={"axes": "CYX"},
    )  # fmt: skip


def write_zarr(path: Path, size: int) -> None:
    array = zarr.create_array(
        store=path, data=noise(size), chunks=(1, TILE, TILE), dimension_names=("c", "y", "x")
    )
    assert array.ndim == 3


def noise(size: int) -> np.ndarray:
    shape = CHANNELS, size, size
    return np.random.default_rng(0).integers(1, 1000, shape, np.uint16)


KINDS: dict[str, tuple[str, Callable[[Path, int], None], int]] = {
    "uncompressed": ("a.czi", write_mosaic, 16),
    "zstd": ("a.czi", lambda path, size: write_mosaic(path, size, compression="zstd1:"), 16),
    "overlapping": ("a.czi", lambda path, size: write_mosaic(path, size, 10), 25),
    "overlapping zstd": ("a.czi", lambda path, size: write_mosaic(path, size, 10, "zstd0:"), 25),
    "tiff": ("a.ome.tif", write_tiff, 16),
    "zarr": ("a.zarr", write_zarr, 2),
}
"""By kind: the file's name, what writes it, and how many tiles or runs of chunks are a channel."""

STRATEGIES = {
    "tiled": Tiled(size=(24, 10), overlap=(4, 0), edge="pad"),
    "reflected": Tiled(size=(24, 10), overlap=(4, 0), edge="pad", pad="reflect"),
    "random": Random(size=(24, 10), count=600),
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the tiles that are decoded, of all stacks together."""
    count, found = TileCache.count, Counter[str]()

    def counting(self: TileCache, decode: Callable[[], Any]) -> Any:
        found["tiles"] += 1
        return count(self, decode)

    monkeypatch.setattr(TileCache, "count", counting)
    return found


def make_plan(folder: Path, kind: str, size: int = SIZE, **fields: Any) -> ExportPlan:
    name, write, _ = KINDS[kind]
    folder.mkdir()
    write(folder / name, size)
    fields = {"strategy": STRATEGIES["tiled"], **fields}
    return plan_for(folder / name, folder / "out.patches.zarr", **fields)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_tile_is_decoded_once(
    tmp_path: Path, decoded: Counter[str], kind: str, strategy: str
) -> None:
    plan = make_plan(tmp_path / "a", kind, strategy=STRATEGIES[strategy])
    export(plan)
    assert decoded["tiles"] == KINDS[kind][2] * CHANNELS


@pytest.mark.parametrize("split", [None, Split(val=0.2, by="block")])
@pytest.mark.parametrize("kind", KINDS)
def test_each_tile_of_image_and_target_is_decoded_once(
    tmp_path: Path, decoded: Counter[str], kind: str, split: Split | None
) -> None:
    plan = make_plan(tmp_path / "a", kind, split=split)
    target = ImageRef(path=make_plan(tmp_path / "target", kind).sources[0].path)
    sources = [ref.model_copy(update={"target": target}) for ref in plan.sources]
    made = export(plan.model_copy(update={"sources": tuple(sources)}))
    assert len(made.manifest.arrays) == (4 if split else 2)
    assert decoded["tiles"] == 2 * KINDS[kind][2] * CHANNELS


@pytest.mark.parametrize("kind", ["overlapping", "tiff", "zarr"])
def test_less_memory_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: Counter[str], kind: str
) -> None:
    plan = make_plan(tmp_path / "a", kind)
    reference = export(plan)
    enough = decoded.total()
    monkeypatch.setattr(writing, "LEAST_TILES", 0)
    scarce = plan.model_copy(update={"out": str(tmp_path / "b.patches.zarr")})
    assert digests(export(scarce, memory=0).path) == digests(reference.path)
    assert decoded.total() > 2 * enough


@pytest.mark.parametrize("n", [2, 5])
def test_a_job_decodes_again_at_most_the_tiles_of_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    plan = make_plan(tmp_path / "a", "overlapping")
    rows = decoded_rows(monkeypatch)
    plan_export(plan)
    for job in range(n):
        write_part(plan.out, job, n)
        rows.append([])
    finalize_export(plan.out)
    shards = [tiles_of(shard) for shard in shards_of(PatchSet(plan.out))]
    known: set[int] = set()
    for found in rows:
        assert len(found) == len(set(found))
        assert len(known & set(found)) <= CHANNELS * max(map(len, shards))
        known |= set(found)
    assert len(known) == 25 * CHANNELS


def decoded_rows(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Give a list whose last one will hold the subblocks that are decoded."""
    decode, rows = SubblockDecoder.decode, list[list[int]]([[]])

    def decoding(self: SubblockDecoder, row: int) -> Any:
        rows[-1].append(row)
        return decode(self, row)

    monkeypatch.setattr(SubblockDecoder, "decode", decoding)
    return rows


def shards_of(made: PatchSet) -> Iterator[list[dict[str, Any]]]:
    table = made.table.to_pylist()
    for first in range(0, len(table), 32):
        yield table[first : first + 32]


def tiles_of(shard: list[dict[str, Any]]) -> set[tuple[int, int]]:
    """Name the overlapping tiles that meet a shard's patches."""
    starts = range(0, SIZE - 10, TILE - 10)
    return {
        (y, x)
        for row, y, x in product(shard, starts, starts)
        if y - 24 < row["y_start"] < y + TILE and x - 20 < row["x_start"] < x + TILE
    }


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zarr"])
def test_each_stored_byte_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    plan = make_plan(tmp_path / "a", kind)
    plan_export(plan)
    read, read_into, lengths = Files.read, Files.read_into, list[int]()

    def counting(self: Files, path: Path, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read(self, path, offset, length)

    def counting_into(self: Files, path: Path, offset: int, out: np.ndarray) -> None:
        lengths.append(out.nbytes)
        read_into(self, path, offset, out)

    monkeypatch.setattr(Files, "read", counting)
    monkeypatch.setattr(Files, "read_into", counting_into)
    write_part(plan.out, 0, 1)
    assert 0.8 <= sum(lengths) / size_of(Path(plan.sources[0].path)) <= 1.01


@pytest.mark.skipif(not IO.exists(), reason=f"no {IO} here")
def test_each_byte_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 2**21)
    strategy = Tiled(size=(128, 128))
    plans = [make_plan(tmp_path / f"{n}", "tiff", n * SIZE, strategy=strategy) for n in (1, 8)]
    small, large = map(written, plans)
    assert large[0] - small[0] <= 1.01 * (large[1] - small[1])


def test_little_is_kept_beside_a_shard_of_noise() -> None:
    shape = 2048, 2, 64, 64  # 32 MiB
    patches = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    assert len(ShardSidecar.of("", patches).model_dump_json()) < 0.006 * patches.nbytes


def written(plan: ExportPlan) -> tuple[int, int]:
    """Export; give the bytes written meanwhile, and those of the set."""
    before = bytes_written()
    made = export(plan)
    return bytes_written() - before, size_of(made.path)


def bytes_written() -> int:
    counts = dict(line.split(": ") for line in IO.read_text().splitlines())
    return int(counts["wchar"])


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
