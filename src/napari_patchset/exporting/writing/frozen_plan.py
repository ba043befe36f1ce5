"""FrozenPlan: a plan that is being exported, as the jobs of the export share it.

It holds the sources as they were when the plan was made, so that a change is noticed, and the
layout of the arrays, so that every job writes the same shards.
"""

import warnings
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence

from napari_patchset._model import Frozen
from napari_patchset.annotations.features import ClassLabel
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import SOURCE_ERRORS, ArgumentError, MissingFileError
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS, MASK, SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.plans.region_files import read_region
from napari_patchset.exporting.reading.candidates import choose_candidates, reads_classes
from napari_patchset.exporting.reading.class_images import (
    annotations_in_steps,
    check_classes,
    classes_of,
)
from napari_patchset.exporting.reading.failures import Failure, SourcesFailed, may_be_skipped
from napari_patchset.exporting.reading.open_images import PlannedFiles, find_stat
from napari_patchset.exporting.reading.sources import (
    SourceDescriber,
    check_agreement,
    check_geometry,
    check_overrides,
    find_lookalikes,
    find_repeats,
    repeats_notice,
    tell_apart,
)
from napari_patchset.exporting.reading.steps import Report, Step, run_in_thread
from napari_patchset.patching.filters.patch_filters import MaskFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import GeoJsonRegion, Masks
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import IMAGE, LABELS, TARGET, UNSPLIT, ArrayLayout
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.cache import FileStat

_SHARDS_PER_SCORE_CHUNK = 4
_FEWEST_SCORED_AT_ONCE, _MAX_SCORE_CHUNKS = 1024, 1024
"""Small patches: a shard has so many that few jobs would share the scoring by whole shards."""

_MAX_STEPS = 100
"""Largest number of steps reported for one pass over the sources."""


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
            yield from _step(index, len(self.plan.sources))
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


def _step(done: int, total: int) -> Iterator[Step]:
    """Yield how many sources are done, if it is time to report it."""
    if done % -(-total // _MAX_STEPS) == 0:
        yield Step(done, total)


def freeze_plan(
    plan: ExportPlan, check_cancelled: Callable[[], None], max_failures: int | None = None
) -> Generator[Step, None, tuple[FrozenPlan, PatchGrid]]:
    """Open and describe every source, and choose the candidates; yield what is done.

    Sources that can't be read are skipped, unless all are, or one may not be: see `may_be_skipped`.
    `check_cancelled` is called before each source is opened; an exception that it raises ends
    planning. Raise PatchsetError or OSError if sources do not agree with each other or with their
    paired images, or if none can be read.
    """
    requested = plan.resolved()
    masks = yield from _region_in_steps(plan.strategy, check_cancelled)  # which fails early
    describe_image = SourceDescriber(requested, check_cancelled)
    plan, images, failures = yield from _describe_readable(
        requested, describe_image, check_cancelled
    )
    _check_failures(failures, max_failures)
    classes = classes_of(plan.sources, describe_image.classes)
    check_classes(plan.strategy, plan.filters, classes, ANNOTATIONS in images)
    if notice := plan.strategy.class_notice([each.name for each in classes]):
        warnings.warn(notice, stacklevel=2)
    if ANNOTATIONS in images:
        images[ANNOTATIONS] = tuple(_with_classes(i, classes) for i in images[ANNOTATIONS])
    check_images(plan, images)
    while True:
        try:
            grid = yield from _chosen(plan, images[IMAGE], masks, check_cancelled)
            break
        except SourcesFailed as failed:  # labels are damaged
            if len(failed.failures) == len(plan.sources):
                raise
            failures += failed.failures.values()
            _check_failures(failures, max_failures)
            plan, images = _without(failed.failures, plan, images)
    arrays = lay_out(plan, images, len(grid), grid.size)
    paths = {image.path for ref in plan.sources for image in ref.images.values()}
    paths |= describe_image.files
    frozen = FrozenPlan(
        requested=requested.sources,
        plan=plan,
        images=images,
        file_stats={path: stat for path in sorted(paths) if (stat := find_stat(path))},
        failures=tuple(failures),
        size=grid.size,
        n_candidates=len(grid),
        dropped=dict(grid.excluded),
        arrays=arrays if FORMATS[plan.format].has_pixels else (),
        scored_at_once=min(
            _SHARDS_PER_SCORE_CHUNK * arrays[0].patches_per_shard,
            max(_FEWEST_SCORED_AT_ONCE, -(-len(grid) // _MAX_SCORE_CHUNKS)),
        ),
        max_failures=max_failures,
        classes=classes,
    )
    return frozen, grid


def _region_in_steps(
    strategy: PatchStrategy, check_cancelled: Callable[[], None]
) -> Generator[Step, None, Masks]:
    """Read the file of a region, and yield the megabytes that are read of outlines."""
    if not isinstance(strategy.region, GeoJsonRegion):
        return read_region(strategy)

    def read(report: Report) -> Masks:
        return read_region(strategy, lambda done, total: report(done // 10**6, total // 10**6))

    return (yield from run_in_thread(read, check_cancelled, "read"))


def _without(
    failed: Container[int], plan: ExportPlan, images: Mapping[str, Sequence[SourceInfo]]
) -> tuple[ExportPlan, dict[str, tuple[SourceInfo, ...]]]:
    """Return a plan, and the descriptions of its images, without some sources."""
    readable = [i for i in range(len(plan.sources)) if i not in failed]
    sources = tuple(plan.sources[i] for i in readable)
    described = {role: tuple(infos[i] for i in readable) for role, infos in images.items()}
    return plan.model_copy(update={"sources": sources}), described


def _chosen(
    plan: ExportPlan,
    sources: Sequence[SourceInfo],
    masks: Masks,
    check_cancelled: Callable[[], None],
) -> Generator[Step, None, PatchGrid]:
    """Choose the candidates, and yield how far that is if labels or annotations are read."""
    if not reads_classes(plan):
        return choose_candidates(plan, sources, masks, check_cancelled=check_cancelled)

    def choose(progress: Report) -> PatchGrid:
        return choose_candidates(
            plan, sources, masks, check_cancelled=check_cancelled, progress=progress
        )

    return (yield from run_in_thread(choose, check_cancelled, "choose"))


def _with_classes(info: SourceInfo, classes: Sequence[ClassLabel]) -> SourceInfo:
    """Return the description of annotations with a channel for each class of all sources."""
    names = tuple(each.name for each in classes)
    sizes = zip(info.axes, info.shape, strict=True)
    shape = tuple(len(names) if axis == "C" else n for axis, n in sizes)
    return info.with_fields(channels=names, shape=shape)


def _check_failures(failures: Sequence[Failure], max_failures: int | None) -> None:
    if not may_be_skipped(failures, max_failures):
        raise SourcesFailed.needed(dict(enumerate(failures)), (), max_failures)


def check_images(
    plan: ExportPlan, images: Mapping[str, Sequence[SourceInfo]], name: Callable[[str], str] = str
) -> None:
    """Raise ExportError, naming each, if sources disagree with each other or with paired images.

    Parameters
    ----------
    images : dict of role to sequence of SourceInfo
        Descriptions of every source's image, and of the images that are paired with it.
    name : callable
        Returns how the error names an image, of the text of its reference.
    """
    for role, infos in images.items():
        if role not in (MASK, ANNOTATIONS):
            refs = [name(str(ref.images[role])) for ref in plan.sources]
            check_agreement(refs, infos, None if role == LABELS else plan.dtype)
        if role != IMAGE:
            check_geometry(role, plan.sources, infos, images[IMAGE], name)


def lay_out(
    plan: ExportPlan, images: Mapping[str, Sequence[SourceInfo]], n: int, size: Sequence[int]
) -> tuple[ArrayLayout, ...]:
    """Return the layout of an array of `n` patches for each role, without a split.

    The pixels of paired images have the size of their source's, also if they do not state it.
    """
    size_um = {"pixel_size": images[IMAGE][0].pixel_size}
    return tuple(
        ArrayLayout.from_source(
            f"{UNSPLIT}/{role}",
            n,
            infos[0].model_copy(update=size_um),
            size,
            None if role == LABELS else plan.dtype,
            plan.codec,
        )
        for role, infos in images.items()
        if role not in (MASK, ANNOTATIONS)
    )


def _describe_readable(
    plan: ExportPlan, describe_image: SourceDescriber, check_cancelled: Callable[[], None]
) -> Generator[Step, None, tuple[ExportPlan, dict[str, tuple[SourceInfo, ...]], list[Failure]]]:
    """Return a plan of the sources that can be read, their descriptions by role, and failures.

    Of sources that hold the same pixels, only one is used.
    """
    roles = roles_of(plan)
    readable, descriptions, failures = list[SourceRef](), [], list[Failure]()
    for index, requested in enumerate(plan.sources):
        yield from _step(index, len(plan.sources))
        check_cancelled()
        try:
            ref = requested.with_pair_scenes()
            paths = {image.path for image in ref.images.values() if is_geojson(image.path)}
            for path in sorted(paths):
                for step in annotations_in_steps(path, check_cancelled):
                    yield step._replace(done=step.done // 10**6, total=step.total // 10**6)
            descriptions.append([describe_image(ref, role) for role in roles])
            readable.append(ref)
        except SOURCE_ERRORS as error:
            if requested is plan.sources[-1] and not readable:
                raise
            failures.append(Failure.from_error(requested, error))
    parts = [describe_image.parts(ref) for ref in readable]
    infos = [described[0] for described in descriptions]
    if lookalikes := find_lookalikes(readable, parts):
        named = {i: readable[i] for i in lookalikes}
        digests, unread = yield from _digests_in_steps(named, describe_image, check_cancelled)
        infos, parts = tell_apart(infos, parts, digests)
        check_overrides(plan.overrides, readable, infos)
        failures += unread.values()
        left = [i for i in range(len(readable)) if i not in unread]
        if not left:
            raise SourcesFailed(unread)
        descriptions = [[infos[i], *descriptions[i][1:]] for i in left]
        readable = [readable[i] for i in left]
        infos, parts = [infos[i] for i in left], [parts[i] for i in left]
    if repeats := find_repeats(readable, infos, parts):
        if plan.split is not None:
            plan.split.check_repeats(infos, repeats)
        warnings.warn(repeats_notice(readable, repeats), stacklevel=2)
        descriptions = [each for i, each in enumerate(descriptions) if i not in repeats]
        readable = [each for i, each in enumerate(readable) if i not in repeats]
    images = dict(zip(roles, zip(*descriptions, strict=True), strict=True))
    return plan.model_copy(update={"sources": tuple(readable)}), images, failures


def _digests_in_steps(
    refs: Mapping[int, SourceRef],
    describe_image: SourceDescriber,
    check_cancelled: Callable[[], None],
) -> Generator[Step, None, tuple[dict[int, Sequence[str]], dict[int, Failure]]]:
    """Return `part_digests` of sources, and failures; yield the megabytes that were read."""
    stats = map(find_stat, {ref.path for ref in refs.values()})
    total = sum(stat.size for stat in stats if stat)

    def read(report: Report) -> tuple[dict[int, Sequence[str]], dict[int, Failure]]:
        digests, failures = dict[int, Sequence[str]](), dict[int, Failure]()
        done = 0

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            report(done // 10**6, max(done, total) // 10**6)

        for i, ref in refs.items():
            try:
                digests[i] = describe_image.digests(ref, advance)
            except SOURCE_ERRORS as error:
                failures[i] = Failure.from_error(ref, error)
        return digests, failures

    return (yield from run_in_thread(read, check_cancelled, "compare"))


def roles_of(plan: ExportPlan, name: Callable[[str], str] = str) -> list[str]:
    """Return the roles that have an image in every source; raise ArgumentError for one in some.

    `name`: see `check_images`.
    """
    rules = {role: f"Either every source has a paired {role}, or none" for role in (TARGET, LABELS)}
    rules[ANNOTATIONS] = "Either every source has annotations, or none"
    missing = {LABELS: "labels", ANNOTATIONS: "outlines or labels", MASK: "a mask or labels"}
    roles = [role for role in rules if any(role in ref.images for ref in plan.sources)]
    if any(isinstance(each, MaskFilter) for each in plan.filters):
        rules[MASK] = "The filter mask needs a mask or labels for every source"
        roles.append(MASK)
    for role in roles:
        lacking = [name(str(ref)) for ref in plan.sources if role not in ref.images]
        if lacking:
            n = len(lacking)
            raise ArgumentError(
                f"{rules[role]}; {lacking[0]} has none ({n} in all). Add "
                f"{missing.get(role, f'a {role}')} to each, or take only those that have some."
            )
    return [IMAGE, *roles]
