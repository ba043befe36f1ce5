"""Work in the background of the window; what became stale is dropped."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

from napari.qt.threading import GeneratorWorker, thread_worker
from psygnal import Signal

from napari_patchset.plugin.window.asked import is_window_at_work


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
