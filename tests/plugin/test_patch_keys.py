"""Patches picked, placed and moved by keyboard, in a real window."""

import pytest
from qtpy.QtCore import Qt

from napari_patchset.plugin.form.strategy import StrategySection
from napari_patchset.plugin.napari_compat import camera as camera_of
from support.czi_maker import MakeCzi, SceneSpec
from support.window import Window

SHIFT, CTRL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def opened(window: Window, czi: MakeCzi) -> Window:
    """A window that shows an image of 4 x 4 patches of 16 px, and has the keyboard."""
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.type_size(16, 16)
    main = window.viewer.window._qt_window
    main.activateWindow()
    window.until(main.isActiveWindow)
    return window


def press(
    window: Window, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier
) -> None:
    """Press a key where the keyboard goes."""
    window.qtbot.keyClick(window.viewer.window._qt_window.focusWidget(), key, modifier)


def framed(window: Window) -> tuple[int, ...]:
    window.settle()
    preview = window.widget.preview
    assert preview.view.isVisible()
    return tuple(preview.drawn.planned.grid.start[preview.view.row].tolist())


def test_arrow_keys_go_from_patch_to_patch_and_enter_zooms_to_it(opened: Window) -> None:
    window, preview = opened, opened.widget.preview
    steps = window.viewer.dims.current_step
    preview.pick_button.setFocus()
    press(window, Qt.Key.Key_Return)
    assert preview.view.hasFocus()
    assert all(16 <= start <= 32 for start in framed(window))
    for _ in range(4):  # there is none beyond the border
        press(window, Qt.Key.Key_Left)
        press(window, Qt.Key.Key_Up)
    assert framed(window) == (0, 0)
    press(window, Qt.Key.Key_Right)
    assert framed(window) == (0, 16)
    press(window, Qt.Key.Key_Down)
    assert framed(window) == (16, 16)
    assert "y 16, x 16" in preview.view.text.text()
    assert window.viewer.dims.current_step == steps
    press(window, Qt.Key.Key_Escape)
    assert preview.view.row is None
    assert preview.pick_button.hasFocus()
    press(window, Qt.Key.Key_Return)
    window.click(preview.view.close_button)
    assert not preview.view.isVisible()

    camera = camera_of(window.viewer)
    before = camera.zoom
    window.qtbot.mouseClick(preview.pick_button, Qt.MouseButton.LeftButton)
    press(window, Qt.Key.Key_Return)
    y, x = framed(window)
    assert camera.zoom > before
    assert tuple(camera.center[-2:]) == (y + 7.5, x + 7.5)
    for _ in range(4):
        press(window, Qt.Key.Key_Right)
    assert framed(window) == (y, 48)
    assert camera.center[-1] == 48 + 7.5

    here, state = framed(window), window.state
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_Right):  # what moves a patch leaves a grid alone
        press(window, key, SHIFT)
    assert (framed(window), window.state) == (here, state)


def test_a_patch_is_placed_moved_and_taken_away(opened: Window) -> None:
    window, preview = opened, opened.widget.preview
    strategy = window.widget.form.strategy
    window.unfold("Strategy")
    window.choose(strategy.kind, "fixed")
    window.click(strategy.place)
    window.until(lambda: preview.view.hasFocus())
    assert places(strategy) == [framed(window)] == [(24, 24)]
    press(window, Qt.Key.Key_Right, SHIFT)
    press(window, Qt.Key.Key_Down, SHIFT | CTRL)  # before the first step is drawn
    window.settle()
    assert places(strategy) == [framed(window)] == [(25, 28)]
    for _ in range(9):  # it stays within the image
        press(window, Qt.Key.Key_Right, SHIFT)
    window.settle()
    assert places(strategy) == [framed(window)] == [(25, 48)]
    window.viewer.reset_view()  # the frame of a patch at the border does not move the middle
    assert camera_of(window.viewer).center[-2:] == pytest.approx((31.5, 31.5))
    window.click(strategy.place)
    assert places(strategy) == [(25, 48), (24, 24)]
    assert framed(window) == (24, 24)
    press(window, Qt.Key.Key_Right)
    assert framed(window) == (25, 48)
    press(window, Qt.Key.Key_Delete)
    window.settle()
    assert places(strategy) == [(24, 24)]
    window.settle()
    assert preview.view.row is None


def places(strategy: StrategySection) -> list[tuple[int, ...]]:
    return [place.start for place in strategy.patches]
