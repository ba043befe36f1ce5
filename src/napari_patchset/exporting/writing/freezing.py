"""Freezing a plan: sources are opened and described, and candidates chosen, once for all jobs."""

import warnings
from collections.abc import Callable, Container, Generator, Mapping, Sequence

from napari_patchset.annotations.features import ClassLabel
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import SOURCE_ERRORS, ArgumentError
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
from napari_patchset.exporting.reading.open_images import find_stat
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
from napari_patchset.exporting.reading.steps import Report, Step, run_in_thread, step_at
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.patching.filters.patch_filters import MaskFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import GeoJsonRegion, Masks
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import IMAGE, LABELS, TARGET, UNSPLIT, ArrayLayout
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import SourceInfo

_SHARDS_PER_SCORE_CHUNK = 4
_FEWEST_SCORED_AT_ONCE, _MAX_SCORE_CHUNKS = 1024, 1024
"""Small patches: a shard has so many that few jobs would share the scoring by whole shards."""


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
        yield from step_at(index, len(plan.sources))
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
