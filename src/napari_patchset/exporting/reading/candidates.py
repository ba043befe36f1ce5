"""The candidates of a plan: its strategy chooses them, if need be by labels and annotations."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import ClassMasks
from napari_patchset.annotations.outlines import NO_OUTLINE, touched_outlines
from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.patching.axis_ranges import selected_depths, selected_samples
from napari_patchset.patching.class_pixels import SIDE
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import Masks
from napari_patchset.patching.splits.search import ANNOTATION
from napari_patchset.patchset.layout import LABELS
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.classes import AnnotationStack, ClassStack
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.protocol import ClosableStack


def choose_candidates(
    plan: ExportPlan,
    sources: Sequence[SourceInfo],
    masks: Masks | None = None,
    opener: Callable[..., ClosableStack] = open_stack,
    check_cancelled: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> PatchGrid:
    """Have the strategy of a plan choose candidates, by labels and annotations if it reads them.

    Parameters
    ----------
    opener, check_cancelled : callable
        See `OpenImages`.
    masks : dict of str to bool array or Annotations, or None
        What `read_region` returns.
    progress : callable
        Called with how much of labels and annotations is read, in percent, and 100.
    """
    strategy, refs = plan.strategy, plan.sources
    labels: list[_Labels] | None = None
    classes: list[_Annotations] | None = None
    read_progress = _ReadProgress(plan, len(refs), progress)
    with OpenImages(plan, opener, check_cancelled=check_cancelled) as images:
        roles = [ANNOTATIONS if ref.annotations else LABELS for ref in refs]
        has_all = all(role in ref.images for role, ref in zip(roles, refs, strict=True))
        if strategy.reads_labels and has_all:
            pairs = enumerate(zip(sources, roles, strict=True))
            labels = [_Labels(images, index, *pair, read_progress) for index, pair in pairs]
        if strategy.named_classes and all(ref.annotations for ref in refs):
            classes = [_Annotations(images, *pair, read_progress) for pair in enumerate(sources)]
        grid = strategy.plan(sources, masks, labels, classes)
        if not _is_split_by_outlines(plan):
            return grid
        return replace(grid, outline=_touched_outlines(plan, grid, sources, images, read_progress))


def reads_classes(plan: ExportPlan) -> bool:
    """Return whether candidates are chosen by labels or annotations, which may take long."""
    strategy = plan.strategy
    return strategy.reads_labels or bool(strategy.named_classes) or _is_split_by_outlines(plan)


def _is_split_by_outlines(plan: ExportPlan) -> bool:
    return plan.split is not None and plan.split.by == ANNOTATION


class _ReadProgress:
    """Report how much of the sources is read, one after the other, in percent.

    A split by outlines reads them again.
    """

    def __init__(
        self, plan: ExportPlan, n_sources: int, progress: Callable[[int, int], object]
    ) -> None:
        self._select, self._n, self._progress = plan.strategy.select, n_sources, progress
        is_chosen = plan.strategy.reads_labels or bool(plan.strategy.named_classes)
        self._n_passes = is_chosen + _is_split_by_outlines(plan)
        self._index, self._n_blocks, self._blocks = -1, 1, set[tuple[int, int, int, int]]()
        self._percent = -1
        if self._n_passes:
            self._report(0, 0, 0)

    def on_window(
        self, index: int, source: SourceInfo, plane: tuple[int, int], window: Rect, is_flat: bool
    ) -> None:
        """Report that a window of a plane, its sample and depth, is read.

        `is_flat`: whether the other planes need not be.
        """
        if index != self._index:
            height, width = (-(-n // SIDE) for n in source.spatial_shape[-2:])
            self._index, self._blocks = index, set()
            self._n_blocks = height * width * (1 if is_flat else self._n_planes(source))
        rows = range(window.y // SIDE, -(-(window.y + window.h) // SIDE))
        columns = range(window.x // SIDE, -(-(window.x + window.w) // SIDE))
        self._blocks.update((*plane, row, column) for row in rows for column in columns)
        self._report(0, index, len(self._blocks) / self._n_blocks)

    def _report(self, n_before: int, index: int, share: float) -> None:
        """Report the share of a source that is read, after a number of passes over all."""
        done = n_before + (index + min(share, 1.0)) / self._n
        percent = int(100 * done / max(1, self._n_passes))
        if percent > self._percent:
            self._percent = percent
            self._progress(percent, 100)

    def on_outlines(self, index: int, done: int, total: int) -> None:
        """Report how many outlines of a source were compared for a split, and how many it has."""
        self._report(self._n_passes - 1, index, done / total)

    def _n_planes(self, source: SourceInfo) -> int:
        has_depth = len(source.spatial_shape) == 3
        n_depths = selected_depths(source, self._select)[1] if has_depth else 1
        return max(1, len(selected_samples(source, self._select)) * n_depths)


def _touched_outlines(
    plan: ExportPlan,
    grid: PatchGrid,
    sources: Sequence[SourceInfo],
    images: OpenImages,
    read_progress: _ReadProgress,
) -> NDArray[np.int32]:
    """Return the group of outlines that each patch touches, see `touched_outlines`."""
    outline = np.full(len(grid), NO_OUTLINE, np.int32)
    for index in np.unique(grid.source_index).tolist():
        source, rows = sources[index], np.flatnonzero(grid.source_index == index)
        has_any = plan.sources[index].annotations is not None
        stack = images[index, ANNOTATIONS].stack if has_any else None
        if not isinstance(stack, AnnotationStack):
            raise ArgumentError(
                f"{source.name} has no outlines to split by; add annotations of every source, or "
                "split by block."
            )
        images.check_cancelled()
        ratio = np.array(source.ratio or (1, 1), np.float64)
        low = grid.start[rows, -2:].astype(np.float64)
        high = np.minimum(low + grid.size[-2:], source.spatial_shape[-2:])
        boxes = np.hstack([(low * ratio)[:, ::-1], (high * ratio)[:, ::-1]])

        def progress(done: int, total: int, index: int = index) -> None:
            images.check_cancelled()
            read_progress.on_outlines(index, done, total)

        outline[rows] = touched_outlines(stack.annotations, boxes, progress)
    return outline


class _Annotations:
    """The annotations of one source; see `ClassMasks`."""

    def __init__(
        self, images: OpenImages, index: int, source: SourceInfo, progress: _ReadProgress
    ) -> None:
        self._images, self._index, self._source, self._progress = images, index, source, progress

    @property
    def class_names(self) -> Sequence[str]:
        return self._masks.class_names

    @property
    def is_flat(self) -> bool:
        return self._masks.is_flat

    def class_bounds(self, classes: Collection[str]) -> Rect:
        return self._masks.class_bounds(classes)

    def class_mask(
        self, window: Rect, classes: Collection[str], sample: int = 0, depth: int = 0
    ) -> BoolArray:
        self._images.check_cancelled()
        with self._images.source_errors(self._index):
            mask = self._masks.class_mask(window, classes, sample, depth)
        self._progress.on_window(self._index, self._source, (sample, depth), window, self.is_flat)
        return mask

    @property
    def _masks(self) -> ClassMasks:
        stack: Any = self._images[self._index, ANNOTATIONS].stack
        masks: ClassMasks = stack
        return masks


class _Labels:
    """The labels of one source: the classes of its annotations if it has any, else its labels."""

    def __init__(
        self,
        images: OpenImages,
        index: int,
        source: SourceInfo,
        role: str,
        progress: _ReadProgress,
    ) -> None:
        self._images, self._index, self._source, self._role = images, index, source, role
        self._progress = progress

    @property
    def names(self) -> Mapping[str, int]:
        """The value of each class, empty if they have no names."""
        stack = self._stack
        if isinstance(stack, ClassStack):
            return {name: value for value, name in enumerate(stack.class_names, 1)}
        return {}

    @property
    def block_shape(self) -> tuple[int, int] | None:
        """Height and width of what is decoded at once, None if unknown."""
        return getattr(self._stack, "block_shape", None)

    def read(self, sample: int, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the labels in a box along (Z)YX of one plane."""
        self._images.check_cancelled()
        window = Rect(start[-1], start[-2], size[-1], size[-2])
        depth = start[0] if len(start) == 3 else 0
        pixels: NDArray[Any]
        with self._images.source_errors(self._index):
            stack = self._stack
            if isinstance(stack, ClassStack):
                pixels = stack.class_labels(window, self.names, sample, depth)
            else:
                pixels = stack.extract_patch(sample, [0], start, size)[0]
        self._progress.on_window(self._index, self._source, (sample, depth), window, is_flat=False)
        return pixels

    @property
    def _stack(self) -> ClosableStack:
        stack = self._images[self._index, self._role].stack
        n_samples, n_channels, *shape = stack.data_shape
        expected = self._source.n_samples, *self._source.spatial_shape
        is_labels = n_channels == 1 or isinstance(stack, ClassStack)
        if not is_labels or (n_samples, *shape) != expected:
            raise ExportError(
                f"{stack.source}, the labels of {self._source.name}, have {n_channels} channels, "
                f"{n_samples} samples and the size {' x '.join(map(str, shape))}; labels need one "
                f"channel, {expected[0]} samples and {' x '.join(map(str, expected[1:]))}."
            )
        return stack
