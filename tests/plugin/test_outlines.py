"""Outlines as a shapes layer and back, without a window."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Shapes

from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.geojson import read_geojson
from napari_patchset.plugin.layers.outlines import (
    CLASS,
    PALETTE,
    ImageSpace,
    add_class,
    classes_of,
    draw_with,
    file_of,
    label_values,
    make_layer,
    outlines_text,
    rename_class,
    set_classes,
)
from napari_patchset.source import Rect

SHELL = [[10, 10], [60, 12], [55, 50], [12, 45], [10, 10]]
HOLE = [[20, 20], [20, 30], [30, 30], [30, 20], [20, 20]]
FAR = [[70, 60], [80, 60], [80, 70.5], [70, 60]]
WINDOW = Rect(0, 0, 90, 80)


def feature(rings: Any, name: str, color: Any = None, kind: str = "Polygon", **plane: int) -> Any:
    geometry = {"type": kind, "coordinates": rings} | ({"plane": plane} if plane else {})
    named = {"name": name} | ({} if color is None else {"color": color})
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": named}}


TUMOR = feature([SHELL, HOLE], "Tumor", [200, 0, 0])
STROMA = feature([[SHELL], [FAR]], "Stroma", kind="MultiPolygon")


def space(*shape: int, labels: tuple[str, ...] = ("z", "y", "x")) -> ImageSpace:
    n = len(shape)
    image = Image(
        np.zeros(shape),
        scale=[2, 0.325, 0.325][-n:],
        translate=[5, 10, 20][-n:],
        axis_labels=labels[-n:],
        units=["um"] * n,
    )
    return ImageSpace.of(image)


def read(path: Path, text: bytes | str) -> Annotations:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_geojson(path)


def same_pixels(one: Annotations, other: Annotations, **plane: int) -> bool:
    return all(
        np.array_equal(one.mask(WINDOW, [name], **plane), other.mask(WINDOW, [name], **plane))
        for name in {*one.class_names, *other.class_names}
    )


def test_holes_parts_classes_and_colours_go_into_a_layer_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    annotations = read(path, json.dumps([TUMOR, STROMA]))
    layer = make_layer("a", space(3, 80, 90), annotations, path)
    assert (layer.ndim, layer.nshapes) == (2, 2)
    assert sorted(layer.features[CLASS]) == ["Stroma", "Tumor"]
    assert classes_of(layer) == {"Tumor": "#c80000", "Stroma": PALETTE[0]}
    tumor = list(layer.features[CLASS]).index("Tumor")
    np.testing.assert_allclose(layer.edge_color[tumor], [200 / 255, 0, 0, 1], atol=1e-6)
    text = outlines_text(layer, space(3, 80, 90))
    again = read(tmp_path / "b.geojson", text)
    assert same_pixels(annotations, again)
    assert again.class_counts == {"Tumor": 1, "Stroma": 1}
    assert again.notes == ()
    assert file_of(layer, text) == path


def test_napari_draws_the_hole_as_a_hole(tmp_path: Path) -> None:
    annotations = read(tmp_path / "a.geojson", json.dumps([TUMOR]))
    layer = make_layer("a", space(80, 90), annotations)
    assert layer.get_value((15 - 0.5, 15 - 0.5))[0] == 0
    assert layer.get_value((25, 25))[0] is None


def test_outlines_of_planes_lie_on_their_planes(tmp_path: Path) -> None:
    planes = [feature([SHELL], "A", z=1, t=0, c=-1), feature([FAR], "B", z=2, t=0, c=-1)]
    annotations = read(tmp_path / "a.geojson", json.dumps(planes))
    layer = make_layer("a", space(3, 80, 90), annotations)
    assert layer.ndim == 3
    assert sorted(shape[0, 0] for shape in layer.data) == [1, 2]
    again = read(tmp_path / "b.geojson", outlines_text(layer, space(3, 80, 90)))
    for z in range(3):
        assert same_pixels(annotations, again, z=z, t=0)


def test_an_outline_of_one_plane_of_a_layer_with_fewer_axes_is_of_all_times(tmp_path: Path) -> None:
    of_all = space(2, 80, 90)._replace(
        axes="TZYX",
        shape=(4, 2, 80, 90),
        options={
            "scale": np.ones(4),
            "translate": np.zeros(4),
            "units": ("pixel",) * 4,
            "axis_labels": ("t", "z", "y", "x"),
        },
    )
    square = np.array([[1, 5, 5], [1, 5, 20], [1, 20, 20], [1, 20, 5]])
    layer = Shapes([square], shape_type="polygon")
    again = read(tmp_path / "b.geojson", outlines_text(layer, of_all))
    assert again.z.tolist() == [1] * 4
    assert sorted(again.t.tolist()) == [0, 1, 2, 3]


def test_a_layer_that_is_changed_is_no_longer_its_file(tmp_path: Path) -> None:
    path, where = tmp_path / "a.geojson", space(80, 90)
    layer = make_layer("a", where, read(path, json.dumps([TUMOR, STROMA])), path)
    colors = classes_of(layer)
    set_classes(layer, {**colors, "Tumor": "#00ff00"})
    text = outlines_text(layer, where)
    assert file_of(layer, text) is None
    assert b"[0, 255, 0]" in text
    set_classes(layer, colors)
    assert file_of(layer, outlines_text(layer, where)) == path
    layer.add(np.array([[0, 0], [0, 5], [5, 5]]), shape_type="polygon")
    assert file_of(layer, outlines_text(layer, where)) is None


@pytest.mark.parametrize("kind", ["rectangle", "ellipse", "polygon"])
def test_every_kind_of_shape_that_has_an_area_counts(tmp_path: Path, kind: str) -> None:
    box = np.array([[10, 10], [10, 40], [30, 40], [30, 10]])
    line = np.array([[0, 0], [50, 50]])
    layer = Shapes([box, line], shape_type=[kind, "line"])
    flat = space(80, 90)
    placed = flat._replace(options={**flat.options, "scale": np.ones(2), "translate": np.zeros(2)})
    annotations = read(tmp_path / "a.geojson", outlines_text(layer, placed))
    assert annotations.class_counts == {"Unclassified": 1}
    area = np.count_nonzero(annotations.mask(WINDOW))
    assert area == pytest.approx(600 if kind != "ellipse" else np.pi * 150, rel=0.05)


def test_classes_of_any_shapes_layer_are_drawn_with_renamed_and_joined() -> None:
    layer = Shapes([np.eye(3, 2)], shape_type="polygon")
    assert classes_of(layer) == {"Unclassified": PALETTE[0]}
    draw_with(layer, "Tumor")  # a plan names it
    layer.add(np.eye(3, 2), shape_type="polygon")
    assert list(layer.features[CLASS]) == ["Unclassified", "Tumor"]
    layer.mode = "select"
    layer.selected_data = {0}
    name = add_class(layer)
    draw_with(layer, name)
    assert list(layer.features[CLASS]) == [name, "Tumor"] == ["Class 1", "Tumor"]
    color = classes_of(layer)["Class 1"]
    rename_class(layer, "Tumor", "Class 1")
    assert list(layer.features[CLASS]) == ["Class 1"] * 2
    assert classes_of(layer) == {"Unclassified": PALETTE[0], "Class 1": color}
    red, green, blue = bytes.fromhex(color[1:])
    np.testing.assert_allclose(layer.edge_color[:, :3] * 255, [[red, green, blue]] * 2, atol=1)


def test_values_of_labels_with_classes_are_named() -> None:
    features = {"index": [1, 2, 5], CLASS: ["Nucleus", "", "Debris"]}
    layer = Labels(np.zeros((9, 9), np.uint8), features=features)
    assert label_values(layer) == {"Nucleus": 1, "Debris": 5}
    assert label_values(Labels(np.zeros((9, 9), np.uint8))) == {}
