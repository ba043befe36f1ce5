"""Outlines that stay together, against intervals that overlap."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.annotations import outlines
from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.geojson import read_geojson
from napari_patchset.annotations.outlines import NO_OUTLINE, join_groups, touched_outlines

Box = tuple[int, int, int, int]

boxes = st.lists(
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 12)] * 2).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    max_size=12,
)


def ring(box: Box) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def annotations_of(folder: Path, *polygons: list[list[list[int]]]) -> Annotations:
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": {}}
        for rings in polygons
    ]
    path = folder / "a.geojson"
    path.write_text(json.dumps(features))
    return read_geojson(path)


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("at_once", [3, 1000])
@given(drawn=boxes, patches=boxes)
def test_what_overlaps_or_is_touched_by_one_patch_is_one_group(
    tmp_path_factory: pytest.TempPathFactory, at_once: int, drawn: list[Box], patches: list[Box]
) -> None:
    annotations = annotations_of(tmp_path_factory.mktemp("a"), *([ring(box)] for box in drawn))
    features = [tuple(map(int, bounds)) for bounds in annotations.bounds.tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "_AT_ONCE", at_once)
        found = touched_outlines(annotations, np.array(patches, float).reshape(-1, 4))
    nodes, seen = [*features, *patches], dict[int, int]()
    for start in range(len(nodes)):  # breadth first, from the least number of each group
        waiting = [] if start in seen else [start]
        while waiting:
            node = waiting.pop()
            seen[node] = start
            for other in range(len(nodes)):
                # Patches join outlines, but not each other.
                is_pair = min(node, other) < len(features)
                if is_pair and other not in seen and overlap(nodes[node], nodes[other]):
                    waiting.append(other)
    for i, group in enumerate(found.tolist(), len(features)):
        assert group == (seen[i] if seen[i] < len(features) else NO_OUTLINE)


def test_a_hole_is_outside_and_an_edge_is_not_touched(tmp_path: Path) -> None:
    annotations = annotations_of(
        tmp_path, [ring((0, 0, 50, 50)), ring((10, 10, 40, 40))], [ring((50, 0, 60, 50))]
    )
    patches = [(12, 12, 38, 38), (10, 10, 40, 40), (5, 5, 12, 12), (52, 0, 58, 9), (60, 0, 70, 9)]
    found = touched_outlines(annotations, np.array(patches, float))
    assert found.tolist() == [NO_OUTLINE, NO_OUTLINE, 0, 1, NO_OUTLINE]
    assert touched_outlines(annotations, np.array([*patches, (48, 0, 52, 9)], float)).tolist() == [
        NO_OUTLINE,
        NO_OUTLINE,
        0,
        0,
        NO_OUTLINE,
        0,
    ]
    assert touched_outlines(annotations, np.empty((0, 4))).tolist() == []


def test_a_long_chain_is_one_group() -> None:
    order = np.random.default_rng(0).permutation(5000)
    group = join_groups(np.arange(5000), order[:-1], order[1:])
    assert not group.any()
