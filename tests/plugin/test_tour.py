"""The journeys of docs/tour.md, counted: each click, and each key that is struck, is an action."""

import re
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QLineEdit, QWidget

from napari_patchset import PatchSet
from napari_patchset.plugin.widget import PatchesWidget
from support.czi_maker import MakeCzi, SceneSpec
from support.documents import REPOSITORY
from support.gestures import drop
from support.window import Window

pytestmark = pytest.mark.gui

CTRL = Qt.KeyboardModifier.ControlModifier


def counted() -> list[int]:
    """Return the numbers of actions in the table of the page."""
    page = (REPOSITORY / "docs" / "tour.md").read_text("utf-8")
    return [int(n) for n in re.findall(r"\| (\d+) \|$", page, re.MULTILINE)]


class Hand:
    """Does one action after the other, and counts them."""

    def __init__(self, window: Window) -> None:
        self.window, self.actions = window, 0

    def activate(self, widget: QWidget) -> None:
        """Make a window the active one, whose fields notice how they are entered."""
        widget.window().activateWindow()
        self.window.until(lambda: QApplication.activeWindow() is widget.window())

    def drop(self, path: Path) -> None:
        self.actions += 1
        drop(self.window, path)

    def choose_from_menu(self, menu: Any, text: str) -> None:
        """Click a menu and one of its entries."""
        self.actions += 2
        menu.aboutToShow.emit()
        (action,) = (each for each in menu.actions() if each.text().startswith(text))
        action.trigger()

    def click(self, part: Any) -> None:
        """Click a button, or into a field."""
        self.actions += 1
        native = getattr(part, "native", part)
        field = native.findChild(QLineEdit) if isinstance(native, QAbstractSpinBox) else native
        self.activate(native)
        self.window.click(field)

    def click_in_gallery(self, index: int, keys: Qt.KeyboardModifier) -> None:
        self.actions += 1
        grid = self.window.widget.preview.gallery.grid
        self.activate(grid)
        at: QPoint = grid.cell(index).center()
        assert grid.viewport().rect().contains(at), "to be scrolled to"
        self.window.qtbot.mouseClick(grid.viewport(), Qt.MouseButton.LeftButton, keys, at)

    def strike(self, keys: str) -> None:
        """Strike keys, in what has the focus."""
        self.actions += len(keys)
        self.window.qtbot.keyClicks(QApplication.focusWidget(), keys)
        self.window.widget.patches.judge()  # as a pause does
        self.window.settle()


def test_from_a_file_to_a_filtered_and_split_set_in_12_actions(
    window: Window, czi: MakeCzi
) -> None:
    file = czi(SceneSpec(rect=(0, 0, 512, 512)))
    window.viewer.window.remove_dock_widget(window.dock)
    hand, before = Hand(window), set(QApplication.allWidgets())
    hand.drop(file)
    hand.choose_from_menu(window.viewer.window.plugins_menu, "Patches")
    opened = set(QApplication.allWidgets()) - before
    (window.widget,) = (each for each in opened if isinstance(each, PatchesWidget))
    window.dock = window.widget.parent()
    window.until(lambda: window.state is not None)
    window.settle()
    form, export = window.widget.form, window.widget.export
    hand.click(form.more.button)
    hand.click(form.folds["Filters"].button)
    hand.click(form.filters.add)
    hand.click(form.folds["Split"].button)
    hand.click(form.split.val)
    hand.strike("20")
    hand.click(export.start)
    window.until(lambda: export.open.enabled)
    assert hand.actions == counted()[0] <= 12
    with PatchSet(file.with_name("image.patches.zarr")) as made:
        assert set(made.splits) == {"train", "val"}
        assert "contrast" in window.summary


def test_twenty_patches_are_rejected_by_eye_in_25_actions(window: Window, file: Path) -> None:
    window.open(file)
    window.type_size(32, 32)
    hand, gallery = Hand(window), window.widget.preview.gallery
    hand.click(window.widget.preview.gallery_button)
    gallery.resize(720, 700)  # a screen is larger than that of the tests
    window.settle()
    for index in range(20):
        hand.click_in_gallery(index, CTRL)
    hand.strike("x")
    assert hand.actions == counted()[1] <= 25
    assert "<b>16</b> patches" in window.summary
    assert len(window.state.recipe.overrides) == 20


def test_the_overlap_is_changed_and_the_set_exported_again_in_4_actions(
    window: Window, file: Path, tmp_path: Path
) -> None:
    window.open(file)
    window.type_size(32, 32)
    out = tmp_path / "made.patches.zarr"
    window.export_to(out).close()
    hand, export = Hand(window), window.widget.export
    hand.click(window.widget.patches.overlap.boxes[1])
    hand.strike("8")
    hand.click(export.start)
    hand.click(export.answers[0])
    window.until(lambda: export.open.enabled)
    assert hand.actions == counted()[2] <= 4
    with PatchSet(out) as made:
        assert made.manifest.recipe["strategy"]["overlap"] == [8, 8]
