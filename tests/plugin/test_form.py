"""The form without a window: what is set in it, what it remembers, and what an image limits."""

import re
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from pytestqt.qtbot import QtBot
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QLabel, QRadioButton, QWidget

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.lengths import Length, Micrometres
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import Balanced, Random, Stratified, Tiled, Whole
from napari_patchset.plugin.canvas.summary import size_hint
from napari_patchset.plugin.export_control import time_left
from napari_patchset.plugin.form.export_section import ExportSection
from napari_patchset.plugin.form.fields import Fold
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.form.numbers import Percent
from napari_patchset.plugin.form.size_row import LengthBox
from napari_patchset.plugin.form.source_section import PairsSection
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.source import PixelSize, SourceInfo

IMAGE = {"T": 6, "Z": 12, "C": 2, "Y": 300, "X": 400}
TINY = {"T": 3, "Z": 1, "C": 2, "Y": 38, "X": 20}


def describe(channels: tuple[str, ...] = ("DAPI", "EGFP"), **sizes: int) -> SourceInfo:
    sizes["C"] = len(channels)
    return SourceInfo(
        key="k", axes="".join(sizes), shape=(*sizes.values(),), dtype="uint16", channels=channels
    )


def show(form: RecipeForm, *channels: str, **sizes: int) -> None:
    """Show an image to the form."""
    info = describe(channels or ("DAPI", "EGFP"), **(sizes or IMAGE))
    form.offer(info, [(name, "#ffffff") for name in info.channels])


@pytest.fixture
def form(qtbot: QtBot) -> RecipeForm:
    form = RecipeForm()
    qtbot.addWidget(form.more)
    qtbot.addWidget(form.patches.native)
    show(form)
    return form


def strategy(form: RecipeForm) -> object:
    return form.recipe(None).strategy


def type_into(qtbot: QtBot, box: LengthBox, text: object) -> None:
    """Replace the text of a field with the keyboard, and press Enter."""
    box.selectAll()
    qtbot.keyClick(box, Qt.Key.Key_Delete)
    qtbot.keyClicks(box, str(text))
    qtbot.keyClick(box, Qt.Key.Key_Return)


def test_a_newcomer_sees_little_and_the_rest_is_folded_away(form: RecipeForm) -> None:
    form.more.show()
    assert not any(fold.isVisible() for fold in form.folds.values())
    form.more.open()
    assert all(fold.isVisible() for fold in form.folds.values())
    assert form.folds["Strategy"].button.text() == "Strategy: tiled"
    assert not form.strategy.edge.native.isVisible()
    form.folds["Strategy"].open()
    assert form.strategy.edge.native.isVisible()
    assert not form.strategy.seed.visible


def test_what_is_folded_is_no_part_of_the_window_and_goes_with_it(qtbot: QtBot) -> None:
    never, once = Fold("a", QLabel("b")), Fold("c", QLabel("d"))
    panel = QWidget()
    for fold in (never, once):
        fold.setParent(panel)
    once.open()
    once.open(False)
    assert (never.content.parent(), once.content.parent()) == (None, once)
    panel.deleteLater()
    qtbot.waitUntil(lambda: not (isalive(never.content) or isalive(once.content)))


def test_classes_of_a_former_image_are_not_asked_for_and_come_back_with_it(
    form: RecipeForm,
) -> None:
    section, (a, b, c, d) = form.strategy, map(Path, "abcd")
    section.turn_to(a, is_alone=True)
    section.offer_classes(["Tumor", "Nest"])
    section.classes.value = "Tumor=3,Nest=1"
    section.turn_to(b, is_alone=True)
    assert section.classes.value == "Tumor=3,Nest=1"  # until its own are known
    section.offer_classes([])
    section.offer_classes(["Nest", "Stroma"])
    assert section.classes.value == "Nest=1.0"
    section.offer_classes(["Nests", "Stroma"])  # renamed: as the user goes on
    assert section.classes.value == "Nest=1.0"
    section.turn_to(c, is_alone=True)
    section.offer_classes(["Artefact, big"])
    assert section.classes.value == '"Artefact, big"=1,background=1'
    section.turn_to(a, is_alone=True)
    section.offer_classes(["Tumor", "Nest"])
    assert section.classes.value == "Tumor=3,Nest=1"
    section.turn_to(d, is_alone=False)  # the others of the set may have them
    section.offer_classes(["Stroma"])
    assert section.classes.value == "Tumor=3,Nest=1"


def test_every_strategy_has_its_fields(form: RecipeForm) -> None:
    section = form.strategy
    section.kind.value = "random"
    section.n_patches.value, section.max_overlap.value, section.seed.value = 5, 50, 7
    random = Random(size=(64, 64), count=5, max_overlap=0.5, seed=7)
    assert strategy(form) == random
    section.kind.value = "stratified"
    assert strategy(form) == Stratified(size=(64, 64), seed=7)
    section.kind.value, section.classes.value = "balanced", "3=1,0=2"
    assert strategy(form) == Balanced(size=(64, 64), count=5, classes="3=1,0=2", seed=7)
    section.kind.value = "whole"
    assert strategy(form) == Whole()
    section.kind.value, section.small.value = "tiled", "pad"
    assert strategy(form) == Tiled(size=(64, 64), overlap=(0, 0), small="pad")


def test_a_recipe_that_is_loaded_is_the_form_s(form: RecipeForm) -> None:
    recipe = Recipe(
        strategy=Random(size=(3, 24, 24), count=5, select={"T": (1, 3)}),
        depth_axis="Z",
        channels=(1,),
        filters=tuple(map(parse_filter, ("std[EGFP]>p10", "std[all EGFP]>5"))),
        keep_fraction=0.125,
        split=Split(val=0.2, by="scene"),
        format="npz",
    )
    form.load(recipe)
    assert form.recipe(None) == recipe
    show(form)
    assert form.recipe(None) == recipe


def test_channels_are_left_out_by_name(form: RecipeForm) -> None:
    dapi, egfp = form.channels.boxes
    dapi.value = False
    assert form.recipe(None).channels == (1,)
    assert form.folds["Channels"].button.text() == "Channels: EGFP"
    egfp.value = False
    with pytest.raises(ArgumentError, match=r"Channels: No channel is ticked"):
        form.recipe(None)


def test_a_channel_that_was_unticked_stays_so_whatever_was_shown_between(form: RecipeForm) -> None:
    form.channels.boxes[0].value = False
    show(form, "Brightfield")
    assert form.recipe(None).channels is None
    show(form)
    assert form.recipe(None).channels == (1,)


def test_a_channel_that_is_left_out_of_another_image_too_is_named(form: RecipeForm) -> None:
    form.turn_to(Path("first.czi"), is_alone=True)
    form.channels.boxes[0].value = False
    assert form.notices == []
    form.turn_to(Path("second.czi"), is_alone=True)
    show(form)
    assert form.notices == ["Not exported, as in the image before: DAPI"]
    form.channels.boxes[0].value = True
    assert form.notices == []
    form.channels.boxes[0].value = False
    assert form.notices == []


def test_filters_are_chosen_or_typed(qtbot: QtBot, form: RecipeForm) -> None:
    filters = form.filters
    filters.add.native.click()
    assert [str(rule) for rule in form.recipe(None).filters] == ["std[DAPI]>p10"]
    qtbot.keyClicks(filters.text.native, "max[DAPI]<otsu\r")
    assert [str(rule) for rule in form.recipe(None).filters] == ["std[DAPI]>p10", "max[DAPI]<otsu"]
    assert form.folds["Filters"].button.text() == (
        "Filters: contrast of DAPI > p10, brightest pixel of DAPI < otsu"
    )
    for _ in range(2):
        filters.rows[0].remove_button.native.click()
    assert form.recipe(None).filters == ()


def test_a_limit_is_set_in_choices_and_in_text(form: RecipeForm) -> None:
    filters = form.filters
    filters.add.native.click()
    filters.rows[0].histogram.chosen.emit("above", 12.5)
    filters.text.value = "5<std[DAPI]<100"
    filters.text.native.returnPressed.emit()
    filters.rows[1].histogram.chosen.emit("below", "otsu")
    filters.rows[1].histogram.chosen.emit("above", 1e6)
    assert recipe_filters(form) == ["std[DAPI]>12.5", "1000000<std[DAPI]<otsu"]
    filters.rows[1].limit.value = "nothing"
    filters.rows[1].histogram.chosen.emit("above", 3)
    assert filters.rows[1].text == "nothing"


def test_near_duplicates_are_chosen_and_loaded(form: RecipeForm) -> None:
    assert form.recipe(None).dedupe is None
    form.filters.alike.value = 4
    recipe = form.recipe(None)
    assert recipe.dedupe == 4
    assert form.folds["Filters"].button.text() == "Filters: no near-duplicates"
    for distance in (7, None, 0):
        form.load(recipe.model_copy(update={"dedupe": distance}))
        assert form.recipe(None).dedupe == distance


def test_a_filter_on_a_channel_that_the_next_image_lacks_is_named_and_stays(
    form: RecipeForm,
) -> None:
    form.filters.add.native.click()
    (row,) = form.filters.rows
    row.channel.value = "EGFP"
    show(form, "DAPI", "mCherry")
    with pytest.raises(ArgumentError, match=r"Filters: There is no channel 'EGFP'.*mCherry"):
        form.recipe(None)
    assert row.channel.current_choice == "EGFP (not in this image)"
    show(form)
    assert [str(rule) for rule in form.recipe(None).filters] == ["std[EGFP]>p10"]
    assert [name for name, _ in row._channel_choices(None)] == ["any", "DAPI", "EGFP"]


def test_a_filter_that_is_carried_to_another_channel_says_so(form: RecipeForm) -> None:
    form.filters.offer(["DAPI", "GFP"])
    form.filters.add.changed.emit(True)
    (row,) = form.filters.rows
    assert form.filters.notices == []
    form.filters.offer(["Channel 0", "Channel 1"])
    assert form.filters.notices == [
        "The filter of contrast measures Channel 0 here: this image has no DAPI"
    ]
    form.filters.offer(["Channel 0", "Channel 1"], [0])
    assert form.filters.notices
    row.channel.value = "Channel 1"
    assert form.filters.notices == []


def test_the_channel_of_a_new_filter_is_one_of_the_image_until_another_is_chosen(
    form: RecipeForm,
) -> None:
    """Any channel, of which one is enough, had rejected nothing of an RGB image."""
    form.filters.add.native.click()
    assert recipe_filters(form) == ["std[DAPI]>p10"]
    show(form, "red", "green", "blue")
    assert recipe_filters(form) == ["std[red]>p10"]
    show(form, "Brightfield")
    assert recipe_filters(form) == ["std>p10"]


def test_each_new_filter_measures_what_none_measures_yet(form: RecipeForm) -> None:
    for _ in range(3):
        form.filters.add.changed.emit(True)
    kinds = [each.kind for each in form.filters.value]
    assert kinds == ["std", "mean", "max"]
    form.filters.rows[0].kind.value = "focus"
    form.filters.add.changed.emit(True)
    assert form.filters.value[-1].kind == "std"


def test_numbers_with_a_decimal_comma_are_read_as_they_are_meant(
    qtbot: QtBot, form: RecipeForm
) -> None:
    type_into(qtbot, form.patches.size.boxes[1], "12,5 um")
    assert form.patches.size.boxes[1].text() == "12.5 µm"
    form.filters.add.changed.emit(True)
    form.filters.rows[0].limit.value = "2,5"
    assert form.filters.value[0].above == 2.5
    for text, size, words in (
        ("1,5", PixelSize(y=1.5, x=1.5), "1.5 µm"),
        ("1,5 µm", PixelSize(y=1.5, x=1.5), "1.5 µm"),
        ("1, 5", PixelSize(y=1, x=5), "Y 1, X 5 µm"),
        ("0,2; 0,5", PixelSize(y=0.2, x=0.5), "Y 0.2, X 0.5 µm"),
        ("0.2,0.5", PixelSize(y=0.2, x=0.5), "Y 0.2, X 0.5 µm"),
        ("2,3,3", PixelSize(z=2, y=3, x=3), "Z 2, Y 3, X 3 µm"),
        ("1e-05,2e-05", PixelSize(y=1e-5, x=2e-5), "Y 1e-05, X 2e-05 µm"),  # as a plan is loaded
        ("1,5e-05", PixelSize(y=1.5e-5, x=1.5e-5), "1.5e-05 µm"),
    ):
        form.pixel_size.size.value = text
        assert form.pixel_size.value == size
        assert form.folds["Pixel size"].button.text() == f"Pixel size: {words}"
    with pytest.raises(ArgumentError, match="decimals have a point"):
        parse_filter("std>2,5")


def test_a_filter_may_measure_a_channel_that_is_not_ticked(form: RecipeForm) -> None:
    form.filters.add.native.click()
    form.filters.rows[0].channel.value = "EGFP"
    form.channels.boxes[1].value = False
    recipe = form.recipe(None)
    assert recipe.read_channels(["DAPI", "EGFP"]) == ([0], [1])


def test_a_split_is_there_once_it_has_a_share(form: RecipeForm) -> None:
    assert form.recipe(None).split is None
    assert not form.split.by.visible
    form.split.val.value = 25
    assert form.recipe(None).split == Split(val=0.25)
    assert form.folds["Split"].button.text() == "Split: 25 % for validation"


def test_a_tiny_image_limits_the_size_for_itself_alone(form: RecipeForm) -> None:
    form.patches.overlap.load((32, 32))
    show(form, **TINY)
    assert strategy(form) == Tiled(size=(32, 16), overlap=(16, 8))
    hint = (
        "Y is 32 here, a power of two: the image has only 38 px along Y.<br>"
        "X is 16 here, a power of two: the image has only 20 px along X."
    )
    assert form.patches.hint.value == hint
    show(form)
    assert strategy(form) == Tiled(size=(64, 64), overlap=(32, 32))
    assert form.patches.hint.value == ""


def test_what_is_typed_is_remembered(qtbot: QtBot, form: RecipeForm) -> None:
    type_into(qtbot, form.patches.size.boxes[1], 48)
    show(form, **TINY)
    assert form.patches.size.value == (32, 16)
    type_into(qtbot, form.patches.size.boxes[2], 12)
    show(form)
    assert form.patches.size.value == (48, 12)


def test_a_size_that_fits_is_not_changed(form: RecipeForm) -> None:
    form.patches.size.load((100, 200))
    show(form, **{**TINY, "Y": 120, "X": 210})
    assert strategy(form) == Tiled(size=(100, 200), overlap=(0, 0))


def test_a_size_that_is_typed_too_large_stands_and_is_for_the_plan_to_refuse(
    qtbot: QtBot, form: RecipeForm
) -> None:
    type_into(qtbot, form.patches.size.boxes[1], 500)
    type_into(qtbot, form.patches.size.boxes[2], 64)
    show(form)  # as after a layer was moved
    form.patches.depth_axis.value = "Z"
    assert form.patches.size.value == (8, 500, 64)


def test_that_an_image_lacks_the_depth_axis_hides_no_limit(form: RecipeForm) -> None:
    form.patches.depth_axis.value = "Z"
    show(form, **{**TINY, "Z": 1, "T": 1, "Y": 10, "X": 10})
    assert form.patches.hint.value == (
        "This image has no Z: 2-D patches.<br>"
        "Y and X are 8 here, a power of two: the image has only 10 × 10 px."
    )


def test_from_z_to_t_the_depth_fits(form: RecipeForm) -> None:
    form.patches.depth_axis.value = "Z"
    assert strategy(form) == Tiled(size=(8, 64, 64), overlap=(0, 0, 0))
    form.patches.depth_axis.value = "T"
    assert strategy(form) == Tiled(size=(4, 64, 64), overlap=(0, 0, 0))
    assert (
        form.patches.hint.value == "T is 4 here, a power of two: the image has only 6 time points."
    )
    form.patches.depth_axis.value = "Z"
    assert form.patches.size.value == (8, 64, 64)


def test_a_depth_axis_comes_back_with_the_next_image_that_has_it(form: RecipeForm) -> None:
    form.patches.depth_axis.value = "Z"
    show(form, Y=300, X=400)
    assert form.recipe(None).depth_axis == "none"
    assert form.patches.hint.value == "This image has no Z: 2-D patches."
    show(form)
    assert form.recipe(None).depth_axis == "Z"
    assert form.patches.size.value == (8, 64, 64)


def test_a_depth_axis_that_the_image_lacks_is_disabled_and_says_why(form: RecipeForm) -> None:
    show(form, T=3, Y=64, X=64)
    buttons = form.patches.depth_axis.native.findChildren(QRadioButton)
    assert {b.text(): (b.isEnabled(), b.toolTip()) for b in buttons} == {
        "none": (True, ""),
        "T": (True, ""),
        "Z": (False, "The image has only one plane along Z."),
    }


def test_ranges_are_typed_and_limited_to_what_the_next_image_has(form: RecipeForm) -> None:
    rows = form.region.rows
    assert list(rows) == ["T", "Z"]
    rows["T"].last.value, rows["Z"].first.value = 3, 4
    assert form.region.select == {"T": (0, 4), "Z": (4, 12)}
    assert form.folds["Region"].button.text() == "Region: T 0 to 3, Z 4 to 11"
    show(form, **{**IMAGE, "T": 2, "Z": 6})
    assert form.region.select == {"Z": (4, 6)}
    show(form)
    assert form.region.select == {"T": (0, 4), "Z": (4, 12)}


def test_a_target_belongs_to_the_image_that_it_was_chosen_for(qtbot: QtBot) -> None:
    section, (one, two, clean) = PairsSection(), map(Path, ("one.czi", "two.czi", "clean.czi"))
    qtbot.addWidget(section.native)
    section.offer(one, [two, clean])
    section.boxes["target"].value = clean
    assert section.value == {"target": clean}
    section.offer(two, [one, clean])
    assert (section.value, section.boxes["target"].value) == ({}, None)
    assert section.of_image(one) == {"target": clean}
    section.offer(one, [two, clean])
    assert section.boxes["target"].value == clean


def test_a_layer_that_is_removed_is_no_longer_chosen(qtbot: QtBot) -> None:
    section, image = PairsSection(), Path("image.czi")
    qtbot.addWidget(section.native)
    labels = Labels(np.zeros((4, 4), np.uint8))  # something still holds it, as napari's undo does
    heard: list[object] = []
    section.changed.connect(heard.append)
    section.offer(image, [register_layer(labels)])
    section.boxes["labels"].value = register_layer(labels)
    heard.clear()
    section.offer(image, [])
    assert section.value == {}
    assert section.boxes["labels"].value is None
    assert register_layer(labels) not in section.boxes["labels"].choices
    assert heard


def test_a_file_that_was_chosen_stays_though_it_is_not_open(qtbot: QtBot) -> None:
    section, image, target = PairsSection(), Path("image.czi"), Path("clean.czi")
    qtbot.addWidget(section.native)
    section.offer(image, [])
    section.load({image: {"target": target}})
    section.offer(image, [])
    assert section.boxes["target"].value == target


def test_a_size_is_said_in_micrometres_and_an_odd_one_in_words() -> None:
    info = describe(Y=64, X=96).model_copy(update={"pixel_size": PixelSize(z=1, y=0.5, x=0.5)})
    assert size_hint((32, 16), info) == "16.0 × 8.0 µm"
    assert "12 is not a multiple of 8" in size_hint((16, 12), info)
    assert size_hint((8, 8), describe(Y=64, X=96)) == ""
    coarse = info.model_copy(update={"pixel_size": PixelSize(y=1.6, x=1.6)})
    typed = (Micrometres("12.5um"), Micrometres("12.8um"))
    assert size_hint((8, 8), coarse, typed) == "12.8 × 12.8 µm<br>12.5 µm = 8 px (12.8 µm)"


@pytest.mark.parametrize(
    ("done", "left", "seconds", "said"),
    [(100, 900, 2, "50 patches/s, 0:18 left"), (10, 7200, 1, "10 patches/s, 12:00 left")],
)
def test_the_time_left_follows_from_the_rate(
    done: int, left: int, seconds: float, said: str
) -> None:
    assert time_left(done, left, seconds) == said
    assert time_left(0, left, seconds) == ""


def recipe_filters(form: RecipeForm) -> list[str]:
    return [str(rule) for rule in form.recipe(None).filters]


NAMES = ("405", "DAPI", "DAPI", "Alexa 488, em 520", "1", "CD8 [Opal 570]")


def test_a_filter_chooses_any_channel_whatever_its_name(form: RecipeForm) -> None:
    show(form, *NAMES)
    form.filters.add.native.click()
    (row,) = form.filters.rows
    offered = dict(row._channel_choices(None))
    assert list(offered) == ["any", "405", "DAPI 1", "DAPI 2", *NAMES[3:]]
    for index, label in enumerate(list(offered)[1:]):
        row.channel.value = offered[label]
        (rule,) = form.recipe(None).filters
        assert list(rule.columns(NAMES)) == [index]


def test_equal_names_are_counted_among_the_exported_channels(form: RecipeForm) -> None:
    show(form, *NAMES)
    form.filters.add.native.click()
    (row,) = form.filters.rows
    row.channel.value = 2
    assert recipe_filters(form) == ["std[2]>p10"]
    form.channels.boxes[0].value = False
    assert recipe_filters(form) == ["std[1]>p10"]
    loaded = form.recipe(None)
    show(form)
    assert row._absent == 2
    with pytest.raises(ArgumentError, match=r"Filters: There is no channel"):
        form.recipe(None)
    show(form, *NAMES)
    form.load(loaded)
    assert form.filters.rows[0].channel.value == 2
    assert recipe_filters(form) == ["std[1]>p10"]


def test_a_number_that_is_an_index_and_another_channel_is_refused(form: RecipeForm) -> None:
    show(form, *NAMES)
    form.filters.text.value = "std[1]>p10"
    form.filters.text.native.returnPressed.emit()
    with pytest.raises(ArgumentError, match="1 is the index of channel 'DAPI', and the name"):
        form.recipe(None)
    form.filters.rows[0].remove_button.native.click()
    for text, shown in {"std[405]>p10": "405", "std[#4]>p10": "1", 'std["1"]>p10': "1"}.items():
        form.filters.text.value = text
        form.filters.text.native.returnPressed.emit()
        (row,) = form.filters.rows
        assert row.channel.value == shown
        row.remove_button.native.click()


def test_channels_are_loaded_by_index_or_by_a_name_that_is_a_number(form: RecipeForm) -> None:
    show(form, *NAMES)
    form.load(Recipe(strategy=Tiled(size=(64, 64)), channels=(405, "CD8 [Opal 570]", 2)))
    assert form.channels.ticked == [0, 5, 2]


def show_calibrated(form: RecipeForm, pixel_size: float = 0.5) -> None:
    size = PixelSize(y=pixel_size, x=pixel_size)
    info = describe(Y=300, X=400).model_copy(update={"pixel_size": size})
    form.offer(info, [("DAPI", "#ffffff"), ("EGFP", "#ffffff")])


def test_patches_are_resampled_to_a_pixel_size(form: RecipeForm) -> None:
    assert form.recipe(None).pixel_size is None
    assert form.folds["Pixel size"].button.text() == "Pixel size: as in the file"
    form.pixel_size.size.value = "0.5"
    form.pixel_size.unit.value = "µm"
    assert form.recipe(None).pixel_size == PixelSize(y=0.5, x=0.5)
    assert form.folds["Pixel size"].button.text() == "Pixel size: 0.5 µm, sizes in µm"
    form.pixel_size.size.value = "half"
    with pytest.raises(ArgumentError, match="Pixel size: 'half' is not a pixel size"):
        form.recipe(None)


@pytest.mark.parametrize(
    ("unit", "text", "size", "shown"),
    [
        ("px", "96", 96, "96"),
        ("px", " 96 px", 96, "96"),
        ("px", "32um", "32um", "32 µm"),
        ("px", "0.05 mm", "50um", "50 µm"),
        ("px", "12.50 µm", "12.5um", "12.5 µm"),
        ("px", "12,5 µm", "12.5um", "12.5 µm"),
        ("µm", "12.5", "12.5um", "12.5 µm"),
        ("µm", "12.5 µm", "12.5um", "12.5 µm"),
        ("µm", "500 nm", "0.5um", "0.5 µm"),
        ("µm", "96px", 96, "96 px"),
    ],
)
def test_a_unit_that_is_typed_is_meant(
    form: RecipeForm, qtbot: QtBot, unit: str, text: str, size: object, shown: str
) -> None:
    show_calibrated(form)
    form.pixel_size.unit.value = unit
    box = form.patches.size.boxes[1]
    type_into(qtbot, box, text)
    assert form.recipe(None).strategy.size[0] == size
    assert box.text() == shown
    show_calibrated(form, 0.4)  # nothing of it is lost with the next image
    assert form.recipe(None).strategy.size[0] == size


@pytest.mark.parametrize("text", ["12.5", "12,5,1 µm", "1,024", "64 p", "-8", "", "<b>", "0"])
def test_text_that_is_no_length_is_refused_in_place_and_stays(
    form: RecipeForm, qtbot: QtBot, text: str
) -> None:
    heard: list[object] = []
    box = form.patches.size.boxes[1]
    type_into(qtbot, box, "48")
    type_into(qtbot, form.patches.size.boxes[2], "80")
    form.changed.connect(lambda: heard.append(None))
    type_into(qtbot, box, text)
    assert heard
    assert box.text() == text
    with pytest.raises(ArgumentError, match="Size: "):
        form.recipe(None)
    assert form.patches.hint.value == ""  # the summary has the error, once
    show(form, **TINY)
    assert box.text() == text
    type_into(qtbot, box, "32 px")
    assert form.patches.hint.value == ""  # a size was typed
    assert form.recipe(None).strategy.size == (32, 16)


def test_what_is_still_being_typed_is_neither_planned_nor_refused(
    form: RecipeForm, qtbot: QtBot
) -> None:
    planned: list[object] = []
    form.changed.connect(lambda: planned.append(form.recipe(None).strategy.size))
    _, y, x = form.patches.size.boxes
    y.selectAll()
    qtbot.keyClicks(y, "12.5 um")
    assert not planned
    assert x.text() == "64"  # and not 12, which was passed on the way
    qtbot.waitUntil(lambda: bool(planned))  # until typing has paused
    assert planned == [("12.5um", "12.5um")]
    y.editingFinished.emit()
    assert len(planned) == 1


def test_an_export_takes_what_is_still_being_typed(form: RecipeForm, qtbot: QtBot) -> None:
    y = form.patches.size.boxes[1]
    y.selectAll()
    qtbot.keyClicks(y, "32")
    form.patches.judge()
    assert form.patches.size.value == (32, 32)


def test_half_a_length_is_refused_once_typing_pauses(form: RecipeForm, qtbot: QtBot) -> None:
    heard: list[object] = []
    form.changed.connect(lambda: heard.append(None))
    _, y, x = form.patches.size.boxes
    y.selectAll()
    qtbot.keyClicks(y, "12.")
    assert not heard
    qtbot.waitUntil(lambda: bool(heard))
    assert (y.text(), x.text()) == ("12.", "64")
    with pytest.raises(ArgumentError, match=r"'12\.' is not a length"):
        form.recipe(None)


def test_a_limit_is_named_until_a_size_is_typed(form: RecipeForm, qtbot: QtBot) -> None:
    show(form, **{**TINY, "Z": 3, "Y": 64, "X": 64})
    form.patches.depth_axis.value = "Z"
    assert form.patches.hint.value == "Z is 2 here, a power of two: the image has only 3 planes."
    type_into(qtbot, form.patches.size.boxes[1], 500)
    assert form.patches.hint.value == ""


def test_lengths_are_converted_with_the_unit(form: RecipeForm) -> None:
    show_calibrated(form, 0.325)
    form.patches.size.load((64, 48))
    form.patches.overlap.load((0, 7))
    form.pixel_size.unit.value = "µm"
    assert strategy(form) == Tiled(size=("20.8um", "15.6um"), overlap=(0, "2.275um"))
    assert [box.text() for box in form.patches.size.boxes[1:]] == ["20.8 µm", "15.6 µm"]
    form.pixel_size.unit.value = "px"
    assert strategy(form) == Tiled(size=(64, 48), overlap=(0, 7))
    form.pixel_size.size.value = "0.65"  # in pixels of that size
    form.pixel_size.unit.value = "µm"
    assert strategy(form).size == ("41.6um", "31.2um")


def test_without_a_pixel_size_the_numbers_stay(form: RecipeForm) -> None:
    form.pixel_size.unit.value = "µm"
    assert strategy(form).size == ("64um", "64um")
    form.pixel_size.unit.value = "px"
    assert strategy(form).size == (64, 64)


def test_the_arrow_keys_step_a_length(form: RecipeForm, qtbot: QtBot) -> None:
    size, overlap = form.patches.size.boxes[1], form.patches.overlap.boxes[1]
    qtbot.keyClick(size, Qt.Key.Key_Up)
    qtbot.keyClick(overlap, Qt.Key.Key_Down)
    assert strategy(form) == Tiled(size=(65, 65), overlap=(0, 0))
    form.pixel_size.unit.value = "µm"
    type_into(qtbot, size, "1.5")
    for _ in range(3):
        qtbot.keyClick(size, Qt.Key.Key_Down)
    assert strategy(form).size == ("0.5um", "0.5um")
    qtbot.keyClick(overlap, Qt.Key.Key_Up)
    assert form.patches.overlap.value == ("1um", "1um")


def test_x_follows_y_while_they_are_the_same(form: RecipeForm, qtbot: QtBot) -> None:
    _, y, x = form.patches.size.boxes
    type_into(qtbot, y, 128)
    assert strategy(form).size == (128, 128)
    type_into(qtbot, x, 32)
    type_into(qtbot, y, 320)  # on the way there it is 32
    assert strategy(form).size == (320, 32)
    type_into(qtbot, x, 320)
    type_into(qtbot, y, "16 µm")
    assert strategy(form).size == ("16um", "16um")
    form.load(Recipe(strategy=Tiled(size=(64, 48))))
    type_into(qtbot, y, 32)
    assert strategy(form).size == (32, 48)


def test_channels_that_are_hidden_are_named_and_may_be_left_out(
    form: RecipeForm, qtbot: QtBot
) -> None:
    form.show_hidden({1})
    assert form.folds["Channels"].button.text() == "Channels: all, also hidden ones"
    assert form.channels.hidden_names == ["EGFP"]
    form.channels.visible_ones.native.click()
    assert form.recipe(None).channels == (0,)
    assert form.folds["Channels"].button.text() == "Channels: DAPI"


@pytest.mark.parametrize("size", [("12.5um", "30um"), (64, "30um"), (48, 80)])
def test_a_plan_of_lengths_comes_back_from_the_form(form: RecipeForm, size: tuple) -> None:
    recipe = Recipe(strategy=Tiled(size=size, overlap=(4, "2um")), pixel_size="0.5,0.25")
    form.load(recipe)
    assert form.recipe(None) == recipe


def test_of_a_length_that_is_longer_than_its_field_the_beginning_is_seen(form: RecipeForm) -> None:
    box = form.patches.overlap.boxes[2]
    form.load(Recipe(strategy=Tiled(size=("64um", "64um"), overlap=(0, "12.125um"))))
    assert (box.text(), box.cursorPosition()) == ("12.125 µm", 0)


@pytest.mark.parametrize(
    ("unit", "typed", "shown"),
    [
        ("px", 8, ["64", "32 µm", "8", "3.2 µm"]),
        ("µm", "8um", ["64 px", "32 µm", "8 px", "3.2 µm"]),
    ],
)
def test_a_number_means_the_same_after_a_plan_is_loaded(
    form: RecipeForm, qtbot: QtBot, unit: str, typed: Length, shown: list[str]
) -> None:
    show_calibrated(form)
    form.pixel_size.unit.value = unit
    form.load(Recipe(strategy=Tiled(size=(64, "32um"), overlap=(8, "3.2um"))))
    rows = form.patches.size, form.patches.overlap
    assert [box.text() for row in rows for box in row.boxes[1:]] == shown
    type_into(qtbot, form.patches.overlap.boxes[1], "8")
    assert strategy(form).overlap == (typed, "3.2um")


def test_a_size_is_limited_by_the_extent_at_the_pixel_size(form: RecipeForm) -> None:
    info = describe(Y=300, X=400).model_copy(update={"pixel_size": PixelSize(y=0.25, x=0.25)})
    form.offer(info, [("DAPI", "#ffffff"), ("EGFP", "#ffffff")])
    form.patches.size.load((64, 256))
    assert strategy(form) == Tiled(size=(64, 256), overlap=(0, 0))
    form.pixel_size.size.value = "0.5"  # 150 x 200 pixels
    assert strategy(form).size == (64, 128)
    form.pixel_size.size.value = ""
    assert strategy(form).size == (64, 256)


def test_a_length_is_limited_to_the_image(form: RecipeForm) -> None:
    show_calibrated(form, 0.5)
    form.load(Recipe(strategy=Tiled(size=("64um", "100um"), overlap=("12.5um", 8))))
    small = describe(Y=60, X=120).model_copy(update={"pixel_size": PixelSize(y=0.5, x=0.5)})
    form.offer(small, [])
    assert strategy(form) == Tiled(size=("16um", "32um"), overlap=("3.125um", 2))
    hint = (
        "Y is 16 µm here, a power of two: the image has only 60 px along Y.<br>"
        "X is 32 µm here, a power of two: the image has only 120 px along X."
    )
    assert form.patches.hint.value == hint
    show_calibrated(form, 0.5)
    assert strategy(form) == Tiled(size=("64um", "100um"), overlap=("12.5um", 8))


def test_the_proposed_name_follows_the_image_and_a_typed_one_stays_with_its_image(
    qtbot: QtBot, tmp_path: Path
) -> None:
    export = ExportSection()
    qtbot.addWidget(export.native)
    images = a, b, c = (tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif")
    names = {image: tmp_path / f"{image.stem}.patches.zarr" for image in images}

    def show(image: Path | None) -> str:
        export.turn_to(image)
        if image is not None:
            export.propose(str(names[image]))
        return export.destination

    def type_name(name: str) -> Path:
        field = export.out.line_edit.native
        field.selectAll()
        qtbot.keyClicks(field, str(tmp_path / name))
        return tmp_path / name

    assert [show(image) for image in images] == list(map(str, names.values()))
    export.rename(tmp_path / "c-2.patches.zarr")  # Keep both
    assert show(a) == str(names[a])
    with export.out.changed.blocked():  # as the window does while it turns to another image
        export.turn_to(b)
        export.propose(str(names[b]))
    assert export.out.tooltip.endswith(str(names[b]))
    show(a)
    typed = type_name("mine.patches.zarr")
    export.end_in(".patches")
    assert export.destination == str(tmp_path / "mine.patches")
    export.end_in(".patches.zarr")
    assert show(a) == str(typed)
    assert show(b) == str(names[b])
    assert show(None) == ""
    assert show(a) == str(typed)
    show(None)
    early = type_name("early.patches.zarr")  # before an image is open
    assert [show(c), show(b), show(c)] == [str(early), str(names[b]), str(early)]
    export.out.line_edit.native.clear()
    assert show(c) == str(names[c])


@pytest.mark.parametrize(
    "text",
    [
        *("1.5", "1,5", "1.0", "1.000", "0,500", "1,00", "1,0000", "1,000.5", "1,000,5", ",000"),
        *("0", "-5", "99999999999", "99,999,999,999", "many", ".", ""),
    ],
)
def test_what_is_typed_for_a_number_is_not_taken_for_another_one(
    qtbot: QtBot, form: RecipeForm, text: str
) -> None:
    section = form.strategy
    section.kind.value = "random"
    field, changes = section.n_patches, list[object]()
    form.changed.connect(lambda: changes.append(None))
    field.native.selectAll()
    qtbot.keyClicks(field.native, text or "\b")
    qtbot.keyClick(field.native, Qt.Key.Key_Return)
    assert changes
    assert field.native.text() == text
    reason = f"Strategy: Count: {text!r} is not a whole number from 1 to 2,147,483,647."
    with pytest.raises(ArgumentError, match=re.escape(reason)):
        form.recipe(None)
    section.kind.value = "tiled"  # which has no such field
    assert form.recipe(None).strategy.kind == "tiled"
    section.kind.value = "random"
    field.native.selectAll()
    qtbot.keyClicks(field.native, "15")
    assert form.recipe(None).strategy == Random(size=(64, 64), count=15)
    qtbot.keyClicks(field.native, ".5")
    qtbot.keyClick(field.native, Qt.Key.Key_Up)
    assert field.native.text() == "16"
    qtbot.keyClicks(field.native, ".5")
    field.value = 16
    assert (field.native.text(), form.recipe(None).strategy.count) == ("16", 16)


def test_whole_numbers_may_be_typed_with_grouped_thousands(qtbot: QtBot, form: RecipeForm) -> None:
    form.strategy.kind.value = "random"
    box = form.strategy.n_patches.native
    for text, count in (("1,000", 1000), ("2,000", 2000), ("2,147,483,647", 2**31 - 1)):
        box.selectAll()
        qtbot.keyClicks(box, text)
        assert form.recipe(None).strategy == Random(size=(64, 64), count=count)
        qtbot.keyClick(box, Qt.Key.Key_Return)
        assert box.text() == str(count)
        assert form.recipe(None).strategy == Random(size=(64, 64), count=count)


def test_a_share_beyond_its_limits_is_refused(qtbot: QtBot, form: RecipeForm) -> None:
    for text in ("150", "12.345", ".", "1.2.3", ".555"):
        form.split.val.native.selectAll()
        qtbot.keyClicks(form.split.val.native, text)
        with pytest.raises(ArgumentError, match=rf"Split: Validation %: '{text}' is not a number"):
            form.recipe(None)


def test_shares_take_decimals_and_show_those_of_a_plan(qtbot: QtBot, form: RecipeForm) -> None:
    split, filters, inside = form.split, form.filters, form.region.inside
    form.load(
        Recipe(
            strategy=Random(size=(64, 64), count=5, max_overlap=0.125, min_inside=0.005),
            keep_fraction=0.025,
            split=Split(val=0.125, test=0.123456),
        )
    )

    def shown(share: Percent) -> str:
        return str(share.native.text())

    shares = (split.val, split.test, filters.keep, inside, form.strategy.max_overlap)
    assert list(map(shown, shares)) == ["12.5", "12.35", "2.5", "0.5", "12.5"]
    assert [share.fraction for share in shares] == [0.125, 0.123456, 0.025, 0.005, 0.125]
    assert form.region.summary == "all"  # there is no region yet
    for text, text_after, fraction in (
        ("1.5", "1.5", 0.015),
        ("12.5", "12.5", 0.125),
        ("33,25", "33.25", 0.3325),
        (".5", ".5", 0.005),
        (",25", ".25", 0.0025),
        ("7.", "7.", 0.07),
        ("20", "20", 0.2),
    ):
        box: QAbstractSpinBox = split.val.native
        box.selectAll()
        qtbot.keyClicks(box, text)
        assert (shown(split.val), split.val.fraction) == (text_after, fraction)
    qtbot.keyClick(split.val.native, Qt.Key.Key_Up)
    assert shown(split.val) == "21"


def test_a_share_of_a_plan_that_is_rounded_out_of_the_limits_stays(form: RecipeForm) -> None:
    for share, fraction, shown in (
        (form.region.inside, 1e-5, 0.01),
        (form.split.val, 0.99996, 99.99),
    ):
        share.load(fraction)
        assert (share.value, share.fraction) == (shown, fraction)


def test_a_class_that_is_gone_colours_no_patch_and_goes_with_its_use(form: RecipeForm) -> None:
    section = form.annotations
    section.load(("Gone",), ())
    section.by_class.value = True
    assert section.region_classes == ("Gone",)
    assert section.patch_colors == ()
    plans = list[bool]()
    form.changed.connect(lambda: plans.append(section.list.isHidden()))
    section.list.itemWidget(section.list.topLevelItem(0), 2).setCurrentIndex(0)
    assert plans == [True]  # what is drawn next is as the section shows it
    assert section.list.topLevelItemCount() == 0


def test_uses_of_classes_stay_with_their_image(form: RecipeForm) -> None:
    section, a, b = form.annotations, Path("a.tif"), Path("b.tif")
    form.turn_to(a, True)
    section.load(("Cell",), ())
    form.region.inside.value = 50
    assert form.folds["Region"].button.text() == "Region: 50% inside"
    form.turn_to(b, True)
    assert (section.region_classes, form.region.inside.value) == ((), 100)
    form.turn_to(a, True)
    assert section.region_classes == ("Cell",)
    form.turn_to(b, False)  # with other files in the set
    assert section.region_classes == ("Cell",)
    section.list.itemWidget(section.list.topLevelItem(0), 2).setCurrentIndex(0)
    form.turn_to(a, True)
    assert section.region_classes == ("Cell",)  # what b changed is its own
    assert section.drop_uses(a) == ("Cell",)
    assert section.region_classes == ()
