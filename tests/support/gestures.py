"""What a hand does beyond a click or a key: files dropped, the mouse dragged, dialogs answered."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QDialog, QDialogButtonBox, QRadioButton, QWidget

from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.plugin.napari_compat import canvas_size
from support.window import Window


def soon(action: Callable[[], object]) -> None:
    """Do something in the window's loop, and do not wait for its end."""
    QTimer.singleShot(0, action)


def paste(window: Window, field: QWidget, text: object) -> None:
    """Paste a text in place of what a field holds; of a long one, each key would be an edit."""
    QApplication.clipboard().setText(str(text))
    field.setFocus()
    window.qtbot.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    window.qtbot.keyClick(field, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)


def drop(window: Window, *paths: Path) -> None:
    """Drop files on the window as the file manager does."""
    target = window.viewer.window._qt_viewer
    window.qtbot.mouseClick(window.widget, Qt.MouseButton.RightButton)  # Shift is held no more
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, buttons = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    keys, at = Qt.KeyboardModifier.NoModifier, target.rect().center()
    QApplication.sendEvent(target, QDragEnterEvent(at, copy, data, buttons, keys))
    QApplication.sendEvent(target, QDropEvent(QPointF(at), copy, data, buttons, keys))


def answering(window: Window, choice: str) -> list[list[str]]:
    """Choose a reader, and OK, in each dialog that comes; give what was offered."""
    offered: list[list[str]] = []

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, QDialog):
            buttons = dialog.findChildren(QRadioButton)
            offered.append([button.text() for button in buttons])
            window.tick(next(b for b in buttons if b.text() == choice))
            box = dialog.findChild(QDialogButtonBox)
            ok = box.button(QDialogButtonBox.StandardButton.Ok)
            window.qtbot.mouseClick(ok, Qt.MouseButton.LeftButton)

    timer = QTimer(window.widget)
    timer.timeout.connect(answer)
    timer.start(50)
    return offered


def type_into(window: Window, field: QWidget, text: str) -> None:
    """Click into a field, type a text in place of what it holds, and press Enter.

    A key goes where the focus is: typed at a field without it, Enter would also press the button
    that has it.
    """
    window.widget.ensureWidgetVisible(field)
    field.setFocus()
    window.qtbot.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    window.qtbot.keyClick(field, Qt.Key.Key_Delete)
    window.qtbot.keyClicks(field, text)
    window.qtbot.keyClick(field, Qt.Key.Key_Return)


def place_on_screen(window: Window, y: float, x: float) -> QPoint:
    """Return where a point of the image's world is on the canvas."""
    camera = camera_of(window.viewer)
    height, width = canvas_size(window.viewer)
    return QPoint(
        round(width / 2 + (x - camera.center[-1]) * camera.zoom),
        round(height / 2 + (y - camera.center[-2]) * camera.zoom),
    )


def move(widget: QWidget, to: QPoint, held: Qt.MouseButton = Qt.MouseButton.NoButton) -> None:
    """Move the mouse over a widget, with a button held or none.

    The event is sent: `QTest.mouseMove` moves the pointer of the display, whose event may come
    seconds later, in the midst of the next gesture.
    """
    keys, place = Qt.KeyboardModifier.NoModifier, QPointF(widget.mapToGlobal(to))
    moved = QEvent.Type.MouseMove
    none = Qt.MouseButton.NoButton
    QApplication.sendEvent(widget, QMouseEvent(moved, QPointF(to), place, none, held, keys))


def drag(window: Window, *places: tuple[float, float]) -> None:
    """Drag the mouse from place to place over the image, in its world, with the left button.

    napari gathers moves: each is waited for, and made again where the display's own pointer came
    between, whose event a window gets whenever it is laid out anew.
    """
    canvas, left = window.viewer.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton
    points = [place_on_screen(window, *place) for place in places]
    seen: list[Any] = []

    def note_move(_: object, event: Any) -> None:
        seen.append(event.pos)

    def note_drag(_: object, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            seen.append(event.pos)
            yield

    def reach(point: QPoint, held: Qt.MouseButton) -> None:
        seen.clear()
        there = (point.x(), point.y())

        def is_there() -> bool:
            if not seen or not np.allclose(seen[-1], there, atol=1):
                move(canvas, point, held)
            return bool(seen) and np.allclose(seen[-1], there, atol=1)

        window.until(is_there)

    window.viewer.mouse_move_callbacks.append(note_move)
    window.viewer.mouse_drag_callbacks.append(note_drag)
    try:
        reach(points[0], Qt.MouseButton.NoButton)
        window.qtbot.mousePress(canvas, left, pos=points[0])
        for before, after in pairwise(points):
            for part in (0.5, 1.0):
                reach(before + (after - before) * part, left)
        window.qtbot.mouseRelease(canvas, left, pos=points[-1])
    finally:
        window.viewer.mouse_move_callbacks.remove(note_move)
        window.viewer.mouse_drag_callbacks.remove(note_drag)


def wheel(field: QWidget, ticks: int) -> None:
    """Turn the wheel over the middle of a field, towards the person for negative ticks."""
    place = field.mapToGlobal(QPointF(field.rect().center()))
    turn = QPoint(0, 120 if ticks > 0 else -120)
    buttons, keys = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    phase = Qt.ScrollPhase.NoScrollPhase
    for _ in range(abs(ticks)):
        target = field.childAt(field.rect().center()) or field
        while target is not None:  # Qt passes only the system's own events on to parents
            at = target.mapFromGlobal(place)
            event = QWheelEvent(at, place, QPoint(), turn, buttons, keys, phase, False)
            QApplication.sendEvent(target, event)
            if event.isAccepted():
                break
            target = target.parentWidget()
