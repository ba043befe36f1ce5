"""A plan as the window shows it: candidates, verdicts, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import AnnotationClass, ClassLabel, label_classes
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS
from napari_patchset.exporting.writing.freezing import lay_out
from napari_patchset.patching.duplicates import without_hashes
from napari_patchset.patching.filters.measurements import share_measurements
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.lengths import to_pixels
from napari_patchset.patching.strategies.sized import SizedStrategy
from napari_patchset.patching.verdicts import Verdicts, overridden_rows
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.metric_histogram import MetricHistogram
from napari_patchset.plugin.overrides import image_path
from napari_patchset.plugin.state import FormState
from napari_patchset.preview.categories import (
    CATEGORY_COLORS,
    PatchCategory,
    PatchColors,
    class_colors,
)
from napari_patchset.source import SourceInfo


@dataclass(frozen=True, eq=False)
class PlanPreview:
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
        The verdict on each; provisional while some are not measured.
    category : uint8 array
        The verdicts as they are drawn, a `preview.PatchCategory` each.
    scored : bool array
        Which candidates are measured.
    notice : str
        Which sources are left out since their pixels are in another one, "" for none.
    pairs : dict of role to sequence of SourceInfo
        The images that are paired with the sources.
    outline_keys : tuple of str
        Digests of the files of outlines.
    histograms : tuple of MetricHistogram or None
        The metric of each filter in the source on the screen, None while nothing is measured.
    """

    state: FormState
    sources: Sequence[SourceInfo]
    grid: PatchGrid
    verdicts: Verdicts
    category: NDArray[np.uint8]
    scored: NDArray[np.bool_]
    notice: str = ""
    pairs: Mapping[str, Sequence[SourceInfo]] = field(default_factory=dict)
    outline_keys: tuple[str, ...] = ()
    histograms: tuple[MetricHistogram | None, ...] = ()

    @cached_property
    def drawn(self) -> PatchColors:
        """How the candidates are drawn: by their use, or by their class if the form says so."""
        if not self.state.class_colors:
            return PatchColors(self.category, CATEGORY_COLORS)
        unknown = np.full(len(self.grid), np.nan)
        columns = [each.column for each in share_measurements(self.class_names)]
        shares = [self.verdicts.metrics.get(column, unknown) for column in columns]
        known = dict(self.state.class_colors)
        colors = [known.get(name, "#ffffff") for name in self.class_names]
        return class_colors(self.verdicts, shares, colors)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the annotations, whose shares are measured whatever the filters."""
        return tuple(each.name for each in paired_classes(self.pairs))

    @property
    def arrays(self) -> tuple[ArrayLayout, ...]:
        """The arrays of the patch set, one for each role; empty for a format without pixels."""
        plan, images = self.state.preview_plan(), {IMAGE: self.sources, **self.pairs}
        if not FORMATS[plan.format].has_pixels:
            return ()
        kept = int(np.count_nonzero(self.verdicts.kept))
        return lay_out(plan, images, kept, self.grid.size)

    @cached_property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """What the plan measures, as far as it is known; what others measured is left out."""
        columns = self.state.recipe.metric_columns(self.sources, self.class_names)
        known = without_hashes(self.verdicts.metrics)
        return {name: known[name] for name in columns if name in known}

    @property
    def is_measured(self) -> bool:
        """Whether all is known that the table will have of its candidates."""
        columns = self.state.recipe.metric_columns(self.sources, self.class_names)
        metrics = self.verdicts.metrics
        return all(name in metrics and not np.isnan(metrics[name]).any() for name in columns)

    @property
    def shown_source(self) -> SourceInfo:
        """The source on the screen."""
        return self.sources[self.state.shown_index]

    @property
    def counts(self) -> dict[Path, int]:
        """The number of patches that are exported of each image."""
        exported = self.grid.source_index[self.verdicts.reason < 0]
        counts = np.bincount(exported, minlength=len(self.sources)).tolist()
        by_path: dict[Path, int] = {}
        for ref, n in zip(self.state.sources, counts, strict=True):
            by_path[image_path(ref)] = by_path.get(image_path(ref), 0) + n
        return by_path

    @property
    def is_provisional(self) -> bool:
        """Whether verdicts may change as more candidates are measured."""
        return not self.scored.all()

    def row_of(self, sample: int, start: Sequence[int]) -> int | None:
        """Return the candidate of the source on the screen at a place, None if there is none."""
        grid = self.grid
        is_there = (grid.source_index == self.state.shown_index) & (grid.sample == sample)
        if len(start) != len(grid.size):
            return None
        rows = np.flatnonzero(is_there & (grid.start == np.array(start)).all(axis=1))
        return int(rows[0]) if len(rows) else None

    @property
    def is_clicked(self) -> bool:
        """Whether the user places its patches by clicks."""
        return self.state.recipe.strategy.kind == "fixed"

    @cached_property
    def overridden_rows(self) -> NDArray[np.int64]:
        """The candidate that each override applies to, -1 for none."""
        return overridden_rows(self.state.recipe.overrides, self.grid, self.sources)

    @property
    def n_lost_choices(self) -> int:
        """How many choices by hand in its sources apply to no candidate."""
        known = {(info.key, info.scene) for info in self.sources}
        of_sources = ((each.source, each.scene) in known for each in self.state.recipe.overrides)
        pairs = zip(of_sources, self.overridden_rows.tolist(), strict=True)
        return sum(is_known and row < 0 for is_known, row in pairs)

    @cached_property
    def rejected_rows(self) -> NDArray[np.int64]:
        """The candidates of the source on the screen that are not exported."""
        is_shown = self.grid.source_index == self.state.shown_index
        return np.flatnonzero((self.category == PatchCategory.REJECTED) & is_shown)

    @cached_property
    def n_planes(self) -> int:
        """The number of planes, or volumes, that have patches, which follow each other."""
        of_image, sample = self.grid.source_index, self.grid.sample
        if not len(sample) or (of_image[0] == of_image[-1] and sample[0] == sample[-1]):
            return min(1, len(sample))
        is_next = (sample[1:] != sample[:-1]) | (of_image[1:] != of_image[:-1])
        return 1 + int(np.count_nonzero(is_next))

    @property
    def step(self) -> tuple[int, int]:
        """Distance between the starts of neighbours along Y and X, in pixels."""
        height, width = self.steps[-2:]
        return height, width

    @property
    def steps(self) -> tuple[int, ...]:
        """Distance between the starts of neighbours along (Z)YX, in pixels."""
        strategy, source = self.state.recipe.strategy, self.sources[0]
        if isinstance(strategy, SizedStrategy):
            strategy = strategy.in_pixels(source.pixel_size, source.name)
        size = self.grid.size
        overlap = to_pixels(getattr(strategy, "overlap", ())) or (0,) * len(size)
        return tuple(p - o for p, o in zip(size, overlap, strict=True))


def paired_classes(pairs: Mapping[str, Sequence[SourceInfo]]) -> tuple[ClassLabel, ...]:
    """Return the classes of the annotations that are paired with the sources."""
    names = dict.fromkeys(name for info in pairs.get(ANNOTATIONS, ()) for name in info.channels)
    return label_classes(AnnotationClass(name=name) for name in names)
