"""verify: a sound set has no findings, and each kind of damage has a finding of its name."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibCZIrw.czi import create_czi

from napari_patchset import ExportPlan, Random, Tiled, export, verify
from napari_patchset.cli import main
from napari_patchset.errors import IncompleteSetError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.patching.coverage import covered_share
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import base
from napari_patchset.patchset import table
from napari_patchset.patchset.manifest import digest_bytes, read_attributes
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo
from napari_patchset.verification.opened_set import FindingName, OpenedSet
from support.czi_maker import SceneSpec, make_czi
from support.export_makers import plan_for

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 44, 34), t=range(1, 3), z=range(2, 4), c=2),
    SceneSpec(id=7, rect=(500, 0, 38, 34), t=2, z=range(2, 4), c=2),
)
TABLE = "patches.parquet"
WITH_PIXELS = [name for name, form in FORMATS.items() if form.has_pixels]
every_format = pytest.mark.parametrize("form", FORMATS)

pytestmark = pytest.mark.usefixtures("small_shards")

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an image of two scenes, and their target."""
    folder = tmp_path_factory.mktemp("images")
    make_czi(folder / "image.czi", SCENES, tile=(32, 32))
    shifted = [replace(scene, z=range(12, 14)) for scene in SCENES]
    make_czi(folder / "target.czi", shifted)
    return folder


def plan_of(images: Path, out: Path, form: str, **fields: Any) -> ExportPlan:
    """Plan a set with everything that `verify` checks."""
    fields = {
        "filters": [parse_filter("std>p10")],
        "split": Split(val=0.4, by="scene"),
        "strategy": Tiled(size=(16, 16), overlap=(4, 0), edge="pad"),
        **fields,
    }
    plan = plan_for(images / "image.czi", out, format=form, **fields)
    target = ImageRef(path=str(images / "target.czi"))
    paired = [ref.model_copy(update={"target": target}) for ref in plan.sources]
    return plan.model_copy(update={"sources": tuple(paired)})


@pytest.fixture(scope="module")
def sets(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that exports a set of a format, once."""
    folder = tmp_path_factory.mktemp("sets")

    def make(form: str) -> Path:
        out = folder / f"{form}{FORMATS[form].suffix}"
        if not out.exists():
            export(plan_of(images, out, form)).close()
        return out

    return make


@pytest.fixture
def made(sets: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies the set of a format, to be damaged."""
    return lambda form: Path(shutil.copytree(sets(form), tmp_path / sets(form).name))


def names(path: Path, **options: Any) -> set[str]:
    return {finding.name for finding in verify(path, **options)}


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def first_file(path: Path, form: str, role: str = "image") -> Path:
    (layout,) = (a for a in arrays(path) if a.name == f"train/{role}")
    return next(iter(FORMATS[form].files(path, layout)))


def arrays(path: Path) -> Iterator[Any]:
    manifest, _ = read_description(path)
    return iter(manifest.arrays.values())


def describe(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest."""
    name = "zarr.json" if path.name.endswith(".zarr") else "patchset.json"
    content = json.loads((path / name).read_bytes())
    change((content["attributes"]["patchset"] if name == "zarr.json" else content)["manifest"])
    (path / name).write_text(json.dumps(content))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], *, sign: bool = True) -> None:
    """Change the table, with the digest in the manifest too."""
    pq.write_table(change(pq.read_table(path / TABLE)), path / TABLE)
    if sign:
        digest = digest_bytes((path / TABLE).read_bytes())
        describe(path, lambda manifest: manifest.update(table_digest=digest))


def with_value(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        index = table.column_names.index(column)
        return table.set_column(index, column, pa.array(values, table.schema.field(column).type))

    return change


@every_format
def test_a_sound_set_has_no_findings(sets: Callable[[str], Path], form: str) -> None:
    done = []
    assert not list(verify(sets(form), progress=lambda *at: done.append(at)))
    assert done[-1][0] == done[-1][1]
    assert not list(verify(sets(form), sources=False))


OTHERS: dict[str, dict[str, Any]] = {
    "Z": {"depth_axis": "Z", "strategy": Tiled(size=(2, 16, 16), edge="pad")},
    "T": {"depth_axis": "T", "strategy": Random(size=(1, 16, 16), count=30, per="total")},
    "cast, zstd": {"dtype": "float32", "codec": "zstd", "channels": (1,), "split": None},
    "by blocks": {"split": Split(val=0.3, by="block"), "keep_fraction": 0.5},
    "select": {"strategy": Tiled(size=(16, 16), select={"Z": (3, None)}), "filters": []},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_sets_have_no_findings(images: Path, tmp_path: Path, kind: str) -> None:
    plan = plan_of(images, tmp_path / "a.patches.zarr", "zarr", **OTHERS[kind])
    export(plan).close()
    assert not list(verify(plan.out))


def test_a_table_made_in_parts_is_the_same(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan_of(images, tmp_path / f"{i}.patches.zarr", "zarr") for i in range(2)]
    with closing(export(plans[0])) as whole:
        monkeypatch.setattr(table, "_PART_ROWS", 7)
        with closing(export(plans[1])) as parts:
            assert parts.table.equals(whole.table)
    assert not list(verify(plans[1].out))
    rewrite(Path(plans[1].out), with_value("id", 30, 9))
    (finding,) = verify(plans[1].out)
    assert "id of row 30 is 9, not 30" in finding.message


PIXELS = ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", PIXELS)
def test_every_type_of_pixel_is_written_so_that_zarr_reads_it(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 2, (32, 32)).astype(dtype)
    stored = pixels.astype(np.uint8) if dtype == "bool" else pixels
    tifffile.imwrite(tmp_path / "image.tif", stored)
    plan = ExportPlan(
        sources=[tmp_path / "image.tif"],
        strategy=Tiled(size=(16, 16)),
        filters=[parse_filter("std>p10")],
        dtype=dtype,
        out=tmp_path / "a.patches.zarr",
    )
    with closing(export(plan)) as made:
        read = zarr.open(made.path, mode="r")["all/image"]
        assert read.dtype == dtype
        np.testing.assert_array_equal(read[:], made["all"][:])
    assert not list(verify(plan.out))


def test_limits_without_a_metric_are_not_recorded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.full((32, 32), np.nan, np.float32))
    plan = ExportPlan(
        sources=[tmp_path / "image.tif"],
        strategy=Tiled(size=(16, 16)),
        filters=[parse_filter("std>p10")],
        keep_fraction=1,
        out=tmp_path / "a.patches.zarr",
    )
    with closing(export(plan)) as made:
        assert made.manifest.limits == {"std_Channel 0": {}}
    assert not list(verify(plan.out))


def test_a_set_may_be_moved_and_renamed(made: Callable[[str], Path], tmp_path: Path) -> None:
    made("zarr").rename(tmp_path / "training")
    assert not list(verify(tmp_path / "training"))


@pytest.mark.parametrize("role", ["image", "target"])
@pytest.mark.parametrize("form", WITH_PIXELS)
def test_a_flipped_byte_is_a_damaged_patch(
    made: Callable[[str], Path], form: str, role: str
) -> None:
    path = made(form)
    file = first_file(path, form, role)
    # Little-endian pixels lie in all of these files as they are.
    (array,) = (a for a in arrays(path) if a.name == f"train/{role}")
    patch = OpenedSet(path).open(array).read(0)
    at = file.read_bytes().index(patch.astype("<u2").tobytes())
    flip(file, at + 100)
    findings = list(verify(path, sources=False))
    assert {finding.name for finding in findings} >= {"damaged patch"}
    assert f"train/{role}" in str(findings)
    if role == "image":
        assert any(
            "train/image" in str(each) and "shard 0: 1 of 8 patches" in str(each)
            for each in findings
        )
    else:
        assert "differs from source" in names(path)


@pytest.mark.parametrize("form", WITH_PIXELS)
def test_a_missing_file_is_named_and_the_rest_is_checked(
    made: Callable[[str], Path], form: str
) -> None:
    path = made(form)
    lost = first_file(path, form)
    lost.unlink()
    describe(path, lambda manifest: manifest["counts"].update(val=1))
    findings = list(verify(path))
    assert f"missing file: {lost}" in {str(f).partition(": copy")[0] for f in findings}
    assert {finding.name for finding in findings} >= {"missing file", "wrong counts"}


def cut(name: str) -> Damage:
    def damage(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) // 2])

    return damage


def change_statistics(manifest: dict[str, Any]) -> None:
    manifest["statistics"]["image"][1]["std"] += 0.01


def move_onto_training(path: Path) -> None:
    """Record the position of a training patch for a validation patch."""
    table = pq.read_table(path / TABLE).to_pylist()
    kept = {
        split: [r for r in table if r["kept"] and r["split"] == split] for split in ("train", "val")
    }
    train, val = kept["train"][0], kept["val"][0]
    for column in ("source_index", "source", "scene", "y_start", "x_start"):
        rewrite(path, with_value(column, val["id"], train[column]))


def remove_candidate(path: Path) -> None:
    """Remove a rejected candidate from the table and the counts."""
    table = pq.read_table(path / TABLE)
    row = next(i for i, kept in enumerate(table["kept"].to_pylist()) if not kept)
    reason = table["reason"][row].as_py()
    rest = pa.concat_tables([table.slice(0, row), table.slice(row + 1)])
    rewrite(path, lambda _: rest.set_column(0, "id", pa.array(range(len(rest)), pa.int64())))
    describe(path, lambda m: m["rejected"].update({reason: m["rejected"][reason] - 1}))


def edit_array(path: Path) -> None:
    file = path / "train" / "image" / "zarr.json"
    file.write_text(file.read_text().replace('"fill_value": 0', '"fill_value": 1'))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "statistics": (lambda path: describe(path, change_statistics), "wrong statistics"),
    "counts": (
        lambda path: describe(path, lambda m: m["counts"].update(val=m["counts"]["val"] + 1)),
        "wrong counts",
    ),
    "rejected": (lambda path: describe(path, lambda m: m.update(rejected={})), "wrong counts"),
    "dropped": (
        lambda path: describe(path, lambda m: m["dropped"].update({"missing plane": 3})),
        "wrong counts",
    ),
    "limits": (lambda path: describe(path, lambda m: m.update(limits={})), "wrong counts"),
    "recipe": (
        lambda path: describe(path, lambda m: m["recipe"]["strategy"].update(overlap=[0, 0])),
        "edited manifest",
    ),
    "no recipe": (
        lambda path: describe(path, lambda m: m["recipe"].pop("strategy")),
        "edited manifest",
    ),
    "no sources": (lambda path: describe(path, lambda m: m.update(sources=[])), "edited manifest"),
    "channels": (
        lambda path: describe(path, lambda m: m.update(channels=["a", "b"])),
        "edited manifest",
    ),
    "table, unsigned": (
        lambda path: rewrite(path, with_value("valid", 2, 0.5), sign=False),
        "edited table",
    ),
    "table, cut": (cut(TABLE), "edited table"),
    "table, lost": (lambda path: (path / TABLE).unlink(), "missing file"),
    "column": (lambda path: rewrite(path, lambda table: table.drop(["y_start"])), "edited table"),
    "metric": (lambda path: rewrite(path, lambda t: t.drop(["std_Channel 0"])), "edited table"),
    "verdict": (lambda path: rewrite(path, with_value("kept", 5, False)), "edited table"),
    "place": (lambda path: rewrite(path, with_value("x_start", 5, 31)), "differs from source"),
    "nowhere": (lambda path: rewrite(path, with_value("x_start", 5, 10**6)), "edited table"),
    "no source": (lambda path: rewrite(path, with_value("source_index", 5, 9)), "edited table"),
    "checksum": (lambda path: rewrite(path, with_value("checksum", 5, 1)), "damaged patch"),
    "number": (lambda path: rewrite(path, with_value("z", 5, 99)), "edited table"),
    "candidate": (remove_candidate, "edited table"),
    "leak": (move_onto_training, "overlapping split"),
    "metadata": (edit_array, "damaged file"),
    "metadata, lost": (lambda path: (path / "val" / "zarr.json").unlink(), "missing file"),
}


ONLY_BY_SOURCES = ("dropped", "place", "candidate")
"""Kinds of damage that are found only by reading the sources."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_by_its_name(made: Callable[[str], Path], kind: str) -> None:
    path, (damage, name) = made("zarr"), DAMAGES[kind]
    damage(path)
    assert name in names(path, sources=kind in ONLY_BY_SOURCES)


@every_format
@pytest.mark.parametrize("kind", ["table, unsigned", "verdict", "leak", "rejected", "candidate"])
def test_table_and_split_are_checked_in_every_format(
    made: Callable[[str], Path], form: str, kind: str
) -> None:
    path, (damage, name) = made(form), DAMAGES[kind]
    damage(path)
    assert name in names(path, sources=kind in ONLY_BY_SOURCES)


@settings(max_examples=8)
@given(st.data())
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_no_flipped_bit_of_a_shard_or_the_table_is_overlooked(
    images: Path, tmp_path_factory: pytest.TempPathFactory, codec: str, data: st.DataObject
) -> None:
    out = tmp_path_factory.getbasetemp() / f"{codec}.patches.zarr"
    if not out.exists():
        export(plan_of(images, out, "zarr", codec=codec)).close()
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".json")
    file = data.draw(st.sampled_from(files))
    at, bit = data.draw(st.integers(0, file.stat().st_size - 1)), data.draw(st.integers(0, 7))
    flip(file, at, 1 << bit)
    try:
        # blosc decodes the same pixels whatever some bits of its header are.
        assert names(out, sources=False) or (codec != "none" and file.suffix != ".parquet")
    finally:
        flip(file, at, 1 << bit)


@settings(max_examples=8)
@given(st.data())
def test_no_flipped_bit_of_a_tiff_is_overlooked(
    sets: Callable[[str], Path], data: st.DataObject
) -> None:
    out = sets("tiff")
    file = first_file(out, "tiff")
    at, bit = data.draw(st.integers(0, file.stat().st_size - 1)), data.draw(st.integers(0, 7))
    version = file.read_bytes().index(f"tifffile.py {tifffile.__version__}".encode())
    if at in range(version, version + 30):
        return
    flip(file, at, 1 << bit)
    try:
        assert names(out, sources=False)
    finally:
        flip(file, at, 1 << bit)


@every_format
def test_an_absent_source_is_named_and_the_rest_is_checked(
    images: Path, made: Callable[[str], Path], form: str
) -> None:
    path = made(form)
    describe(path, lambda manifest: manifest.update(rejected={}))
    away = (images / "image.czi").rename(images / "away.czi")
    try:
        findings = list(verify(path))
        assert names(path, sources=False) == {"wrong counts"}
    finally:
        away.rename(images / "image.czi")
    assert {finding.name for finding in findings} == {"wrong counts", "absent source"}
    assert f"{images / 'image.czi'}, scene 3: " in str(findings)


def exported_tiff(tmp_path: Path, form: str) -> tuple[Path, Path]:
    """Export an image of 512 KiB, whose pixels begin at its 256th byte or so."""
    pixels = np.random.default_rng(1).integers(0, 60000, (512, 512), np.uint16)
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    out = tmp_path / f"a{FORMATS[form].suffix}"
    plan = ExportPlan(
        sources=[tmp_path / "image.tif"], strategy=Tiled(size=(64, 64)), out=out, format=form
    )
    export(plan).close()
    return tmp_path / "image.tif", out


@every_format
def test_a_changed_source_is_named(tmp_path: Path, form: str) -> None:
    source, out = exported_tiff(tmp_path, form)
    assert not list(verify(out))
    flip(source, 60_000)
    (finding,) = verify(out)
    assert finding.name == "changed source"
    assert f"{source}: its key is" in finding.message


def test_a_change_that_the_fingerprint_misses_is_found_in_the_pixels(tmp_path: Path) -> None:
    source, out = exported_tiff(tmp_path, "zarr")
    flip(source, 300_001)
    (finding,) = verify(out)
    assert finding.name == "differs from source"
    assert "the image of 1 patches differs from the pixels of" in finding.message
    assert "row 37 of the table" in finding.message


def test_a_truncated_source_is_named(tmp_path: Path) -> None:
    source, out = exported_tiff(tmp_path, "zarr")
    source.write_bytes(source.read_bytes()[:300_000])
    (finding,) = verify(out)
    assert finding.name == "changed source"
    assert finding.message.count(str(source)) == 1
    assert "; restore the image as it was" in finding.message
    source.unlink()
    (finding,) = verify(out)
    assert finding.name == "absent source"
    assert finding.message.startswith(f"{source}: No such file or directory; restore it")


def test_several_findings_are_all_listed(images: Path, made: Callable[[str], Path]) -> None:
    path = made("zarr")
    shards = (path / "train" / "image" / "c").rglob("*")
    files = sorted(file for file in shards if file.is_file())
    assert len(files) > 3
    flip(files[0], 10)
    files[1].unlink()
    describe(path, lambda m: m["limits"]["std_Channel 0"].update(p10=1.0))
    rewrite(path, with_value("y_start", 3, 5))
    target = images / "target.czi"
    away = target.rename(images / "away.czi")
    try:
        found_names = {finding.name for finding in verify(path)}
    finally:
        away.rename(target)
    wanted = {"damaged patch", "missing file", "wrong counts", "edited table", "absent source"}
    assert found_names >= {*wanted, "differs from source"}


def test_an_npz_with_other_axes_is_found(made: Callable[[str], Path]) -> None:
    path = made("npz")
    file = path / "train.npz"
    file.write_bytes(
        file.read_bytes().replace("SCYX".encode("utf-32-le"), "SCXY".encode("utf-32-le"))
    )
    assert "damaged file" in names(path)


def test_an_incomplete_set_is_refused(made: Callable[[str], Path]) -> None:
    path = made("zarr")
    (path / "zarr.json").unlink()
    assert read_attributes(path) is None
    with pytest.raises(IncompleteSetError, match="no manifest"):
        list(verify(path))


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object
) -> tuple[object, str, str]:
    monkeypatch.setattr(sys, "argv", ["patchset", "verify", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_the_command_lists_each_finding_and_exits_with_1(
    made: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = made("zarr")
    code, out, _ = command(monkeypatch, capsys, path)
    assert (code, out) == (0, f"{path}: no difference, compared with itself and its sources\n")
    describe(path, change_statistics)
    first_file(path, "zarr", "target").unlink()
    code, out, err = command(monkeypatch, capsys, path)
    assert code == 1
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "missing file",
        "wrong statistics",
    ]
    assert err.splitlines()[-1] == f"{path}: 2 differences"
    code, out, _ = command(monkeypatch, capsys, path, "--no-sources", "--json")
    assert code == 1
    events = [json.loads(line) for line in out.splitlines()]
    names = [event["name"] for event in events if event["event"] == "difference"]
    assert names[-1] == "wrong statistics"
    assert events[-1]["differences"] == len(names)


def test_the_command_refuses_what_is_no_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(monkeypatch, capsys, tmp_path)
    assert code == 1
    assert f"patchset: {tmp_path}: not a patch set (no manifest)." in err


def test_every_finding_is_described_in_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "patchset-format.md"
    text = page.read_text("utf-8")
    assert [name for name in get_args(FindingName) if f"| `{name}` |" not in text] == []


def mosaic_of_an_aborted_run(path: Path) -> Path:
    """Write two time points of 2 x 2 tiles, of the second one only the first tile."""
    with create_czi(str(path)) as file:
        for t, i, j in product(range(2), range(2), range(2)):
            if t == 0 or (i, j) == (0, 0):
                tile = np.full((32, 32, 1), 1000, np.uint16)
                file.write(tile, location=(j * 32, i * 32), plane={"C": 0, "T": t})
        file.write_metadata()
    return path


def test_an_error_in_the_exports_coverage_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    czi = mosaic_of_an_aborted_run(tmp_path / "aborted.czi")
    fields = {"strategy": Tiled(size=32), "sources": czi}
    export(ExportPlan(out=tmp_path / "right.patches.zarr", **fields)).close()
    assert names(tmp_path / "right.patches.zarr") == set()

    def of_the_mosaic(grid: PatchGrid, source: SourceInfo) -> np.ndarray | None:
        return covered_share(grid, source.model_copy(update={"partial_planes": ()}))

    monkeypatch.setattr(base, "covered_share", of_the_mosaic)
    export(ExportPlan(out=tmp_path / "wrong.patches.zarr", **fields)).close()
    assert names(tmp_path / "wrong.patches.zarr") == {"edited table"}


@pytest.mark.parametrize(
    ("dtype", "middle", "wrong"),
    [("int32", 2**30, "std"), ("uint64", 2**62, "std"), ("float32", 1e5, "percentiles")],
)
def test_an_error_in_the_exports_statistics_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, middle: float, wrong: str
) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (64, 64))
    tifffile.imwrite(tmp_path / "a.tif", (noise + int(middle)).astype(dtype))
    fields = {"strategy": Tiled(size=16), "sources": tmp_path / "a.tif"}
    export(ExportPlan(out=tmp_path / "right.patches.zarr", **fields)).close()
    assert names(tmp_path / "right.patches.zarr") == set()
    from_sums = ChannelStatistics.from_sums

    def cancelled(sums: ChannelSums) -> ChannelStatistics:
        right = from_sums(sums)
        values = {"std": 0.0, "percentiles": dict.fromkeys(right.percentiles, 0.0)}
        return right.model_copy(update={wrong: values[wrong]})

    monkeypatch.setattr(ChannelStatistics, "from_sums", cancelled)
    export(ExportPlan(out=tmp_path / "wrong.patches.zarr", **fields)).close()
    findings = list(verify(tmp_path / "wrong.patches.zarr"))
    assert {finding.name for finding in findings} == {"wrong statistics"}
    assert all(f" {wrong} of all/image" in finding.message for finding in findings)


def test_an_error_in_the_exports_split_is_found(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Split, "assign", lambda self, grid, sources: np.arange(len(grid), dtype=np.int8) % 2
    )
    export(plan_of(images, tmp_path / "a.patches.zarr", "zarr", filters=[])).close()
    assert names(tmp_path / "a.patches.zarr") >= {"overlapping split"}


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    """Export three files of an animal each in folds by animal."""
    images = [tmp_path / f"{name}.tif" for name in "abc"]
    for i, image in enumerate(images):
        tifffile.imwrite(image, np.random.default_rng(i).integers(0, 99, (48, 48), np.uint16))
    refs = [SourceRef(path=str(path), columns={"animal": path.stem}) for path in images]
    plan = ExportPlan(
        sources=refs,
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(16, 16), overlap=(8, 8)),
        split=Split(folds=3, by="animal"),
    )
    export(plan).close()
    return Path(plan.out)


def test_a_patch_in_the_wrong_fold_is_found(folded: Path) -> None:
    assert not list(verify(folded))
    table = pq.read_table(folded / TABLE)
    fold = table["fold"].to_pylist()
    fold[0] = (fold[0] + 1) % 3
    column = table.column_names.index("fold")
    pq.write_table(table.set_column(column, "fold", pa.array(fold, pa.int8())), folded / TABLE)
    found = list(verify(folded, sources=False))
    assert {"edited table", "overlapping split", "group in two splits"} <= {f.name for f in found}
    messages = {f.name: f.message for f in found}
    assert "animal a has patches in fold" in messages["group in two splits"]
    assert "the fold" in messages["overlapping split"]


def test_equal_pixels_in_two_folds_are_found(folded: Path) -> None:
    array = zarr.open(folded / "train" / "image", mode="r+")
    n = array.shape[0] // 3
    array[2 * n + 1] = array[1]
    found = [f for f in verify(folded, sources=False) if f.name == "same pixels in two splits"]
    assert len(found) == 1
    assert f"patch 1 of train/image and patch {2 * n + 1} of train/image" in found[0].message
