"""The form without a mouse: Tab goes through it in order, Enter and Space act."""

from pathlib import Path
from typing import Any

import pytest
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QWidget

from napari_patchset.plugin.scenes.map import SceneMap
from support.window import Window


@pytest.fixture(autouse=True)
def _with_the_keys(window: Window) -> None:
    """Focus the window, as a click of the user does."""
    main = window.viewer.window._qt_window
    main.activateWindow()
    window.until(main.isActiveWindow)


def focused(window: Window) -> Any:
    return window.viewer.window._qt_window.focusWidget()


def tab_stops(window: Window, first: QWidget) -> list[Any]:
    """Return what Tab stops at in the panel, beginning with the first stop."""
    first.setFocus()
    stops = []
    while window.widget.isAncestorOf(part := focused(window)) and part not in stops:
        stops.append(part)
        window.qtbot.keyClick(part, Qt.Key.Key_Tab)
    return stops


def named(part: Any) -> str:
    """Return the words on a part, or its place in the panel for want of any."""
    return part.text() if isinstance(part, QAbstractButton) else type(part).__name__


def test_tab_goes_down_the_form_in_order(window: Window, file: Path) -> None:
    window.open(file)
    form = window.widget.form
    form.more.open()
    for fold in form.folds.values():
        fold.open()
    form.filters.add.native.click()
    window.qtbot.wait(50)  # until the form is laid out again
    stops = tab_stops(window, window.widget.source.file.native)
    names = [named(part) for part in stops]
    assert names.index("Open…") < names.index("SceneMap") < names.index("none")
    expected = [
        "More options",
        "Strategy: tiled",
        "DAPI",
        "EGFP",
        "⇤",
        "×",
        "Add filter",
        "Output: zarr",
        "Export",
    ]
    where = [names.index(name) for name in expected]
    assert where == sorted(where)
    assert {form.channels.boxes[1].native, form.filters.rows[0].limit.native} <= set(stops)
    stops[-1].setFocus()
    window.qtbot.keyClick(stops[-1], Qt.Key.Key_Backtab)
    assert focused(window) is stops[-2]


def test_a_set_is_exported_by_keys_alone(window: Window, file: Path, tmp_path: Path) -> None:
    window.open(file)
    for said in window.viewer.window._qt_window.findChildren(NapariQtNotification):
        said.close()  # it takes the keys away when it goes

    def press(*keys: Qt.Key) -> None:
        for key in keys:
            window.qtbot.keyClick(focused(window), key)

    def tab_to(name: str) -> None:
        for _ in range(60):
            if named(focused(window)) == name:
                return
            press(Qt.Key.Key_Tab)
        raise AssertionError(f"Tab never reaches {name}")

    window.widget.source.open.native.setFocus()
    tab_to(SceneMap.__name__)
    press(Qt.Key.Key_Right, Qt.Key.Key_Return)
    window.until(lambda: window.state.source.scene == 1)
    tab_to("none")
    press(Qt.Key.Key_Right)
    assert window.state.recipe.depth_axis == "Z"
    press(Qt.Key.Key_Tab)
    for size in ("3", "16", "16"):
        focused(window).selectAll()
        window.qtbot.keyClicks(focused(window), size)
        press(Qt.Key.Key_Tab)
    assert window.state.recipe.strategy.size == (3, 16, 16)
    tab_to("More options")
    press(Qt.Key.Key_Return, Qt.Key.Key_Tab, Qt.Key.Key_Tab)
    assert named(focused(window)) == "Channels: all"
    press(Qt.Key.Key_Space, Qt.Key.Key_Tab, Qt.Key.Key_Space)
    assert window.state.recipe.channels == (1,)
    tab_to("Export")
    out = tmp_path / "made.patches.zarr"
    window.widget.export.out.value = out
    press(Qt.Key.Key_Return)
    window.until(lambda: window.widget.export.open.enabled)
    assert out.is_dir()
    assert named(focused(window)) == "Open patch set"
    press(Qt.Key.Key_Return)
    window.until(window.widget.preview.gallery.isVisible)
