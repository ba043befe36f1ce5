"""FrozenPlan: a plan that is being exported, as the jobs of the export share it.

It holds the sources as they were when the plan was made, so that a change is noticed, and the
layout of the arrays, so that every job writes the same shards.
"""

from typing import Self

from napari_patchset.exporting.sources import Survey
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import IMAGE, LABELS, ROLES, UNSPLIT, ArrayLayout
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo

_SHARDS_PER_SCORE_RUN = 4


class FrozenPlan(Survey):
    """A plan, its sources as they were when it was made, and what follows from both.

    Attributes
    ----------
    requested, plan, images, stamps, failures
        See `Survey`.
    size : tuple of int
        Of a patch along (Z)YX.
    n_candidates : int
        Number of candidates.
    dropped : dict of str to int
        Places where no candidate was made, by reason.
    arrays : tuple of ArrayLayout
        One for each role, as if every candidate were written and there were no split; empty for a
        format without pixels.
    scored_at_once : int
        Candidates in a run; a run is scored by one job, and its metrics are one file.
    """

    size: tuple[int, ...]
    n_candidates: int
    dropped: dict[str, int]
    arrays: tuple[ArrayLayout, ...]
    scored_at_once: int

    @classmethod
    def of(cls, survey: Survey, grid: PatchGrid) -> Self:
        """Freeze a plan whose strategy chose these candidates in its sources."""
        plan, n = survey.plan, len(grid)
        arrays = []
        for role in ROLES:
            if role in survey.images:
                dtype, first = None if role == LABELS else plan.dtype, survey.images[role][0]
                name = f"{UNSPLIT}/{role}"
                arrays.append(ArrayLayout.of(name, n, first, grid.size, dtype, plan.codec))
        return cls(
            **dict(survey),
            size=grid.size,
            n_candidates=n,
            dropped=dict(grid.excluded),
            arrays=tuple(arrays) if FORMATS[plan.format].has_pixels else (),
            scored_at_once=_SHARDS_PER_SCORE_RUN * arrays[0].patches_per_shard,
        )

    @property
    def score_runs(self) -> int:
        """Number of runs in which the candidates are scored; 0 without filters."""
        return -(-self.n_candidates // self.scored_at_once) if self.plan.filters else 0

    def score_run(self, run: int) -> range:
        """Return the candidates of a run."""
        first = run * self.scored_at_once
        return range(first, min(first + self.scored_at_once, self.n_candidates))

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """Descriptions of the images that patches are cut from."""
        return self.images[IMAGE]
