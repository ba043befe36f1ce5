"""Plans at work: what the form comes to, kept up to date without blocking the window."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_patchset.patching.regions import MaskRegion
from napari_patchset.plugin.planning.form_state import FormState
from napari_patchset.plugin.planning.planned import (
    Metrics,
    Planned,
    known_metrics,
    plan_form,
    score_form,
)
from napari_patchset.plugin.window.asking import MENDABLE
from napari_patchset.plugin.window.background import Background


class PlanControl:
    """Plan at once what is planned in no time, the rest in the background; score there too.

    Parameters
    ----------
    in_view : callable
        Gives the candidates that are on the screen: they are scored first.
    """

    changed = Signal(Planned)
    waiting = Signal()
    """The plan takes its time."""
    failed = Signal(Exception)

    def __init__(self, in_view: Callable[[], NDArray[np.int64]]) -> None:
        self.planning, self.scoring = Background(), Background()
        self.current: Planned | None = None
        """What the form comes to now, None while that is not known, or nothing."""
        self._before: Planned | None = None
        self._in_view = in_view
        self.planning.yielded.connect(self._on_planned)
        self.scoring.yielded.connect(self._on_scored)
        self.planning.failed.connect(self.failed.emit)
        self.scoring.failed.connect(self.failed.emit)

    @property
    def metrics(self) -> Callable[[], Metrics]:
        """What gives the metrics of the candidates: to be called in the background."""
        return partial(known_metrics, self.current)

    def follow(self, state: FormState) -> None:
        """Plan a form in place of the one before."""
        self.stop()
        if not _is_quick(state):
            self.waiting.emit()
            self.planning.start(_planned, state, self._before)
            return
        try:
            planned = plan_form(state, self._before)
        except MENDABLE as error:
            self.failed.emit(error)
        else:
            self._on_planned(planned)

    def stop(self) -> None:
        """Plan nothing."""
        self.planning.stop()
        self.scoring.stop()
        self.current = None

    def forget(self) -> None:
        """Measure anew next time: pixels have changed."""
        self._before = None

    def _on_planned(self, planned: Planned) -> None:
        self._on_scored(planned)
        if planned.is_provisional:
            self.scoring.start(score_form, planned, self._in_view())

    def _on_scored(self, planned: Planned) -> None:
        self.current = self._before = planned
        self.changed.emit(planned)


def _is_quick(state: FormState) -> bool:
    """Whether planning opens no image, reads no mask and draws no lots."""
    strategy = state.recipe.strategy
    if strategy.kind == "random" or isinstance(strategy.region, MaskRegion):
        return False
    return state.is_known


def _planned(state: FormState, before: Planned | None) -> Iterator[Planned]:
    yield plan_form(state, before)
