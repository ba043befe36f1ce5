"""Annotations by mouse: outlines that are dropped, drawn with classes, used, exported, loaded."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QComboBox, QLineEdit

from napari_patchset import PatchSet
from napari_patchset.plugin.canvas import annotations as control
from napari_patchset.plugin.canvas import drawn_outlines
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.plugin.layers.outlines import CLASS, label_values
from napari_patchset.plugin.layers.patch_set import patch_set_layers
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drag, drop, place_on_screen
from support.window import Window

RING = [[8, 8], [48, 8], [48, 48], [8, 48], [8, 8]]
HOLE = [[24, 24], [24, 32], [32, 32], [32, 24], [24, 24]]


def outline(rings: Any, name: str, color: tuple[int, int, int]) -> dict[str, Any]:
    named = {"name": name, "color": list(color)}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": named},
    }


@pytest.fixture
def outlines(tmp_path: Path) -> Path:
    """A tumour with a hole, and an artefact in its corner, for an image of 64 x 64."""
    path = tmp_path / "tumour.geojson"
    artefact = [[8, 8], [16, 8], [16, 16], [8, 16], [8, 8]]
    features = [outline([RING, HOLE], "Tumor", (200, 0, 0))]
    features.append(outline([artefact], "Artefact", (90, 90, 255)))
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def is_open(window: Window) -> bool:
    return window.widget.form.annotations.outlines.value is not None


def row_of(window: Window, name: str) -> Any:
    tree = window.widget.form.annotations.list
    items = (tree.topLevelItem(i) for i in range(tree.topLevelItemCount()))
    return next(item for item in items if item.text(0) == name)


def listed(window: Window) -> dict[str, str]:
    tree = window.widget.form.annotations.list
    items = (tree.topLevelItem(i) for i in range(tree.topLevelItemCount()))
    return {item.text(0): item.text(1) for item in items}


def click_class(window: Window, name: str) -> None:
    tree = window.widget.form.annotations.list
    window.widget.ensureWidgetVisible(tree)
    middle = tree.visualItemRect(row_of(window, name)).center()
    at = QPoint(40, middle.y())
    window.qtbot.mouseClick(tree.viewport(), Qt.MouseButton.LeftButton, pos=at)
    window.settle()


def use(window: Window, name: str, use: str) -> None:
    """Choose where patches may lie, by the arrow keys."""
    box = window.widget.form.annotations.list.itemWidget(row_of(window, name), 2)
    assert isinstance(box, QComboBox)
    box.setFocus()
    for _ in range(box.count()):
        if box.currentText() != use:
            window.qtbot.keyClick(box, Qt.Key.Key_Down)
    window.settle()


def type_name(window: Window, name: str) -> None:
    """Type the name of the class that is being edited."""
    section = window.widget.form.annotations
    editor = section.list.findChild(QLineEdit)
    window.qtbot.keyClicks(editor, name)
    window.qtbot.keyClick(editor, Qt.Key.Key_Return)
    window.until(lambda: section.current == name)
    window.settle()


def lasso(window: Window, *corners: tuple[float, float]) -> None:
    """Drag around a structure, in the world of the image."""
    drag(window, *corners)
    window.settle()


def starts(made: PatchSet) -> set[tuple[int, int]]:
    return {(row["y_start"], row["x_start"]) for row in made.table.to_pylist()}


IN_TUMOR = {(y, x) for y in range(8, 48, 8) for x in range(8, 48, 8)} - {(24, 24)}


def test_outlines_are_dropped_and_patches_lie_in_a_class(
    window: Window, czi: MakeCzi, outlines: Path, tmp_path: Path, run: Any
) -> None:
    window.open(czi(SceneSpec(rect=(100, 50, 64, 64))))
    window.type_size(8, 8)
    drop(window, outlines)
    window.until(lambda: is_open(window))
    window.settle()
    layer = window.viewer.layers["tumour.geojson"]
    np.testing.assert_allclose(layer.translate, window.images[0].translate)
    assert listed(window) == {"Tumor": "1", "Artefact": "1"}
    assert window.widget.form.annotations.list.isVisible()
    use(window, "Tumor", "only inside")
    assert f"<b>{len(IN_TUMOR)}</b> patches" in window.summary
    use(window, "Artefact", "not inside")
    assert f"<b>{len(IN_TUMOR) - 1}</b> patches" in window.summary
    assert "only inside Tumor, not inside Artefact" in window.widget.form.annotations.summary
    plan = window.state.plan()
    assert plan.sources[0].annotations.path == str(outlines)  # it was not changed
    with window.export_to(tmp_path / "made.patches.zarr") as made:
        assert starts(made) == IN_TUMOR - {(8, 8)}
        assert set(made.table["share_Tumor"].to_pylist()) == {1.0}
        colors = {each.name: each.color for each in made.manifest.classes}
    assert colors == {"Tumor": (200, 0, 0), "Artefact": (90, 90, 255)}
    window.widget.export.copy_command.trigger()
    window.until(lambda: "The command is copied." in window.widget.export.status.value)
    command = QApplication.clipboard().text().split()
    assert command[:2] == ["patchset", "export"]
    assert command[command.index("--annotations") + 1] == str(outlines)
    out = tmp_path / "again.patches.zarr"
    command[command.index("--out") + 1] = str(out)
    code, _, error = run(*command[1:])
    assert code == 0, error
    with PatchSet(out) as again:
        assert starts(again) == IN_TUMOR - {(8, 8)}


@pytest.mark.parametrize("mode", ["add_rectangle", "add_ellipse"])
def test_a_click_draws_nothing_to_be_planned_or_undone(
    window: Window, czi: MakeCzi, outlines: Path, mode: str
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    drop(window, outlines)
    window.until(lambda: is_open(window))
    window.settle()
    layer = window.viewer.layers["tumour.geojson"]
    window.viewer.layers.selection.active = layer
    layer.mode = mode
    planned = list[str]()
    window.widget.plans.changed.connect(
        lambda plan: planned.append(plan.state.source.annotations.path)
    )
    canvas, left = window.viewer.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton
    place = place_on_screen(window, 56, 56)
    window.qtbot.mousePress(canvas, left, pos=place)
    window.settle()
    assert len(layer.data) == 3  # as napari has it while the button is held
    window.qtbot.mouseRelease(canvas, left, pos=place)
    window.settle()
    assert len(layer.data) == 2
    assert window.state.source.annotations.path == str(outlines)
    assert set(planned) <= {str(outlines)}
    window.qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    window.settle()
    assert str(window.viewer.status).startswith("Nothing to undo")
    assert len(layer.data) == 2


def test_three_classes_are_drawn_renamed_exported_with_labels_and_loaded(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64)), tile=(32, 32)))
    window.type_size(8, 8)
    window.unfold("Annotations")
    section = window.widget.form.annotations
    window.click(section.draw)
    layer = window.viewer.layers[control.OUTLINES_NAME]
    lasso(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    assert listed(window) == {"Class 1": "1"}
    for name, left in (("Nest", 34), ("Stroma", 50)):
        window.click(section.add)
        type_name(window, name)
        lasso(window, (34, left), (34, left + 12), (58, left + 12), (58, left), (35, left))
    assert listed(window) == {"Class 1": "1", "Nest": "1", "Stroma": "1"}
    assert list(layer.features[CLASS]) == ["Class 1", "Nest", "Stroma"]
    assert len({tuple(color) for color in layer.edge_color}) == 3
    click_class(window, "Class 1")
    window.click(section.rename)
    type_name(window, "Tumor")
    assert list(layer.features[CLASS]) == ["Tumor", "Nest", "Stroma"]
    section.recolored.emit("Tumor", "#112233")
    window.settle()
    np.testing.assert_allclose(layer.edge_color[0][:3], np.array([17, 34, 51]) / 255, atol=1e-3)
    window.tick(section.as_labels.native)
    window.unfold("Strategy")
    strategy = window.widget.form.strategy
    window.choose(strategy.kind, "balanced")
    window.click(strategy.all_classes)
    assert strategy.classes.value == "Tumor=1,Nest=1,Stroma=1,background=1"
    window.type_number(strategy.n_patches, 40)
    out = tmp_path / "made.patches.zarr"
    with window.export_to(out) as made:
        assert [each.name for each in made.manifest.classes] == ["Nest", "Stroma", "Tumor"]
        drawn_for = made.table["drawn_for"].to_pylist()
        assert {name: drawn_for.count(name) for name in set(drawn_for)} == dict.fromkeys(
            ("Tumor", "Nest", "Stroma", "background"), 10
        )
        assert set(np.unique(made["all/labels"][:])) == {0, 1, 2, 3}
    (labels,) = (layer for layer in patch_set_layers(out) if layer[2] == "labels")
    opened = Labels(labels[0], **labels[1])
    assert opened.features[CLASS].tolist() == ["Nest", "Stroma", "Tumor"]
    np.testing.assert_allclose(opened.get_color(3), np.array([17, 34, 51, 255]) / 255, atol=1e-3)
    assert not label_values(opened)  # they are of no image
    (drawn,) = (tmp_path / "made.layers").iterdir()
    assert drawn.suffix == ".geojson"
    plan = tmp_path / "made.json"
    with patch("napari_patchset.plugin.export_control.ask_plan_name", lambda *_: plan):
        window.widget.export.save_plan.trigger()
        window.until(lambda: plan.exists())
        window.settle()
    window.viewer.layers.remove(layer)
    window.settle()
    assert not is_open(window)
    with patch("napari_patchset.plugin.widget.ask_plan", lambda *_: plan):
        window.widget.export.load_plan.trigger()
        window.until(lambda: is_open(window))
        window.settle()
    assert listed(window) == {"Tumor": "1", "Nest": "1", "Stroma": "1"}
    assert section.as_labels.value
    assert window.state.source.labels.path == window.state.source.annotations.path == str(drawn)


def test_outlines_go_with_their_scene_and_its_pixel_size(
    window: Window, czi: MakeCzi, outlines: Path
) -> None:
    scenes = (SceneSpec(id=0, rect=(0, 0, 64, 64)), SceneSpec(id=1, rect=(900, 0, 64, 64)))
    window.open(czi(*scenes))
    window.type_size(8, 8)
    drop(window, outlines)
    window.until(lambda: is_open(window))
    window.settle()
    use(window, "Tumor", "only inside")
    inside = f"<b>{len(IN_TUMOR)}</b> patches"
    assert inside in window.summary
    window.click_scene(1)
    assert "tumour.geojson" not in window.viewer.layers
    assert "no class 'Tumor', as there are no annotations" in window.summary
    assert "(More options > Annotations)" in window.summary
    window.click_scene(0)
    window.until(lambda: inside in window.summary)
    assert listed(window) == {"Tumor": "1", "Artefact": "1"}
    layer = window.viewer.layers["tumour.geojson"]
    assert layer.scale.tolist() == [1, 1]
    window.click(window.widget.source_control.fold.button)
    field = window.widget.source_control.metadata.pixel_size
    field.value = "0.5"
    field.native.editingFinished.emit()
    window.until(lambda: window.images[0].scale[-1] == 0.5)
    window.settle()
    assert window.viewer.layers["tumour.geojson"].scale.tolist() == [0.5, 0.5]
    assert inside in window.summary
    assert window.state.source.annotations.path == str(outlines)
    window.viewer.layers.remove("tumour.geojson")
    window.settle()
    assert not is_open(window)


def test_what_depended_on_removed_layers_is_dropped_together_and_told(
    window: Window, czi: MakeCzi, outlines: Path
) -> None:
    spec = SceneSpec(rect=(0, 0, 64, 64))
    window.open(czi(spec))
    window.type_size(8, 8)
    drop(window, outlines)
    window.until(lambda: is_open(window))
    window.settle()
    use(window, "Tumor", "only inside")
    form, notice = window.widget.form, window.widget.texts.notice
    window.unfold("Region")
    window.type_number(form.region.inside, 50)
    assert form.folds["Region"].button.text() == "Region: 50% inside"
    labels = window.viewer.add_labels(np.ones((64, 64), np.uint8), name="cells")
    window.settle()
    window.unfold("Target and labels")
    window.choose(form.pairs.boxes["labels"], register_layer(labels))
    assert window.state.source.labels is not None
    assert not notice.isVisible()
    window.viewer.layers.clear()
    window.settle()
    assert notice.isVisible()
    assert notice.text().splitlines() == [
        "Labels: layer 'cells' was removed; patches are exported without labels.",
        "Annotations: layer 'tumour.geojson' was removed; Tumor no longer limits where patches "
        "lie.",
    ]
    assert form.folds["Region"].button.text() == "Region: all"
    assert form.folds["Annotations"].button.text() == "Annotations: none"
    window.open(czi(spec, name="next.czi"))
    assert f"<b>{8 * 8}</b> patches" in window.summary
    assert window.widget.export.start.enabled
    assert not notice.isVisible()


def test_uses_stay_until_the_last_outlines_of_an_image_are_removed(
    window: Window, czi: MakeCzi, outlines: Path
) -> None:
    window.open(czi(*(SceneSpec(id=i, rect=(900 * i, 0, 64, 64)) for i in range(2))))
    section, notice = window.widget.form.annotations, window.widget.texts.notice
    for scene in range(2):
        window.click_scene(scene)
        drop(window, outlines)
        window.until(lambda: is_open(window))
        window.settle()
    use(window, "Tumor", "only inside")
    window.viewer.layers.remove("tumour.geojson")
    window.settle()
    assert notice.text().endswith("patches are exported without its classes.")
    assert section.region_classes == ("Tumor",)
    window.click_scene(0)
    window.until(lambda: is_open(window))
    window.viewer.layers.remove("tumour.geojson")
    window.settle()
    assert notice.text().endswith("Tumor no longer limits where patches lie.")
    assert section.region_classes == ()


def test_outlines_without_an_image_and_damaged_ones_are_told(
    window: Window, file: Path, outlines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(control, "show_error", said.append)
    drop(window, outlines)
    window.until(lambda: bool(said))
    assert "Open the image" in said.pop()
    window.open(file)
    outlines.write_text(outlines.read_text()[:-30])
    drop(window, outlines)
    window.until(lambda: bool(said))
    assert "tumour.geojson: it ends in the middle" in said[0]
    assert not is_open(window)


def test_more_outlines_than_can_be_drawn_are_used_all_the_same(
    window: Window, czi: MakeCzi, outlines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_outlines, "MAX_SHAPES", 1)
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.type_size(8, 8)
    drop(window, outlines)
    window.until(lambda: "too many to draw" in window.widget.form.annotations.note.value)
    window.settle()
    assert "tumour.geojson" not in window.viewer.layers
    assert listed(window) == {"Tumor": "1", "Artefact": "1"}
    use(window, "Tumor", "only inside")
    assert f"<b>{len(IN_TUMOR)}</b> patches" in window.summary


def test_other_outlines_replace_the_classes_of_the_former_ones(
    window: Window, czi: MakeCzi, outlines: Path, tmp_path: Path
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.type_size(8, 8)
    annotations, strategy = window.widget.form.annotations, window.widget.form.strategy
    drop(window, outlines)
    window.until(lambda: is_open(window))
    window.settle()
    use(window, "Tumor", "only inside")
    window.unfold("Strategy")
    window.choose(strategy.kind, "balanced")
    window.click(strategy.all_classes)
    assert strategy.classes.value == "Tumor=1,Artefact=1,background=1"
    use(window, "Tumor", "anywhere")
    use(window, "Artefact", "not inside")
    other = tmp_path / "nuclei.geojson"
    other.write_text(json.dumps([outline([RING], "Nucleus", (0, 200, 0))]))
    drop(window, other)
    window.until(lambda: "nuclei.geojson" in window.viewer.layers)
    window.settle()
    assert listed(window) == {"Nucleus": "1"}
    assert strategy.classes.value == "Nucleus=1,background=1"
    assert "<b>100</b> patches" in window.summary
    window.choose(annotations.outlines, window.viewer.layers["tumour.geojson"])
    assert listed(window) == {"Tumor": "1", "Artefact": "1"}
    assert strategy.classes.value == "Tumor=1,Artefact=1,background=1"


def test_a_class_that_nothing_has_is_removed_by_key_and_button(
    window: Window, czi: MakeCzi
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.unfold("Annotations")
    section = window.widget.form.annotations
    window.click(section.draw)
    lasso(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    assert not section.remove_class.enabled  # it has an outline
    window.click(section.add)
    type_name(window, "Nest")
    use(window, "Nest", "not inside")
    click_class(window, "Class 1")
    window.qtbot.keyClick(section.list, Qt.Key.Key_Delete)
    assert listed(window) == {"Class 1": "1", "Nest": "0"}
    click_class(window, "Nest")
    assert section.remove_class.enabled
    window.qtbot.keyClick(section.list, Qt.Key.Key_Delete)
    window.settle()
    assert listed(window) == {"Class 1": "1"}
    assert window.state.recipe.strategy.exclude_classes == ()
    window.click(section.add)
    type_name(window, "Nest")
    assert section.list.window().focusWidget() is section.list  # for the next key
    window.click(section.remove_class)
    window.settle()
    assert listed(window) == {"Class 1": "1"}
    lasso(window, (34, 34), (34, 58), (58, 58), (58, 34), (35, 34))
    assert listed(window) == {"Class 1": "2"}


def test_a_labels_layer_with_named_values_has_classes(window: Window, tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[16:32, 16:32], labels[32:48, :16] = 1, 2
    features = {"index": [1, 2], CLASS: ["Nucleus", "Debris"]}
    window.viewer.add_image(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), name="made")
    layer = window.viewer.add_labels(labels, name="classes", features=features)
    window.until(lambda: window.state is not None)
    window.settle()
    window.type_size(8, 8)
    window.unfold("Annotations")
    section = window.widget.form.annotations
    window.choose(section.outlines, layer)
    assert listed(window) == {"Nucleus": "", "Debris": ""}
    use(window, "Nucleus", "only inside")
    assert "<b>4</b> patches" in window.summary
    window.tick(section.as_labels.native)
    with window.export_to(tmp_path / "made.patches.zarr") as made:
        assert {each.name: each.value for each in made.manifest.classes} == {
            "Nucleus": 1,
            "Debris": 2,
        }
        assert made["all/labels"][:].tolist() == np.ones((4, 1, 8, 8)).tolist()


def test_another_image_asks_for_no_class_of_the_former_one(window: Window, czi: MakeCzi) -> None:
    scene = SceneSpec(rect=(0, 0, 64, 64))
    first, second = czi(scene, name="a.czi"), czi(scene, name="b.czi")
    window.open(first)
    window.type_size(8, 8)
    annotations, strategy = window.widget.form.annotations, window.widget.form.strategy
    window.unfold("Annotations")
    window.click(annotations.draw)
    lasso(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    annotations.renamed.emit("Class 1", "Tumor")
    window.settle()
    window.unfold("Strategy")
    window.choose(strategy.kind, "balanced")
    window.click(strategy.all_classes)
    assert strategy.classes.value == "Tumor=1,background=1"
    window.click(annotations.add)  # it has no outline, so no patch can be drawn for it
    type_name(window, "Stroma")
    window.click(strategy.all_classes)
    assert strategy.classes.value == "Tumor=1,background=1"
    window.open(second)
    assert "has none; draw outlines (More options > Annotations > Draw…)" in window.summary
    window.click(annotations.draw)
    lasso(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    assert strategy.classes.value == "Class 1=1,background=1"
    assert "<b>100</b> patches" in window.summary
    window.choose(window.widget.source.file, first)
    assert strategy.classes.value == "Tumor=1,background=1"
    assert "<b>100</b> patches" in window.summary


def test_what_is_drawn_next_is_of_the_class_that_the_list_marks(
    window: Window, czi: MakeCzi
) -> None:
    """A drag that makes no outline, or a selected shape, had made it another one."""
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    annotations = window.widget.form.annotations
    window.unfold("Annotations")
    window.click(annotations.draw)
    drag(window, (5, 5), (5, 15))
    window.settle()
    lasso(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    assert listed(window) == {"Class 1": "1"}
    layer = annotations.outlines.value
    for name in ("Class 2", "Class 3"):
        window.click(annotations.add)
        type_name(window, name)
    click_class(window, "Class 2")
    lasso(window, (34, 2), (34, 14), (58, 14), (58, 2), (35, 2))
    click_class(window, "Class 3")
    drag(window, (50, 40), (50, 50))
    window.settle()
    lasso(window, (34, 18), (34, 30), (58, 30), (58, 18), (35, 18))
    layer.mode = "select"
    layer.selected_data = {0}
    layer.mode = "add_polygon_lasso"
    lasso(window, (34, 34), (34, 46), (58, 46), (58, 34), (35, 34))
    window.until(lambda: len(layer.data) == 4)
    assert list(layer.features[CLASS]) == ["Class 1", "Class 2", "Class 3", "Class 3"]
    assert listed(window) == {"Class 1": "1", "Class 2": "1", "Class 3": "2"}
    np.testing.assert_allclose(layer.edge_color[3], layer.edge_color[2])
    assert not np.allclose(layer.edge_color[3], layer.edge_color[0])
