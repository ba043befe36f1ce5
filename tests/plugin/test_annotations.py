"""Annotations of a saved plan in the window's planning: candidates, shares, errors."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import Balanced, ExportPlan, SourceRef, Split, Tiled, export
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.verdicts import Override
from napari_patchset.plugin.canvas.summary import summarize
from napari_patchset.plugin.captions import metric_lines, patch_lines
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.plugin.planning import known_metrics, plan_form, score_form
from napari_patchset.plugin.state import FormState, plan_pairs, with_pairs
from napari_patchset.preview.categories import PatchCategory
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.preview.raster import rasterize

RING = [[5, 4], [50, 8], [44, 52], [9, 45], [5, 4]]
OUTLINE = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [RING]},
    "properties": {"classification": {"name": "Tumor"}},
}


@pytest.fixture
def plan(tmp_path: Path) -> ExportPlan:
    pixels = np.random.default_rng(0).integers(0, 99, (60, 80), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    (tmp_path / "a.geojson").write_text(json.dumps([OUTLINE]))
    source = SourceRef(
        path=tmp_path / "a.tif", annotations=tmp_path / "a.geojson", labels="annotations"
    )
    strategy = Tiled(size=(10, 10), region_classes="Tumor", min_inside=0.2)
    out = tmp_path / "a.patches.zarr"
    return ExportPlan(sources=source, out=out, strategy=strategy, filters="share[Tumor]>0.6")


def planned(plan: ExportPlan, **fields: object) -> PlanPreview:
    pairs = plan_pairs(plan.sources)
    alone = (SourceRef(path=plan.sources[0].path),)
    sources = with_pairs(alone, pairs.__getitem__, plan.sources)
    recipe = plan.recipe.model_copy(update=fields)
    return plan_form(FormState(sources, 0, recipe), None)


def test_the_preview_plans_and_measures_as_the_export(plan: ExportPlan) -> None:
    preview = planned(plan)
    *_, preview = score_form(preview, np.arange(len(preview.grid)))
    with closing(export(plan)) as made:
        rows = made.table.to_pylist()
    assert preview.grid.start.tolist() == [[row["y_start"], row["x_start"]] for row in rows]
    shares = preview.verdicts.metrics["share_Tumor"].tolist()
    assert shares == [row["share_Tumor"] for row in rows]
    assert preview.verdicts.kept.tolist() == [row["kept"] for row in rows]
    assert 0 < preview.verdicts.kept.sum() < len(rows)


def test_a_class_that_is_not_there_is_named_at_once(plan: ExportPlan) -> None:
    strategy = plan.strategy.model_copy(update={"region_classes": ("Tumour",)})
    with pytest.raises(ArgumentError, match="no class 'Tumour'; the annotations have Tumor"):
        planned(plan, strategy=strategy)


def test_shares_are_measured_without_a_filter_and_the_card_has_them(plan: ExportPlan) -> None:
    plan = plan.model_copy(update={"filters": ()})
    preview = planned(plan)
    assert not preview.is_provisional
    assert not preview.is_measured
    *_, preview = score_form(preview, np.arange(3))
    assert preview.is_measured
    with closing(export(plan)) as made:
        shares = made.table["share_Tumor"].to_pylist()
    assert preview.verdicts.metrics["share_Tumor"].tolist() == shares
    assert f"Tumor {shares[2]:.1%}" in patch_lines(preview, 2)
    assert metric_lines({"std": 2.5, "share_A": 0.0, "share_B, C": 0.25, "share_D": 0.5}) == [
        "contrast 2.5",
        "D 50.0%, B, C 25.0%",
    ]
    assert metric_lines({"share_A": 0.0, "share_B": np.nan}) == ["of no class"]
    assert known_metrics(preview)
    path = Path(plan.sources[0].annotations.path)
    path.write_text(path.read_text().replace("44, 52", "44, 40"))
    assert not known_metrics(preview)


def test_patches_are_drawn_in_the_colour_of_their_class(plan: ExportPlan) -> None:
    preview = planned(plan, filters=())
    assert preview.drawn.category is preview.category
    *_, preview = score_form(preview, np.arange(3))
    state = replace(preview.state, class_colors=(("Tumor", "#c80000"),))
    by_class = plan_form(state, preview)
    assert by_class.verdicts is preview.verdicts
    category, colors = by_class.drawn
    shares = by_class.verdicts.metrics["share_Tumor"]
    assert (np.array(colors)[category] == "#c80000").tolist() == (shares > 0).tolist()
    reject = Override.of(preview.grid, 1, preview.sources, False)
    state = replace(state, recipe=state.recipe.model_copy(update={"overrides": (reject,)}))
    category, colors = plan_form(state, by_class).drawn
    assert category[1] == PatchCategory.REJECTED
    patches = PlanePatches.from_grid(preview.grid, category, 0, 0)
    raster = rasterize(patches, (10, 10), colors)
    cells = raster.picture[raster.covered]
    assert {tuple(cell[:3]) for cell in cells if cell[3]} == {(200, 0, 0), (255, 69, 58)}


def test_a_class_that_a_split_has_no_patch_of_is_told(plan: ExportPlan) -> None:
    strategy = Balanced(size=(10, 10), count=20, classes="Tumor=19,background=1")
    split = Split(val=0.3, by="block")
    preview = planned(plan, strategy=strategy, filters=(), split=split)
    verdicts, draws = preview.verdicts, preview.grid.draws
    assert draws is not None
    names, code = list(draws.weights), draws.code
    lines = [line for line in summarize(preview).split("<br>") if line.startswith("No patch in")]
    expected = []
    for i, name in enumerate(verdicts.splits):
        lacks = set(range(2)) - set(code[verdicts.kept & (verdicts.split == i)].tolist())
        expected += [f"No patch in {name} is drawn for {names[j]}" for j in lacks]
    assert lines == expected
    assert len(lines) == 1
