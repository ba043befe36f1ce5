"""A plan that is loaded into the form and read from it again, without a viewer.

Every field of every model is set to something else than its default, so that a field which a later
version adds has to be here, and can't be lost.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import BaseModel
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog

from napari_patchset import ExportPlan, SourceRef, export
from napari_patchset.exporting.plans.image_refs import PAIR_ROLES, AnnotationsRef, ImageRef
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.regions import Rectangle
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import STRATEGIES, FixedPatch, Random, Tiled
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patching.verdicts import Override
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.overrides import image_path, remember, source_ref
from napari_patchset.plugin.state import FormState, plan_pairs, with_pairs
from napari_patchset.source import SourceInfo
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import digests
from support.window import Window

STRATEGY = {
    "size": (3, 24, "12.5um"),
    "overlap": (1, 3, "2.5um"),
    "edge": "pad",
    "pad": "constant",
    "small": "skip",
    "count": 7,
    "per": "total",
    "max_overlap": 0.125,
    "seed": 5,
    "classes": {"Tumor, invasive": 0.3, "background": 0.1},
    "patches": (FixedPatch(source="k", scene=1, sample=2, start=(0, 1, 2)),),
    "region": Rectangle(x=1, y=2, w=100, h=90),
    "region_classes": ("Tumor", "Tumor, invasive"),
    "exclude_classes": ("Necrosis",),
    "min_inside": 0.123456789,
    "select": {"T": (1, 3)},
    "min_covered": 0.25,
}
RECIPE = {
    "depth_axis": "Z",
    "channels": (1, 0),
    "pixel_size": "0.123456789,0.2",
    "filters": ("std[EGFP]>p10", "max[all DAPI,EGFP]<9.5", "share[Tumor]>0.2", "mask>0.1"),
    "keep_fraction": 0.123456789,
    "dedupe": 5,
    "overrides": (Override(keep=True, source="k", start=(0, 1, 2)),),
    "split": Split(val=0.123456789, by="annotation", seed=4, test=0.1, stratify="treatment"),
    "dtype": "uint32",
    "codec": "zstd",
}


def all_set(model: BaseModel | None, *apart_from: str) -> None:
    """Check that a model has no field at its default."""
    assert model is not None
    unset = {
        name
        for name, field in type(model).model_fields.items()
        if getattr(model, name) == field.get_default(call_default_factory=True)
    }
    assert unset == {*apart_from}, "set these in the plans of this test"


def strategy_of(kind: str) -> PatchStrategy:
    model = STRATEGIES[kind]
    strategy = model(**{n: value for n, value in STRATEGY.items() if n in model.model_fields})
    all_set(strategy, "kind")
    return strategy


@pytest.fixture
def form(qtbot: QtBot) -> RecipeForm:
    form = RecipeForm()
    qtbot.addWidget(form.more)
    qtbot.addWidget(form.patches.native)
    shape = {"T": 6, "Z": 12, "C": 2, "Y": 300, "X": 400}
    channels = ("DAPI", "EGFP")
    info = SourceInfo(
        key="k", axes="".join(shape), shape=tuple(shape.values()), dtype="uint16",
        channels=channels, pixel_size={"z": 1, "y": 0.1, "x": 0.1},
    )  # fmt: skip
    form.offer(info, [(name, "#ffffff") for name in channels])
    return form


@pytest.mark.parametrize("kind", STRATEGIES)
def test_the_form_keeps_every_field_of_a_recipe(kind: str, form: RecipeForm) -> None:
    recipe = Recipe(strategy=strategy_of(kind), **RECIPE)
    all_set(recipe, "format")
    all_set(recipe.split, "folds")
    form.load(recipe)
    assert form.recipe(recipe.strategy.region) == recipe


def test_the_form_says_what_it_keeps_of_a_strategy_and_forgets_it(form: RecipeForm) -> None:
    title = form.folds["Strategy"].button
    assert not form.strategy.kept.value
    form.load(Recipe(strategy=strategy_of("random"), **RECIPE))
    assert form.strategy.kept.value == "min covered 0.25"
    assert title.text() == "Strategy: random, 1 setting from the plan"
    form.strategy.kind.value = "tiled"  # it is of every strategy
    assert title.text() == "Strategy: tiled, 1 setting from the plan"
    assert form.recipe(None).strategy.min_covered == 0.25
    form.strategy.forget_kept.native.click()
    assert title.text() == "Strategy: tiled"
    assert form.recipe(None).strategy.min_covered != 0.25
    form.load(Recipe(strategy=strategy_of("random"), **RECIPE))
    form.load(Recipe(strategy=Random(size=(8, 8), count=3)))
    assert form.recipe(None).strategy == Random(size=(8, 8), count=3)


def test_classes_of_a_plan_are_listed_and_can_be_allowed_again(form: RecipeForm) -> None:
    form.load(Recipe(strategy=strategy_of("random"), **RECIPE))
    title = form.folds["Annotations"].button.text()
    assert title.startswith("Annotations: only inside Tumor,")
    assert title.endswith("not inside Necrosis")
    tree = form.annotations.list
    names = [tree.topLevelItem(i).text(0) for i in range(tree.topLevelItemCount())]
    assert names == ["Tumor", "Tumor, invasive", "Necrosis"]
    for _ in names:  # each goes with its use: there are no outlines of it
        tree.itemWidget(tree.topLevelItem(0), 2).setCurrentIndex(0)
    assert not form.recipe(None).strategy.named_classes


def test_a_plan_without_an_overlap_has_none_in_the_form(form: RecipeForm) -> None:
    form.load(Recipe(strategy=Tiled(size=(8, 8), overlap=(4, 4))))
    form.load(Recipe(strategy=Tiled(size=(8, 8))))
    assert form.recipe(None).strategy == Tiled(size=(8, 8), overlap=(0, 0))


def test_channels_have_the_order_of_the_plan_until_others_are_ticked(form: RecipeForm) -> None:
    form.load(Recipe(strategy=Tiled(size=(8, 8)), channels=("EGFP", "DAPI"), filters="std[#0]>5"))
    assert form.recipe(None).channels == ("EGFP", "DAPI")
    assert form.folds["Channels"].button.text() == "Channels: EGFP, DAPI"
    assert [str(rule) for rule in form.recipe(None).filters] == ["std[EGFP]>5"]
    form.channels.boxes[0].value = False
    assert form.recipe(None).channels == (1,)


def pairs_of(folder: Path, scene: int) -> dict[str, ImageRef]:
    pixel_size = {"y": 0.2, "x": 0.2}
    own = {"axes": "YX", "pixel_size": pixel_size, "channel_names": ("a",)}
    return {
        "target": ImageRef(path=str(folder / "target.czi"), scene=7, **own),
        "labels": ImageRef(path=str(folder / f"labels@{scene}.tif"), **own),
        "mask": ImageRef(path=str(folder / "mask.zarr"), scene="m"),
        "annotations": AnnotationsRef(
            path=str(folder / f"classes@{scene}.tif"), scene=1, classes={"A": 1, "B": 4}, **own
        ),
    }


@pytest.fixture
def plan(tmp_path: Path) -> ExportPlan:
    own = {"axes": "ZYX", "pixel_size": {"y": 0.1, "x": 0.1}, "channel_names": ("DAPI", "EGFP")}
    own |= {"sequence": "T", "files": (str(tmp_path / "a.czi"), str(tmp_path / "b.czi"))}

    def source_of(scene: int) -> SourceRef:
        pairs, columns = pairs_of(tmp_path, scene), {"animal": f"m{scene}"}
        return SourceRef(path=tmp_path / "a.czi", scene=scene, columns=columns, **own, **pairs)

    sources = [source_of(scene) for scene in (1, 2)]
    for source in sources:
        all_set(source)
        for ref in (source, *source.pairs.values()):
            remember(ref)
    recipe = {"strategy": strategy_of("balanced"), **RECIPE}
    return ExportPlan(sources=sources, out=str(tmp_path / "a.patches.zarr"), **recipe)


def in_window(plan: ExportPlan, *scenes: int) -> tuple[SourceRef, ...]:
    return tuple(source_ref(image_path(plan.sources[0]), scene) for scene in scenes)


def test_a_plan_comes_back_from_form_and_window(plan: ExportPlan, form: RecipeForm) -> None:
    form.load(plan.recipe)
    form.pairs.load(plan_pairs(plan.sources))
    sources = with_pairs(in_window(plan, 1, 2), form.pairs.of_image, plan.sources)
    state = FormState(sources, 0, form.recipe(plan.strategy.region), plan.out)
    assert state.plan() == plan
    assert json.loads(state.plan().model_dump_json()) == json.loads(plan.model_dump_json())


def test_what_is_chosen_in_the_form_takes_the_place_of_the_plan_s(plan: ExportPlan) -> None:
    (image, chosen), *_ = plan_pairs(plan.sources).items()
    changed = {image: {**chosen, "labels": Path("other.tif")}}
    del changed[image]["mask"]
    sources = with_pairs(in_window(plan, 1, 2), changed.__getitem__, plan.sources)
    for own, source in zip(plan.sources, sources, strict=True):
        assert (source.labels, source.mask) == (ImageRef(path="other.tif", axes="ZYX"), None)
        kept = {*PAIR_ROLES, "columns"} - {"labels", "mask"}
        assert all(getattr(source, name) == getattr(own, name) for name in kept)


def test_annotations_and_columns_are_of_their_own_scene_only(plan: ExportPlan) -> None:
    (other,) = with_pairs(in_window(plan, 3), plan_pairs(plan.sources).__getitem__, plan.sources)
    assert (other.annotations, other.columns) == (None, ())
    assert other.pairs.keys() == {"target", "labels", "mask"}


def test_the_window_exports_what_the_command_does(
    window: Window, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi(*(SceneSpec(id=i, rect=(200 * i, 0, 128, 96)) for i in range(3)))
    sources = []
    for scene in (0, 2):
        classes = np.zeros((96, 128), np.uint8)
        classes[:, 10 * scene : 60 + 30 * scene] = 1
        tifffile.imwrite(tmp_path / f"classes@{scene}.tif", classes)
        annotations = AnnotationsRef(path=str(tmp_path / f"classes@{scene}.tif"), classes="1=Tumor")
        columns = {"animal": f"m{scene}"}
        sources.append(SourceRef(path=path, scene=scene, annotations=annotations, columns=columns))
    strategy = Tiled(size=(16, 16), overlap=(0, 0), region_classes="Tumor", min_inside=0.4)
    plan = ExportPlan(
        sources=sources,
        out=tmp_path / "command.patches.zarr",
        strategy=strategy,
        filters="share[Tumor]>0.5",
        split=Split(val=0.5, by="animal"),
    )
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_dump_json())
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.load_plan.trigger()
    window.settle()
    assert window.state.plan() == plan
    box = window.widget.source_control.extra_files.all_scenes
    assert (box.value, box.text) == (False, "All scenes (now 0, 2)")
    window.export_to(tmp_path / "window.patches.zarr").close()
    export(plan).close()
    assert digests(tmp_path / "window.patches.zarr") == digests(tmp_path / "command.patches.zarr")
    window.tick(box.native)
    assert box.text == "All scenes"
    control = window.widget.source_control
    assert [ref.scene for ref in control.sources(control.context)[0]] == [0, 1, 2]
