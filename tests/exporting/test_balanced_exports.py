"""Balanced patches in an export: the table, splits and filters, verify, damaged labels."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from napari_patchset import (
    Balanced,
    ExportPlan,
    ImageRef,
    PatchSet,
    SourceRef,
    Split,
    export,
    verify,
)
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.patchset.layout import TABLE
from support.export_makers import digests


def write_pair(folder: Path, name: str, seed: int, value: int = 3, **more: Any) -> SourceRef:
    """Write an image TYX that is 1000 more where its label is not 0, and its labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((2, 90, 120), np.uint8)
    labels[1, 20:50, :25] = value
    image = rng.integers(0, 1000, labels.shape, np.uint16) + np.uint16(1000) * (labels > 0)
    for what, pixels in (("image", image), ("labels", labels)):
        path = folder / f"{name} {what}.tif"
        tifffile.imwrite(path, pixels, metadata={"axes": "TYX"}, tile=(32, 32), **more)
    return SourceRef(
        path=str(folder / f"{name} image.tif"),
        labels=ImageRef(path=str(folder / f"{name} labels.tif")),
    )


def plan_of(sources: Sequence[SourceRef], out: Path, **fields: Any) -> ExportPlan:
    strategy = Balanced(size=(16, 16), count=60, classes="3=1,background=2", seed=2)
    return ExportPlan(**{"sources": sources, "out": out, "strategy": strategy, **fields})


def test_the_table_has_class_and_weight_of_each_patch(tmp_path: Path) -> None:
    refs = [write_pair(tmp_path, name, i) for i, name in enumerate("ab")]
    plan = plan_of(refs, tmp_path / "a.patches.zarr")
    with closing(export(plan)) as made:
        rows, labels = made.table.to_pylist(), np.asarray(made["all/labels"])
        assert Counter(row["drawn_for"] for row in rows) == {"3": 20, "background": 40}
        n, every = 2 * 30 * 25, 2 * 2 * 90 * 120
        weights = {"3": n / every / (20 / 60), "background": (every - n) / every / (40 / 60)}
        for row, patch in zip(rows, labels, strict=True):
            assert row["weight"] == pytest.approx(weights[row["drawn_for"]])
            assert ((patch == 3).any() and row["t"] == 1) or row["drawn_for"] != "3"
        assert made.manifest.schema_version == 2
        assert made.manifest.recipe["strategy"]["classes"] == {"3": 1, "background": 2}
    assert not list(verify(plan.out))


def test_splits_and_filters_apply_to_balanced_patches(tmp_path: Path) -> None:
    refs = [write_pair(tmp_path, name, i) for i, name in enumerate("ab")]
    options = {"split": Split(val=0.25, by="block"), "filters": "max>1500"}
    plan = plan_of(refs, tmp_path / "a.patches.zarr", **options)
    with closing(export(plan)) as made:
        rows = made.table.to_pylist()
        assert len(rows) == 60
        assert {row["split"] for row in rows if row["kept"]} == {"train", "val"}
        of_class = [row for row in rows if row["drawn_for"] == "3"]
        (column,) = (name for name in made.table.column_names if name.startswith("max_"))
        assert all(row[column] > 1000 for row in of_class)
        assert made.manifest.rejected["max>1500"] > 10
    assert not list(verify(plan.out))


def test_every_executor_and_order_of_the_sources_gives_the_same_patches(
    tmp_path: Path, spawned: ProcessPoolExecutor
) -> None:
    refs = [write_pair(tmp_path, name, i) for i, name in enumerate("abc")]
    plan = plan_of(refs, tmp_path / "a.patches.zarr")
    export(plan, workers=1).close()
    other = plan.model_copy(update={"out": str(tmp_path / "b.patches.zarr")})
    export(other, executor=spawned).close()
    assert digests(Path(plan.out)) == digests(Path(other.out))
    backwards = plan_of(refs[::-1], tmp_path / "c.patches.zarr")
    with closing(export(backwards)) as again, PatchSet(plan.out) as made:
        columns = ["source", "sample", "y_start", "x_start", "drawn_for", "weight", "checksum"]
        first, second = (
            sorted(tuple(row.values()) for row in each.table.select(columns).to_pylist())
            for each in (made, again)
        )
    assert first == second


def test_patches_of_another_pixel_size_are_drawn_from_labels_of_that_size(tmp_path: Path) -> None:
    size = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}  # 1 um
    refs = [write_pair(tmp_path, name, i, **size) for i, name in enumerate("ab")]
    plan = plan_of(refs, tmp_path / "a.patches.zarr", pixel_size=2)
    with closing(export(plan)) as made:
        labels, table = np.asarray(made["all/labels"]), made.table.to_pylist()
        for row, patch in zip(table, labels, strict=True):
            assert (patch == 3).any() or row["drawn_for"] == "background"
        assert Counter(row["drawn_for"] for row in table) == {"3": 20, "background": 40}
    assert not list(verify(plan.out))


@pytest.mark.parametrize("column", ["drawn_for", "weight"])
def test_verify_finds_an_edited_class_or_weight(tmp_path: Path, column: str) -> None:
    plan = plan_of([write_pair(tmp_path, "a", 0)], tmp_path / "a.patches.zarr")
    export(plan).close()
    file = Path(plan.out, TABLE)
    table = pq.read_table(file)
    values = table[column].to_pylist()
    other = {"3": "background", "background": "3"}
    values = [other[v] if column == "drawn_for" else 2 * v for v in values]
    edited = table.set_column(table.column_names.index(column), column, pa.array(values))
    pq.write_table(edited, file)
    messages = [finding.message for finding in verify(plan.out) if finding.name == "edited table"]
    assert any("its classes or weights are not those" in message for message in messages)


def test_a_source_without_labels_is_named(tmp_path: Path) -> None:
    refs = [write_pair(tmp_path, name, i) for i, name in enumerate("ab")]
    lacking = [refs[0], refs[1].model_copy(update={"labels": None})]
    with pytest.raises(ArgumentError, match=r"every source has a paired labels.*b image\.tif"):
        export(plan_of(lacking, tmp_path / "a.patches.zarr"))
    with pytest.raises(ArgumentError, match=r"annotations or labels, and .*a image\.tif has none"):
        export(plan_of([SourceRef(path=refs[0].path)], tmp_path / "a.patches.zarr"))


def test_labels_of_several_channels_are_refused(tmp_path: Path) -> None:
    ref = write_pair(tmp_path, "a", 0)
    axes = {"metadata": {"axes": "TCYX"}}
    tifffile.imwrite(ref.labels.path, np.zeros((2, 3, 90, 120), np.uint8), ome=True, **axes)
    with pytest.raises(ExportError, match="have 3 channels"):
        export(plan_of([ref], tmp_path / "a.patches.zarr"))


def test_a_source_whose_labels_are_damaged_is_left_out(tmp_path: Path) -> None:
    refs = [write_pair(tmp_path, n, i, compression="zlib") for i, n in enumerate("ab")]
    damaged = Path(refs[0].labels.path)
    with tifffile.TiffFile(damaged) as tiff:
        page = tiff.pages[1]
        offset, n = page.dataoffsets[3], page.databytecounts[3]
    with damaged.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(n))
    plan = plan_of(refs, tmp_path / "a.patches.zarr")
    with pytest.warns(UserWarning, match="a labels"):
        made = export(plan)
    assert set(made.table["source_index"].to_pylist()) == {0}
    assert len(made["all"]) == 60
    made.close()
    alone = plan_of(refs[:1], tmp_path / "b.patches.zarr")
    with pytest.raises(ExportError, match="a labels"):
        export(alone)


def test_a_plan_of_balanced_patches_is_its_own_json(tmp_path: Path) -> None:
    plan = plan_of([write_pair(tmp_path, "a", 0)], tmp_path / "a.patches.zarr")
    content = json.loads(plan.model_dump_json())
    assert content["strategy"]["classes"] == {"3": 1, "background": 2}
    assert ExportPlan.model_validate(content) == plan


def write_outlines(path: Path, **boxes: list[tuple[int, ...]]) -> Path:
    """Write rectangles (x, y, w, h, z, t) of each class as QuPath does."""
    features = []
    for name, of_class in boxes.items():
        for x, y, w, h, z, t in of_class:
            ring = [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]
            plane = {"c": -1, "z": z, "t": t}
            geometry = {"type": "Polygon", "coordinates": [ring], "plane": plane}
            properties = {"objectType": "annotation", "classification": {"name": name}}
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("pixel_size", [None, 2])
def test_classes_are_those_of_annotations(tmp_path: Path, pixel_size: float | None) -> None:
    size = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}  # 1 um
    refs = [write_pair(tmp_path, name, i, **size) for i, name in enumerate("ab")]
    tumor, stroma = [(0, 0, 30, 40, 0, 1)], [(70, 50, 50, 40, 0, 0), (10, 10, 60, 60, 0, 0)]
    outlines = [
        write_outlines(tmp_path / "a.geojson", Tumor=tumor),
        write_outlines(tmp_path / "b.geojson", Stroma=stroma),
    ]
    refs = [
        SourceRef(path=ref.path, annotations=file, labels="annotations")
        for ref, file in zip(refs, outlines, strict=True)
    ]
    classes = {"Tumor": 0.25, "Stroma": 0.25, "background": 0.5}
    strategy = Balanced(size=(8, 8), count=80, classes=classes)
    fields = {"strategy": strategy, "pixel_size": pixel_size}
    plan = plan_of(refs, tmp_path / "a.patches.zarr", **fields)
    with closing(export(plan)) as made:
        rows, labels = made.table.to_pylist(), np.asarray(made["all/labels"])
        names = [row["drawn_for"] for row in rows]
        assert Counter(names) == {"Tumor": 20, "Stroma": 20, "background": 40}
        where = {(row["drawn_for"], row["source_index"], row["t"]) for row in rows}
        assert {each for each in where if each[0] != "background"} == {
            ("Tumor", 0, 1),
            ("Stroma", 1, 0),
        }
        values = {"Stroma": 1, "Tumor": 2, "background": 0}
        for patch, row in zip(labels, rows, strict=True):
            assert (patch == values[row["drawn_for"]]).any()
    assert not list(verify(plan.out))
    unknown = strategy.model_copy(update={"classes": {"Necrosis": 1.0}})
    with pytest.raises(ArgumentError, match="class 'Necrosis'"):
        export(plan_of(refs, tmp_path / "b.patches.zarr", strategy=unknown))


@pytest.mark.parametrize(("word", "others"), [("background", "none"), ("foreground", "all")])
def test_a_class_that_is_named_like_a_word_takes_its_place_and_that_is_said(
    tmp_path: Path, word: str, others: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((64, 64), np.uint8))
    path = write_outlines(
        tmp_path / "a.geojson", **{word: [(8, 8, 24, 24, 0, 0)], "c": [(40, 40, 9, 9, 0, 0)]}
    )
    source = SourceRef(path=tmp_path / "a.tif", labels=path)
    strategy = Balanced(size=(1, 1), count=100, classes={word: 1.0})
    plan = ExportPlan(sources=source, out=tmp_path / "a.patches.zarr", strategy=strategy)
    with pytest.warns(UserWarning, match=f"named '{word}': .* not from .*{others}. Rename the"):
        made = export(plan)
    with closing(made):
        rows = made.table.to_pylist()
    assert all(8 <= row[start] < 32 for row in rows for start in ("y_start", "x_start"))


def test_an_excluded_class_and_a_share_inside_limit_where_pixels_are_drawn(tmp_path: Path) -> None:
    ref = write_pair(tmp_path, "a", 0)
    file = write_outlines(
        tmp_path / "a.geojson",
        Tissue=[(0, 0, 80, 90, 0, t) for t in (0, 1)],
        Artefact=[(20, 20, 10, 10, 0, 0)],
    )
    source = SourceRef(path=ref.path, annotations=file, labels="annotations")
    strategy = Balanced(
        size=(16, 16),
        count=200,
        classes="Tissue=3,background=1",
        region_classes="Tissue",
        exclude_classes="Artefact",
        min_inside=0.75,
    )
    plan = plan_of([source], tmp_path / "a.patches.zarr", strategy=strategy)
    with closing(export(plan)) as made:
        rows = made.table.to_pylist()
        assert Counter(row["drawn_for"] for row in rows) == {"Tissue": 150, "background": 50}
        assert {row["t"] for row in rows} == {0, 1}
        assert min(row["share_Tissue"] - row["share_Artefact"] for row in rows) >= 0.75
        assert 0 < max(row["share_Artefact"] for row in rows) <= 0.25
        assert made.manifest.dropped == {}
    assert not list(verify(plan.out))
