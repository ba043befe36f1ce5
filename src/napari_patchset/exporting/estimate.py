"""What an export would write, and how long it would take, without writing anything."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from napari_patchset.channels import channel_indices
from napari_patchset.errors import SOURCE_ERRORS
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.reading.open_images import open_source
from napari_patchset.exporting.reading.steps import run_steps
from napari_patchset.exporting.stages import Progress, check_frozen, check_not_taken
from napari_patchset.exporting.writing.destination import check_destination
from napari_patchset.exporting.writing.freezing import freeze_plan
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.selection import select_candidates
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.stacks.metadata import channel_names

_N_PLACES, _N_NEIGHBOURS = 8, 16
"""Places that are read for the estimate, and patches that follow each other there: they share
tiles."""


@dataclass(frozen=True)
class ExportEstimate:
    """What an export would write."""

    candidates: int
    """Patches, before filters."""
    excluded: dict[str, int]
    """Places without a candidate, by reason."""
    rejected: dict[str, int]
    """Candidates that the split rejects, by reason; empty with filters, as none is measured."""
    nbytes: int
    """Bytes of the pixels of all arrays."""
    shards: int
    is_upper_bound: bool
    """Whether filters or compression make it fewer."""
    jobs: int
    """The largest number of jobs that all have a shard to write."""
    score_jobs: int
    """The largest number of jobs that all have candidates to score; 0 if nothing is measured."""
    seconds: float | None
    """How long reading takes, from a sample of the patches; None if none could be read."""
    failures: tuple[Failure, ...]
    """Sources that can't be read."""


def estimate_export(
    plan: ExportPlan,
    *,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[Progress], object] = lambda event: None,
) -> ExportEstimate:
    """Plan an export, read a sample of its patches, and write nothing.

    See `export` for the parameters.
    """
    check_destination(plan, overwrite)
    workdir = WorkDir.for_set(plan.out)
    if not overwrite:
        check_not_taken(workdir, plan)
    steps = freeze_plan(plan, workdir.check_cancelled)
    frozen, grid = run_steps(steps, lambda step: progress(Progress.of_planning(step, plan)))
    check_frozen(frozen, grid, workdir.root)
    rejected: Mapping[str, int] = {}
    if not frozen.n_score_chunks:
        every = np.ones(len(grid), bool)
        rejected = select_candidates(frozen.plan, grid, frozen.sources, {}, every).rejected
    per_patch = _seconds_per_patch(frozen, grid)
    passes = (2 if plan.measures_pixels else 1) * max(len(frozen.arrays), 1)
    threads = min(workers, os.cpu_count() or 1)
    return ExportEstimate(
        candidates=len(grid),
        excluded={reason: n for reason, n in frozen.dropped.items() if n},
        rejected=dict(rejected),
        nbytes=sum(array.n * array.patch_bytes for array in frozen.arrays),
        shards=frozen.n_shards,
        is_upper_bound=plan.measures_pixels or plan.codec != "none",
        jobs=frozen.n_useful_jobs,
        score_jobs=frozen.n_score_chunks,
        seconds=None if per_patch is None else per_patch * passes * len(grid) / threads,
        failures=frozen.failures,
    )


def _seconds_per_patch(frozen: FrozenPlan, grid: PatchGrid) -> float | None:
    """Read some patches of the images, and return the seconds that each took."""
    first = np.linspace(0, len(grid), min(_N_PLACES, len(grid)), endpoint=False, dtype=int)
    seconds, n = 0.0, 0
    for start in first.tolist():
        specs = [grid[i] for i in range(start, min(start + _N_NEIGHBOURS, len(grid)))]
        specs = [spec for spec in specs if spec.source_index == specs[0].source_index]
        try:
            with open_source(frozen.plan, frozen.plan.sources[specs[0].source_index]) as stack:
                names = frozen.plan.channels
                channels = None if names is None else channel_indices(channel_names(stack), names)
                began = perf_counter()
                for spec in specs:
                    stack.extract_patch(spec.sample, channels, spec.start, grid.size)
                seconds, n = seconds + perf_counter() - began, n + len(specs)
        except SOURCE_ERRORS:  # damaged since it was opened; the export reports it
            continue
    return seconds / n if n else None
