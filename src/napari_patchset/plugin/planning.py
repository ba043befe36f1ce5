"""Planning: the patches of a form and their verdicts, computed in background threads.

`PlanControl.follow` takes a `FormState`; a worker plans it (`plan_form`), and another one measures
the candidates' metrics for the filters (`score_form`), those in view first. Each result is a
`PlanPreview`, emitted in the GUI thread. Metrics of the same candidates are reused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import replace
from itertools import product
from threading import Event
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS, MASK
from napari_patchset.exporting.plans.region_files import read_annotations
from napari_patchset.exporting.reading.candidates import choose_candidates
from napari_patchset.exporting.reading.class_images import check_classes
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.writing.metrics import MetricReader, MetricRequest
from napari_patchset.patching.filters.patch_filters import ShareFilter
from napari_patchset.patching.filters.pixel_metrics import Metric
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.sheet_columns import check_split_column
from napari_patchset.patching.verdicts import Metrics, Verdicts
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.table import check_sheet
from napari_patchset.plugin.layers.layer_stack import open_image
from napari_patchset.plugin.layers.plan_layers import masks_of
from napari_patchset.plugin.metric_histogram import MetricHistogram, filter_histograms
from napari_patchset.plugin.plan_preview import PlanPreview, paired_classes
from napari_patchset.plugin.state import FormState
from napari_patchset.plugin.worker import Worker, single_shot_timer
from napari_patchset.preview.categories import (
    patch_categories,
)
from napari_patchset.source import SourceInfo

_CHUNK = 2**16
"""Candidates that are measured by one filter after the other."""

_EVERY_SECONDS = 0.3
"""Interval at which the metrics so far are shown."""

_SLOW_MS = 200
"""A plan that takes longer is announced; a quicker one replaces the previous one directly."""


class PlanningWatch:
    """Count what planning reads, and have it stop.

    Attributes
    ----------
    n_read, n_compared : int
        Parts of labels and outlines; bytes of images that may be copies of each other.
    """

    def __init__(self) -> None:
        self.n_read = self.n_compared = 0
        self._is_stopped = Event()

    def stop(self) -> None:
        """Have planning end before it reads another part."""
        self._is_stopped.set()

    def __call__(self) -> None:
        """Count a part; raise CancelledError if planning is to stop."""
        if self._is_stopped.is_set():
            raise CancelledError
        self.n_read += 1

    def compare(self, nbytes: int) -> None:
        """Count bytes; raise CancelledError if planning is to stop."""
        if self._is_stopped.is_set():
            raise CancelledError
        self.n_compared += nbytes


def plan_form(
    state: FormState, before: PlanPreview | None = None, watch: PlanningWatch | None = None
) -> PlanPreview:
    """Plan a form.

    Parameters
    ----------
    before : PlanPreview or None
        An earlier plan; its metrics of the same candidates are reused.
    watch : PlanningWatch or None
        Sees how far it is, and stops it.

    Raises
    ------
    PatchsetError
        If the form's values do not fit its sources, or these do not fit each other.
    """
    watch = watch or PlanningWatch()
    state, notice = state.without_repeats(watch.compare)
    recipe, metrics = state.recipe, dict[str, Metric]()
    sources = state.infos()
    pairs = state.describe_pairs(sources)
    classes = paired_classes(pairs)
    check_classes(recipe.strategy, recipe.filters, classes, ANNOTATIONS in pairs)
    of_classes = recipe.strategy.class_notice([each.name for each in classes])
    notice = " ".join(filter(None, (notice, of_classes)))
    if before is not None and before.state.candidates_key == state.candidates_key:
        grid, metrics = before.grid, dict(before.verdicts.metrics)
        if before.state.verdicts_key == state.verdicts_key:
            category = before.category
            if before.state.shown_fold != state.shown_fold:
                category = patch_categories(before.verdicts, state.shown_fold)
            return replace(
                before,
                state=state,
                category=category,
                notice=notice,
                pairs=pairs,
                histograms=_histograms(state, sources, grid, before.verdicts),
            )
    else:
        masks = masks_of(recipe.strategy)
        grid = choose_candidates(state.preview_plan(), sources, masks, open_image, watch)
    check_split_column(sources, recipe.split.by if recipe.split else None)
    if len(grid):
        names = [each.name for each in classes]
        check_sheet(sources, recipe.metric_columns(sources, names), grid)
    return _judged(state, sources, grid, metrics, notice, pairs)


def score_form(planned: PlanPreview, first: NDArray[np.int64]) -> Iterator[PlanPreview]:
    """Measure the candidates that are not measured yet, and yield the plan at intervals.

    Shares of classes that no filter needs come last.

    Parameters
    ----------
    first : int64 array
        The candidates to measure first: those in view.
    """
    state, names = planned.state, planned.class_names
    filters = state.recipe.filters
    columns = {
        name: planned.verdicts.metrics.get(name, np.full(len(planned.grid), np.nan)).copy()
        for name in state.recipe.metric_columns(planned.sources, names)
    }

    def judged() -> PlanPreview:
        of = planned
        return _judged(state, of.sources, of.grid, columns, of.notice, of.pairs)

    shown = monotonic()
    infos: dict[str, Sequence[SourceInfo]]
    infos = {IMAGE: planned.sources, MASK: planned.sources}  # a mask has the geometry of its image
    if names:
        infos[ANNOTATIONS] = planned.pairs[ANNOTATIONS]
    with OpenImages(
        state.preview_plan(), open_image, classes=paired_classes(planned.pairs)
    ) as images:
        hashes = state.recipe.dedupe is not None
        reader = MetricReader(filters, infos, images, classes=names, hashes=hashes)
        for rows, request in _work(planned, reader.requests, columns, first):
            with closing(reader.read(request, planned.grid, rows)) as parts:
                for measured, metrics in parts:
                    for name, values in metrics.items():
                        columns[name][measured] = values
                    if monotonic() - shown > _EVERY_SECONDS:
                        yield judged()
                        shown = monotonic()
    yield judged()


def _work(
    planned: PlanPreview,
    requests: Sequence[MetricRequest],
    columns: Metrics,
    first: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], MetricRequest]]:
    """Yield which candidates are measured one after the other: for the filters, then all others."""
    has_filter = any(isinstance(each, ShareFilter) for each in planned.state.recipe.filters)
    needed = [each for each in requests if has_filter or each.role != ANNOTATIONS]
    for part in (needed, [each for each in requests if each not in needed]):
        names = [name for each in part for name in each.columns]
        todo = np.zeros(len(planned.grid), bool)
        for name in names:
            todo |= np.isnan(columns[name])
        yield from product(_chunks(todo, first), part)


def _chunks(todo: NDArray[np.bool_], first: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    near = np.unique(first[todo[first]])
    todo[near] = False
    for rows in (near, np.flatnonzero(todo)):
        yield from (rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK))


def known_metrics(planned: PlanPreview | None) -> Metrics:
    """Return the metrics measured so far; none if the files have changed.

    Sources that were forgotten are read again, so call it in a background thread.
    """
    if planned is None or not planned.verdicts.metrics:
        return {}
    keys = [info.key for info in planned.sources]
    same = keys == [info.key for info in planned.state.infos()]
    same &= planned.outline_keys == _outline_keys(planned.state)
    return planned.verdicts.metrics if same else {}


def _outline_keys(state: FormState) -> tuple[str, ...]:
    """Return the keys of the files of outlines, each of which is read once."""
    paths = [ref.annotations.path for ref in state.sources if ref.annotations is not None]
    return tuple(read_annotations(path).key for path in paths if is_geojson(path))


def _judged(
    state: FormState,
    sources: Sequence[SourceInfo],
    grid: PatchGrid,
    metrics: Metrics,
    notice: str,
    pairs: Mapping[str, Sequence[SourceInfo]],
) -> PlanPreview:
    recipe = state.recipe
    verdicts = recipe.judge(grid, sources, {name: each.copy() for name, each in metrics.items()})
    scored = np.ones(len(grid), bool)
    for name in recipe.metric_columns(sources):
        scored &= ~np.isnan(metrics[name]) if name in metrics else False
    category = patch_categories(verdicts, state.shown_fold)
    return PlanPreview(
        state,
        sources,
        grid,
        verdicts,
        category,
        scored,
        notice,
        pairs,
        _outline_keys(state),
        _histograms(state, sources, grid, verdicts),
    )


def _histograms(
    state: FormState, sources: Sequence[SourceInfo], grid: PatchGrid, verdicts: Verdicts
) -> tuple[MetricHistogram | None, ...]:
    return filter_histograms(state.recipe.filters, sources, grid, verdicts, state.shown_index)


class PlanControl:
    """Plan the latest form, then measure its candidates, both in background threads.

    Parameters
    ----------
    parent : QObject
        The widget that it plans for.
    rows_in_view : callable
        Return the candidates on the screen, which are measured first.
    """

    changed = Signal(PlanPreview)
    waiting = Signal(str)
    """The plan takes longer than a moment; carries a text that says how far it is."""
    failed = Signal(Exception)

    def __init__(self, parent: QObject, rows_in_view: Callable[[], NDArray[np.int64]]) -> None:
        self.planning, self.scoring = Worker(), Worker()
        self.current: PlanPreview | None = None
        """The plan of the current form, None while there is none."""
        self._before: PlanPreview | None = None
        self._rows_in_view = rows_in_view
        self._watch = PlanningWatch()
        self._slow = single_shot_timer(parent, self._wait, _SLOW_MS)
        self.planning.returned.connect(self._on_planned)
        self.scoring.yielded.connect(self._show)
        self.planning.failed.connect(self._on_failed)
        self.scoring.failed.connect(self._on_failed)

    def follow(self, state: FormState) -> None:
        """Plan a form, replacing the previous plan."""
        self.stop()
        self._slow.start()
        self._watch = PlanningWatch()
        self.planning.run(plan_form, state, self._before, self._watch)

    def stop(self) -> None:
        """Plan nothing."""
        self._slow.stop()
        self._watch.stop()
        self.planning.stop()
        self.scoring.stop()
        self.current = None

    def forget(self) -> None:
        """Measure again next time: pixels have changed."""
        self._before = None

    def _wait(self) -> None:
        """Emit how far planning is, now and from time to time."""
        n = self._watch.n_read
        read = f" {n:,} parts of labels and outlines are read." if n else ""
        if compared := self._watch.n_compared // 10**6:
            read = f" {compared:,} MB of images that may be copies are compared.{read}"
        self.waiting.emit(f"Planning…{read}")
        self._slow.start()

    def _on_planned(self, planned: PlanPreview) -> None:
        self._show(planned)
        if not planned.is_measured:
            self.scoring.run(score_form, planned, self._rows_in_view())

    def _show(self, planned: PlanPreview) -> None:
        self._slow.stop()
        self.current = self._before = planned
        self.changed.emit(planned)

    def _on_failed(self, error: Exception) -> None:
        self.stop()
        self.failed.emit(error)
