"""GeoJSON files as QuPath and others write them, whole, in parts, damaged and odd."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset.annotations import geojson
from napari_patchset.annotations.features import EVERY_PLANE, Annotations
from napari_patchset.annotations.geojson import format_geojson, read_geojson
from napari_patchset.annotations.polygons import Feature
from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from support.realdata import MISSING, find_data

SQUARE = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]

# As QuPath 0.5 writes it (File > Export objects as GeoJSON, pretty), with a NaN, which JSON lacks.
QUPATH_05 = """{
  "type": "FeatureCollection",
  "features": [
    {
      "type": "Feature",
      "id": "6423a977-ffff-48db-affc-cd11632010f0",
      "geometry": {
        "type": "Polygon",
        "coordinates": [
          [[1, 1], [21, 1], [21, 21], [1, 21], [1, 1]],
          [[5, 5], [5, 9], [9, 9], [9, 5], [5, 5]]
        ]
      },
      "properties": {
        "objectType": "annotation",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "isLocked": true,
        "measurements": {"Area µm^2": NaN, "Num Detections": 3.0}
      }
    },
    {
      "type": "Feature",
      "id": "f350cce8-f792-44ad-8ec2-dd9e0cc78c4c",
      "geometry": {
        "type": "MultiPolygon",
        "coordinates": [
          [[[30, 30], [34, 30], [34, 34], [30, 34], [30, 30]]],
          [[[40, 30], [44, 30], [44, 34], [40, 34], [40, 30]]]
        ],
        "plane": {"c": -1, "z": 2, "t": 1}
      },
      "properties": {
        "objectType": "detection",
        "classification": {"names": ["Stroma", "Positive"], "color": [150, 200, 150]}
      }
    },
    {
      "type": "Feature",
      "id": "a9d3d08f-35cd-46d4-93d6-08d71feefaa6",
      "geometry": {"type": "Polygon", "isEllipse": true, "coordinates": [
        [[60, 50], [58.66, 55], [55, 58.66], [50, 60], [45, 58.66], [41.34, 55], [40, 50],
         [41.34, 45], [45, 41.34], [50, 40], [55, 41.34], [58.66, 45], [60, 50]]]},
      "properties": {"objectType": "annotation", "name": "ROI 7"}
    },
    {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7, 7]},
     "properties": {"objectType": "annotation"}}
  ]
}"""

# QuPath 0.2: a bare list, the type as id, colours as signed 0xAARRGGBB.
QUPATH_02 = """[{"type": "Feature", "id": "PathAnnotationObject", "geometry": {"type": "Polygon",
"coordinates": [[[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]], "plane": {"c": -1, "z": 0, "t": 0}},
"properties": {"classification": {"name": "Tumor", "colorRGB": -3670016}, "isLocked": false,
"measurements": [{"name": "Area", "value": 36.0}]}}]"""


def read(path: Path, content: Any) -> Annotations:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return read_geojson(path)


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    if isinstance(geometry, list):
        geometry = {"type": "Polygon", "coordinates": [geometry]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**22])
def test_qupath_05(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(geojson, "_CHUNK", chunk)
    annotations = read(tmp_path / "slide.geojson", QUPATH_05)
    assert [(c.name, c.color) for c in annotations.classes] == [
        ("Tumor", (200, 0, 0)),
        ("Stroma: Positive", (150, 200, 150)),
        ("ROI 7", None),
    ]
    whole = Rect(0, 0, 70, 70)
    counts = {n: int(annotations.mask(whole, [n]).sum()) for n in annotations.class_names}
    assert counts["Tumor"] == 20 * 20 - 4 * 4
    assert counts["Stroma: Positive"] == 2 * 4 * 4
    assert abs(counts["ROI 7"] - 300) < 10  # twelve corners on a circle of radius 10
    # Another feature has a plane, so that those without are of the first one.
    assert annotations.mask(whole, ["Tumor"], z=0, t=0).any()
    assert not annotations.mask(whole, ["Tumor"], z=2, t=1).any()
    assert annotations.mask(whole, ["Stroma: Positive"], z=2, t=1).any()
    assert not annotations.mask(whole, ["Stroma: Positive"], z=0, t=0).any()
    assert annotations.notes == ("only areas have pixels, so these are ignored: 1 Point",)


def test_qupath_02(tmp_path: Path) -> None:
    annotations = read(tmp_path / "slide.json", QUPATH_02)
    assert [(c.name, c.color) for c in annotations.classes] == [("Tumor", (200, 0, 0))]
    assert annotations.mask(Rect(0, 0, 10, 10), z=0, t=0).sum() == 36


def test_without_any_plane_a_feature_is_of_all(tmp_path: Path) -> None:
    annotations = read(tmp_path / "a.geojson", feature(SQUARE, classification="Tumor"))
    assert annotations.is_flat
    assert (annotations.z == EVERY_PLANE).all()
    assert annotations.mask(Rect(0, 0, 10, 10), z=7, t=3).sum() == 36


@pytest.mark.parametrize(
    ("properties", "name", "color"),
    [
        ({"classification": "Tumor"}, "Tumor", None),
        ({"classification": {"name": "Tumor"}, "color": [1, 2, 3]}, "Tumor", (1, 2, 3)),
        ({"classification": {"name": "a, b [c] µ 1"}}, "a, b [c] µ 1", None),
        ({"classification": {"name": None}}, "Unclassified", None),
        ({"classification": None, "name": "UT", "color": [255, 0, 0]}, "UT", (255, 0, 0)),
        ({"name": "  "}, "Unclassified", None),
        ({"classification": {"name": "T", "color": [300, 0, "x"]}}, "T", None),
        ({}, "Unclassified", None),
    ],
)
def test_class_and_colour(tmp_path: Path, properties: Any, name: str, color: Any) -> None:
    (found,) = read(tmp_path / "a.geojson", [feature(SQUARE, **properties)]).classes
    assert (found.name, found.color) == (name, color)


def test_children_are_features(tmp_path: Path) -> None:
    child = feature([[3, 3], [5, 3], [5, 5], [3, 5]], classification="Cell")
    annotations = read(
        tmp_path / "a.geojson", [feature(SQUARE, classification="Tissue", childObjects=[child])]
    )
    assert annotations.class_counts == {"Tissue": 1, "Cell": 1}


def test_what_is_no_area_is_named(tmp_path: Path) -> None:
    spike = [[0, 0], [9, 0], [0, 0], [9, 0]]
    bow_tie = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    collection = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "LineString", "coordinates": [[1, 1], [2, 2]]},
            {"type": "Polygon", "coordinates": [SQUARE]},
        ],
    }
    annotations = read(
        tmp_path / "a.geojson",
        {
            "type": "FeatureCollection",
            "features": [
                feature(spike),
                feature([[1, 1], [2, 2]]),
                feature([["a", "b"], [1, 2], [2]]),
                feature([[1e999, 0], [1, 1], [0, 1]]),
                feature({"type": "Polygon", "coordinates": []}),
                feature(bow_tie, classification="Tumor"),
                feature(collection),
                feature(None),
                feature({"type": "Circle"}),
                17,
            ],
        },
    )
    assert annotations.class_counts == {"Tumor": 1, "Unclassified": 1}
    assert annotations.notes == (
        "only areas have pixels, so these are ignored: 1 LineString, "
        "1 feature without a geometry, 1 Circle, 1 no feature",
        "1 feature crosses or touches itself and was repaired, the first is number 6 (Tumor)",
        "5 features have no area and are ignored, the first is number 1 (Unclassified)",
    )
    mask = annotations.mask(Rect(0, 0, 10, 10), ["Tumor"])  # both halves of the bow tie
    assert mask[5, 1]
    assert mask[5, 8]
    assert not mask[[1, 8], [5, 5]].any()
    assert 40 <= mask.sum() <= 60


@pytest.mark.parametrize("touching", [False, True])
def test_parts_that_overlap_are_united(tmp_path: Path, touching: bool) -> None:
    shift = 6 if touching else 3
    other = [[x + shift, y] for x, y in SQUARE]
    both = {"type": "MultiPolygon", "coordinates": [[SQUARE], [other]]}
    mask = read(tmp_path / "a.geojson", feature(both)).mask(Rect(0, 0, 20, 10))
    assert mask.sum() == 6 * (6 + shift)


@pytest.mark.parametrize("chunk", [5, 2**22])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "no JSON object or list"),
        ("hello", "no JSON object or list"),
        (QUPATH_05[:700], "ends in the middle"),
        (QUPATH_05[:-3], "ends in the middle"),
        (QUPATH_05 + "]", "follows the end"),
        (QUPATH_05.replace("[21, 21]", "[21, 2x1]"), "near"),
        (QUPATH_05.replace("},\n    {", "} {"), "missing"),
        ('{"kind": "rectangle"}', "has no features"),
        ("[" * 200_000, "nested too deeply"),
        ('{"type": "FeatureCollection"}', "has no features"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, content: str, fault: str
) -> None:
    if chunk == 5 and len(content) > 10_000:
        chunk = 5000
    monkeypatch.setattr(geojson, "_CHUNK", chunk)
    with pytest.raises(UnreadableFileError, match=fault) as error:
        read(tmp_path / "slide.geojson", content)
    assert "slide.geojson" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([feature(SQUARE)]).encode())
    assert len(read_geojson(path)) == 1
    path.write_text(json.dumps([feature(SQUARE, name="µ")], ensure_ascii=False), "latin-1")
    with pytest.raises(UnreadableFileError, match="UTF-8"):
        read_geojson(path)


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    features = [feature(SQUARE, name=f"Cell {i}") for i in range(300)]
    with pytest.raises(UnreadableFileError, match="255 classes"):
        read(tmp_path / "a.geojson", features)


def test_an_empty_collection_has_no_pixels(tmp_path: Path) -> None:
    annotations = read(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": []})
    assert len(annotations) == 0
    assert annotations.extent() == Rect(0, 0, 0, 0)
    assert not annotations.mask(Rect(0, 0, 9, 9)).any()
    assert not annotations.labels(Rect(0, 0, 9, 9), {"Tumor": 1}).any()


def test_memory_and_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geojson, "_CHUNK", 1000)
    path, done = tmp_path / "a.geojson", list[tuple[int, int]]()
    path.write_text(json.dumps([feature(SQUARE, name="x" * 50)] * 100), "utf-8")
    read_geojson(path, lambda *step: done.append(step))
    assert done[-1] == (path.stat().st_size,) * 2
    assert len(done) > 10
    with pytest.raises(KeyboardInterrupt):
        read_geojson(path, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))


@pytest.mark.realdata
@pytest.mark.skipif(find_data() is None, reason=MISSING)
def test_files_of_others() -> None:
    folder = (find_data() or Path()) / "reported"
    tumor = read_geojson(folder / "qupath.geojson")
    assert [(c.name, c.color) for c in tumor.classes] == [("Tumor", (200, 0, 0))]
    mask = tumor.mask(Rect(0, 0, 512, 512))
    assert not mask[100:150, 100:150].any()
    assert mask.sum() == 250 * 251 - 50 * 50
    qupath = read_geojson(folder / "geojson" / "qupath05.geojson")
    assert len(qupath) == 3
    assert qupath.class_counts == {"UT": 1, "I": 2}
    assert {c.color for c in qupath.classes} == {(255, 0, 0)}
    left, top, width, height = qupath.extent()
    assert (left, top, left + width, top + height) == (8184, 5424, 9891, 6563)
    hole = read_geojson(folder / "geojson" / "polygon_with_hole.geojson")
    assert hole.mask(Rect(0, 0, 10, 10)).sum() == 100 - 4
    assert not hole.mask(Rect(2, 2, 2, 2)).any()
    collection = read_geojson(folder / "geojson" / "valid_geometry_collection.geojson")
    assert len(collection) == 1
    assert collection.notes == (
        "only areas have pixels, so these are ignored: 2 Point, 1 LineString",
    )


def test_features_that_are_written_are_read_as_they_were(tmp_path: Path) -> None:
    hole = [[4, 4], [6, 4], [6, 6.125], [4, 4]]
    far = [[20, 20], [29, 20], [29, 29], [20, 20]]
    features = [
        Feature([[SQUARE, hole]], "Tumor, invasive", (200, 0, 0), z=2, t=0),
        Feature([[SQUARE], [far]], "Größe", None, z=0, t=1),
    ]
    path = tmp_path / "written.geojson"
    path.write_bytes(format_geojson(features))
    annotations = read_geojson(path)
    assert [(each.name, each.color) for each in annotations.classes] == [
        ("Tumor, invasive", (200, 0, 0)),
        ("Größe", None),
    ]
    assert (annotations.z.tolist(), annotations.t.tolist()) == ([2, 0], [0, 1])
    assert annotations.notes == ()
    vertices = annotations.vertices.tolist()
    assert [each for each in (*SQUARE, *hole) if each in vertices] == [*SQUARE, *hole]
    assert np.count_nonzero(annotations.ends_ring) == 4
    path.write_bytes(format_geojson([]))
    assert len(read_geojson(path)) == 0
