"""LazyPatchSet: the exported set, byte for byte, with each tile of a batch decoded once."""

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, LazyPatchSet, PatchSet, Split, Tiled, expand_sources, export
from napari_patchset.errors import ArgumentError, ExportError, MissingArrayError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.exporting.writing.selection import select_candidates
from napari_patchset.patchset.columns import read_columns, write_columns
from support import counting
from support.czi_maker import SceneSpec, make_czi
from support.strategy_makers import MAKERS, make_strategy
from support.zarr_maker import drawn, write_image

SHAPE = (2, 3, 2, 50, 70)
"""T, Z, C, Y, X."""


def write_czi(path: Path) -> None:
    rects = [(100 * i, 0, 70, 50) for i in range(3)]
    scenes = [SceneSpec(i, rect, t=2, z=3, c=2, overlap=4) for i, rect in enumerate(rects)]
    make_czi(path / "a.czi", scenes, tile=(24, 32))


def write_tiffs(path: Path) -> None:
    options = {"tile": (16, 32), "photometric": "minisblack", "compression": "zlib"}
    for i, name in enumerate("abc"):
        pixels, metadata = drawn("TZCYX", SHAPE) + np.uint16(i), {"axes": "TZCYX"}
        tifffile.imwrite(path / f"{name}.ome.tif", pixels, metadata=metadata, **options)


def write_zarrs(path: Path) -> None:
    for i, name in enumerate("abc"):
        pixels = drawn("TCZYX", (2, 2, 3, 50, 70)) + np.uint16(i)
        write_image(path / f"{name}.zarr", "TCZYX", pixels)


FORMATS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "czi": ("*.czi", write_czi),
    "tiff": ("*.tif", write_tiffs),
    "zarr": ("*.zarr", write_zarrs),
}
"""How the files of three scenes are found, and what writes them."""
SIZES = {"none": (16, 20), "Z": (2, 16, 20)}
FILTERS = ((), ("std>p20", "mean<p90"), ("share[Tumor]>p10", "std>p10"))
SPLITS = (
    None,
    Split(val=0.3, by="scene"),
    Split(folds=2, test=0.2, by="scene"),
    Split(val=0.3, by="annotation"),
)
VARIANTS = list(product(FILTERS, SPLITS, (False, True)))
CASES = list(product(MAKERS, SIZES))

OUTLINES = (
    {"Tumor": (0, 0, 34, 34), "1": (44, 8, 18, 30)},
    {"Tumor": (20, 10, 40, 36)},
    {"1": (2, 2, 30, 30), "Stroma": (40, 30, 20, 16), "Tumor": (36, 0, 20, 20)},
)
"""Classes of each of three sources, and X, Y, width and height of the outline of each."""


def annotate(folder: Path) -> list[Path]:
    """Write the outlines of each source, and return their files."""
    paths = []
    for i, classes in enumerate(OUTLINES):
        features = []
        for name, (x, y, w, h) in classes.items():
            ring = [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [ring]},
                    "properties": {"classification": {"name": name}},
                }
            )
        paths.append(folder / f"{i}.geojson")
        paths[-1].write_text(json.dumps(features))
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images of each format, and their targets in the folder "target"."""
    made = tmp_path_factory.mktemp("images")
    for at in (made, made / "target"):
        at.mkdir(exist_ok=True)
        for _, write in FORMATS.values():
            write(at)
    return made


def plan_of(
    folder: Path, out: Path, kind: str, strategy: str, depth_axis: str, variant: int
) -> ExportPlan:
    filters, split, is_paired = VARIANTS[variant % len(VARIANTS)]
    is_annotated = strategy == "balanced" or "share" in str(filters) or "annotation" in str(split)
    sources = expand_sources(sorted(folder.glob(FORMATS[kind][0])))
    if is_paired:
        targets = [ImageRef(path=str(folder / "target" / Path(ref.path).name)) for ref in sources]
        sources = [
            ref.model_copy(update={"target": target, "labels": target}).with_pair_scenes()
            for ref, target in zip(sources, targets, strict=True)
        ]
    if is_annotated:
        drawn_labels = {} if is_paired else {"labels": "annotations"}
        sources = [
            SourceRef.model_validate({**dict(ref), "annotations": drawn, **drawn_labels})
            for ref, drawn in zip(sources, annotate(out), strict=True)
        ]
    fields = {"sources": sources, "out": out / "a.patches.zarr", "depth_axis": depth_axis}
    infos = describe_sources(ExportPlan(strategy={"kind": "whole"}, **fields))
    chosen = make_strategy(strategy, SIZES[depth_axis], infos)
    return ExportPlan(strategy=chosen, filters=filters, split=split, **fields)


def assert_equal(lazy: LazyPatchSet, patches: PatchSet) -> None:
    assert list(lazy) == list(patches)
    assert lazy.splits == patches.splits
    for name, array in patches.items():
        assert (lazy[name].shape, lazy[name].dtype) == (array.shape, array.dtype)
        assert lazy[name][:].tobytes() == array[:].tobytes()
        some = np.random.default_rng(0).integers(-len(array), len(array), 5).tolist()
        for i, patch in zip(some, lazy[name].__getitems__(some), strict=True):  # of cached tiles
            assert patch.tobytes() == array[i].tobytes()
    table = patches.table.drop_columns(["checksum"])
    assert lazy.table.equals(table), lazy.table.schema
    for i in {0, len(patches[patches.splits[0]]) - 1}:
        source, row = patches.locate(i, patches.splits[0])
        del row["checksum"]
        same, own = lazy.locate(i, patches.splits[0])
        assert (same.model_dump(), own) == (source.model_dump(), row)
    if patches.n_folds:
        ours, theirs = lazy.fold(1), patches.fold(1)
        assert {n: i.tolist() for n, i in ours.indices.items()} == {
            n: i.tolist() for n, i in theirs.indices.items()
        }
        np.testing.assert_array_equal(ours["val"][0], theirs["val"][0])
        assert ours.locate(0, "val")[1]["id"] == theirs.locate(0, "val")[1]["id"]


@pytest.mark.parametrize(
    ("kind", "strategy", "depth_axis", "variant"),
    [(list(FORMATS)[i % 3], *case, 5 * i) for i, case in enumerate(CASES)],
)
def test_every_index_is_that_of_the_exported_set(
    folder: Path, tmp_path: Path, kind: str, strategy: str, depth_axis: str, variant: int
) -> None:
    plan = plan_of(folder, tmp_path, kind, strategy, depth_axis, variant)
    with export(plan) as patches, LazyPatchSet(plan) as lazy:
        assert_equal(lazy, patches)


@pytest.mark.parametrize(
    ("columns", "split"),
    [
        ({"split": ("train", "val", "Test")}, Split(by="split")),
        ({"animal": ("1", "2", "3"), "sex": ("f", "f", "m")}, Split(folds=3, by="animal")),
        ({"well": ("A1", "A2", "A1"), "sex": ("f", "f", "m")}, Split(val=0.3, by="well")),
    ],
)
def test_a_sheet_splits_them_as_the_exported_set(
    folder: Path, tmp_path: Path, columns: dict[str, tuple[str, ...]], split: Split
) -> None:
    sources = [
        SourceRef(path=ref.path, columns={name: values[i] for name, values in columns.items()})
        for i, ref in enumerate(expand_sources(sorted(folder.glob("*.tif"))))
    ]
    plan = ExportPlan(
        sources=sources, out=tmp_path / "a.patches.zarr", strategy=Tiled(size=16), split=split
    )
    with export(plan) as patches, LazyPatchSet(plan) as lazy:
        assert_equal(lazy, patches)


def test_resampled_and_cast_patches_are_those_of_the_exported_set(
    folder: Path, tmp_path: Path
) -> None:
    plan = ExportPlan(
        sources=SourceRef(path=str(folder / "a.zarr"), pixel_size=0.5),
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(8, 8), overlap=(2, 2), edge="pad"),
        pixel_size=0.8,
        dtype="float32",
        filters="std[0]>p10",
        channels=(1,),
    )
    with export(plan) as patches, LazyPatchSet(plan) as lazy:
        assert_equal(lazy, patches)
        assert lazy.statistics == patches.statistics
        for name in ("y_start", "sample"):
            np.testing.assert_array_equal(lazy.column(name, "all"), patches.column(name, "all"))


@pytest.mark.parametrize("kind", counting.KINDS)
@pytest.mark.parametrize("cache", [0, 2**28])
def test_each_tile_of_a_batch_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, cache: int
) -> None:
    plan = counting.make_plan(tmp_path / "images", kind)
    with LazyPatchSet(plan, cache=cache) as lazy:
        array = lazy["all"]
        batch = np.random.default_rng(0).integers(0, len(array), 32).tolist()
        rows = [lazy.locate(i)[1] for i in batch]
        counts = counting.counting(monkeypatch)
        patches = array.__getitems__(batch)
        expected = _met(counting.KINDS[kind], rows)
        per_chunk = counts["tiles"] / expected
        assert per_chunk == int(per_chunk)  # a zarr's run of chunks is several decodings
        first = counts["tiles"]
        again = array.__getitems__(batch)
        assert counts["tiles"] == (first if cache else 2 * first)
        for one, other, i in zip(patches, again, batch, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, array[i])


def _met(kind: Any, rows: list[dict[str, Any]]) -> int:
    blocks = {
        (z, y, x)
        for row, y, x in product(rows, kind.starts(0), kind.starts(1))
        for z in range(row.get("z_start", 0), min(row.get("z_start", 0) + row.get("z_size", 1), 3))
        if y - row["y_size"] < row["y_start"] < y + kind.block[0]
        and x - row["x_size"] < row["x_start"] < x + kind.block[1]
    }
    return counting.CHANNELS * len(blocks)


def _first_and_last(lazy: LazyPatchSet) -> bytes:
    array = lazy["train"]
    return array[0].tobytes() + array[-1].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*")
def test_processes_of_every_kind_read_it(
    folder: Path, tmp_path: Path, method: str, spawned: ProcessPoolExecutor
) -> None:
    plan = plan_of(folder, tmp_path, "czi", "tiled", "Z", 2)
    with LazyPatchSet(plan) as lazy:
        expected = _first_and_last(lazy)
        if method == "spawn":
            assert list(spawned.map(_first_and_last, [lazy, lazy])) == [expected, expected]
            return
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(_first_and_last, [lazy, lazy]) == [expected, expected]


def test_a_copy_is_small_and_opens_its_own_files(folder: Path, tmp_path: Path) -> None:
    with LazyPatchSet(plan_of(folder, tmp_path, "czi", "tiled", "none", 2)) as lazy:
        expected = _first_and_last(lazy)
        copy = pickle.loads(pickle.dumps(lazy))
        lazy.close()
        assert _first_and_last(copy) == expected
        copy.close()
        assert _first_and_last(lazy) == expected


def test_scores_are_kept_beside_the_plan(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(folder, tmp_path, "czi", "random", "none", 0)
    plan = ExportPlan.model_validate({**dict(plan), "filters": ["std>p30"]})
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_dump_json())
    with LazyPatchSet(saved) as lazy:
        expected = lazy["all"][:]
    assert (tmp_path / "plan.scores.parquet").is_file()
    counts = counting.counting(monkeypatch)
    with LazyPatchSet(saved) as lazy:
        assert counts["tiles"] == 0
        np.testing.assert_array_equal(lazy["all"][:], expected)
    counts.clear()
    other = ExportPlan.model_validate({**dict(plan), "filters": ["mean>p30"]})
    saved.write_text(other.model_dump_json())
    with LazyPatchSet(saved) as lazy, export(other) as patches:
        assert counts["tiles"] > 0
        assert_equal(lazy, patches)


def test_scores_are_measured_again_if_annotations_have_changed(
    folder: Path, tmp_path: Path
) -> None:
    fields = {"strategy": Tiled(size=(16, 16)), "filters": ["share[Tumor]>0.4"]}
    drawn = annotate(tmp_path)
    ref = SourceRef(path=str(folder / "a.zarr"), annotations=drawn[0])
    plan = ExportPlan(sources=ref, out=tmp_path / "a.patches.zarr", **fields)
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_dump_json())
    with LazyPatchSet(saved) as lazy:
        before = lazy.column("share_Tumor", "all")
        scores = tmp_path / "plan.scores.parquet"
        columns, metadata = read_columns(scores)
        write_columns(scores, columns, {b"candidates": metadata[b"measured"].decode()})
        stat = drawn[0].stat()
    with LazyPatchSet(saved) as lazy:  # measured again, as another version wrote the file
        np.testing.assert_array_equal(lazy.column("share_Tumor", "all"), before)
    assert b"measured" in read_columns(scores)[1]
    scores.write_bytes(scores.read_bytes()[:-9])
    with LazyPatchSet(saved) as lazy:
        np.testing.assert_array_equal(lazy.column("share_Tumor", "all"), before)
    drawn[0].write_text(drawn[0].read_text().replace("34", "24"))  # of the same size and time
    os.utime(drawn[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with LazyPatchSet(saved) as lazy, export(plan) as patches:
        assert_equal(lazy, patches)
        assert len(lazy["all"]) < len(before)


def test_a_metric_that_was_not_measured_is_an_error(folder: Path, tmp_path: Path) -> None:
    plan = ExportPlan(
        sources=folder / "a.zarr", out="a.patches.zarr", strategy=Tiled(size=(16, 16)),
        filters="std>5",
    )  # fmt: skip
    infos = describe_sources(plan)
    grid = plan.strategy.plan(infos)
    with pytest.raises(ExportError, match=r"std_.* not measured"):
        select_candidates(plan, grid, infos, {}, np.ones(len(grid), bool))


def test_indices_select_patches_as_numpy_does(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, tmp_path, "zarr", "tiled", "none", 4)
    with export(plan) as patches, LazyPatchSet(plan) as lazy:
        everything = patches["train"][:]
        for array in (patches["train"], lazy["train"]):
            for index in ([2, 0, 1], np.array([-1, 0, 0]), (1, 3), np.array([], np.int64), []):
                np.testing.assert_array_equal(array[index], everything[np.array(index, int)])
            mask = np.arange(len(array)) % 3 == 1
            np.testing.assert_array_equal(array[mask], everything[mask])
            np.testing.assert_array_equal(array[mask.tolist()], everything[mask])
            assert repr(array).endswith(f": {len(array)} x {array.shape[1:]} {array.dtype}>")
            assert array[np.int64(1)].tobytes() == everything[1].tobytes()
            wrong: Any
            for wrong in (
                *([True, False], [1, 2, True], True, np.ones(900, bool), [0.5]),
                *("train", None, 1.5, [[0, 1]], [[0], [1, 2]], [[0]] * 900),
            ):
                with pytest.raises(TypeError, match="is no index of patches; use an") as raised:
                    array[wrong]
                assert len(str(raised.value)) < 220
            with pytest.raises(IndexError, match="out of bounds"):
                array[[0, 10**6]]
        for fold in (patches.fold(0), lazy.fold(0)):
            of_fold = everything[fold.indices["val"]]
            np.testing.assert_array_equal(fold["val"][[1, 0]], of_fold[[1, 0]])
            with pytest.raises(MissingArrayError, match=r"use patches\['test'\] of the set"):
                fold["test"]
            with pytest.raises(MissingArrayError, match="has no 'all'"):
                fold["all"]
            with pytest.raises(ArgumentError, match="no split 'test' in a fold"):
                fold.locate(0, "test")


def test_coordinates_have_pixels_all_the_same(folder: Path, tmp_path: Path) -> None:
    fields = {"sources": folder / "a.zarr", "strategy": Tiled(size=(16, 16))}
    plan = ExportPlan(out=tmp_path / "a.patches", format="coordinates", **fields)
    with LazyPatchSet(plan) as lazy, LazyPatchSet(ExportPlan(out="a.patches.zarr", **fields)) as of:
        np.testing.assert_array_equal(lazy["all"][:], of["all"][:])


def test_what_can_not_be_done_is_said(folder: Path, tmp_path: Path) -> None:
    fields = {"out": tmp_path / "a.patches.zarr", "strategy": Tiled(size=(16, 16))}
    plan = ExportPlan(sources=folder / "a.zarr", **fields)
    with pytest.raises(ArgumentError, match="No patches left"):
        LazyPatchSet(ExportPlan.model_validate({**dict(plan), "filters": ["std>1e9"]}))
    with pytest.raises(ArgumentError, match="99"):
        LazyPatchSet(ExportPlan.model_validate({**dict(plan), "strategy": Tiled(size=(99, 99))}))
    with LazyPatchSet(plan) as lazy:
        with pytest.raises(MissingArrayError, match="has no 'train'; its arrays are all"):
            lazy["train"]
        with pytest.raises(ArgumentError, match="no column 'animal'; its columns are id,"):
            lazy.column("animal", "all")
        with pytest.raises(IndexError, match="out of bounds"):
            lazy["all"].__getitems__([0, 10**6])
        assert lazy["all"][:0].shape == (0, *lazy["all"].shape[1:])
    assert not Path(plan.out).exists()


def test_a_damaged_source_is_left_out_as_in_an_export(tmp_path: Path) -> None:
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", drawn("YX", (48, 48)))
    (tmp_path / "b.tif").write_bytes((tmp_path / "b.tif").read_bytes()[:100])
    plan = ExportPlan(
        sources=[tmp_path / "a.tif", tmp_path / "b.tif"],
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(16, 16)),
    )
    with LazyPatchSet(plan) as lazy:
        assert len(lazy["all"]) == 9
        assert [Path(failure.source).name for failure in lazy.failures] == ["b.tif"]


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, drawn("YX", (48, 48)))
    plan = ExportPlan(sources=path, out="a.patches.zarr", strategy=Tiled(size=(16, 16)))
    lazy = LazyPatchSet(plan)
    tifffile.imwrite(path, drawn("YX", (64, 48)))
    with pytest.raises((SourcesFailed, ExportError), match="has changed"):
        lazy["all"][0]


def test_a_file_that_is_touched_is_the_same_file(tmp_path: Path) -> None:
    pixels = drawn("YX", (32, 32))
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    sources, strategy = expand_sources([tmp_path / "a.tif"]), Tiled(size=(16, 16))
    lazy = LazyPatchSet(ExportPlan(sources=sources, strategy=strategy, out="a.patches.zarr"))
    os.utime(tmp_path / "a.tif", ns=(1, 1))
    np.testing.assert_array_equal(lazy["all"][0][0], pixels[:16, :16])


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_became_of_a_file_is_said_in_words_of_the_set(tmp_path: Path, is_gone: bool) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, drawn("YX", (32, 32)))
    sources, strategy = expand_sources([path]), Tiled(size=(16, 16))
    lazy = LazyPatchSet(ExportPlan(sources=sources, strategy=strategy, out="a.patches.zarr"))
    if is_gone:
        path.unlink()
        text = f"{path} is missing, but was there when this set was made; restore it, and "
    else:
        tifffile.imwrite(path, drawn("YX", (48, 32)))
        text = f"{path} has changed since this set was made; "
    with pytest.raises(SourcesFailed) as raised:
        lazy["all"][0]
    assert str(raised.value) == f"{text}make the LazyPatchSet again."
