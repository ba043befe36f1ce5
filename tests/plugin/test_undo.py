"""Undo and redo of what is done by hand, by the keys, wherever the focus is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_patchset.plugin.canvas.annotations import OUTLINES_NAME
from napari_patchset.plugin.history import GONE, Edit, History
from napari_patchset.plugin.layers.outlines import CLASS, class_names
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drag
from support.window import XML, Window

CTRL, LEFT = Qt.KeyboardModifier.ControlModifier, Qt.MouseButton.LeftButton
CTRL_SHIFT = CTRL | Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def opened(window: Window, file: Path) -> Window:
    """A window with 36 patches, and a filter."""
    window.open(file)
    window.type_size(32, 32)
    window.unfold("Filters")
    text = window.widget.form.filters.text.native
    window.qtbot.keyClicks(text, "max[DAPI]>p50")
    window.qtbot.keyClick(text, Qt.Key.Key_Return)
    window.settle()
    return window


def canvas(window: Window) -> Any:
    return window.viewer.window._qt_viewer.canvas.native


def activate(window: Window, shown: Any) -> None:
    """Have the keys go to a window, as a click on it does."""
    shown.activateWindow()
    window.until(shown.isActiveWindow)


def undo(window: Window, widget: Any) -> str:
    window.qtbot.keyClick(widget, Qt.Key.Key_Z, CTRL)
    window.settle()
    return str(window.viewer.status).partition("    ")[0]


def redo(window: Window, widget: Any) -> str:
    window.qtbot.keyClick(widget, Qt.Key.Key_Z, CTRL_SHIFT)
    window.settle()
    return str(window.viewer.status).partition("    ")[0]


def test_patches_rejected_in_the_gallery(opened: Window) -> None:
    window, form = opened, opened.widget.form
    window.click(window.widget.preview.gallery_button)
    grid = window.widget.preview.gallery.grid
    window.until(lambda: grid.isVisible() and not grid.missing_rows())
    activate(window, window.widget.preview.gallery)
    for index in (0, 2):
        window.qtbot.mouseClick(grid.viewport(), LEFT, pos=grid.cell(index).center())
        window.qtbot.keyClick(grid, Qt.Key.Key_X)
        window.settle()
    both = form.overrides
    assert undo(window, grid) == "Undone: patches kept or rejected"
    assert form.overrides == both[:1]
    assert window.widget.plans.current.state.recipe.overrides == both[:1]
    undo(window, canvas(window))
    assert form.overrides == ()
    assert undo(window, grid) == "Nothing to undo"
    assert redo(window, canvas(window)) == "Redone: patches kept or rejected"
    redo(window, grid)
    assert form.overrides == both
    assert redo(window, grid) == "Nothing to redo"


def test_a_limit_that_was_dragged_and_typed(opened: Window) -> None:
    window, (row,) = opened, opened.widget.form.filters.rows
    histogram, limit = row.histogram, row.limit.native
    window.widget.ensureWidgetVisible(histogram)
    y = histogram.height() - 8
    window.qtbot.mousePress(histogram, LEFT, pos=QPoint(30, y))
    for x in (40, 50, 60):
        window.qtbot.mouseMove(histogram, QPoint(x, y))
    window.qtbot.mouseRelease(histogram, LEFT, pos=QPoint(60, y))
    window.settle()
    dragged = row.limit.value
    assert dragged != "p50"
    limit.setFocus()
    limit.selectAll()
    window.qtbot.keyClicks(limit, "7")
    window.settle()
    assert undo(window, limit) != "Undone: the limit of a filter"  # the field's own
    assert row.limit.value == dragged
    limit.selectAll()
    window.qtbot.keyClicks(limit, "8")
    window.settle()
    assert undo(window, histogram) == "Undone: the limit of a filter"
    assert row.limit.value == "p50"  # the whole drag is one step
    redo(window, histogram)
    assert row.limit.value == "8"  # what was typed meanwhile is not lost
    window.click(row.remove_button)
    assert undo(window, canvas(window)) == "Nothing to undo"


def test_outlines_and_their_classes(window: Window, czi: MakeCzi) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.unfold("Annotations")
    section = window.widget.form.annotations
    window.click(section.draw)
    layer = window.viewer.layers[OUTLINES_NAME]
    drag(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    window.settle()
    window.click(section.add)
    window.qtbot.keyClick(section.list.viewport(), Qt.Key.Key_Escape)
    drag(window, (34, 34), (34, 46), (58, 46), (58, 34), (35, 34))
    window.settle()
    corners, colors = [each.copy() for each in layer.data], layer.edge_color.copy()
    widths = list(layer.edge_width)
    assert class_names(layer) == ["Class 1", "Class 2"]
    key = window.state.source.annotations.path
    assert undo(window, canvas(window)) == "Undone: what was drawn"
    assert class_names(layer) == ["Class 1"]
    assert window.state.source.annotations.path != key
    assert list(section.classes)[1].n_outlines == 0
    undo(window, canvas(window))  # the class that was added
    assert [each.name for each in section.classes] == ["Class 1"]
    undo(window, section.list)
    assert not len(layer.data)
    assert undo(window, canvas(window)) == "Nothing to undo"
    for _ in range(3):
        redo(window, canvas(window))
    assert class_names(layer) == ["Class 1", "Class 2"]
    assert all(map(np.array_equal, layer.data, corners))
    assert np.array_equal(layer.edge_color, colors)
    assert list(layer.edge_width) == widths

    layer.mode = "select"
    drag(window, (46, 40), (40, 20))  # moves the shape, in one step
    window.settle()
    assert not np.array_equal(layer.data[1], corners[1])
    undo(window, canvas(window))
    assert np.array_equal(layer.data[1], corners[1])
    assert list(layer.features[CLASS]) == ["Class 1", "Class 2"]
    for _ in range(3):
        undo(window, canvas(window))
    layer.mode = "add_polygon_lasso"
    drag(window, (2, 2), (2, 30), (30, 30), (30, 2), (2, 3))
    window.settle()
    assert class_names(layer) == ["Class 1"]
    assert np.array_equal(layer.edge_color, colors[:1])
    window.viewer.layers.remove(layer)
    window.settle()
    assert undo(window, canvas(window)) == "Nothing to undo"


def test_a_labels_layer_and_another_image_have_their_own(opened: Window, czi: MakeCzi) -> None:
    window, form = opened, opened.widget.form
    window.click(window.widget.preview.gallery_button)
    grid = window.widget.preview.gallery.grid
    window.until(lambda: grid.isVisible() and not grid.missing_rows())
    window.qtbot.mouseClick(grid.viewport(), LEFT, pos=grid.cell(0).center())
    window.qtbot.keyClick(grid, Qt.Key.Key_X)
    window.settle()
    rejected = form.overrides
    labels = window.viewer.add_labels(np.zeros((64, 96), np.uint8))
    labels.fill((5, 5), 3)
    window.settle()
    window.viewer.layers.selection.active = labels
    undo(window, canvas(window))
    assert not labels.data.any()
    assert form.overrides == rejected
    window.viewer.layers.selection.active = window.images[0]
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64)), name="other.czi", xml=XML))
    assert undo(window, canvas(window)) == "Nothing to undo"
    assert form.overrides == rejected


def test_a_step_that_changes_nothing_is_passed_over() -> None:
    values, history = {"a": 1}, History()

    def step(name: str, value: int) -> Edit:
        return Edit(name, lambda: values.get(name, GONE), lambda v: values.update({name: v}), value)

    history.record(step("a", 0))
    history.record(step("a", 1))
    history.record(step("b", 1))
    assert history.undo() == "Undone: a"
    assert values == {"a": 0}
    assert history.redo() == "Redone: a"
    history.undo()
    history.record(step("a", 5))
    assert history.redo() == "Nothing to redo"
