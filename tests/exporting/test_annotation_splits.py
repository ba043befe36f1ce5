"""A split by annotation: what one outline holds is in one split, and verify proves it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from napari_patchset import ExportPlan, Random, SourceRef, Split, Tiled, export, verify
from napari_patchset.annotations.geojson import read_geojson
from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import TABLE
from napari_patchset.source import Rect

SIZE = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}  # 1 um


def write_slide(folder: Path, name: str, seed: int, n: int = 20) -> SourceRef:
    """Write an image and outlines, triangles at any place."""
    rng = np.random.default_rng(seed)
    tifffile.imwrite(
        folder / f"{name}.tif", rng.integers(0, 9999, (2, 220, 260), np.uint16), **SIZE
    )
    features = []
    for i, centre in enumerate(rng.uniform((0, 0), (260, 220), (n, 2))):
        corners = (centre + rng.uniform(-15, 15, (3, 2))).round(2).tolist()
        geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
        properties = {"name": f"{name} {i}"}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    (folder / f"{name}.geojson").write_text(json.dumps(features))
    return SourceRef(
        path=folder / f"{name}.tif", axes="TYX", annotations=folder / f"{name}.geojson"
    )


def plan_of(folder: Path, refs: list[SourceRef], **fields: Any) -> ExportPlan:
    fields = {"strategy": Tiled(size=(16, 16), overlap=(4, 4)), **fields}
    return ExportPlan(sources=refs, out=folder / "a.patches.zarr", **fields)


def window(row: dict[str, Any], factor: int) -> tuple[slice, slice]:
    """Return the pixels of the file that a patch shows."""
    first, last = (
        [factor * (row[f"{axis}_start"] + n * row[f"{axis}_size"]) for axis in "yx"] for n in (0, 1)
    )
    return slice(first[0], last[0]), slice(first[1], last[1])


SPLITS = [Split(val=0.3, by="annotation"), Split(folds=2, test=0.2, by="annotation", seed=1)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    "made", [{}, {"pixel_size": 2}, {"strategy": Random(size=(8, 8), count=90)}]
)
def test_patches_that_touch_one_outline_are_in_one_split(
    tmp_path: Path, split: Split, made: dict[str, Any]
) -> None:
    refs = [write_slide(tmp_path, name, i) for i, name in enumerate("ab")]
    plan = plan_of(tmp_path, refs, split=split, **made)
    with closing(export(plan)) as patches:
        rows = patches.table.to_pylist()
    factor = made.get("pixel_size", 1)
    for index, ref in enumerate(refs):
        annotations = read_geojson(ref.annotations.path)
        of_source = [row for row in rows if row["source_index"] == index]
        assert any(row["outline"] is None for row in of_source)
        for name in annotations.class_names:
            inside = annotations.mask(Rect(0, 0, 260, 220), [name])
            touching = [row for row in of_source if inside[window(row, factor)].any()]
            assert len({(row["split"], row.get("fold")) for row in touching}) <= 1
            assert len({row["outline"] for row in touching}) <= 1
    assert {row["split"] for row in rows} >= set(split.names)
    assert not list(verify(plan.out))


def test_verify_finds_an_outline_in_two_splits(tmp_path: Path) -> None:
    refs = [write_slide(tmp_path, "a", 0)]
    plan = plan_of(tmp_path, refs, split=Split(val=0.3, by="annotation"))
    export(plan).close()
    file = Path(plan.out, TABLE)
    table = pq.read_table(file)
    outlines = table["outline"].to_pylist()
    several = next(each for each in outlines if each is not None and outlines.count(each) > 1)
    splits = table["split"].to_pylist()
    row = outlines.index(several)
    splits[row] = {"train": "val", "val": "train"}[splits[row]]
    edited = table.set_column(table.column_names.index("split"), "split", pa.array(splits))
    pq.write_table(edited, file)
    assert "edited table" in {finding.name for finding in verify(plan.out)}
    edited = table.set_column(
        table.column_names.index("outline"),
        "outline",
        pa.array([None if each is None else 0 for each in outlines], pa.int32()),
    )
    pq.write_table(edited, file)
    findings = [str(finding) for finding in verify(plan.out)]
    assert any("its outlines are not those" in finding for finding in findings)
    assert any("outline 0 of source 0 has patches in train and val" in text for text in findings)


def test_a_split_by_annotation_needs_outlines(tmp_path: Path) -> None:
    ref = write_slide(tmp_path, "a", 0)
    split = Split(val=0.3, by="annotation")
    none = SourceRef(path=ref.path, axes="TYX")
    with pytest.raises(ArgumentError, match="has no outlines to split by"):
        export(plan_of(tmp_path, [none], split=split))
    labels = np.ones((2, 220, 260), np.uint8)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    image = {"path": str(tmp_path / "labels.tif"), "classes": {"a": 1}, "axes": "TYX"}
    with pytest.raises(ArgumentError, match="has no outlines to split by"):
        export(
            plan_of(
                tmp_path,
                [none.model_validate({**none.model_dump(), "annotations": image})],
                split=split,
            )
        )
    whole = {"type": "Polygon", "coordinates": [[[0, 0], [260, 0], [260, 220], [0, 220], [0, 0]]]}
    (tmp_path / "a.geojson").write_text(json.dumps(whole))
    with pytest.raises(ArgumentError, match="places that no outlines join"):
        export(plan_of(tmp_path, [ref], split=split))
