"""Score: read every candidate once, in tile order, and keep what the filters look at."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.cutting.holding import DEFAULT_MEMORY
from napari_patchset.export.cutting.looking import LookReader
from napari_patchset.export.cutting.measuring import looks, unmeasured
from napari_patchset.export.failures import SourcesFailed
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.partial import PartialExport
from napari_patchset.export.sources.opened import OpenImages


def score_job(
    root: str, first: int, last: int, *, memory: int = DEFAULT_MEMORY, threads: int = 1
) -> None:
    """Score the runs of candidates from `first` up to `last`; those already scored stay.

    A source that can't be read is recorded and its candidates stay without a metric.

    Parameters
    ----------
    root : str
        The folder of the partial export.
    memory : int
        Bytes for decoded tiles and the patches that are measured; more where a single patch
        needs it.
    threads : int
        How many decode.

    Raises
    ------
    ExportStopped
        If a stop is requested.
    SourcesFailed
        If it is the last source that could be read.
    """
    export = PartialExport(Path(root))
    runs = [run for run in range(first, last) if not export.scores.has(run)]
    if runs:
        frozen = export.frozen()
        with OpenImages(frozen.plan, stamps=frozen.stamps) as images:
            limits = frozen.scored_at_once, memory, threads
            reader = LookReader(frozen.images, images, *limits, export.proceed)
            _Scoring(export, frozen, runs).run(reader)


class _Scoring:
    """Runs of candidates, each kept as soon as all of it is measured."""

    def __init__(self, export: PartialExport, frozen: FrozenPlan, runs: Sequence[int]) -> None:
        self._export, self._frozen = export, frozen
        self._grid = export.candidates(frozen)
        every = np.arange(frozen.n_candidates)
        self._candidates = np.concatenate([every[frozen.score_run(run)] for run in runs])
        self._done = np.zeros(len(self._candidates), bool)
        filters, names = frozen.plan.filters, frozen.sources[0].channels
        self._looks = looks(filters, names)
        self._columns = unmeasured(filters, names, len(self._candidates))

    def run(self, reader: LookReader) -> None:
        """Score source by source, so that a broken one leaves out no other."""
        stacks = self._grid.stack[self._candidates]
        for stack in np.unique(stacks).tolist():
            low, high = np.searchsorted(stacks, (stack, stack + 1)).tolist()
            mine = self._candidates[low:high]
            try:
                self._score(reader, mine)
            except SourcesFailed as failed:
                self._export.record(failed)
                self._leave_out(mine)

    def _score(self, reader: LookReader, mine: NDArray[np.int64]) -> None:
        for look in self._looks:
            with closing(reader.read(look, self._grid, mine)) as read:
                for chosen, columns in read:
                    self._export.proceed()
                    at = np.searchsorted(self._candidates, chosen)
                    for column, values in columns.items():
                        self._columns[column][at] = values
                    if look is self._looks[-1]:
                        self._finish(at)

    def _leave_out(self, mine: NDArray[np.int64]) -> None:
        """Forget what was measured of a source in the runs that are not kept yet."""
        at = np.searchsorted(self._candidates, mine)
        for values in self._columns.values():
            values[at] = np.nan
        self._finish(at)

    def _finish(self, at: NDArray[np.intp]) -> None:
        """Count candidates as done, and keep the runs that are complete with them."""
        self._done[at] = True
        for run in np.unique(self._candidates[at] // self._frozen.scored_at_once).tolist():
            part = self._frozen.score_run(run)
            low, high = np.searchsorted(self._candidates, (part.start, part.stop)).tolist()
            if self._done[low:high].all() and not self._export.scores.has(run):
                columns = {name: values[low:high] for name, values in self._columns.items()}
                self._export.scores.write(run, columns)
