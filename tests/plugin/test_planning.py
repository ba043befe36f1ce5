"""The preview has the patches that the export writes: of sets of files, of classes, of outlines."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import Balanced, SourceRef, Split, Tiled, export
from napari_patchset.exporting.plan import Recipe
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.plugin.planning import plan_form
from napari_patchset.plugin.state import FormState
from napari_patchset.stacks.opening import list_scenes
from support.set_makers import SET_KINDS, names_of, write_sets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("kind", SET_KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_a_set_is_counted_once_however_it_is_named(
    kind: str, data: st.DataObject, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As the window names its sources: each file with all of its scenes."""
    out = tmp_path_factory.mktemp("out") / "set.patches.zarr"
    recipe = Recipe(strategy=Tiled(size=(16, 16)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = dict.fromkeys(data.draw(names_of(folder, kind)))
        refs = [source_ref(path, scene.id) for path in named for scene in list_scenes(path)]
        shown = data.draw(st.integers(0, len(refs) - 1))
        planned = plan_form(FormState(tuple(refs), shown, recipe, str(out)))
        with export(FormState(tuple(refs), shown, recipe, str(out)).plan()) as patches:
            assert len(planned.grid) == len(patches["all"])
            assert [info.key for info in planned.sources] == [
                info.key for info in patches.manifest.sources
            ]
        assert planned.shown_source in planned.sources


def write_slide(folder: Path) -> SourceRef:
    """Write an image, labels of it, and outlines at other places."""
    labels = np.zeros((200, 260), np.uint8)
    labels[20:50, 30:60] = 4
    tifffile.imwrite(folder / "a.tif", labels * 9)
    tifffile.imwrite(folder / "labels.tif", labels, tile=(64, 64))
    rings = [[[x, y], [x + 30, y], [x, y + 30], [x, y]] for x in (100, 200) for y in (20, 150)]
    geometries = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    features = [
        {"type": "Feature", "geometry": geometry, "properties": {"name": "Tumor"}}
        for geometry in geometries
    ]
    (folder / "a.geojson").write_text(json.dumps(features))
    return SourceRef(path=folder / "a.tif")


@pytest.mark.parametrize(
    ("pair", "recipe"),
    [
        ("labels", {"strategy": Balanced(size=(16, 16), count=30, classes="4=1,background=1")}),
        (
            "annotations",
            {"strategy": Balanced(size=(16, 16), count=30, classes="Tumor=2,background=1")},
        ),
        ("annotations", {"strategy": Tiled(size=16), "split": Split(val=0.3, by="annotation")}),
    ],
)
def test_classes_and_outlines_are_those_of_the_export(
    tmp_path: Path, pair: str, recipe: dict
) -> None:
    name = {"labels": "labels.tif", "annotations": "a.geojson"}[pair]
    ref = SourceRef(**dict(write_slide(tmp_path)) | {pair: tmp_path / name})
    state = FormState((ref,), 0, Recipe(**recipe), str(tmp_path / "set.patches.zarr"))
    planned = plan_form(state)
    with export(state.plan()) as patches:
        rows = patches.table.to_pylist()
    assert [list(spec.start) for spec in planned.grid] == [
        [row["y_start"], row["x_start"]] for row in rows
    ]
    splits = [planned.verdicts.splits[code] for code in planned.verdicts.split.tolist()]
    assert splits == [row["split"] for row in rows]
    if "split" in recipe:  # without it, the candidates have no outlines
        without = plan_form(FormState((ref,), 0, Recipe(strategy=Tiled(size=16)), state.out))
        again = plan_form(state, without)
        assert again.verdicts.split.tolist() == planned.verdicts.split.tolist()
