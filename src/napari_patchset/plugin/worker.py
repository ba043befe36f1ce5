"""Work in the background of the window; what became stale is dropped.

Wait for a result without holding up the window.

What is done a little later, once however often it is asked for meanwhile.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from napari.qt.threading import GeneratorWorker, thread_worker
from psygnal import Signal
from qtpy.QtCore import QEventLoop, QObject, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]  # qtpy adds it

from napari_patchset.plugin.napari_compat import is_window_at_work


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
