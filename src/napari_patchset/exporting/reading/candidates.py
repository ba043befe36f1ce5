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
) -> PatchGrid:
    """Have the strategy of a plan choose candidates, by labels and annotations if it reads them.

    Parameters
    ----------
    opener, check_cancelled : callable
        See `OpenImages`.
    masks : dict of str to bool array or Annotations, or None
        What `read_region` returns.
    """
    strategy, refs = plan.strategy, plan.sources
    labels: list[_Labels] | None = None
    classes: list[_Annotations] | None = None
    with OpenImages(plan, opener, check_cancelled=check_cancelled) as images:
        roles = [ANNOTATIONS if ref.annotations else LABELS for ref in refs]
        has_all = all(role in ref.images for role, ref in zip(roles, refs, strict=True))
        if strategy.reads_labels and has_all:
            pairs = enumerate(zip(sources, roles, strict=True))
            labels = [_Labels(images, index, source, role) for index, (source, role) in pairs]
        if strategy.named_classes and all(ref.annotations for ref in refs):
            classes = [_Annotations(images, index) for index in range(len(refs))]
        grid = strategy.plan(sources, masks, labels, classes)
        if plan.split is None or plan.split.by != ANNOTATION:
            return grid
        return replace(grid, outline=_touched_outlines(plan, grid, sources, images))


def _touched_outlines(
    plan: ExportPlan, grid: PatchGrid, sources: Sequence[SourceInfo], images: OpenImages
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
        outline[rows] = touched_outlines(stack.annotations, boxes, images.check_cancelled)
    return outline


class _Annotations:
    """The annotations of one source; see `ClassMasks`."""

    def __init__(self, images: OpenImages, index: int) -> None:
        self._images, self._index = images, index

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
            return self._masks.class_mask(window, classes, sample, depth)

    @property
    def _masks(self) -> ClassMasks:
        stack: Any = self._images[self._index, ANNOTATIONS].stack
        masks: ClassMasks = stack
        return masks


class _Labels:
    """The labels of one source: the classes of its annotations if it has any, else its labels."""

    def __init__(self, images: OpenImages, index: int, source: SourceInfo, role: str) -> None:
        self._images, self._index, self._source, self._role = images, index, source, role

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
        with self._images.source_errors(self._index):
            stack = self._stack
            if not isinstance(stack, ClassStack):
                pixels: NDArray[Any] = stack.extract_patch(sample, [0], start, size)[0]
                return pixels
            window = Rect(start[-1], start[-2], size[-1], size[-2])
            depth = start[0] if len(start) == 3 else 0
            return stack.class_labels(window, self.names, sample, depth)

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
