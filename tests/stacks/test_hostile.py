"""Malicious files: no code runs, no other file is read, no declared size is trusted."""

import json
import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr

from napari_patchset import (
    ExportPlan,
    PatchSet,
    Tiled,
    export,
    iter_export,
    list_scenes,
    open_stack,
)
from napari_patchset.errors import IncompleteSetError, PatchsetError, UnreadableFileError
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patchset import layout
from support.czi_maker import MakeCzi, SceneSpec, blocks_of, write_blocks
from support.export_makers import advance

FEW = 48 * 2**20
"""Bytes: what libraries take when they are first used, and no pixels."""

LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
LAUGHS = f'<!DOCTYPE x [<!ENTITY a0 "{"ha" * 100}">{LAUGHS}]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>'


@contextmanager
def little_memory() -> Iterator[None]:
    """Require that little is taken, even for a moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


def use(path: Path, out: Path) -> None:
    """List, open and read a corner; export."""
    for scene in list_scenes(path):
        with open_stack(path, scene.id) as stack:
            corner = [n - 8 for n in stack.data_shape[-2:]]
            assert stack.extract_patch(0, None, corner, (16, 16)).shape[1:] == (16, 16)
    plan = ExportPlan(sources=[str(path)], strategy=Tiled(size=(16, 16)), out=out)
    export(plan).close()


@pytest.mark.parametrize("declared", [LAUGHS, OUTSIDE])
def test_no_entity_of_a_czi_is_expanded(czi: MakeCzi, declared: str) -> None:
    path = czi(SceneSpec(), xml=f"{declared}<ImageDocument><Name>&a11;</Name></ImageDocument>")
    with little_memory(), open_stack(path) as stack:
        assert stack.metadata.channels[0].name == "Channel 0"


@pytest.mark.parametrize("declared", [LAUGHS, OUTSIDE])
def test_no_entity_of_an_ome_tiff_is_expanded(tmp_path: Path, declared: str) -> None:
    xml = f"{declared}<OME><Image><Description>&a11;</Description></Image></OME>"
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((9, 9), np.uint8), description=xml, metadata=None
    )
    with little_memory(), pytest.raises(UnreadableFileError, match=r"a\.ome\.tif.*OME-XML"):
        open_stack(tmp_path / "a.ome.tif")


def wide_czi(path: Path) -> None:
    first, *_ = blocks_of((SceneSpec(rect=(0, 0, 32, 32)),), (32, 32))
    far = 2**30
    blocks = [replace(first, rect=(x, y, 32, 32)) for x, y in ((0, 0), (far, far))]
    write_blocks(path, blocks)


def wide_tiff(path: Path) -> None:
    options = {"tile": (16, 16), "compression": "zlib", "metadata": None, "bigtiff": True}
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(2**31 - 1)


def wide_zarr(path: Path) -> None:
    array = zarr.create_array(path, shape=(16, 16), chunks=(16, 16), dtype="u2", fill_value=7)
    array[...] = 1
    edit(path / "zarr.json", lambda doc: doc.update(shape=[10**9, 10**9]))


def long_zarr(path: Path) -> None:
    array = zarr.create_array(path, shape=(1, 16, 16), chunks=(1, 16, 16), dtype="u2")
    array[...] = 1
    edit(path / "zarr.json", lambda doc: doc.update(shape=[2**31, 16, 16]))


def colourful_zarr(path: Path) -> None:
    options = {"chunks": (1, 16, 16), "dimension_names": ("c", "y", "x"), "dtype": "u2"}
    zarr.create_array(path, shape=(1, 16, 16), **options)
    edit(path / "zarr.json", lambda doc: doc.update(shape=[2**31, 16, 16]))


def zarr_of_large_chunks(path: Path) -> None:
    zarr.create_array(path, shape=(10**9, 10**9), chunks=(30_000, 30_000), dtype="u2")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    doc = json.loads(path.read_text())
    change(doc)
    path.write_text(json.dumps(doc))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.czi", wide_czi),
        ("a.tif", wide_tiff),
        ("a.zarr", wide_zarr),
        ("a.zarr", long_zarr),
        ("a.zarr", colourful_zarr),
        ("a.zarr", zarr_of_large_chunks),
    ],
)
def test_a_declared_size_of_10_to_the_18_takes_no_memory(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    with little_memory(), pytest.raises(PatchsetError, match=r"a\.(czi|tif|zarr)|candidates"):
        use(tmp_path / name, tmp_path / "out.patches.zarr")
    assert not (tmp_path / "out.patches.zarr").exists()


def unknown_compression(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(60_000)


def unknown_block(path: Path) -> None:
    first, *_ = blocks_of((SceneSpec(rect=(0, 0, 32, 32)),), (32, 32))
    write_blocks(path, [replace(first, compression=99)])


def unknown_codec(path: Path) -> None:
    zarr.create_array(path, shape=(16, 16), chunks=(16, 16), dtype="u2", compressors=None)
    edit(path / "zarr.json", lambda doc: doc["codecs"].append({"name": "os.system"}))


@pytest.mark.parametrize(
    ("name", "make", "named"),
    [
        ("a.czi", unknown_block, "99"),
        ("a.tif", unknown_compression, "60000"),
        ("a.zarr", unknown_codec, r"os\.system"),
    ],
)
def test_a_codec_that_nobody_knows_is_named(
    tmp_path: Path, name: str, make: Callable[[Path], None], named: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(UnreadableFileError, match=rf"a\.(czi|tif|zarr).*{named}"):
        use(tmp_path / name, tmp_path / "out.patches.zarr")


class Bomb:
    """A pickle that leaves a file where it was loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled_zarr(path: Path, bomb: bytes) -> None:
    zarr.create_array(path, shape=(16, 16), chunks=(16, 16), dtype="u1", zarr_format=2)
    (path / "0.0").write_bytes(bomb)
    edit(
        path / ".zarray",
        lambda doc: doc.update(dtype="|O", filters=[{"id": "pickle"}], compressor=None),
    )


def npy_named(path: Path, bomb: bytes) -> None:
    array = np.empty(1, object)
    array[0] = pickle.loads(b"N.")
    np.save(path, array, allow_pickle=True)
    path.write_bytes(path.read_bytes()[:128] + bomb)


@pytest.mark.parametrize(("name", "make"), [("a.zarr", pickled_zarr), ("a.npy", npy_named)])
def test_nothing_is_unpickled(
    tmp_path: Path, name: str, make: Callable[[Path, bytes], None]
) -> None:
    make(tmp_path / name, pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises((PatchsetError, OSError, ValueError)):
        use(tmp_path / name, tmp_path / "out.patches.zarr")
    assert not (tmp_path / "exploded").exists()


@pytest.fixture
def made(czi: MakeCzi, tmp_path: Path) -> Path:
    """Export a set of a few shards."""
    out = tmp_path / "a.patches.zarr"
    path = czi(SceneSpec(rect=(0, 0, 64, 48), c=2))
    export(ExportPlan(sources=[path], strategy=Tiled(size=(16, 16)), out=out)).close()
    return out


def manifest_with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Edit the manifest of a set."""

    def damage(root: Path) -> None:
        edit(root / "zarr.json", lambda doc: change(doc["attributes"]["patchset"]["manifest"]))

    return damage


def image(**fields: Any) -> Callable[[Path], None]:
    return manifest_with(lambda manifest: manifest["arrays"]["all/image"].update(fields))


def renamed(name: str) -> Callable[[Path], None]:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["arrays"][name] = manifest["arrays"].pop("all/image")

    return manifest_with(rename)


def linked_shard(root: Path) -> None:
    path = root.joinpath("all", "image", "c", "0", "0", "0", "0")
    path.rename(root.parent / "elsewhere")
    path.symlink_to(root.parent / "elsewhere")


def linked_array(root: Path) -> None:
    (root / "all").rename(root.parent / "elsewhere")
    (root / "all").symlink_to(root.parent / "elsewhere")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "patches beyond number": image(shape=[10**18, 2, 16, 16], patches_per_shard=1),
    "patches beyond size": image(shape=[12, 2, 10**9, 10**9]),
    "no patches": image(shape=[0, 2, 16, 16]),
    "negative": image(shape=[-1, 2, 16, 16]),
    "no axes": image(shape=[12]),
    "objects": image(dtype="object"),
    "another type": image(dtype="float64"),
    "an unknown codec": image(codec="pickle"),
    "another codec": image(codec="lz4"),
    "shards of one": image(patches_per_shard=1),
    "a name that climbs": renamed("../../etc"),
    "an absolute name": renamed("/etc/image"),
    "an unknown format": manifest_with(lambda m: m["recipe"].update(format="../x")),
    "files beyond number": manifest_with(
        lambda m: (
            m["counts"].update(all=10**15),
            m["arrays"]["all/image"].update(shape=[10**15, 2, 16, 16], patches_per_shard=1),
        )
    ),
    "no sources": manifest_with(lambda m: m.update(sources=[])),
    "a later version": manifest_with(lambda m: m.update(schema_version=3)),
    "no manifest": manifest_with(lambda m: m.clear()),
    "a shard that is a link": linked_shard,
    "an array that is a link": linked_array,
}


def read_all(root: Path) -> None:
    """Read all that a set offers."""
    made = PatchSet(root)
    try:
        assert len(made["all"][:]) == 12
        assert [made.locate(i)[0].key for i in range(12)]
    finally:
        made.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_manifest_edited_by_hand_is_one_clear_error(made: Path, damage: str) -> None:
    DAMAGES[damage](made)
    with little_memory(), pytest.raises((PatchsetError, IncompleteSetError)) as caught:
        read_all(made)
    assert str(made) in str(caught.value)


def table_with(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Edit the table of a set."""

    def damage(root: Path) -> None:
        table = pq.read_table(root / layout.TABLE)
        pq.write_table(change(table), root / layout.TABLE)

    return damage


def column(name: str, values: list[Any]) -> Callable[[Path], None]:
    return table_with(
        lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))
    )


def linked_table(root: Path) -> None:
    (root / layout.TABLE).rename(root.parent / "elsewhere")
    (root / layout.TABLE).symlink_to(root.parent / "elsewhere")


TABLES: dict[str, Callable[[Path], None]] = {
    "rubbish": lambda root: (root / layout.TABLE).write_bytes(b"PAR1 rubbish PAR1") and None,
    "empty": lambda root: (root / layout.TABLE).write_bytes(b"") and None,
    "fewer rows": table_with(lambda table: table.slice(3)),
    "more rows": table_with(lambda table: pa.concat_tables([table, table])),
    "no column": table_with(lambda table: table.drop_columns(["kept"])),
    "text for numbers": column("source_index", ["../../x"] * 12),
    "no such source": column("source_index", [9] * 12),
    "a negative source": column("source_index", [-1] * 12),
    "no split": column("split", [None] * 12),
    "a link": linked_table,
}


@pytest.mark.parametrize("damage", TABLES)
def test_a_table_edited_by_hand_is_one_clear_error(made: Path, damage: str) -> None:
    TABLES[damage](made)
    with pytest.raises(UnreadableFileError) as caught:
        read_all(made)
    assert str(made) in str(caught.value)


def test_a_plan_edited_by_hand_writes_nowhere_else(czi: MakeCzi, tmp_path: Path) -> None:
    plan = ExportPlan(
        sources=[czi(SceneSpec(rect=(0, 0, 64, 48)))],
        strategy=Tiled(size=(16, 16)),
        out=tmp_path / "a.patches.zarr",
    )
    events = iter_export(plan)
    advance(events, "plan")
    events.close()
    frozen = WorkDir.for_set(plan.out).root / "plan.json"
    (tmp_path / "other").mkdir()
    edit(frozen, lambda doc: doc["plan"].update(out=str(tmp_path / "other" / "b.patches.zarr")))
    with pytest.raises(PatchsetError, match=r"a\.partial: the plan in it is of b\.patches\.zarr"):
        export(plan)
    edit(frozen, lambda doc: doc["plan"].update(out=str(tmp_path / "other" / "a.patches.zarr")))
    assert len(export(plan)["all"]) == 12
    assert not list((tmp_path / "other").iterdir())
