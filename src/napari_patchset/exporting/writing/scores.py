"""What is measured of the candidates of an export, in a file for each chunk of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError, UnreadableFileError
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.job_array import JOBS, JobRecords, do_rest
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.patchset.columns import read_columns, write_columns


class Scores:
    """The metrics of an export's candidates, in a file for each chunk of candidates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, chunk: int) -> Path:
        """Return the metrics file of a chunk."""
        return self._folder / f"{chunk}.parquet"

    def has(self, chunk: int) -> bool:
        """Return whether a chunk is scored."""
        return self.path(chunk).is_file()

    @property
    def has_any(self) -> bool:
        """Whether a chunk is scored."""
        return any(self._folder.glob("*.parquet"))

    def write(self, chunk: int, metrics: Metrics) -> None:
        """Write the metrics of a chunk."""
        write_columns(self.path(chunk), metrics)

    def add_known(self, frozen: FrozenPlan, metrics: Metrics) -> None:
        """Write the chunks whose metrics are all known; `metrics` has NaN for unknown ones."""
        columns = frozen.plan.metric_columns(frozen.sources, frozen.class_names)
        for chunk in range(frozen.n_score_chunks):
            of_chunk = frozen.score_chunk(chunk)
            known = {c: metrics[c][of_chunk.start : of_chunk.stop] for c in columns if c in metrics}
            if len(known) == len(columns) and not any(np.isnan(v).any() for v in known.values()):
                self.write(chunk, known)

    def missing(self, frozen: FrozenPlan) -> list[int]:
        """Return the chunks that are not scored yet."""
        return [chunk for chunk in range(frozen.n_score_chunks) if not self.has(chunk)]

    def check_complete(self, frozen: FrozenPlan) -> None:
        """Raise ExportError if a chunk is not scored yet."""
        if missing := self.missing(frozen):
            n = sum(len(frozen.score_chunk(chunk)) for chunk in missing)
            of = JobRecords(self._folder.parent / JOBS).number("score")
            raise ExportError(
                f"{self._folder.parent}: {n:,} of {frozen.n_candidates:,} candidates are not "
                f"scored yet. {do_rest(frozen, 'score', missing, of)}"
            )

    def read(self, frozen: FrozenPlan) -> dict[str, NDArray[np.float64]]:
        """Read the metrics of all candidates; raise ExportError if a chunk is not scored yet."""
        self.check_complete(frozen)
        chunks = [self._read(frozen, chunk) for chunk in range(frozen.n_score_chunks)]
        names = chunks[0] if chunks else ()
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}

    def _read(self, frozen: FrozenPlan, chunk: int) -> dict[str, NDArray[Any]]:
        """Read a chunk; remove one that is damaged, so that it is scored again, and raise."""
        path = self.path(chunk)
        try:
            return read_columns(path)[0]
        except UnreadableFileError as error:
            path.unlink(missing_ok=True)
            of = JobRecords(self._folder.parent / JOBS).number("score")
            raise ExportError(
                f"{path} was damaged or cut short, and is removed. "
                f"{do_rest(frozen, 'score', [chunk], of)}"
            ) from error

    def delete_incomplete(self, frozen: FrozenPlan, is_concerned: NDArray[np.bool_]) -> None:
        """Delete the chunks in which one of some candidates has no metric."""
        for chunk in filter(self.has, range(frozen.n_score_chunks)):
            of_chunk = frozen.score_chunk(chunk)
            concerned = is_concerned[of_chunk.start : of_chunk.stop]
            try:
                columns, _ = read_columns(self.path(chunk)) if concerned.any() else ({}, {})
                is_whole = not any(np.isnan(v[concerned]).any() for v in columns.values())
            except UnreadableFileError:
                is_whole = False
            if not is_whole:
                self.path(chunk).unlink(missing_ok=True)
