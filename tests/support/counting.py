"""Files of every kind, and counters of what is read and decoded of them."""

import builtins
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import zarr
from zarr.storage import LocalStore

from napari_patchset import ExportPlan, PatchSet, Random, Tiled
from napari_patchset.stacks.cache import OpenFiles
from napari_patchset.stacks.czi.subblocks import SubblockDecoder
from napari_patchset.stacks.tiff.stack import TiffImageStack
from napari_patchset.stacks.zarr.chunks import ChunkReader
from support.czi_maker import SceneSpec, make_czi
from support.export_makers import plan_for

SIZE, TILE, CHANNELS, PER_SHARD = 256, 64, 2, 32


def write_mosaic(
    path: Path, size: int, overlap: int = 0, compression: str | None = None, depth: int = 1
) -> None:
    scene = SceneSpec(rect=(0, 0, size, size), c=CHANNELS, z=depth, overlap=overlap)
    make_czi(path, [scene], tile=(TILE, TILE), compression=compression)


def write_tiff(path: Path, size: int, depth: int = 1) -> None:
    tifffile.imwrite(
        path, noise(size, depth), tile=(TILE, TILE), compression="zstd", photometric="minisblack",
        metadata={"axes": "CZYX"},
    )  # fmt: skip


def write_zarr(path: Path, size: int, depth: int = 1) -> None:
    names, chunks = ("c", "z", "y", "x"), (1, 1, TILE, TILE)
    array = zarr.create_array(path, data=noise(size, depth), chunks=chunks, dimension_names=names)
    assert array.ndim == 4


def noise(size: int, depth: int) -> np.ndarray:
    shape = CHANNELS, depth, size, size
    return np.random.default_rng(0).integers(1, 1000, shape, np.uint16)


class Kind(NamedTuple):
    """A kind of file: its name, its writer, and the block that is decoded at once."""

    name: str
    write: Callable[[Path, int], None]
    block: tuple[int, int] = (TILE, TILE)
    step: tuple[int, int] = (TILE, TILE)
    depth: int = 1

    def starts(self, axis: int) -> range:
        """Return where the blocks begin along Y or X."""
        beyond = self.block[axis] - self.step[axis]
        return range(0, SIZE - beyond, self.step[axis])

    @property
    def blocks(self) -> int:
        """How many blocks the file holds."""
        return CHANNELS * self.depth * len(self.starts(0)) * len(self.starts(1))

    def met(self, rows: list[dict[str, Any]]) -> int:
        """Count the blocks that patches, as rows of the table, meet."""
        blocks = {
            (z, y, x)
            for row, y, x in product(rows, self.starts(0), self.starts(1))
            for z in range(row.get("z_start", 0), row.get("z_start", 0) + row.get("z_size", 1))
            if y - 24 < row["y_start"] < y + self.block[0]
            and x - 10 < row["x_start"] < x + self.block[1]
        }
        return CHANNELS * len(blocks)


_OVERLAPPING, _RUN = (TILE - 10, TILE - 10), (SIZE, 2 * TILE)

KINDS = {
    "uncompressed": Kind("a.czi", write_mosaic),
    "zstd": Kind("a.czi", partial(write_mosaic, compression="zstd1:")),
    "overlapping": Kind("a.czi", partial(write_mosaic, overlap=10), step=_OVERLAPPING),
    "overlapping zstd": Kind(
        "a.czi", partial(write_mosaic, overlap=10, compression="zstd0:"), step=_OVERLAPPING
    ),
    "tiff": Kind("a.ome.tif", write_tiff),
    "zarr": Kind("a.zarr", write_zarr, _RUN, _RUN),
    "deep czi": Kind("a.czi", partial(write_mosaic, depth=3), depth=3),
    "deep tiff": Kind("a.ome.tif", partial(write_tiff, depth=3), depth=3),
    "deep zarr": Kind("a.zarr", partial(write_zarr, depth=3), _RUN, _RUN, depth=3),
}
"""A zarr's chunks are small: many are decoded at once."""

STRATEGIES: dict[str, Tiled | Random] = {
    "tiled": Tiled(size=(24, 10), overlap=(4, 0), edge="pad"),
    "reflected": Tiled(size=(24, 10), overlap=(4, 0), edge="pad", pad="reflect"),
    "random": Random(size=(24, 10), count=600),
    "deep": Tiled(size=(2, 48, 40), overlap=(1, 4, 0), edge="pad"),
}


def make_plan(folder: Path, kind: str, size: int = SIZE, **fields: Any) -> ExportPlan:
    made = KINDS[kind]
    folder.mkdir()
    made.write(folder / made.name, size)
    is_deep = made.depth > 1
    fields = {"strategy": STRATEGIES["deep" if is_deep else "tiled"], **fields}
    if is_deep:
        fields["depth_axis"] = "Z"
    return plan_for(folder / made.name, folder / "out.patches.zarr", **fields)


def shards_of(made: PatchSet) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each shard of a set that rejects nothing and has no split."""
    table = made.table.to_pylist()
    for first in range(0, len(table), PER_SHARD):
        yield table[first : first + PER_SHARD]


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


DECODERS = (
    (SubblockDecoder, "decode"),
    (TiffImageStack, "_decode_segment"),
    (ChunkReader, "_decode"),
)
"""What decodes one tile, segment or block."""


def counting(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count "tiles" that are decoded and "bytes" that are read, of all stacks together."""
    counts = Counter[str]()
    read, read_into, get = OpenFiles.read, OpenFiles.read_into, LocalStore.get

    def counted(decode: Callable[..., Any]) -> Callable[..., Any]:
        def count_tile(*args: Any) -> Any:
            counts["tiles"] += 1
            return decode(*args)

        return count_tile

    def count_read(self: OpenFiles, path: Path, offset: int, length: int) -> bytes:
        counts["bytes"] += length
        return read(self, path, offset, length)

    def count_read_into(self: OpenFiles, path: Path, offset: int, out: np.ndarray) -> None:
        counts["bytes"] += out.nbytes
        read_into(self, path, offset, out)

    async def count_get(self: LocalStore, *args: Any, **options: Any) -> Any:
        value = await get(self, *args, **options)
        counts["bytes"] += 0 if value is None else len(value)
        return value

    for reader, name in DECODERS:
        monkeypatch.setattr(reader, name, counted(getattr(reader, name)))
    monkeypatch.setattr(OpenFiles, "read", count_read)
    monkeypatch.setattr(OpenFiles, "read_into", count_read_into)
    monkeypatch.setattr(LocalStore, "get", count_get)
    return counts


class Reads(Counter[str]):
    """Count the reads from files in a folder, as the system sees them, by name of the file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._folder = folder
        self._files: dict[int, str] = {}
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self._opening(io.open))
        monkeypatch.setattr(os, "open", self._noting(os.open))
        for name in ("pread", "preadv"):
            monkeypatch.setattr(os, name, self._counting(getattr(os, name)))

    def _opening(self, opens: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **more: Any) -> Any:
            if mode != "rb" or not str(file).startswith(str(self._folder)):
                return opens(file, mode, buffering, *args, **more)
            raw = _CountedFile(file, self)
            return raw if buffering == 0 else io.BufferedReader(raw, max(buffering, 4096))

        return opened

    def _noting(self, opens: Callable[..., int]) -> Callable[..., int]:
        def noted(path: Any, *args: Any, **options: Any) -> int:
            number = opens(path, *args, **options)
            self._files[number] = str(path)
            return number

        return noted

    def _counting(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(number: int, *args: Any) -> Any:
            if self._files.get(number, "").startswith(str(self._folder)):
                self[Path(self._files[number]).name] += 1
            return read(number, *args)

        return counted


class _CountedFile(io.FileIO):
    def __init__(self, path: Any, reads: Reads) -> None:
        super().__init__(path)
        self._reads, self._called = reads, Path(path).name

    def readinto(self, buffer: Any) -> int | None:  # type: ignore[override]  # any buffer will do
        self._reads[self._called] += 1
        return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]  # as FileIO
        self._reads[self._called] += 1
        return super().read(size)

    def readall(self) -> bytes | None:  # type: ignore[override]  # as FileIO
        self._reads[self._called] += 1
        return super().readall()
