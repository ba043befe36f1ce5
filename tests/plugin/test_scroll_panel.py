"""The panel's own behaviour, without a viewer."""

import pytest
from magicgui.widgets import ComboBox, SpinBox
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit, QWidget

from napari_patchset.plugin.form.fields import Fold, Section
from napari_patchset.plugin.form.scroll_panel import Panel
from support.gestures import wheel


@pytest.fixture
def panel(qtbot: QtBot) -> Panel:
    """A panel of many fields that is too low to show them all."""
    panel = Panel()
    qtbot.addWidget(panel)
    fields = [SpinBox(value=64, max=100), ComboBox(choices=["a", "b", "c"], value="b")]
    panel.fields = Section(fields + [SpinBox() for _ in range(20)])
    panel.fill([panel.fields.native], [QWidget()])
    panel.resize(400, 200)
    with qtbot.waitExposed(panel):
        panel.show()
    qtbot.waitUntil(lambda: panel._area.verticalScrollBar().maximum() > 0)
    return panel


def scrolled(panel: Panel) -> int:
    return panel._area.verticalScrollBar().value()


@pytest.mark.parametrize("index", [0, 1])
def test_the_wheel_scrolls_and_changes_no_field(panel: Panel, index: int) -> None:
    field = panel.fields[index]
    before = field.value
    wheel(field.native, -3)
    assert field.value == before
    assert scrolled(panel) > 0
    assert not field.native.hasFocus()


def test_a_field_that_was_added_later_is_guarded_too(qtbot: QtBot, panel: Panel) -> None:
    late = SpinBox(value=5)
    panel.fields.insert(0, late)
    qtbot.waitUntil(lambda: late.native.isVisible() and late.native.height() > 0)
    qtbot.wait(0)
    wheel(late.native, -3)
    assert late.value == 5
    assert scrolled(panel) > 0


def test_the_wheel_turns_the_field_that_has_the_focus(qtbot: QtBot, panel: Panel) -> None:
    panel.activateWindow()
    field = panel.fields[0]
    field.native.setFocus()
    qtbot.waitUntil(field.native.hasFocus)
    wheel(field.native, -3)
    assert field.value == 61
    assert scrolled(panel) == 0


def test_what_is_unfolded_is_scrolled_to(qtbot: QtBot, panel: Panel) -> None:
    inside = QWidget()
    inside.setFixedHeight(60)
    fold = Fold("More", inside)
    panel.fields.native.layout().addWidget(fold)
    qtbot.waitUntil(fold.button.isVisible)
    panel.ensureWidgetVisible(fold.button)
    before = scrolled(panel)
    qtbot.mouseClick(fold.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: scrolled(panel) > before)
    bottom = inside.mapTo(panel._area, inside.rect().bottomLeft()).y()
    assert bottom <= panel._area.height()


def test_the_click_that_enters_a_number_selects_it(qtbot: QtBot, panel: Panel) -> None:
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow)
    panel.fields[1].native.setFocus()
    edit = panel.fields[0].native.findChild(QLineEdit)
    qtbot.mouseClick(edit, Qt.MouseButton.LeftButton)
    assert edit.selectedText() == "64"
    qtbot.mouseClick(edit, Qt.MouseButton.LeftButton)
    assert edit.selectedText() == ""  # the next one sets the cursor
