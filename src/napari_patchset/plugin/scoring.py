"""Scoring in the background of the window; what became stale is dropped."""

from collections.abc import Iterator

import numpy as np
from napari.qt.threading import GeneratorWorker, thread_worker
from numpy.typing import NDArray
from psygnal import Signal

from napari_patchset.plugin.planning import Planned, score_form


class BackgroundScoring:
    """Score one plan at a time; its signals come in the window's own thread."""

    scored = Signal(Planned)
    failed = Signal(Exception)

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None

    @property
    def running(self) -> bool:
        """Whether candidates are being scored."""
        return self._worker is not None

    def start(self, planned: Planned, first: NDArray[np.int64]) -> None:
        """Score a plan in place of the one before, some candidates first."""
        self.stop()
        worker: GeneratorWorker = thread_worker(_events)(planned, first)
        worker.yielded.connect(lambda event: self._on_event(worker, event))
        worker.finished.connect(lambda: self._on_end(worker))
        self._worker = worker
        worker.start()

    def stop(self) -> None:
        """Give up what is scored now; it ends at its next step."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def _on_event(self, worker: GeneratorWorker, event: Planned | Exception) -> None:
        if worker is not self._worker:
            return
        if isinstance(event, Planned):
            self.scored.emit(event)
        else:
            self.failed.emit(event)

    def _on_end(self, worker: GeneratorWorker) -> None:
        if worker is self._worker:
            self._worker = None


def _events(planned: Planned, first: NDArray[np.int64]) -> Iterator[Planned | Exception]:
    """Yield what goes wrong too: a worker takes a RuntimeError for its own deletion."""
    try:
        yield from score_form(planned, first)
    except Exception as error:
        yield error
