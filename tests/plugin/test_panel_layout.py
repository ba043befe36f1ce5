"""Where things are in the panel: nothing moves under the mouse, and what is used first is seen."""

from pathlib import Path

import pytest
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QFileDialog, QToolTip, QWidget

from napari_patchset.plugin.napari_compat import scale_bar
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import type_into
from support.window import Window

pytestmark = pytest.mark.gui


def places(window: Window) -> list[int]:
    """Return how far fields are from the top of the panel, and buttons from its bottom.

    napari's status bar takes a pixel of the panel with the first text.
    """
    QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
    widget = window.widget
    row, save_to = widget.export.start.native.parentWidget(), widget.export.out.native
    assert row is not None
    size, overlap = (row.boxes[1] for row in (widget.patches.size, widget.patches.overlap))
    parts = (size, overlap, widget.preview.pick_button, save_to, row)
    below = [part.mapTo(widget, QPoint(0, 0)).y() for part in parts]
    return [*below[:2], *(widget.height() - y for y in below[2:])]


def test_the_fields_keep_their_place_from_one_file_of_several_scenes_to_the_next(
    window: Window, czi: MakeCzi
) -> None:
    rects = (0, 0, 128, 96), (400, 0, 128, 96)
    paths = [
        czi(*(SceneSpec(id=i, rect=rect) for i, rect in enumerate(rects)), name=name)
        for name in ("one.czi", "other.czi")
    ]
    window.open(paths[0])
    before, seen = places(window), set[tuple[int, ...]]()
    timer = QTimer(window.widget)
    timer.timeout.connect(lambda: seen.add(tuple(places(window))))
    timer.start(1)
    window.open(paths[1])
    timer.stop()
    assert seen == {tuple(before)}
    field, content = window.widget.patches.size.boxes[1], window.widget._area.widget()
    top = field.mapTo(content, QPoint(0, 0)).y()
    window.click(window.widget.form.more.button)
    for fold in window.widget.form.folds.values():
        fold.open()
    window.until(lambda: window.widget._area.verticalScrollBar().maximum() > 0)
    assert field.mapTo(content, QPoint(0, 0)).y() == top


def type_length(window: Window, field: QWidget, text: str) -> None:
    type_into(window, field, text)
    window.qtbot.keyClick(field, Qt.Key.Key_Return)
    window.settle()


def test_no_message_moves_a_field_or_a_button(window: Window, czi: MakeCzi) -> None:
    before = places(window)
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128)), name="one.czi"))
    assert places(window) == before
    widget = window.widget
    size, overlap = (row.boxes[1] for row in (widget.patches.size, widget.patches.overlap))
    for field, text, said in (
        (size, "abc", "'abc' is not a length"),
        (size, "9999", "larger than"),
        (size, "20", "not a multiple of 8"),
        (overlap, "64", "less than the size"),
        (overlap, "5", "patches"),
    ):
        type_length(window, field, text)
        assert said in window.summary + widget.patches.hint.value
        assert places(window) == before, text
    window.unfold("Filters")
    type_into(window, widget.form.filters.text.native, "max>100000")
    window.qtbot.keyClick(widget.form.filters.text.native, Qt.Key.Key_Return)
    window.until(lambda: "<b>0</b> patches" in window.summary)
    assert places(window)[2:] == before[2:]
    window.click(widget.form.filters.rows[0].remove_button)
    window.until(lambda: "rejected" not in window.summary)
    window.click(widget.export.start)
    window.until(lambda: str(widget.export.status.value).startswith("Saved"))
    assert places(window)[2:] == before[2:]
    window.click(widget.export.start)
    assert widget.export.answers
    assert places(window)[2:] == before[2:]
    widget.export.dismiss()
    window.click(widget.preview.pick_button)
    assert widget.preview.view.isVisible()
    assert places(window)[2:] == before[2:]


def test_what_is_used_first_is_seen_in_a_low_window(window: Window, file: Path) -> None:
    main = window.viewer.window._qt_window
    was = main.size()
    # napari's own docks are higher than that once they have shown some kinds of layers.
    others = [dock for dock in main.findChildren(QDockWidget) if dock.isVisible()]
    others.remove(window.dock)
    for dock in others:
        dock.hide()

    def is_low() -> bool:
        main.resize(960, 540)  # a screen of 1920 x 1080 at 200 %
        return window.widget.height() < 500

    try:
        window.until(is_low)
        window.open(file)
        widget = window.widget
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        seen = (widget.source.file, widget.patches.depth_axis, widget.patches.size)
        seen = (*seen, widget.patches.overlap, widget.export.out, widget.export.start)
        natives = [widget.picker.map, widget.picker.names, *(each.native for each in seen)]
        for native in natives:
            assert native.visibleRegion().boundingRect().size() == native.size(), native
        assert (main.width(), main.height()) == (960, 540)
    finally:
        for dock in others:
            dock.show()
        main.resize(was)


def test_a_text_that_is_longer_than_its_box_scrolls_and_is_whole_in_the_tooltip(
    window: Window,
) -> None:
    box, label = window.widget.texts, window.widget.texts.summary
    height, before = box.height(), window.widget.preview.pick_button
    assert box.focusPolicy() == Qt.FocusPolicy.NoFocus
    label.setText("word " * 200)
    window.until(lambda: box.verticalScrollBar().maximum() > 0)
    assert box.height() == height
    before.setEnabled(True)
    before.setFocus()
    window.qtbot.keyClick(before, Qt.Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier)
    assert box.window().focusWidget() is box
    window.qtbot.keyClick(box, Qt.Key.Key_Down)
    assert box.verticalScrollBar().value() > 0
    assert tooltip(box.viewport()) == f"<qt>{label.text()}</qt>"
    window.widget.texts.notice.setText("Layer 'a<b>' & b\nwas removed")  # plain text
    window.widget.texts.notice.show()
    assert "a&lt;b&gt;&#x27; &amp; b<br>was removed<br>word" in tooltip(box.viewport())
    window.widget.texts.notice.hide()
    label.setText("short")
    window.until(lambda: box.verticalScrollBar().maximum() == 0)
    tooltip(box.viewport())
    window.until(lambda: not QToolTip.isVisible())


def test_a_long_name_is_whole_in_the_list_and_in_the_tooltip(window: Window, czi: MakeCzi) -> None:
    name = f"{'long' * 20}.czi"
    path = czi(SceneSpec(rect=(0, 0, 64, 64)), name=name)
    window.open(path)
    box = window.widget.source.file.native
    assert str(path) in tooltip(box)
    window.widget.source.file.tooltip = ""
    assert tooltip(box) == name
    window.qtbot.keyClick(box, Qt.Key.Key_Space)
    window.until(lambda: box.view().isVisible())
    try:
        assert box.view().width() > box.width()
    finally:
        box.hidePopup()


def test_files_are_looked_for_beside_the_image(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(_: object, title: str, folder: str, kinds: str = "") -> tuple[str, str]:
        asked.append(folder)
        return "", ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", ask)
    window.open(file)
    window.widget.form.annotations.file_wanted.emit()
    window.widget.export.load_plan.trigger()
    window.click(window.widget.source.open)
    assert asked == [str(file.parent)] * 3


def test_the_scale_bar_is_where_napari_does_not_notify(window: Window, file: Path) -> None:
    bar = scale_bar(window.viewer)
    bar.visible, bar.position = False, "bottom_right"
    window.open(file)
    assert bar.visible
    assert bar.position == "bottom_left"


def test_a_message_of_napari_is_seen_though_a_patch_is_framed_as_an_example(
    window: Window, file: Path
) -> None:
    window.open(file)
    type_length(window, window.widget.patches.overlap.boxes[1], "8")
    window.until(lambda: str(window.viewer.status).startswith("Framed"))
    window.viewer.status = "Opening other.czi…"
    assert window.viewer.status == "Opening other.czi…"
    window.viewer.status = "Ready"
    assert window.viewer.status == "Ready"


def tooltip(widget: QWidget) -> str:
    """Return the tooltip that a mouse at rest brings up."""
    at = widget.rect().center()
    QApplication.sendEvent(widget, QHelpEvent(QEvent.Type.ToolTip, at, widget.mapToGlobal(at)))
    return QToolTip.text()
