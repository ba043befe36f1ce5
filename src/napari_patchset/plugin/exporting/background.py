"""An export in the background of the window."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

from napari.qt.threading import GeneratorWorker, thread_worker
from psygnal import Signal

from napari_patchset.export.engine import Progress, run_export
from napari_patchset.export.keeping.destination import check_destination
from napari_patchset.export.keeping.partial import ExportStopped, PartialExport
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.planning import refuse_taken
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.plugin.layers.named import spooled
from napari_patchset.plugin.window.preferences import export_memory


class BackgroundExport:
    """Run one export at a time in a thread; its signals come in the window's own thread."""

    progressed = Signal(Progress)
    finished = Signal(Path)
    stopped = Signal()
    failed = Signal(Exception)

    def __init__(self) -> None:
        self._worker: GeneratorWorker | None = None
        self._plan: ExportPlan | None = None
        self._cancelled = Event()
        self._outcome: Progress | Exception | None = None

    @property
    def running(self) -> bool:
        """Whether an export runs."""
        return self._worker is not None

    def start(
        self, plan: ExportPlan, renew: Callable[[], ExportPlan], metrics: Callable[[], Metrics]
    ) -> None:
        """Start an export; exactly one of finished, stopped and failed will end it.

        Parameters
        ----------
        plan : ExportPlan
            What to export.
        renew : callable
            Gives the same plan by its files as they are now; it is called in the thread.
        metrics : callable
            Gives what was measured already, see `run_export`; likewise.
        """
        self._plan, self._outcome, self._cancelled = plan, None, Event()
        worker: GeneratorWorker = thread_worker(_events)(
            plan, renew, metrics, export_memory(), self._cancelled
        )
        worker.yielded.connect(self._on_event)
        worker.finished.connect(self._on_end)
        self._worker = worker
        worker.start()

    def cancel(self) -> None:
        """Stop the export within a patch; what is written stays."""
        if self._worker is not None and self._plan is not None:
            self._cancelled.set()
            PartialExport.of(self._plan).request_stop()

    def close(self) -> None:
        """Cancel, and report to nobody any more: the window is going away."""
        self.cancel()
        for signal in (self.progressed, self.finished, self.stopped, self.failed):
            signal.disconnect()

    def _on_event(self, event: Progress | Exception) -> None:
        self._outcome = event
        if isinstance(event, Progress):
            self.progressed.emit(event)

    def _on_end(self) -> None:
        self._worker = None
        outcome = self._outcome
        if isinstance(outcome, Exception) and not isinstance(outcome, ExportStopped):
            self.failed.emit(outcome)
        elif isinstance(outcome, Progress) and outcome.stage == "done":
            self.finished.emit(outcome.path)
        else:
            self.stopped.emit()


def _events(
    plan: ExportPlan,
    renew: Callable[[], ExportPlan],
    metrics: Callable[[], Metrics],
    memory: int,
    cancelled: Event,
) -> Iterator[Progress | Exception]:
    """Yield what goes wrong too: a worker takes a RuntimeError for its own deletion.

    A worker that is told to quit leaves its generator as it is, and with it the folder locked. So
    the export is ended here, in its own thread.
    """
    try:

        def proceed() -> None:
            if cancelled.is_set():
                raise ExportStopped("The export was cancelled.")

        check_destination(plan, overwrite=False)  # before layers are written
        refuse_taken(PartialExport.of(plan), plan)
        named, known = spooled(renew(), proceed), metrics()
        with closing(run_export(named, metrics=known, memory=memory)) as events:
            for event in events:
                yield event
                if cancelled.is_set():
                    break
    except Exception as error:
        yield error
