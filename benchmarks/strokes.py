"""Keys that are struck while things are done in a window, and how long each one waits."""

from collections.abc import Callable
from threading import Event, Thread
from time import perf_counter

import napari
from qtpy.QtCore import QCoreApplication, QEvent, QEventLoop, QObject, QTimer

_EVERY_S = 0.01
_PATIENCE_S, _REST_S = 300, 0.3
_STROKE = QEvent.Type(QEvent.registerEventType())


class Keys(QObject):
    """Strike a key every 10 ms, unless one is still waiting, and note the longest wait."""

    def __init__(self) -> None:
        super().__init__()
        self.longest, self._struck = 0.0, 0.0
        self._answered, self._ended = Event(), Event()
        self._answered.set()
        self._thread = Thread(target=self._strike)
        self._thread.start()

    def event(self, event: QEvent | None) -> bool:
        """Answer a stroke."""
        if event is None or event.type() != _STROKE:
            return super().event(event)
        self.longest = max(self.longest, perf_counter() - self._struck)
        self._answered.set()
        return True

    def end(self) -> None:
        """Strike no more."""
        self._ended.set()
        self._thread.join()

    def _strike(self) -> None:
        while not self._ended.wait(_EVERY_S):
            if self._answered.is_set():
                self._answered.clear()
                self._struck = perf_counter()
                QCoreApplication.postEvent(self, QEvent(_STROKE))


class Journey:
    """Do one thing after the other in a window; the longest wait of a key in each, in ms."""

    def __init__(self, keys: Keys) -> None:
        self.waits: dict[str, float] = {}
        self.viewer, self._keys = napari.Viewer(), keys
        rest()

    def step(
        self, name: str, action: Callable[[], object], is_done: Callable[[], bool] = lambda: True
    ) -> None:
        """Do something in the window's loop, and wait until all that follows from it is done."""
        done: list[object] = []
        self._keys.longest, end = 0.0, perf_counter() + _PATIENCE_S
        QTimer.singleShot(0, lambda: done.append(action()))
        while not done or not is_done():
            if perf_counter() > end:
                raise TimeoutError(f"{name}: not done within {_PATIENCE_S} s")
            turn()
        rest()
        self.waits[name] = 1000 * self._keys.longest


def rest() -> None:
    """Run the window's event loop for a while."""
    end = perf_counter() + _REST_S
    while perf_counter() < end:
        turn()


def turn() -> None:
    """Run the window's event loop once."""
    loop = QEventLoop()
    QTimer.singleShot(1, loop.quit)
    loop.exec()
