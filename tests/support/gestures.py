"""What a hand does beyond a click or a key: files dropped, the mouse dragged, dialogs answered."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QWheelEvent
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


def place_on_screen(window: Window, y: float, x: float) -> QPoint:
    """Return where a point of the image's world is on the canvas."""
    camera = camera_of(window.viewer)
    height, width = canvas_size(window.viewer)
    return QPoint(
        round(width / 2 + (x - camera.center[-1]) * camera.zoom),
        round(height / 2 + (y - camera.center[-2]) * camera.zoom),
    )


def drag(window: Window, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Drag the mouse over the image, in its world, with the left button."""
    canvas, left = window.viewer.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton
    first, last = place_on_screen(window, *start), place_on_screen(window, *stop)
    window.qtbot.mouseMove(canvas, first)
    window.qtbot.mousePress(canvas, left, pos=first)
    for point in (first + (last - first) / 2, last):
        window.qtbot.mouseMove(canvas, point)
        window.qtbot.wait(60)  # napari takes a click that is too quick for no drag
    window.qtbot.mouseRelease(canvas, left, pos=last)


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
