"""A background thread that runs the latest function or generator.

`Worker.run` starts a thread. The result of the function, or each value of the generator, is posted
to the GUI thread and emitted there as a signal by the event loop, in order. A run that was replaced
or stopped emits nothing more, and a released worker never runs again, so that nothing reaches a
widget or viewer that closes.
"""

from collections.abc import Callable, Generator
from functools import partial
from threading import Event, Thread, main_thread
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QCoreApplication, QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]  # qtpy adds it


class Worker:
    """Run one function or generator at a time in a thread.

    Exactly one of `returned` and `failed` ends a run, unless that is replaced or stopped first. A
    generator that was stopped is closed in its own thread, at its next `yield`.
    """

    yielded = Signal(object)
    """A value that the generator yields."""
    returned = Signal(object)
    """The return value of the function or the generator."""
    failed = Signal(Exception)
    """The exception that either of them raises."""

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._unfinished: set[_Run] = set()
        self._is_released = False

    @property
    def running(self) -> bool:
        """Whether a result is still to come."""
        return self._run is not None

    @property
    def at_rest(self) -> bool:
        """Whether no thread is left, not even one that was stopped and is about to end."""
        return not self._unfinished

    def run(self, work: Callable[..., Any], *args: Any) -> None:
        """Call `work(*args)` in a thread, replacing the current run.

        `work` must touch neither viewer nor widget.
        """
        self.stop()
        if not self._is_released:
            self._run = run = _Run(partial(work, *args), partial(self._deliver))
            self._unfinished.add(run)
            run.start()

    def stop(self) -> None:
        """Stop the current run: it emits nothing more."""
        if self._run is not None:
            self._run.stopped.set()
            self._run = None

    def release(self) -> None:
        """Stop the current run and refuse further ones: the window closes."""
        self._is_released = True
        self.stop()

    def _deliver(self, run: "_Run", kind: str, value: Any) -> None:
        """Emit a result of a run; called in the GUI thread."""
        is_wanted = run is self._run
        if kind != "yielded":
            self._unfinished.discard(run)
            self._run = None if is_wanted else self._run
        if is_wanted:
            getattr(self, kind).emit(value)


class _Run(Thread):
    """One call of a function or generator."""

    def __init__(
        self, work: Callable[[], Any], deliver: Callable[["_Run", str, Any], None]
    ) -> None:
        super().__init__(name="patchset-worker")
        self.stopped = Event()
        self._work, self._deliver, self._outbox = work, deliver, outbox()

    def run(self) -> None:
        """Run the function, and post each result to the GUI thread."""
        try:
            result = self._work()
            if isinstance(result, Generator):
                result = self._exhaust(result)
        except Exception as error:
            self._post("failed", error)
        else:
            self._post("returned", result)

    def _exhaust(self, results: Generator[Any, None, Any]) -> Any:
        """Post what a generator yields, and return what it returns; None if it was stopped."""
        try:
            while not self.stopped.is_set() and main_thread().is_alive():  # False as Python exits
                self._post("yielded", next(results))
        except StopIteration as end:
            return end.value
        results.close()
        return None

    def _post(self, kind: str, value: Any) -> None:
        self._outbox.post(partial(self._deliver, self, kind, value))


class Outbox(QObject):
    """Calls posted by any thread, made in the GUI thread by its event loop."""

    _posted = QtSignal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._posted.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Have a function called in the GUI thread; may be called from any thread."""
        self._posted.emit(call)

    def _call(self, call: Callable[[], None]) -> None:
        call()


def outbox() -> Outbox:
    """Return the application's one outbox; call it in the GUI thread."""
    app = QCoreApplication.instance()
    assert app is not None  # a widget needs one
    return next(iter(app.findChildren(Outbox)), None) or Outbox(app)


def single_shot_timer(parent: QObject, act: Callable[[], None], wait_ms: int = 0) -> QTimer:
    """Return a single-shot timer for a call in a later turn of the event loop; `start` it.

    Parameters
    ----------
    parent : QObject
        The owner of the timer; without one it would be destroyed too early when the program ends.
    wait_ms : int
        How much later.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(wait_ms)
    timer.timeout.connect(act)
    return timer
