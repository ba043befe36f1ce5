"""One thread beside the window: a function or a generator runs in it, the latest one wins.

`Worker.run` starts a thread. What the function returns, and what a generator yields, is posted to
the window's thread and emitted there as a signal: by the window's own event loop, in the order in
which it was made, and only while it is still wanted. A run that was replaced or stopped emits
nothing more, and a worker that was released never runs again, so that nothing reaches a widget, or
is drawn into a viewer, that closes.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from threading import Event, Thread, main_thread
from typing import Any, ParamSpec, TypeVar

from napari.qt.threading import GeneratorWorker, thread_worker
from psygnal import Signal
from qtpy.QtCore import QCoreApplication, QEventLoop, QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]  # qtpy adds it

from napari_patchset.plugin.napari_compat import is_window_at_work


class Worker:
    """Run one function or generator at a time in a thread.

    Exactly one of `returned` and `failed` ends a run, unless that is replaced or stopped first. A
    generator that is given up is closed in its own thread, at its next `yield`.
    """

    yielded = Signal(object)
    """What a generator yields."""
    returned = Signal(object)
    """What the function, or at its end the generator, returns."""
    failed = Signal(Exception)
    """What either of them raises."""

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
        """Whether no thread is left, not even one that was given up and is about to end."""
        return not self._unfinished

    def run(self, work: Callable[..., Any], *args: Any) -> None:
        """Call `work(*args)` in a thread, in place of what runs now.

        `work` must touch neither viewer nor widget.
        """
        self.stop()
        if not self._is_released:
            self._run = run = _Run(partial(work, *args), partial(self._deliver))
            self._unfinished.add(run)
            run.start()

    def stop(self) -> None:
        """Give up what runs now: it emits nothing more."""
        if self._run is not None:
            self._run.stopped.set()
            self._run = None

    def release(self) -> None:
        """Give up what runs now, and run nothing from now on: the window closes."""
        self._is_released = True
        self.stop()

    def _deliver(self, run: "_Run", kind: str, value: Any) -> None:
        """Emit what a run made; in the window's thread."""
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
        """Work, and post each result to the window's thread."""
        try:
            result = self._work()
            if isinstance(result, Generator):
                result = self._exhaust(result)
        except Exception as error:
            self._post("failed", error)
        else:
            self._post("returned", result)

    def _exhaust(self, results: Generator[Any, None, Any]) -> Any:
        """Post what a generator yields, and return what it returns; None if it is given up."""
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
    """Calls that any thread posts, made in the window's thread by its event loop."""

    _posted = QtSignal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._posted.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Have a function called in the window's thread; from any thread."""
        self._posted.emit(call)

    def _call(self, call: Callable[[], None]) -> None:
        call()


def outbox() -> Outbox:
    """Return the application's one outbox; in the window's thread."""
    app = QCoreApplication.instance()
    assert app is not None  # a widget needs one
    return next(iter(app.findChildren(Outbox)), None) or Outbox(app)


# What follows goes as soon as nobody uses it any more.


class Background:
    """Run one generator at a time in a thread; its signals come in the window's own thread.

    What a generator that was replaced or stopped still yields goes nowhere. It ends at its next
    `yield`.
    """

    yielded = Signal(object)
    failed = Signal(Exception)

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None
        self._alive: set[GeneratorWorker] = set()

    @property
    def at_rest(self) -> bool:
        """Whether no thread is left, not even one that was given up and is on its way out."""
        return not self._alive

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._worker is not None

    def start(self, work: Callable[..., Iterator[Any]], *args: Any) -> None:
        """Run `work(*args)` in place of what runs now."""
        self.stop()
        results = work(*args)
        worker: GeneratorWorker = thread_worker(_events)(results)
        worker.yielded.connect(lambda event: self._on_event(worker, event))
        worker.finished.connect(lambda: self._on_end(worker, results))
        self._worker = worker
        self._alive.add(worker)
        worker.start()

    def begin(self, work: Callable[..., Iterator[Any]], *args: Any) -> None:
        """Run `work(*args)` likewise; a script, which holds up no window, has results at once."""
        if is_window_at_work():
            self.start(work, *args)
        else:
            self.stop()
            for event in _events(work(*args)):
                self._tell(event)

    def stop(self) -> None:
        """Give up what runs now."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _on_event(self, worker: GeneratorWorker, event: Any) -> None:
        if worker is self._worker:
            self._tell(event)

    def _tell(self, event: Any) -> None:
        if isinstance(event, Exception):
            self.failed.emit(event)
        else:
            self.yielded.emit(event)

    def _on_end(self, worker: GeneratorWorker, results: Iterator[Any]) -> None:
        self._alive.discard(worker)
        if isinstance(results, Generator):
            results.close()  # one that was given up still has its files open
        if worker is self._worker:
            self._worker = None


def _events(results: Iterator[Any]) -> Iterator[Any]:
    """Yield what goes wrong too: a worker takes a RuntimeError for its own deletion."""
    try:
        yield from results
    except Exception as error:
        yield error


_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def beside(
    function: Callable[_Args, _Result], *args: _Args.args, **options: _Args.kwargs
) -> _Result:
    """Call a function; where the window would stand still for it, in a thread beside the window.

    The window goes on meanwhile: it may be closed, and whoever calls may be called again. What
    the function raises is raised here. It must touch neither viewer nor widget.
    """
    if not is_window_at_work():
        return function(*args, **options)
    result: Future[_Result] = Future()
    end, loop = _End(), QEventLoop()

    def run() -> None:
        try:
            result.set_result(function(*args, **options))
        except BaseException as error:
            result.set_exception(error)
        end.came.emit()

    end.came.connect(loop.quit)
    thread = Thread(target=run, name="patchset-beside")
    thread.start()
    loop.exec()
    thread.join()  # an application that quits ends every loop
    return result.result()


class _End(QObject):
    """The end of a thread as a signal in the window's own."""

    came = QtSignal()


def later(parent: QObject, act: Callable[[], None], wait_ms: int = 0) -> QTimer:
    """Make a timer that does something once, in a later turn of the window's loop; `start` it.

    Parameters
    ----------
    parent : QObject
        Whose destruction ends it: what has no parent is gone before that, when the program ends.
    wait_ms : int
        How much later.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(wait_ms)
    timer.timeout.connect(act)
    return timer
