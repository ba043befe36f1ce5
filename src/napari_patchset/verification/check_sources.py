"""Check a set against its sources.

Each source must be described as before, and each patch (image, target, labels), cut again, have its
checksum. The metrics of its candidates are measured again, annotations are drawn again, and both
are compared with the table. Last, the recipe must give the candidates of the table.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from math import prod
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import PatchsetError, UnreachableError, describe_os_error
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS, MASK, ImageRef, SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan, Recipe
from napari_patchset.exporting.plans.region_files import read_region
from napari_patchset.exporting.reading.candidates import choose_candidates
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.sources import SourceDescriber
from napari_patchset.exporting.reading.tile_reader import TileReader, read_patch
from napari_patchset.exporting.reading.tiles import Batches
from napari_patchset.exporting.writing.metrics import MetricReader, is_measured_as
from napari_patchset.exporting.writing.shard_writer import cast_exactly
from napari_patchset.patching.filters.patch_filters import MaskFilter, ShareFilter
from napari_patchset.patching.grid import Draws, PatchSpec
from napari_patchset.patching.regions import FileRegion
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.source import SourceInfo, local_path
from napari_patchset.stacks.classes import AnnotationStack
from napari_patchset.verification.check_set import PixelCheck
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates
from napari_patchset.verification.recomputed import DrawnOutlines, DrawnTiles, PlainResampledStack

Masks = dict[str, NDArray[np.bool_]]
"""By class, the pixels of a patch that it covers."""


class _Expected(NamedTuple):
    """The checksum of each candidate's patch in one role, where it is known; one of its arrays."""

    array: ArrayLayout
    checksums: NDArray[np.uint32]
    is_known: NDArray[np.bool_]


class _OneForAll(Sequence[SourceInfo]):
    """Descriptions by index of which one alone is asked for; a list would have all before it."""

    def __init__(self, info: SourceInfo) -> None:
        self._info = info

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[SourceInfo]:
        yield self._info

    @overload
    def __getitem__(self, index: int) -> SourceInfo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SourceInfo]: ...
    def __getitem__(self, index: int | slice) -> SourceInfo | Sequence[SourceInfo]:
        return [self._info] if isinstance(index, slice) else self._info


class SourceCheck:
    """Open every source again, and cut every patch of the set from it.

    Images are compared with the checksums in the table; targets and labels, which have none there,
    with those of the patches that `pixels` has read. `count_read` is called with the number of
    patches that have been read, `memory` is in bytes of decoded tiles.
    """

    def __init__(
        self,
        patch_set: OpenedSet,
        candidates: RecordedCandidates,
        pixels: PixelCheck,
        count_read: Callable[[int], None],
        memory: int,
        threads: int,
    ) -> None:
        self._set, self._candidates, self._count_read = patch_set, candidates, count_read
        self._memory, self._threads = memory, threads
        self._expected: dict[str, _Expected] = {}
        n = len(candidates.grid)
        for array in patch_set.arrays:
            empty = _Expected(array, np.zeros(n, np.uint32), np.zeros(n, bool))
            _, checksums, is_known = self._expected.setdefault(array.role, empty)
            rows = candidates.of_array(array)
            if rows is None:  # `check_table` has found that
                continue
            recorded = candidates.image_checksums(array)
            checksums[rows] = pixels.checksums[array.name] if recorded is None else recorded
            is_known[rows] = recorded is not None or ~pixels.unreadable[array.name]

    def run(self) -> Iterator[Finding]:
        """Yield sources that are absent or changed, and patches that differ from theirs."""
        plan = self._make_plan()
        if plan is None or len(plan.sources) != len(self._set.sources):
            yield Finding(
                "edited manifest",
                f"{self._set.path}: the provenance does not list the paths of all "
                f"{len(self._set.sources)} sources, so the sources are not checked.",
            )
            return
        describe, infos = SourceDescriber(plan), list[SourceInfo]()
        classes = self._set.manifest.classes
        with OpenImages(plan, threads=self._threads, classes=classes) as images:
            for index, ref in enumerate(plan.sources):
                if self._candidates.is_skipped(index):
                    continue
                described = dict[str, SourceInfo]()
                for role in ref.images:
                    info = yield from self._check_image(describe, index, ref, role)
                    if info is not None:
                        infos += [info] if role == IMAGE else []
                        differing = list(self._check_patches(images, plan, index, role, info))
                        yield from differing
                        described |= {} if differing else {role: info}
                    if info is not None and role == ANNOTATIONS:
                        yield from self._check_shares(images, plan, index)
                yield from self._check_metrics(images, plan, index, described)
        if len(infos) == len(plan.sources):
            yield from self._check_candidates(plan, infos)

    def _make_plan(self) -> ExportPlan | None:
        """Return the plan of the set, whose name does not matter; None if it is invalid."""
        recipe, out = self._set.recipe, f"set{self._set.set_format.suffix}"
        fields = {name: getattr(recipe, name) for name in Recipe.model_fields}
        try:
            refs = [SourceRef.model_validate(ref) for ref in self._set.provenance.sources]
            return ExportPlan(**fields, sources=tuple(refs), out=out)
        except ValidationError:
            return None

    def _check_image(
        self, describe: SourceDescriber, index: int, source: SourceRef, role: str
    ) -> Generator[Finding, None, SourceInfo | None]:
        """Return the description of an image, None if it has changed.

        The manifest describes only the images, not targets and labels.
        """
        image = source.images[role]
        try:
            info = describe(source, role, self._set.sources[index])
        except (OSError, UnreachableError) as error:
            message = f"{_reason(image, error)}; restore it, or verify without the sources."
            yield Finding("absent source", message)
            return None
        except PatchsetError as error:
            yield Finding("changed source", f"{_reason(image, error)}; {_REMEDY}")
            return None
        if role == IMAGE and (changes := _changes(info, self._set.sources[index])):
            yield Finding("changed source", f"{image}: {changes}; export the set again.")
            return None
        return info

    def _check_patches(
        self, images: OpenImages, plan: ExportPlan, index: int, role: str, info: SourceInfo
    ) -> Iterator[Finding]:
        """Cut the patches of one image again."""
        if role not in self._expected:
            return
        image = plan.sources[index].images[role]
        try:
            different = self._find_different(images, plan, index, role, info)
        except SourcesFailed as failed:
            is_absent = all(failure.is_transient for failure in failed.failures.values())
            if is_absent:
                yield Finding("absent source", f"{failed}; verify again when it can be read.")
            else:
                yield Finding("changed source", f"{str(failed).removesuffix('.')}; {_REMEDY}")
            return
        except (PatchsetError, ValueError) as error:
            yield Finding("differs from source", f"{_reason(image, error)}; {_REMEDY}")
            return
        if len(different):
            yield Finding(
                "differs from source",
                f"{self._set.path}: the {role} of {len(different)} patches differs from the "
                f"pixels of {image}, the first is in row {different[0]} of the table; export the "
                "set again.",
            )

    def _find_different(
        self, images: OpenImages, plan: ExportPlan, index: int, role: str, info: SourceInfo
    ) -> NDArray[np.int64]:
        """Return the candidates of one image whose pixels differ from those of the set."""
        array, expected, is_known = self._expected[role]
        grid, source = self._candidates.grid, plan.sources[index]
        of_source = self._candidates.rows_of(index)
        candidates = of_source[is_known[of_source]]
        if not len(candidates):
            return candidates
        if info.ratio is not None:
            return self._find_differently_resampled(images, plan, index, role, info, candidates)
        sources, padding = [info] * (index + 1), plan.strategy.padding
        # No batch is larger than a shard.
        shards = np.arange(len(candidates)) // array.patches_per_shard
        batches = Batches.from_candidates(grid, sources, padding, candidates, shards)
        reader = TileReader(batches, images, role, self._memory)
        different = []
        with closing(reader.read()) as pending:
            for batch in pending:
                rows = batch.candidates
                patches = np.empty((len(rows), *array.patch_shape), batch.dtype)
                reader.fill(batch, patches)
                patches = cast_exactly(patches, array.pixel_type, grid[rows], source)
                different.append(rows[checksums(patches) != expected[rows]])
                self._count_read(len(rows))
        return np.sort(np.concatenate(different))

    def _find_differently_resampled(
        self,
        images: OpenImages,
        plan: ExportPlan,
        index: int,
        role: str,
        info: SourceInfo,
        candidates: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Resample every patch again by itself, see `_find_different`."""
        array, expected, _ = self._expected[role]
        stack, channels, _ = images[index, role]
        is_nearest = getattr(stack, "nearest", False)
        plain = PlainResampledStack(getattr(stack, "stack", stack), info, is_nearest)
        different = []
        for row in candidates.tolist():
            spec = self._candidates.grid[row]
            with images.source_errors(index):
                patch = read_patch(plain, channels, spec, plan.strategy.padding)
            cast = cast_exactly(patch[np.newaxis], array.pixel_type, [spec], plan.sources[index])
            if checksums(cast)[0] != expected[row]:
                different.append(row)
            self._count_read(1)
        return np.array(different, np.int64)

    def _check_metrics(
        self, images: OpenImages, plan: ExportPlan, index: int, described: dict[str, SourceInfo]
    ) -> Iterator[Finding]:
        """Measure the candidates of a source again, and compare with the table."""
        if IMAGE not in described:
            return
        of_each = {role: _OneForAll(info) for role, info in described.items()}
        filters = [each for each in plan.filters if not isinstance(each, ShareFilter)]
        if MASK not in described:
            filters = [each for each in filters if not isinstance(each, MaskFilter)]
        reader = MetricReader(filters, of_each, images, memory=self._memory)
        recorded, rows = self._candidates.metrics, self._candidates.rows_of(index)
        for request in reader.requests:
            if not set(request.columns) <= recorded.keys():  # `check_table` has found that
                continue
            try:
                with closing(reader.read(request, self._candidates.grid, rows)) as parts:
                    is_same = all(is_measured_as(new, recorded, of) for of, new in parts)
            except SourcesFailed as failed:
                yield Finding("changed source", f"{str(failed).removesuffix('.')}; {_REMEDY}")
                return
            if not is_same:
                yield Finding(
                    "differs from source",
                    f"{self._set.table_path}: {', '.join(request.columns)} of patches of "
                    f"{plan.sources[index]} are not those of its pixels; export the set again.",
                )

    def _check_shares(self, images: OpenImages, plan: ExportPlan, index: int) -> Iterator[Finding]:
        """Draw the annotations of a source in each patch, and compare with the table."""
        stack, names = images[index, ANNOTATIONS].stack, self._set.class_names
        outlines = None
        if isinstance(stack, AnnotationStack):
            outlines = DrawnOutlines(stack.annotations, stack.image)
        for row in self._candidates.rows_of(index).tolist():
            spec = self._candidates.grid[row]
            size = self._inside(spec, index)
            # A class that is not there covers nothing.
            known = (*names, *plan.strategy.named_classes)
            masks: Masks = dict.fromkeys(known, np.zeros(size, bool))
            if outlines is not None:
                masks |= outlines.masks(spec.sample, spec.start, spec.size)
            else:
                inside = tuple(map(slice, size))
                patch = read_patch(stack, range(len(names)), spec, plan.strategy.padding)
                masks |= {n: mask[inside] > 0 for n, mask in zip(names, patch, strict=True)}
            wrong = self._wrong_share(row, masks)
            if wrong := wrong or _outside_classes(plan.strategy, row, spec, masks):
                yield self._set.edited_table(wrong)
                return

    def _wrong_share(self, row: int, masks: Masks) -> str:
        """Return which share of a class the table has wrong, "" if none is."""
        for name in self._set.class_names:
            shares, share = self._candidates.metrics.get(f"share_{name}"), float(masks[name].mean())
            if shares is None or abs(share - shares[row]) > 1e-9:
                has = "absent" if shares is None else f"{shares[row]:.6g}"
                return (
                    f"share_{name} of row {row} is {has}, but the annotations cover {share:.6g} of "
                    "the patch"
                )
        return ""

    def _inside(self, spec: PatchSpec, index: int) -> tuple[int, ...]:
        """Return the size of the part of a patch that is inside of the image."""
        shape = self._set.sources[index].spatial_shape
        ends = zip(spec.start, spec.size, shape, strict=True)
        return tuple(min(n, end - start) for start, n, end in ends)

    def _check_candidates(
        self, plan: ExportPlan, sources: Sequence[SourceInfo]
    ) -> Iterator[Finding]:
        """Plan again and compare the candidates."""
        if isinstance(plan.strategy.region, FileRegion):  # whose path is not recorded
            return
        planned = choose_candidates(plan, sources, read_region(plan.strategy))
        recorded, excluded = self._candidates.grid, self._set.manifest.dropped
        columns = ("source_index", "sample", "start")
        if planned.size != recorded.size or not all(
            np.array_equal(getattr(planned, name), getattr(recorded, name)) for name in columns
        ):
            yield Finding(
                "edited table",
                f"{self._set.table_path}: its {len(recorded)} candidates are not the "
                f"{len(planned)} of the recipe; export the set again.",
            )
        elif planned.outline is not None and (
            recorded.outline is None or not np.array_equal(planned.outline, recorded.outline)
        ):
            yield Finding(
                "edited table",
                f"{self._set.table_path}: its outlines are not those that the patches touch; "
                "export the set again.",
            )
        elif planned.draws is not None:
            yield from self._check_draws(planned.draws)
        yield from self._check_coverage(sources)
        if dict(planned.excluded) != excluded:
            yield Finding(
                "wrong counts",
                f"{self._set.path}: excluded by the manifest: {excluded}, by the recipe: "
                f"{dict(planned.excluded)}; export the set again.",
            )

    def _check_draws(self, draws: Draws) -> Iterator[Finding]:
        """Compare the class that each patch was drawn for, and the weights of the classes."""
        recorded = self._candidates.grid.draws
        is_same = recorded is not None and np.array_equal(recorded.code, draws.code)
        if recorded is None or not is_same or not np.array_equal(recorded.weight, draws.weight):
            yield Finding(
                "edited table",
                f"{self._set.table_path}: its classes or weights are not those that the recipe "
                "draws; export the set again.",
            )

    def _check_coverage(self, sources: Sequence[SourceInfo]) -> Iterator[Finding]:
        """Draw the tiles of a mosaic in each patch, and compare with the table's column `valid`."""
        grid = self._candidates.grid
        recorded = np.ones(len(grid)) if grid.valid is None else grid.valid
        drawings = [
            DrawnTiles(source) if source.covered is not None else None for source in sources
        ]
        is_mosaic = np.array([drawing is not None for drawing in drawings])
        suspects = np.flatnonzero(is_mosaic[grid.source_index] | (np.abs(1 - recorded) > 1e-6))
        for row in suspects.tolist():
            index, sample, start, size = grid[row]
            tiles = drawings[index]
            share = 1.0 if tiles is None else tiles.share(sample, start, size)
            if abs(share - recorded[row]) > 1e-6:
                yield Finding(
                    "edited table",
                    f"{self._set.table_path}: valid of row {row} is {recorded[row]:.6g}, but tiles "
                    f"cover {share:.6g} of the patch; export the set again.",
                )
                return


_REMEDY = "restore the image as it was, or export the set of what it is now."


def _reason(image: ImageRef, error: Exception) -> str:
    """Return why an image can't be read, named once, without a full stop."""
    text = describe_os_error(error).removesuffix(".")
    return f"{image}: {text.removeprefix(f'{local_path(image.path)}: ')}"


def _changes(info: SourceInfo, before: SourceInfo) -> str:
    """Describe the differences of two descriptions."""
    now, was = info.model_dump(), before.model_dump()
    return ", ".join(
        f"its {name} is {now[name]}, not {was[name]}" for name in now if now[name] != was[name]
    )


def _outside_classes(strategy: PatchStrategy, row: int, spec: PatchSpec, masks: Masks) -> str:
    """Return that less of a patch than required is in the recipe's classes, "" if enough is."""
    if not strategy.named_classes:
        return ""
    wanted, unwanted = strategy.region_classes, strategy.exclude_classes
    allowed: Any = np.logical_or.reduce([masks[name] for name in wanted]) if wanted else True
    for name in unwanted:
        allowed = allowed & ~masks[name]
    share = allowed.sum() / prod(spec.size)
    if share >= strategy.min_inside - 1e-9:
        return ""
    return (
        f"{share:.6g} of the patch of row {row} lies in the classes of the recipe, less than "
        f"{strategy.min_inside:g}"
    )
