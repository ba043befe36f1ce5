"""The gallery: patches side by side, sorted, kept or rejected by hand, of a plan or of a set."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QRect, Qt

from napari_patchset import ExportPlan, Random, SourceRef, export
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.verdicts import BY_HAND
from napari_patchset.plugin.gallery import gallery as module
from napari_patchset.plugin.gallery.gallery import Gallery
from napari_patchset.plugin.gallery.patches import PlannedPatches, SetPatches
from napari_patchset.plugin.layers.patch_set import patch_set_layers
from napari_patchset.plugin.planning import plan_form
from napari_patchset.plugin.state import FormState
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory
from napari_patchset.preview.image import rgb
from support.gestures import move, type_into
from support.window import Window

NONE, CTRL, SHIFT = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
)


@pytest.fixture
def opened(window: Window, file: Path) -> Window:
    """A window with 36 patches, a part of which a filter rejects."""
    window.open(file)
    window.type_size(32, 32)
    window.unfold("Filters")
    text = window.widget.form.filters.text.native
    type_into(window, text, "max[DAPI]>p50")
    window.settle()
    window.click(window.widget.preview.gallery_button)
    shown = gallery(window)
    window.until(lambda: shown.isVisible() and not shown.grid.missing_rows())
    return window


def gallery(window: Window) -> Gallery:
    return window.widget.preview.gallery


def click(window: Window, index: int, keys: Qt.KeyboardModifier = NONE) -> int:
    """Click on a patch, by its index; return its row."""
    grid = gallery(window).grid
    window.qtbot.mouseClick(
        grid.viewport(), Qt.MouseButton.LeftButton, keys, grid.cell(index).center()
    )
    window.settle()
    return int(grid.rows[index])


def press(window: Window, key: Qt.Key, keys: Qt.KeyboardModifier = NONE) -> None:
    window.qtbot.keyClick(gallery(window).grid, key, keys)
    window.settle()


def choose(window: Window, group: str) -> None:
    shown = gallery(window)
    shown.tabs.setCurrentIndex(shown._groups.index(group))
    window.settle()


def test_tabs_and_order_choose_what_is_shown_and_only_what_is_visible_is_read(
    opened: Window,
) -> None:
    shown, planned = gallery(opened), opened.widget.plans.current
    canvas = opened.viewer.window._qt_viewer.canvas.native
    image = QRect(canvas.mapToGlobal(QPoint(0, 0)), canvas.size())
    assert shown.screen().availableGeometry().contains(shown.geometry())
    assert shown.geometry().intersected(image).width() < image.width() / 3
    rejected = planned.rejected_rows
    assert [shown.tabs.tabText(i) for i in range(shown.tabs.count())] == [
        "all 36",
        f"kept {36 - len(rejected)}",
        f"rejected {len(rejected)}",
    ]
    assert shown.count.text() == "36 patches"
    choose(opened, "rejected")
    assert shown.grid.rows.tolist() == rejected.tolist()
    assert shown.count.text() == f"{len(rejected)} of 36 patches"
    assert shown._patches.color(int(rejected[0])) == CATEGORY_COLORS[PatchCategory.REJECTED]
    choose(opened, "all")
    texts = [shown.sort.itemText(i) for i in range(shown.sort.count())]
    brightest = [f"brightest pixel of DAPI, {end} first" for end in ("lowest", "highest")]
    assert texts == ["place", "random", *brightest]
    shown.sort.setFocus()
    for _ in texts[1:]:
        opened.qtbot.keyClick(shown.sort, Qt.Key.Key_Down)
    opened.settle()
    values = planned.verdicts.metrics["max_DAPI"][shown.grid.rows]
    assert (np.diff(values) <= 0).all()
    opened.qtbot.keyClick(shown.sort, Qt.Key.Key_Home)
    opened.qtbot.keyClick(shown.sort, Qt.Key.Key_Down)
    assert sorted(shown.grid.rows.tolist()) == list(range(36)) != shown.grid.rows.tolist()

    shown.resize(300, 300)
    opened.settle()
    columns = {shown.grid.cell(i).x() for i in range(36)}
    assert 1 < len(columns) < 5
    shown.grid.forget_pictures()
    shown.grid.verticalScrollBar().setValue(shown.grid.verticalScrollBar().maximum())
    opened.until(lambda: not shown.grid.missing_rows() and opened.is_idle)
    assert 0 < len(shown.grid._pictures) < 36
    shown.resize(720, 300)
    opened.settle()
    assert len({shown.grid.cell(i).x() for i in range(36)}) > len(columns)


def test_a_click_goes_to_the_place_on_the_image_and_more_than_a_hand_can_choose_is_refused(
    opened: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, preview = gallery(opened), opened.widget.preview
    click(opened, 0)
    for index in (1, 3):
        row = click(opened, index)
        assert preview.view.row == row
        assert preview.drawn.sample == preview.drawn.planned.grid.sample[row]
    assert "y 0, x 0" not in shown.info.text()
    assert shown.info.text().startswith(f"Patch {row}: ")
    press(opened, Qt.Key.Key_End)
    assert shown.grid.selected == {35}
    press(opened, Qt.Key.Key_Return)
    assert preview.view.row == 35
    move(shown.grid.viewport(), QPoint(1, 1))

    monkeypatch.setattr(module, "_MOST_BY_HAND", 35)
    press(opened, Qt.Key.Key_A, CTRL)
    press(opened, Qt.Key.Key_X)
    assert shown.info.text().startswith("36 patches are selected, and at most 35")
    assert not opened.state.recipe.overrides


def test_choices_without_a_patch_are_told_before_an_export_and_in_its_question(
    opened: Window, tmp_path: Path
) -> None:
    click(opened, 1)
    click(opened, 4, CTRL)
    press(opened, Qt.Key.Key_X)
    export, overlap = opened.widget.export, opened.widget.patches.overlap.boxes[-1]
    opened.export_to(tmp_path / "a.patches.zarr").close()
    assert export.status.value == "Saved a.patches.zarr"
    opened.type_number(overlap, 8)
    told = "2 choices by hand fit no patch now"
    assert opened.summary.split("<br>")[1] == f"<b>{told}</b>"
    assert export.status.value == f"{told}."
    opened.click(export.start)
    assert export.status.value == f"{told}. a.patches.zarr exists already."
    opened.click(export.answers[0])
    opened.until(lambda: export.status.value == "Saved a.patches.zarr")
    opened.type_number(overlap, 0)
    assert export.status.value == ""


def test_the_gallery_follows_the_mouse_the_filters_and_an_image_without_a_plan(
    opened: Window,
) -> None:
    shown, widget = gallery(opened), opened.widget
    move(shown.grid.viewport(), shown.grid.cell(0).center())
    assert shown.info.text().startswith("Patch 0: ")
    assert "brightest pixel" in shown.info.text()
    shown.grid.verticalScrollBar().setValue(shown.grid.verticalScrollBar().maximum())
    assert not shown.info.text().startswith("Patch 0: ")

    (row,) = widget.form.filters.rows
    opened.click(row.remove_button)
    assert [shown.sort.itemText(i) for i in range(shown.sort.count())] == ["place", "random"]
    move(shown.grid.viewport(), shown.grid.cell(35).center())
    assert "brightest pixel" not in shown.info.text()

    opened.click(widget.form.filters.add)
    (row,) = widget.form.filters.rows
    assert row.rejects.text().startswith("rejects")
    opened.type_number(widget.patches.size.boxes[-1], 4000)
    assert "4000" in opened.summary
    assert shown.info.text() == "There are no patches to show; the panel says why."
    assert not shown.decisions[False].isEnabled()
    shown.grid.selected = {0}
    press(opened, Qt.Key.Key_X)
    assert not opened.widget.form.overrides
    assert row.rejects.text() == ""
    opened.type_number(widget.patches.size.boxes[-1], 32)
    assert shown.decisions[False].isEnabled()
    assert shown.count.text() == "36 patches"
    opened.unfold("Strategy")
    opened.choose(widget.form.strategy.kind, "fixed")
    assert row.rejects.text() == "nothing to\nmeasure"


def test_several_are_kept_and_rejected_by_hand_and_the_export_repeats_it(
    opened: Window, tmp_path: Path
) -> None:
    shown, form = gallery(opened), opened.widget.form
    choose(opened, "kept")
    first = click(opened, 0)
    click(opened, 2, SHIFT)
    before = shown.grid.rows.tolist()
    press(opened, Qt.Key.Key_X)
    rejected = before[:3]
    assert [each.keep for each in form.overrides] == [False] * 3
    assert shown.grid.rows.tolist() == before  # nothing jumps
    assert shown._patches.decided(first) is False
    assert "rejected: by hand" in opened.widget.preview.view.text.text()
    choose(opened, "rejected")
    filtered = [row for row in shown.grid.rows.tolist() if row not in rejected]
    at = shown.grid.rows.tolist().index(filtered[-1])
    row = click(opened, at)
    opened.qtbot.mouseClick(shown.decisions[True], Qt.MouseButton.LeftButton)
    opened.settle()
    again = shown.grid.rows.tolist().index(rejected[2])
    click(opened, again)
    press(opened, Qt.Key.Key_Delete)
    assert sorted(each.keep for each in form.overrides) == [False, False, True]
    assert "3 by hand" not in opened.summary
    assert "2 by hand" in opened.summary

    planned = opened.widget.plans.current
    assert planned.verdicts.kept[row]
    made = opened.export_to(tmp_path / "made.patches.zarr")
    table = made.table.to_pylist()
    assert [each["kept"] for each in table] == planned.verdicts.kept.tolist()
    assert [i for i, each in enumerate(table) if each["reason"] == BY_HAND] == rejected[:2]
    plan = ExportPlan.model_validate_json(opened.state.plan().model_dump_json())
    with export(plan.model_copy(update={"out": str(tmp_path / "again.patches.zarr")})) as again_set:
        assert again_set.table.equals(made.table)
    made.close()


@pytest.mark.parametrize(("depth", "size"), [("none", (16, 16)), ("T", (1, 16, 16))])
def test_by_place_is_by_scene_t_z_y_and_x(
    file: Path, tmp_path: Path, depth: str, size: tuple[int, ...]
) -> None:
    refs = tuple(SourceRef(path=file, scene=scene) for scene in (0, 1))
    recipe = Recipe(strategy=Random(size=size, count=3), depth_axis=depth)
    state = FormState(refs, 0, recipe, str(tmp_path / "made.patches.zarr"))
    planned = plan_form(state)
    info, grid = planned.shown_source, planned.grid

    def place(row: int) -> tuple[int, ...]:
        spec = grid[row]
        indices = info.file_indices(spec.sample)
        t = spec.start[0] if depth == "T" else indices["T"]
        return spec.source_index, t, indices["Z"], *spec.start[-2:]

    rows = PlannedPatches(planned, []).by_place.tolist()
    assert rows == sorted(range(len(grid)), key=place) != list(range(len(grid)))
    export(state.plan()).close()
    read = SetPatches.open(tmp_path / "made.patches.zarr")
    assert [int(read.index[row]) for row in read.by_place] == rows


def test_a_set_is_shown_in_the_colours_of_its_source_and_as_layers_in_a_window_of_its_own(
    opened: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(
        module, "open_viewer", lambda title, layers: asked.append((title, len(layers)))
    )
    made = opened.export_to(tmp_path / "made.patches.zarr")
    before = [layer.name for layer in opened.viewer.layers]
    point = opened.viewer.dims.point
    opened.click(opened.widget.export.open)
    shown = gallery(opened)
    opened.until(lambda: isinstance(shown._patches, SetPatches) and opened.is_idle)
    patches = shown._patches
    assert len(patches) == len(made["all"])
    assert [layer.name for layer in opened.viewer.layers] == before
    assert opened.viewer.dims.point == point
    row, picture = next(iter(patches.read([3])))
    assert picture.shape == (32, 32, 3)
    assert patches.lines(row)[0] == "Patch 3"
    assert [c.name for c in patches.channels] == [layer.name for layer in opened.images]
    click(opened, len(patches) - 1)
    preview = opened.widget.preview
    assert preview.drawn.sample == patches.source_place(len(patches) - 1)[1]
    layers = patch_set_layers(made.path)
    assert [options["axis_labels"] for _, options, _ in layers] == [["patch", "y", "x"]] * 2
    ends = [layer.colormap.colors[-1][:3] for layer in opened.images]
    colors = [rgb(options["colormap"]) for _, options, _ in layers]
    np.testing.assert_allclose(ends, colors, atol=0.01)
    made.close()
    opened.qtbot.mouseClick(shown.as_layers, Qt.MouseButton.LeftButton)
    opened.settle()
    assert asked == [("made.patches.zarr", 2)]

    opened.viewer.layers.clear()
    opened.settle()
    click(opened, 0)
    absent = "This patch lies in image.czi, scene 0, which is not shown"
    assert shown.info.text().startswith(absent)


def test_a_click_goes_to_a_patch_of_another_scene(window: Window, file: Path) -> None:
    window.open(file)
    window.type_size(32, 32)
    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    preview = window.widget.preview
    window.click(preview.gallery_button)
    assert window.state.source.scene == 0
    press(window, Qt.Key.Key_End)
    press(window, Qt.Key.Key_Return)
    grid = preview.gallery.grid
    row = len(grid.rows) - 1
    captions = [grid.captions(grid.patches, int(each)) for each in (grid.rows[0], grid.rows[row])]
    scenes = [scene.label for scene in window.widget.source_control.context.scenes]
    assert [caption[1] for caption in captions] == [f"{file.name}, {scene}" for scene in scenes]
    window.until(lambda: window.state.source.scene == 1 and preview.view.row == row)
    assert preview.drawn.sample == preview.drawn.planned.grid.sample[row]
    assert preview.gallery.grid.selected == {row}
