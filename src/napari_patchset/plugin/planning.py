"""What a form comes to: its patches, and what becomes of each of them.

Plans at work: what the form comes to, kept up to date without blocking the window.

What the form says, as one frozen value, and its patches, planned beside the window.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_patchset.exporting.metrics import MetricReader
from napari_patchset.exporting.open_images import OpenImages
from napari_patchset.exporting.plan import MASK
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patching.verdicts import Verdicts, judge
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.plugin.dialogs import USER_ERRORS
from napari_patchset.plugin.layers.layer_files import masks_of, open_image
from napari_patchset.plugin.state import FormState
from napari_patchset.plugin.worker import Background
from napari_patchset.preview.outlines import patch_categories
from napari_patchset.source import SourceInfo

Metrics = Mapping[str, NDArray[np.float64]]

_CHUNK = 2**16
"""Candidates that are scored by one filter after the other."""

_EVERY_SECONDS = 0.3
"""How often what is scored so far is shown."""


@dataclass(frozen=True, eq=False)
class Planned:
    """The patches of a form.

    Attributes
    ----------
    state : FormState
        The form.
    sources : sequence of SourceInfo
        Its sources, as their patches see them.
    grid : PatchGrid
        The candidates in all of them.
    verdicts : Verdicts
        What becomes of each; provisional while some are not scored.
    category : uint8 array
        The same as a person sees it, a `preview.PatchCategory`.
    scored : bool array
        Which candidates are scored.
    """

    state: FormState
    sources: Sequence[SourceInfo]
    grid: PatchGrid
    verdicts: Verdicts
    category: NDArray[np.uint8]
    scored: NDArray[np.bool_]

    @property
    def shown(self) -> SourceInfo:
        """The source that is on the screen."""
        return self.sources[self.state.shown]

    @property
    def is_provisional(self) -> bool:
        """Whether verdicts may change as more candidates are scored."""
        return not self.scored.all()

    @property
    def step(self) -> tuple[int, int]:
        """How far neighbours lie apart along YX."""
        overlap = getattr(self.state.recipe.strategy, "overlap", ()) or (0, 0)
        height, width = (p - o for p, o in zip(self.grid.size[-2:], overlap[-2:], strict=True))
        return height, width


def plan_form(state: FormState, before: Planned | None = None) -> Planned:
    """Plan a form; what was measured of the same candidates before counts.

    Raises
    ------
    PatchsetError
        If the form's values do not fit its sources.
    """
    if before is not None and before.state.candidates == state.candidates:
        if before.state.rules == state.rules:
            return replace(before, state=state)
        return _judged(state, before.sources, before.grid, before.verdicts.metrics)
    sources, strategy = state.infos(), state.recipe.strategy
    return _judged(state, sources, strategy.plan(sources, masks_of(strategy)), {})


def score_form(planned: Planned, first: NDArray[np.int64]) -> Iterator[Planned]:
    """Score what is not scored yet, yielding what it comes to every now and then.

    Parameters
    ----------
    planned : Planned
        Where to begin.
    first : int64 array
        The candidates whose turn it is first: those in view.
    """
    state = planned.state
    filters, names = state.recipe.filters, planned.sources[0].channels
    columns = {
        name: planned.verdicts.metrics.get(name, np.full(len(planned.grid), np.nan)).copy()
        for name in metric_columns(filters, names)
    }
    shown = monotonic()
    infos = {IMAGE: planned.sources, MASK: planned.sources}  # a mask has the geometry of its image
    with OpenImages(state.preview_plan(), open_image) as images:
        reader = MetricReader(filters, infos, images)
        for rows, request in product(_chunks(planned, first), reader.requests):
            with closing(reader.read(request, planned.grid, rows)) as parts:
                for measured, metrics in parts:
                    for name, values in metrics.items():
                        columns[name][measured] = values
                    if monotonic() - shown > _EVERY_SECONDS:
                        yield _judged(state, planned.sources, planned.grid, columns)
                        shown = monotonic()
    yield _judged(state, planned.sources, planned.grid, columns)


def _chunks(planned: Planned, first: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    todo = ~planned.scored
    near = np.unique(first[todo[first]])
    todo[near] = False
    for rows in (near, np.flatnonzero(todo)):
        yield from (rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK))


def known_metrics(planned: Planned | None) -> Metrics:
    """Give what is measured of the candidates; nothing if their files are others by now.

    It describes every source again, if they were forgotten.
    """
    if planned is None or not planned.verdicts.metrics:
        return {}
    keys = [info.key for info in planned.sources]
    same = keys == [info.key for info in planned.state.infos()]
    return planned.verdicts.metrics if same else {}


def _judged(
    state: FormState, sources: Sequence[SourceInfo], grid: PatchGrid, metrics: Metrics
) -> Planned:
    recipe = state.recipe
    names = sources[0].channels
    verdicts = judge(
        grid,
        sources,
        filters=recipe.filters,
        keep_fraction=recipe.keep_fraction,
        split=recipe.split,
        metrics={name: values.copy() for name, values in metrics.items()},
    )
    scored = np.ones(len(grid), bool)
    for name in metric_columns(recipe.filters, names):
        scored &= ~np.isnan(metrics[name]) if name in metrics else False
    return Planned(state, sources, grid, verdicts, patch_categories(verdicts), scored)


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
        except USER_ERRORS as error:
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
