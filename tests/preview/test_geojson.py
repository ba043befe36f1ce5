"""Patches as GeoJSON: at the right place, in the form that QuPath and napari-geojson read."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import (
    ExportPlan,
    PatchSet,
    SourceRef,
    Split,
    Tiled,
    export,
    write_geojson,
)
from napari_patchset.annotations.geojson import read_geojson
from napari_patchset.errors import DestinationExistsError
from napari_patchset.exporting.plans.source_files import with_annotations
from napari_patchset.patchset import table
from napari_patchset.preview import geojson
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import SCENES, plan_for


def read(path: Path) -> list[dict[str, Any]]:
    """Read the features of a file, strictly: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    content = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert content["type"] == "FeatureCollection"
    return content["features"]


def measured(feature: dict[str, Any]) -> dict[str, float]:
    return {each["name"]: each["value"] for each in feature["properties"]["measurements"]}


def box_of(feature: dict[str, Any]) -> list[list[float]]:
    """Return the corners of a feature, x and y, without the last one, which is the first again."""
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Polygon"
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[4]
    return ring[:4]


def corners(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


@pytest.fixture
def made(czi: MakeCzi, tmp_path: Path) -> Iterator[PatchSet]:
    """Export two scenes, some of whose patches are rejected."""
    fields = {"filters": ("std>p20", "max[0]>100"), "split": Split(val=0.3, by="block")}
    with closing(export(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", **fields))) as each:
        yield each


def test_every_candidate_is_a_tile_at_its_place(made: PatchSet, tmp_path: Path) -> None:
    files = write_geojson(made, tmp_path / "places")
    assert [file.name for file in files] == ["image.czi@3.geojson", "image.czi@7.geojson"]
    sources = [SourceRef.model_validate(each) for each in made.provenance.sources]
    paired = with_annotations(sources, str(tmp_path / "places"), None)
    assert [ref.annotations.path for ref in paired] == list(map(str, files))
    rows = made.table.to_pylist()
    features = [feature for file in files for feature in read(file)]
    scenes = [i for i, file in enumerate(files) for _ in read(file)]
    assert scenes == [row["source_index"] for row in rows]
    colors = {"train": [255, 214, 10], "val": [64, 224, 255]}
    metrics = [name for name in made.table.column_names if name.startswith(("std_", "max_"))]
    for feature, row in zip(features, rows, strict=True):
        assert box_of(feature) == corners(row["x_start"], row["y_start"], 16, 16)
        first = {"z": SCENES[row["source_index"]].z.start, "t": 1 - row["source_index"]}
        plane = {"c": -1, **{axis: row[axis] - n for axis, n in first.items()}}
        assert feature["geometry"]["plane"] == plane
        properties = feature["properties"]
        assert properties["objectType"] == "tile"
        name = row["split"] if row["kept"] else row["reason"]
        assert properties["classification"] == {
            "name": name,
            "color": colors.get(name, [255, 69, 58]),
        }
        assert measured(feature) == {name: row[name] for name in ("id", "valid", *metrics)}
    assert {row["reason"] for row in rows} >= {None, "std>p20"}


def test_what_is_written_is_read_as_annotations(made: PatchSet, tmp_path: Path) -> None:
    for index, file in enumerate(write_geojson(made, tmp_path / "places")):
        features = read_geojson(file)
        rows = [row for row in made.table.to_pylist() if row["source_index"] == index]
        assert len(features) == len(rows)
        assert set(features.class_names) == {
            row["split"] if row["kept"] else row["reason"] for row in rows
        }
        boxes = sorted(map(tuple, features.bounds.tolist()))
        expected = [(row["x_start"], row["y_start"]) for row in rows]
        assert boxes == sorted((x, y, x + 16, y + 16) for x, y in expected)
        first = SCENES[index].z.start
        assert sorted(features.z.tolist()) == sorted(row["z"] - first for row in rows)


def test_a_volume_lies_on_its_first_plane(czi: MakeCzi, tmp_path: Path) -> None:
    fields = {"strategy": Tiled(size=(2, 16, 16)), "depth_axis": "Z"}
    with closing(export(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", **fields))) as made:
        files = write_geojson(made, tmp_path)
        planes = [feature["geometry"]["plane"]["z"] for file in files for feature in read(file)]
        assert planes == [row["z_start"] for row in made.table.to_pylist()]
        assert set(planes) == {0, 1}


def test_a_resampled_patch_is_where_its_pixels_are_in_the_file(tmp_path: Path) -> None:
    size = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}  # 1 um
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((90, 120), np.uint8), **size)
    plan = ExportPlan(
        sources=tmp_path / "a.tif",
        strategy=Tiled(size=(16, 16)),
        pixel_size="1.5,2",
        out=tmp_path / "a.patches.zarr",
    )
    with closing(export(plan)) as made:
        (file,) = write_geojson(made, tmp_path)
        rows = made.table.to_pylist()
    assert file.name == "a.tif.geojson"
    for feature, row in zip(read(file), rows, strict=True):
        x, y = 2 * row["x_start"], 1.5 * row["y_start"]
        assert box_of(feature) == corners(x, y, 32, 24)
    assert max(x for feature in read(file) for x, _ in box_of(feature)) == 120


def test_a_measure_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    pixels = np.ones((16, 32), np.float32)
    pixels[0, 0] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    plan = ExportPlan(
        sources=tmp_path / "a.tif",
        strategy=Tiled(size=(16, 16)),
        filters="max>0",
        out=tmp_path / "a.patches.zarr",
    )
    with closing(export(plan)) as made:
        first, second = read(write_geojson(made, tmp_path)[0])
    assert list(measured(first)) == ["id", "valid"]
    assert list(measured(second))[:2] == ["id", "valid"]
    assert len(measured(second)) == 3


def test_files_of_one_name_are_numbered_and_none_is_replaced(
    made: PatchSet, czi: MakeCzi, tmp_path: Path
) -> None:
    for i, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        czi(SceneSpec(rect=(0, 0, 40 + i, 32)), name=f"{name}/same.czi")
    plan = ExportPlan(
        sources=[tmp_path / "one" / "same.czi", tmp_path / "two" / "same.czi"],
        strategy=Tiled(size=(16, 16)),
        out=tmp_path / "b.patches.zarr",
    )
    with closing(export(plan)) as same:
        names = [file.name for file in write_geojson(same, tmp_path / "places")]
    assert len(set(names)) == 2
    assert names[1] == names[0].replace(".geojson", " (2).geojson")
    written = write_geojson(made, tmp_path / "places")
    before = written[1].read_bytes()
    written[0].unlink()
    with pytest.raises(DestinationExistsError, match=r"image\.czi@7\.geojson exists"):
        write_geojson(made, tmp_path / "places")
    assert not written[0].exists()
    assert write_geojson(made, tmp_path / "places", overwrite=True) == written
    assert written[1].read_bytes() == before


def test_the_table_is_written_in_parts(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_PART_ROWS", 17)
    monkeypatch.setattr(geojson, "_AT_ONCE", 7)
    parts, whole = list[int](), geojson._format
    monkeypatch.setattr(
        geojson, "_format", lambda part, source: (parts.append(len(part)), whole(part, source))[1]
    )
    steps = list[tuple[int, int]]()
    with closing(export(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr"))) as made:
        n = len(made.table)
        files = write_geojson(made, tmp_path, progress=lambda *step: steps.append(step))
    assert max(parts) <= 7
    assert sum(parts) == n == sum(len(read(file)) for file in files)
    assert steps[-1] == (n, n)
