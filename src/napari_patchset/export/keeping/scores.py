"""What the filters look at, run of candidates by run: kept as it is measured, read when all is."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.keeping.tables import as_table, read_columns, write_table
from napari_patchset.patching.filters import score_columns
from napari_patchset.patching.verdicts import Metrics


class Scores:
    """The folder of an export's scores, a file for each run of candidates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, run: int) -> Path:
        """Give the file that says that a run of candidates is scored."""
        return self._folder / f"{run}.parquet"

    def has(self, run: int) -> bool:
        """Whether a run of candidates is scored."""
        return self.path(run).is_file()

    def write(self, run: int, columns: Metrics) -> None:
        """Keep the metrics of a run of candidates."""
        write_table(self.path(run), as_table(columns))

    def take(self, frozen: FrozenPlan, metrics: Metrics) -> None:
        """Keep the metrics of the runs in which every candidate has all of them."""
        columns = score_columns(frozen.plan.filters, frozen.sources[0].channels)
        for run in range(frozen.score_runs):
            found = {c: metrics[c][frozen.score_run(run)] for c in columns if c in metrics}
            if len(found) == len(columns) and not any(np.isnan(v).any() for v in found.values()):
                self.write(run, found)

    def read(self, frozen: FrozenPlan) -> dict[str, NDArray[np.float64]]:
        """Read the metrics of all candidates.

        Raises
        ------
        ExportError
            If a run is not scored yet.
        """
        absent = [run for run in range(frozen.score_runs) if not self.has(run)]
        if absent:
            raise ExportError(
                f"{self._folder.parent}: {len(absent)} of the {frozen.score_runs} runs of "
                f"candidates are not scored yet, the first is {absent[0]}; run the same export, or "
                "score, again."
            )
        runs = [read_columns(self.path(run))[0] for run in range(frozen.score_runs)]
        names = runs[0] if runs else ()
        return {name: np.concatenate([run[name] for run in runs]) for name in names}

    def forget_incomplete(self, frozen: FrozenPlan) -> None:
        """Forget the runs in which a candidate has no metric."""
        for run in filter(self.has, range(frozen.score_runs)):
            columns, _ = read_columns(self.path(run))
            if any(np.isnan(values).any() for values in columns.values()):
                self.path(run).unlink()
