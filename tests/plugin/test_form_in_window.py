"""The form's sections in a real window: what is set there is on the image and in the export."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog
from typer.testing import CliRunner

from napari_patchset import ExportPlan, PatchSet, Tiled
from napari_patchset.cli.app import app
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patching.strategies import Random
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin import preferences
from napari_patchset.plugin import widget as widget_module
from napari_patchset.plugin.canvas.overlay_layers import HIGHLIGHT_NAME
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.plugin.napari_compat import canvas_size, get_plugin_settings
from napari_patchset.plugin.preferences import PLUGIN, export_memory
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import move, type_into, wheel
from support.window import Window, digests


def strategy(window: Window) -> Any:
    return window.state.recipe.strategy


def test_a_slow_plan_holds_up_nothing_and_is_dropped_when_it_is_stale(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open(file)
    go_on, plan = Event(), Random.plan
    monkeypatch.setattr(Random, "plan", lambda *args: go_on.wait(60) and plan(*args))
    window.unfold("Strategy")
    kind = window.widget.form.strategy.kind
    window.choose(kind, "random", settle=False)
    window.until(lambda: window.summary == "Planning…")
    window.type_number(window.widget.patches.size.boxes[1], 32, settle=False)
    assert window.widget.plans.planning.running
    window.choose(kind, "whole", settle=False)
    window.until(lambda: f"<b>{2 * 3}</b> patches" in window.summary)
    go_on.set()
    window.settle()
    assert f"<b>{2 * 3}</b> patches" in window.summary
    window.choose(kind, "random")
    window.until(lambda: "<b>600</b> patches" in window.summary)


def test_a_region_is_drawn_and_ranges_are_typed_or_taken_from_the_sliders(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.type_size(16, 16)
    window.unfold("Region")
    window.click(window.widget.form.region.draw)
    layer = window.widget.form.region.layer.value
    assert layer.mode == "add_rectangle"
    assert f"<b>{6 * 4 * 6}</b> patches" in window.summary
    # In micrometres from the centre of the first pixel: 16 to 64 px along Y, 0 to 32 along X.
    corners = np.array([[16, 0], [16, 32], [64, 32], [64, 0]]) - 0.5
    layer.add_polygons([corners])
    window.settle()
    assert f"<b>{6 * 3 * 2}</b> patches" in window.summary
    window.viewer.layers.remove(layer)
    window.until(lambda: f"<b>{6 * 4 * 6}</b> patches" in window.summary)
    assert window.widget.form.region.layer.value is None
    notice = "Region: layer 'Patch region' was removed; patches may lie anywhere."
    assert window.widget.texts.notice.text() == notice

    rows = window.widget.form.region.rows
    assert list(rows) == ["T", "Z"]
    window.type_number(rows["T"].last, 0)
    window.viewer.dims.set_current_step(1, 1)
    window.click(rows["Z"].from_here)
    assert dict(strategy(window).select) == {"T": (0, 1), "Z": (1, 3)}
    assert f"<b>{2 * 4 * 6}</b> patches" in window.summary
    assert window.widget.form.folds["Region"].button.text() == "Region: T 0 to 0, Z 1 to 2"
    window.viewer.dims.set_current_step(1, 0)
    window.until(lambda: not len(window.grid.data))

    # Every number is legible: Qt 6.12 left one pixel for a number without buttons.
    window.choose_depth("Z")
    (row, *_) = window.widget.form.region.rows.values()
    ranges = (row.first.native.lineEdit(), row.last.native.lineEdit())
    for line in (*window.widget.patches.size.boxes, *ranges):
        needed = line.fontMetrics().horizontalAdvance(line.text())
        assert 0 < needed < line.width()


def test_filters_are_scored_in_the_background_and_drawn(window: Window, file: Path) -> None:
    window.open(file)
    window.type_size(16, 16)
    window.unfold("Filters")
    filters = window.widget.form.filters
    window.click(filters.add)
    assert str(window.state.recipe.filters[0]) == "std[DAPI]>p10"
    assert "p10 (lowest 10 %) of contrast: DAPI" in window.summary
    type_into(window, filters.text.native, "max[DAPI]<otsu")
    window.settle()
    assert [str(found) for found in window.state.recipe.filters] == [
        "std[DAPI]>p10",
        "max[DAPI]<otsu",
    ]
    assert "rejected" in window.summary
    colors = {tuple(color) for color in window.grid.edge_color[:, :3].round(2).tolist()}
    assert len(colors) == 3  # with the halo
    window.click(filters.rows[0].remove_button)
    window.click(filters.rows[0].remove_button)
    assert window.state.recipe.filters == ()
    assert "rejected" not in window.summary


def test_a_limit_is_dragged_on_the_histogram_of_its_filter(window: Window, file: Path) -> None:
    window.open(file)
    window.type_size(16, 16)
    window.unfold("Filters")
    filters, left = window.widget.form.filters, Qt.MouseButton.LeftButton
    window.click(filters.add)
    (row,) = filters.rows
    window.choose(row.channel, "DAPI")
    planned = window.widget.plans.current
    metric = planned.verdicts.metrics["std_DAPI"]
    n = len(metric)
    assert (
        row.rejects.text() == f"rejects {int((metric <= np.percentile(metric, 10)).sum())}\nof {n}"
    )
    height = row.native.sizeHint()
    chart = row.histogram
    window.widget.ensureWidgetVisible(chart)
    start, middle = chart.place_of("p10").toPoint(), chart.rect().center()
    window.qtbot.mousePress(chart, left, pos=start)
    for x in range(start.x(), middle.x(), 4):
        move(chart, QPoint(x, middle.y()), left)
    move(chart, middle, left)
    window.qtbot.mouseRelease(chart, left, pos=middle)
    window.settle()
    (rule,) = window.state.recipe.filters
    limit = rule.above
    assert isinstance(limit, float)
    assert row.limit.value == f"{limit:g}"
    assert abs(chart.place_of(limit).x() - middle.x()) <= 1
    assert row.rejects.text() == f"rejects {int((metric <= limit).sum())}\nof {n}"
    assert f"by contrast of DAPI > {limit:g}" in window.summary
    window.qtbot.mouseClick(chart, left, pos=chart.label_of("otsu").center().toPoint())
    window.settle()
    assert row.limit.value == "otsu"
    assert str(window.state.recipe.filters[0]) == "std[DAPI]>otsu"
    type_into(window, row.limit.native, f"{metric.max():g}")
    window.settle()
    assert chart.place_of(metric.max()).x() == pytest.approx(chart.place_of(1e9).x(), abs=1)
    window.qtbot.keyClick(chart, Qt.Key.Key_Home)
    window.settle()
    assert row.rejects.text() == f"rejects 0\nof {n}"
    for key, expected in ((Qt.Key.Key_P, "p10"), (Qt.Key.Key_O, "otsu")):
        window.qtbot.keyClick(chart, key)
        assert row.limit.value == expected
    window.choose(row.kind, "mean")
    assert row.rejects.text().endswith(f"of {n}")
    assert row.native.sizeHint() == height
    window.choose(filters.alike, 4)
    planned = window.widget.plans.current
    assert planned.state.recipe.dedupe == 4
    assert planned.verdicts.reasons[-1] == "duplicate"
    assert not planned.is_provisional


def click_image(
    window: Window,
    y: float,
    x: float,
    keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
) -> None:
    """Click on the image where a point is on the screen, in micrometres from its first pixel."""
    camera, canvas = camera_of(window.viewer), window.viewer.window._qt_viewer.canvas
    height, width = canvas_size(window.viewer)
    top, left = window.images[0].translate[-2:]
    at = QPoint(
        round(width / 2 + (left + x - camera.center[-1]) * camera.zoom),
        round(height / 2 + (top + y - camera.center[-2]) * camera.zoom),
    )
    window.qtbot.mouseClick(canvas.native, Qt.MouseButton.LeftButton, keys, at)
    window.settle()


def white_width(window: Window) -> float:
    """Return the width of what is highlighted, in pixels of the image; 0 if nothing is."""
    if HIGHLIGHT_NAME not in window.viewer.layers:
        return 0
    layer = window.viewer.layers[HIGHLIGHT_NAME]
    x = layer.data[0][layer.vertex_colors[:, 3] > 0][:, 1]
    return float(np.ptp(x)) if len(x) else 0


def test_a_clicked_patch_is_framed_or_placed_and_taken_away_again(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.type_size(16, 16)
    before, view = white_width(window), window.widget.preview.view
    click_image(window, 20 * 0.5, 40 * 0.5)
    window.until(lambda: not view.picture.pixmap().isNull())
    assert window.widget.plans.current.grid[view.row].start == (16, 32)
    assert "y 16, x 32" in view.text.text()
    assert white_width(window) == pytest.approx(16)
    click_image(window, -20.0, 20.0)
    assert view.row is None
    assert not view.isVisible()
    assert white_width(window) == before == 0

    window.unfold("Strategy")
    window.choose(window.widget.form.strategy.kind, "fixed")
    assert "<b>0</b> patches" in window.summary
    click_image(window, 20 * 0.5, 40 * 0.5)
    click_image(window, 62 * 0.5, 94 * 0.5)
    starts = [place.start for place in strategy(window).patches]
    np.testing.assert_allclose(starts, [(12, 32), (48, 80)], atol=1)  # the screen's pixels
    assert "<b>2</b> patches" in window.summary
    assert window.widget.form.folds["Strategy"].button.text() == "Strategy: 2 clicked"
    click_image(window, 24 * 0.5, 50 * 0.5)  # on the first one, which stays
    starts = [place.start for place in strategy(window).patches]
    np.testing.assert_allclose(starts, [(12, 32), (48, 80), (16, 42)], atol=1)
    click_image(window, 16 * 0.5, 34 * 0.5, Qt.KeyboardModifier.ShiftModifier)
    assert window.widget.plans.current.grid[view.row].start == starts[0]
    window.qtbot.keyClick(view, Qt.Key.Key_Delete)
    window.settle()
    assert [place.start for place in strategy(window).patches] == starts[1:]
    window.click(window.widget.form.strategy.forget)
    assert strategy(window).patches == ()


def test_a_target_beside_the_image_is_exported_but_no_labels_layer_that_was_removed(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    spec = SceneSpec(rect=(0, 0, 64, 64))
    target, image = czi(spec, name="target.czi"), czi(spec)
    window.open(target)
    window.open(image)
    window.unfold("Target and labels")
    window.choose(window.widget.form.pairs.boxes["target"], target)
    assert window.state.source.target.path == str(target)
    made = window.export_to(tmp_path / "pairs.patches.zarr")
    assert made["all"].shape[0] == 1
    assert (tmp_path / "pairs.patches.zarr" / "all" / "target").is_dir()
    made.close()

    labels = window.viewer.add_labels(np.ones((64, 64), np.uint8), name="cells")
    window.settle()
    box = window.widget.form.pairs.boxes["labels"]
    window.choose(box, register_layer(labels))
    assert window.state.source.labels is not None
    pairs = window.widget.form.pairs
    assert not pairs.note.visible
    labels.scale = (0.5, 0.5)
    window.type_size(32, 32)
    assert pairs.note.native.isVisible()
    assert pairs.note.value.startswith("'cells' lies elsewhere in the window: it is used pixel by")
    assert window.widget.export.start.enabled
    window.viewer.layers.remove(labels)
    window.settle()
    assert box.value is None
    notice = "Labels: layer 'cells' was removed; patches are exported without labels."
    assert window.widget.texts.notice.text() == notice
    window.export_to(tmp_path / "made.patches.zarr").close()
    assert (tmp_path / "made.patches.zarr" / "all" / "target").is_dir()
    assert not (tmp_path / "made.patches.zarr" / "all" / "labels").exists()


def test_a_copied_command_a_saved_plan_of_the_same_bytes_and_a_loaded_one(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open(file)
    window.type_number(window.widget.patches.size.boxes[1], 16)
    window.widget.export.out.value = tmp_path / "a.patches.zarr"
    window.widget.export.copy_command.trigger()
    window.settle()
    said = QApplication.clipboard().text()
    assert said.startswith(f"patchset export {file}@0 --out {tmp_path / 'a.patches.zarr'}")
    assert "--patch-size 16,16" in said
    assert "--memory" not in said
    assert export_memory() == DEFAULT_MEMORY
    with monkeypatch.context() as patched:
        patched.setattr(get_plugin_settings(PLUGIN).export, "memory", 512)
        window.widget.export.copy_command.trigger()
        window.settle()
        assert export_memory() == 512 * 2**20
    assert "--memory 512MiB" in QApplication.clipboard().text()

    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    made = window.export_to(tmp_path / "window.patches.zarr")
    made.close()
    saved, again = tmp_path / "plan.json", tmp_path / "command.patches.zarr"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    window.widget.export.save_plan.trigger()
    window.settle()
    ran = CliRunner().invoke(app, ["export", "--plan", str(saved), "--out", str(again)])
    assert ran.exit_code == 0, ran.output
    assert digests(again) == digests(tmp_path / "window.patches.zarr")

    before = window.state
    window.viewer.layers.clear()
    window.until(lambda: window.state is None)
    window.type_number(window.widget.patches.size.boxes[1], 8)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.load_plan.trigger()
    window.settle()
    assert (window.state.recipe, window.state.sources) == (before.recipe, before.sources)
    assert json.loads(saved.read_text())["out"] == window.state.out

    out = str(tmp_path / "made.patches")
    plan = ExportPlan(sources=[f"{file}@0"], strategy=Tiled(size=(16, 16)), format="npz", out=out)
    saved.write_text(plan.model_dump_json())
    window.widget.export.load_plan.trigger()
    window.settle()
    assert window.state.recipe.format == "npz"
    assert window.widget.export.destination == out
    assert window.widget.form.folds["Output"].button.text() == "Output: npz"


def test_a_number_means_pixels_in_another_window_with_a_plan_that_has_micrometres(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open(file)
    window.type_size(16, 16)
    for box, text in zip(window.widget.patches.overlap.boxes[1:], (4, "0.4 µm"), strict=True):
        window.type_number(box, text)
    saved = str(tmp_path / "plan.json")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (saved, ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (saved, ""))
    window.widget.export.save_plan.trigger()
    window.settle()
    window.viewer.window.remove_dock_widget(window.dock)
    window.viewer.layers.clear()
    window.dock_widget()
    window.widget.export.load_plan.trigger()
    window.settle()
    size, overlap = window.widget.patches.size, window.widget.patches.overlap
    texts = [box.text() for row in (size, overlap) for box in row.boxes[1:]]
    assert texts == ["16", "16", "4", "0.4 µm"]
    window.type_number(overlap.boxes[1], 8)
    window.type_number(size.boxes[1], 32)
    assert (strategy(window).size, strategy(window).overlap) == ((32, 32), (8, "0.4um"))


def test_every_format_is_exported_and_opened(window: Window, file: Path) -> None:
    window.open(file)
    window.unfold("Output")
    output, export = window.widget.form.output, window.widget.export
    gallery = window.widget.preview.gallery
    for name in FORMATS:
        window.choose(output.format, name)
        assert output.codec.visible == (name == "zarr")
        assert export.destination == str(file.with_name(f"image{FORMATS[name].suffix}"))
        window.click(export.start)
        assert export.status.value == f"Saved image{FORMATS[name].suffix}"
        assert PatchSet(export.destination).manifest.counts == {"all": 12}
        assert export.open.enabled == FORMATS[name].has_pixels
        if export.open.enabled:
            window.click(export.open)
            assert gallery.windowTitle() == f"Gallery: image{FORMATS[name].suffix}"
            assert gallery.count.text() == "12 patches"
            window.until(lambda: window.is_idle and not gallery.grid.missing_rows())
        shutil.rmtree(export.destination)  # the next format has the same name


class Preferences:
    """Preferences that the widget can read only once they are allowed to be read."""

    def __init__(self) -> None:
        self.may_read, self.read_in = Event(), list[threading.Thread]()

    def read(self, plugin: str) -> Any:
        self.read_in.append(threading.current_thread())
        assert self.may_read.wait(60)
        return get_plugin_settings(plugin)


@pytest.fixture
def preferred(monkeypatch: pytest.MonkeyPatch) -> Iterator[Preferences]:
    """Prefer zstd; ask for it before `window`."""
    export, preferred = get_plugin_settings(PLUGIN).export, Preferences()
    monkeypatch.setattr(export, "format", "zarr")
    monkeypatch.setattr(export, "compression", "zstd")
    monkeypatch.setattr(preferences, "get_plugin_settings", preferred.read)
    yield preferred
    preferred.may_read.set()


def test_the_form_begins_with_what_is_preferred_and_the_window_does_not_wait_for_it(
    preferred: Preferences, window: Window
) -> None:
    output = window.widget.form.output
    assert output.value["codec"] == "none"
    preferred.may_read.set()
    window.settle()
    assert output.value["codec"] == "zstd"
    assert threading.main_thread() not in preferred.read_in


def test_what_a_person_chose_before_the_preferences_were_read_stands(
    preferred: Preferences, window: Window
) -> None:
    output = window.widget.form.output
    output.codec.value = "lz4"
    preferred.may_read.set()
    window.settle()
    assert output.value["codec"] == "lz4"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Preferences that cannot be read, and what is notified."""

    def fail(plugin: str) -> Any:
        raise OSError(f"{plugin}: settings.yaml can't be read")

    said: list[str] = []
    monkeypatch.setattr(preferences, "get_plugin_settings", fail)
    monkeypatch.setattr(widget_module, "show_error", said.append)
    return said


def test_preferences_that_cannot_be_read_are_said_and_the_form_is_there(
    said: list[str], window: Window
) -> None:
    window.settle()
    assert said == [f"{PLUGIN}: settings.yaml can't be read"]
    assert window.widget.form.output.value["codec"] == "none"


def test_the_wheel_over_the_form_changes_nothing(window: Window, file: Path) -> None:
    window.open(file)
    for title in ("Strategy", "Output"):
        window.unfold(title)
    form, before = window.widget.form, window.state
    for field in (
        form.patches.size.boxes[1],
        form.strategy.kind.native,
        form.output.format.native,
    ):
        window.widget.ensureWidgetVisible(field)
        window.settle()
        wheel(field, -3)
        wheel(field, 2)
    window.settle()
    assert window.state == before


def test_what_a_file_limits_pairs_or_filters_is_not_the_next_one_s(
    window: Window, file: Path, czi: MakeCzi
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 38, 20)), name="tiny.czi"))
    assert window.state.recipe.strategy.size == (16, 32)
    assert (
        "X is 32 here, a power of two: the image has only 38 px along X."
        in window.widget.patches.hint.value
    )
    window.open(file)
    assert window.state.recipe.strategy.size == (64, 64)
    assert "Only" not in window.widget.patches.hint.value
    window.choose_depth("Z")
    assert window.state.recipe.strategy.size == (2, 64, 64)
    window.choose_depth("T")
    assert window.state.recipe.strategy.size == (2, 64, 64)
    assert f"<b>{3 * 2}</b> patches" in window.summary

    other = czi(SceneSpec(rect=(0, 0, 128, 128)), name="other.czi")
    window.widget.form.pairs.load({file: {"target": file}})
    window.settle()
    assert window.state.source.target.path == str(file)
    window.open(other)
    assert window.state.source.target is None
    assert window.widget.form.folds["Target and labels"].button.text() == "Target and labels: none"
    window.widget.source.file.value = file
    window.settle()
    assert window.state.source.target.path == str(file)

    window.unfold("Filters")
    window.click(window.widget.form.filters.add)
    window.choose(window.widget.form.filters.rows[0].channel, "EGFP")
    assert "patches" in window.summary
    window.widget.source.file.value = other
    window.until(lambda: "Filters: There is no channel 'EGFP'" in window.summary)
    assert "Channel 0" in window.summary


def test_a_hidden_channel_is_named_and_what_is_wrong_with_them_legible_in_every_theme(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open(file)
    egfp = window.viewer.layers["EGFP"]
    egfp.visible = False
    assert "Goes into the set, though hidden here: EGFP" in window.summary
    window.unfold("Channels")
    window.click(window.widget.form.channels.visible_ones)
    assert window.state.recipe.channels == (0,)
    assert "hidden" not in window.summary
    egfp.visible = True
    window.click(window.widget.form.channels.visible_ones)
    assert window.state.recipe.channels is None
    for layer in window.images:  # to look at something else
        layer.visible = False
    assert "hidden" not in window.summary

    for theme in ("dark", "light"):
        monkeypatch.setattr(window.viewer, "theme", theme)  # as a script sets it
        for box in window.widget.form.channels.boxes:
            window.tick(box.native)
        assert "No channel is ticked" in window.summary
        picture = window.widget.texts.summary.grab().toImage()
        seen = [
            picture.pixelColor(x, y).lightness()
            for x in range(picture.width())
            for y in range(picture.height())
        ]
        assert max(seen) - min(seen) > 100, theme
        for box in window.widget.form.channels.boxes:
            window.tick(box.native)
