"""FrozenPlan: a plan that is being exported, as the jobs of the export share it.

It holds the sources as they were when the plan was made, so that a change is noticed, and the
layout of the arrays, so that every job writes the same shards.
"""

from collections.abc import Callable, Container, Generator

from napari_patchset._model import Frozen
from napari_patchset.annotations.features import ClassLabel
from napari_patchset.errors import SOURCE_ERRORS, MissingFileError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.reading.open_images import PlannedFiles, find_stat
from napari_patchset.exporting.reading.sources import (
    SourceDescriber,
)
from napari_patchset.exporting.reading.steps import Step, step_at
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.cache import FileStat


class FrozenPlan(Frozen):
    """A plan, its sources as they were when it was made, and values that follow from both."""

    requested: tuple[SourceRef, ...]
    """The sources that the plan was made for."""
    plan: ExportPlan
    """The plan of those that could be opened, with the scene of every image."""
    images: dict[str, tuple[SourceInfo, ...]]
    """By role, the description of every source's image, target, labels and mask."""
    file_stats: dict[str, FileStat]
    """Size and time of each file, by path."""
    failures: tuple[Failure, ...]
    size: tuple[int, ...]
    """Of a patch along (Z)YX."""
    n_candidates: int
    dropped: dict[str, int]
    """Places where no candidate was made, by reason."""
    arrays: tuple[ArrayLayout, ...]
    """One for each role, as if every candidate were written and there were no split; empty for a
    format without pixels."""
    scored_at_once: int
    """Candidates in a chunk, which is scored by one job; its metrics are one file."""
    max_failures: int | None = None
    """See `may_be_skipped`."""
    classes: tuple[ClassLabel, ...] = ()
    """The classes of the annotations of all sources."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes whose shares of the candidates are measured."""
        return tuple(each.name for each in self.classes)

    @property
    def n_score_chunks(self) -> int:
        """Number of chunks in which the candidates are scored; 0 if nothing is measured.

        So many jobs of `score` have work.
        """
        is_scored = self.plan.measures_pixels or self.classes
        return -(-self.n_candidates // self.scored_at_once) if is_scored else 0

    def score_chunk(self, chunk: int) -> range:
        """Return the candidates of a chunk."""
        first = chunk * self.scored_at_once
        return range(first, min(first + self.scored_at_once, self.n_candidates))

    @property
    def n_shards(self) -> int:
        """Number of shards of all arrays, as long as every candidate is a patch."""
        return sum(array.n_shards for array in self.arrays)

    @property
    def n_useful_jobs(self) -> int:
        """The largest number of jobs that all have a shard to write."""
        return max((array.n_shards for array in self.arrays), default=1)

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """Descriptions of the images that patches are cut from."""
        return self.images[IMAGE]

    def is_of_same_request(self, other: "FrozenPlan") -> bool:
        """Return whether another plan was made for the same sources and settings."""
        return (self.requested, self.plan.recipe) == (other.requested, other.plan.recipe)

    def has_sources_of(self, other: "FrozenPlan") -> bool:
        """Return whether another plan is of the same sources, with the same content."""
        compared = {"plan", "images"}
        return self.model_dump_json(include=compared) == other.model_dump_json(include=compared)

    @property
    def planned_files(self) -> PlannedFiles:
        """The files as they were when the plan was made."""
        # One that is missing may be found so when the set is complete but for it, or earlier.
        restored = "export again, with overwrite if the set was completed without it"
        return PlannedFiles(self.plan, self.images, self.file_stats, after_restoring=restored)

    def find_touched(self) -> dict[int, str]:
        """Return a file with another time than when the plan was made, by the source it may be of.

        The fingerprint of one that was replaced may be the same, as it does not sample all bytes.
        """
        touched = {path for path, stat in self.file_stats.items() if find_stat(path) != stat}
        named = {image.path for ref in self.plan.sources for image in ref.images.values()}
        of_set = min(touched - named, default=None)
        files = dict[int, str]()
        for index, ref in enumerate(self.plan.sources):
            own = (image.path for image in ref.images.values() if image.path in touched)
            if (path := next(own, of_set)) is not None:
                files[index] = path
        return files

    def changed_files(self, ignored: Container[int] = ()) -> dict[str, Exception]:
        """Return the files that are gone, or differ in content from this plan, with the errors.

        None is opened unless one has another size or time.
        """
        changed: dict[str, Exception] = {}
        if all(find_stat(path) == stat for path, stat in self.file_stats.items()):
            return changed
        planned, describer = self.planned_files, SourceDescriber(self.plan)
        for index in range(len(self.plan.sources)):
            if index not in ignored:
                changed |= self._changes_of(index, planned, describer)
        return changed

    def find_changed(
        self, ignored: Container[int], check_cancelled: Callable[[], None]
    ) -> "Generator[Step, None, dict[int, Failure]]":
        """Find the sources that are gone, or differ in content from this plan."""
        planned, describer = self.planned_files, SourceDescriber(self.plan)
        failures: dict[int, Failure] = {}
        for index, ref in enumerate(self.plan.sources):
            yield from step_at(index, len(self.plan.sources))
            if index in ignored:
                continue
            check_cancelled()
            for error in self._changes_of(index, planned, describer).values():
                failures.setdefault(index, Failure.from_error(ref, error))
        return failures

    def _changes_of(
        self, index: int, planned: PlannedFiles, describer: SourceDescriber
    ) -> dict[str, Exception]:
        """Return the files of a source that are gone, or differ in content, with the errors."""
        ref, changed = self.plan.sources[index], dict[str, Exception]()
        for role in self.images:
            path = ref.images[role].path
            try:
                planned.check(index, role)
                if describer.has_changed(ref, role, self.images[role][index]):
                    raise planned.changed(path)
            except MissingFileError as error:
                changed[error.path] = error
            except SOURCE_ERRORS as error:
                changed[path] = error
        return changed
