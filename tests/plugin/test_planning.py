"""The preview has the patches that the export writes: of sets of files, of classes, of outlines."""

import json
import re
import warnings
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import Balanced, SourceRef, Split, Tiled, export
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.patching.verdicts import Override
from napari_patchset.plugin.canvas.summary import border_hint, summarize
from napari_patchset.plugin.export_check import find_problem
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.planning import PlanningWatch, plan_form, score_form
from napari_patchset.plugin.state import FormState
from napari_patchset.stacks.opening import list_scenes
from support.set_makers import SET_KINDS, names_of, write_sets
from support.zarr_maker import write_plate


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


def test_the_size_on_disk_counts_labels(tmp_path: Path) -> None:
    ref, recipe = write_slide(tmp_path), Recipe(strategy=Tiled(size=(20, 20)))
    alone = plan_form(FormState((ref,), 0, recipe))
    assert "<b>130</b> patches, 52 kB" in summarize(alone)
    paired = ref.model_copy(update={"labels": ImageRef(path=str(tmp_path / "labels.tif"))})
    assert "<b>130</b> patches, 104 kB" in summarize(plan_form(FormState((paired,), 0, recipe)))
    packed = recipe.model_copy(update={"codec": "zstd"})
    assert "patches, at most 104 kB" in summarize(plan_form(FormState((paired,), 0, packed)))


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
    watch = PlanningWatch()
    planned = plan_form(state, None, watch)
    assert watch.n_read > 0
    watch.stop()
    with pytest.raises(CancelledError):
        plan_form(state, None, watch)
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


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wells = [f"{row}/{column}" for row in "AB" for column in (1, 2, 3)]
    return write_plate(tmp_path_factory.mktemp("plate") / "plate.zarr", "0.5", wells, 2)


WELLS = st.just("well")
plate_scenes = st.permutations([f"{r}/{c}/{f}" for r in "AB" for c in (1, 2, 3) for f in (0, 1)])
of_wells = st.builds(Split, folds=st.integers(2, 5), test=st.sampled_from([None, 0.2]), by=WELLS)
of_wells |= st.builds(Split, val=st.floats(0.1, 0.4), test=st.sampled_from([None, 0.2]), by=WELLS)


@given(plate_scenes, of_wells, st.integers(6, 12), st.sampled_from("WS"))
def test_wells_and_stated_splits_are_parted_as_by_the_command(
    plate: Path, scenes: list[str], split: Split, n: int, by: str
) -> None:
    names = {"A": "train", "B": "Validation"} if by == "S" else {}
    refs = [
        SourceRef(path=str(plate), scene=scene, columns={"split": names[scene[0]]} if names else {})
        for scene in scenes[:n]
    ]
    split = Split(by="split") if names else split
    state = FormState(tuple(refs), 0, Recipe(strategy=Tiled(size=(10, 10)), split=split))
    headless = describe_sources(state.preview_plan())
    try:
        planned = plan_form(state)
    except ArgumentError as error:  # too few wells, or rows of the plate
        with pytest.raises(ArgumentError, match=re.escape(str(error))):
            split.assign(state.recipe.strategy.plan(headless), headless)
        return
    grid, verdicts = planned.grid, planned.verdicts
    part = split.assign(grid, headless)
    np.testing.assert_array_equal(verdicts.split, split.split_of(part))
    of_part = {(scenes[i][0] if names else scenes[i][:3], code) for i, code in
               zip(grid.source_index.tolist(), part.tolist(), strict=True)}  # fmt: skip
    assert len(of_part) == len({group for group, _ in of_part})


def test_the_split_can_change_to_wells_and_back_without_measuring_again(plate: Path) -> None:
    refs = tuple(SourceRef(path=str(plate), scene=f"A/{i}/0") for i in (1, 2, 3))
    recipe = Recipe(strategy=Tiled(size=(10, 10)), filters="std>p10", split=Split(val=0.3))
    (*_, before) = score_form(plan_form(FormState(refs, 0, recipe)), np.arange(0))
    by_well = recipe.model_copy(update={"split": Split(folds=3, by="well")})
    after = plan_form(FormState(refs, 0, by_well), before)
    assert not after.is_provisional
    assert [source.well for source in after.sources] == ["A1", "A2", "A3"]
    again = plan_form(FormState(refs, 0, recipe), after)
    np.testing.assert_array_equal(again.verdicts.split, before.verdicts.split)
    assert [source.well for source in again.sources] == [None] * 3


def test_the_same_pixels_in_two_stated_splits_are_refused_as_by_the_command(plate: Path) -> None:
    parts = {"A/1/0": "train", "A/2/0": "val"}
    refs = [SourceRef(path=str(plate), scene=s, columns={"split": v}) for s, v in parts.items()]
    refs.append(SourceRef(path=str(plate), scene="A/1/0", columns={"split": "val"}))
    recipe = Recipe(strategy=Tiled(size=(10, 10)), split=Split(by="split"))
    with pytest.raises(ArgumentError, match=r"for train and scene A/1/0 .* have the same pixels"):
        plan_form(FormState(tuple(refs), 0, recipe))


@pytest.mark.parametrize(
    ("columns", "error"),
    [({"split": "train"}, "states the split: split by it"), ({"y_start": "1"}, "as the table")],
)
def test_a_sheet_that_does_not_fit_is_refused_as_by_the_command(
    plate: Path, columns: dict[str, str], error: str
) -> None:
    refs = (SourceRef(path=str(plate), scene="A/1/0", columns=columns),)
    with pytest.raises(ArgumentError, match=error):
        plan_form(FormState(refs, 0, Recipe(strategy=Tiled(size=(10, 10)))))


def test_the_overlap_at_the_border_and_choices_without_a_patch_are_told(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((5, 64, 80), np.uint8), metadata={"axes": "ZYX"})
    ref, depth = SourceRef(path=path), {"depth_axis": "Z"}
    strategy = Tiled(size=(4, 48, 48), overlap=(2, 0, 0))
    planned = plan_form(FormState((ref,), 0, Recipe(strategy=strategy, **depth)))
    assert border_hint(planned) == "Overlap at the border: Z 3 planes, Y 32, X 16 px"
    last = Override.of(planned.grid, len(planned.grid) - 1, planned.sources, keep=False)
    other = last.model_copy(update={"source": "of another file"})
    for start, text in (((1, 16, 32), None), ((0, 5, 5), "1 choice by hand fits no patch now")):
        overrides = (last.model_copy(update={"start": start}), other)
        recipe = Recipe(strategy=strategy, overrides=overrides, **depth)
        lines = summarize(plan_form(FormState((ref,), 0, recipe))).split("<br>")
        told = [i for i, line in enumerate(lines) if "now" in line]
        assert told == ([1] if text else [])  # of many lines, the last are out of sight
        assert not text or lines[1] == f"<b>{text}</b>"


def test_what_rejects_all_patches_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.arange(256 * 256, dtype=np.uint16).reshape(256, 256))
    ref, strategy = SourceRef(path=path), Tiled(size=(8, 8))

    def planned(**fields: Any) -> PlanPreview:
        recipe = Recipe(strategy=strategy, **fields)
        state = FormState((ref,), 0, recipe, str(tmp_path / "a.patches.zarr"))
        *_, last = plan_form(state), *score_form(plan_form(state), np.arange(4))
        return last

    every = planned()
    by_hand = tuple(
        Override.of(every.grid, row, every.sources, keep=False) for row in range(len(every.grid))
    )
    assert find_problem(every) == ""
    problem = "No patch is left (rejected: 1,024 by hand). "
    remedy = "Keep some of those that are rejected by hand."
    assert find_problem(planned(overrides=by_hand)) == problem + remedy
    both = planned(overrides=by_hand[:24], filters=["std>1e9"])
    assert find_problem(both) == (
        "No patch is left (rejected: 1,000 by contrast > 1e+09, 24 by hand). "
        "Loosen the filters, or keep some of those that are rejected by hand."
    )
    one_left = planned(overrides=by_hand[1:])
    assert "1,023&nbsp;rejected&nbsp;(>99%)" in summarize(one_left)
    assert find_problem(one_left) == ""


def test_a_name_without_the_suffix_is_refused_in_words_of_the_window(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    state = FormState((SourceRef(path=path),), 0, Recipe(strategy=Tiled(size=(8, 8))), "bla")
    problem = find_problem(plan_form(state))
    assert "bla" in problem
    assert "ExportPlan" not in problem


def test_places_that_are_left_out_are_more_only_where_there_are_patches(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    planned = plan_form(FormState((SourceRef(path=path),), 0, Recipe(strategy=Tiled(size=(8, 8)))))
    for n, text in ((4, "40 more places in the image"), (0, "40 places in the image")):
        some = replace(
            planned,
            grid=replace(planned.grid[:n], excluded={"missing plane": 40}),
            verdicts=planned.verdicts[:n],
            category=planned.category[:n],
            scored=planned.scored[:n],
        )
        assert f"{text} excluded: missing plane" in summarize(some)
