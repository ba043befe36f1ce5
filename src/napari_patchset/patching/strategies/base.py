"""PatchStrategy: the base class of all strategies, and the part of a source that they choose from.

`PatchStrategy.plan(sources)` limits each source to the selected samples and depths and to the
region (`SelectedSource`), has the strategy choose candidates there (`_candidates`), and then
excludes those that leave the region, touch a missing plane or have too few pixels. Excluded
candidates are counted by reason.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import not_
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from napari_patchset._model import Settings
from napari_patchset.annotations.features import ClassMasks
from napari_patchset.channels import parse_channels
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.areas import Area, PixelArea, PlanePixels
from napari_patchset.patching.axis_ranges import (
    AxisRanges,
    describe_axes,
    format_range,
    selected_depths,
    selected_samples,
)
from napari_patchset.patching.class_pixels import LabelImage
from napari_patchset.patching.coverage import covered_share, rows_touching
from napari_patchset.patching.grid import PadMode, PatchGrid, sort_by_tile
from napari_patchset.patching.regions import FileRegion, Masks, Region
from napari_patchset.source import Rect, SourceInfo

MISSING_PLANE = "missing plane"
UNCOVERED = "too few pixels"
TOO_SMALL = "smaller than a patch"
OUTSIDE = "outside of the region"
OVERLAPS = "overlaps too much"
NO_POSITION = "no position left"
NOT_SELECTED = "not selected"
TWICE = "listed twice"

ClassNames = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda n: tuple(map(str, parse_channels(n))) if isinstance(n, str) else n),
]
"""Names of classes, also as text: Tumor,Stroma or "Tumor, invasive",Stroma."""


@dataclass(frozen=True, eq=False)
class SelectedSource:
    """The part of one source that a strategy may choose patches from."""

    index: int
    """Index of the source among those planned for."""
    source: SourceInfo
    samples: NDArray[np.int64]
    """The selected samples, ascending."""
    origin: tuple[int, ...]
    shape: tuple[int, ...]
    """First pixel and size of the selected box along (Z)YX."""
    area: Area | None = None
    """The part of each plane that the region allows; None for all of it."""
    labels: LabelImage | None = None
    """The labels of its pixels, if there are any and the strategy reads them."""

    @property
    def is_cropped(self) -> bool:
        """Whether the box is smaller than the source."""
        return self.shape != self.source.spatial_shape

    @property
    def rank(self) -> tuple[str, str, int]:
        """Its place among others, by key and scene, whatever the order in which they are named."""
        return self.source.key, repr(self.source.scene), self.index

    def cropped_to_area(self) -> Self:
        """Crop Y and X to the bounds of the area, so that few random draws fall outside of it."""
        if self.area is None:
            return self
        rect = self.area.bounds
        (*z, y, x), (*depth, height, width) = self.origin, self.shape
        top, left = max(y, rect.y), max(x, rect.x)
        bottom, right = min(y + height, rect.y + rect.h), min(x + width, rect.x + rect.w)
        shape = (*depth, max(0, bottom - top), max(0, right - left))
        return replace(self, origin=(*z, top, left), shape=shape)

    def grid(
        self,
        size: tuple[int, ...],
        sample: NDArray[np.integer],
        start: NDArray[np.integer],
        excluded: Mapping[str, int] | None = None,
    ) -> PatchGrid:
        """Return a grid of candidates of this source, sorted by the source's tiles.

        Samples, (n,), and starts along (Z)YX, (n, 2 or 3), may be in any order.
        """
        columns = sort_by_tile(sample, start, self.source.block_shape)
        return PatchGrid(size, np.full(len(start), self.index, np.int32), *columns, excluded or {})

    def empty_grid(self, size: tuple[int, ...]) -> PatchGrid:
        """Return a grid without candidates that counts each sample as too small."""
        none = np.empty((0, len(size)), np.int64)
        n = len(self.samples)
        return self.grid(size, none[:, 0], none, {TOO_SMALL: n} if n else {})


class PatchStrategy(Settings, ABC):
    """Choose where patches lie.

    Parameters
    ----------
    region : Rectangle, Polygon, MaskRegion, GeoJsonRegion or None
        Take only patches inside; a source that the region is not drawn on has none.
    region_classes, exclude_classes : tuple of str, or str
        Classes of the annotations: take only patches inside of some, and outside of others;
        "Tumor,Stroma" for both.
    min_inside : float
        Least share of the pixels of a patch, 0 to 1, that must lie inside of region and classes,
        and outside of excluded ones.
    select : dict of str to (int or None, int or None)
        Half-open ranges of Z, T, ... in the file's own numbering, or of S, the sample counted
        from 0. A range along the depth axis limits where patches may lie, others the samples.
    min_covered : float
        Exclude patches of which the tiles of a mosaic cover less than this share, 0 to 1, in any
        of their planes.
    """

    region: Region | None = Field(default=None, description="Region that must contain each patch.")
    region_classes: ClassNames = Field(
        default=(),
        description="Classes of the annotations that must contain each patch: Tumor,Stroma.",
        exclude_if=not_,
    )
    exclude_classes: ClassNames = Field(
        default=(),
        description="Classes of the annotations that no patch may touch.",
        exclude_if=not_,
    )
    min_inside: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Smallest share of each patch that must lie in the region and outside of "
        "excluded classes.",
        exclude_if=lambda share: share == 1,
    )
    select: AxisRanges = Field(
        default_factory=dict,
        description="Planes to take, in the file's own numbers, without the last: Z=5:25,T=:10.",
    )
    min_covered: float = Field(default=0.5, ge=0, le=1)

    reads_labels: ClassVar[bool] = False
    """Whether `plan` needs the labels of the sources."""

    def plan(
        self,
        sources: Sequence[SourceInfo],
        masks: Masks | None = None,
        labels: Sequence[LabelImage] | None = None,
        classes: Sequence[ClassMasks] | None = None,
    ) -> PatchGrid:
        """Choose the candidates in all sources.

        They are sorted by source, sample and tile of the source, within a tile by their start.

        Parameters
        ----------
        sources : sequence of SourceInfo
            The sources; `PatchGrid.source_index` counts them from 0.
        masks : dict of str to bool array, YX
            What the region's file holds, by its digest; needed if the region is one of a file.
        labels : sequence of LabelImage
            The labels of each source; needed by a strategy that reads them.
        classes : sequence of ClassMasks or None
            The classes in each source; needed if the strategy names some.

        Raises
        ------
        ArgumentError
            If the patches do not fit a source, or nothing is selected.
        """
        if (strategy := self._in_pixels_of(sources[0])) is not self:
            return strategy.plan(sources, masks, labels, classes)
        selected = [self._select(i, source) for i, source in enumerate(sources)]
        if not any(len(each.samples) for each in selected):
            self._raise_empty_selection(sources)
        for i, each in enumerate(selected):
            if len(each.samples):
                of_source = None if classes is None else classes[i]
                selected[i] = replace(each, area=self._area(each.source, masks or {}, of_source))
        if labels is not None and self.reads_labels:
            pairs = zip(selected, labels, strict=True)
            selected = [replace(each, labels=own) for each, own in pairs]
        grids = zip(self._candidates(selected), selected, strict=True)
        return PatchGrid.concatenate([self._eligible(grid, each) for grid, each in grids])

    def _in_pixels_of(self, source: SourceInfo) -> Self:
        """Return the strategy with its lengths in pixels of a source."""
        return self

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The classes of annotations that patches must lie in, or outside of."""
        return (*self.region_classes, *self.exclude_classes)

    def class_notice(self, names: Collection[str]) -> str:
        """Return what to know of the names of the annotations' classes, "" if nothing."""
        return ""

    def _area(self, source: SourceInfo, masks: Masks, classes: ClassMasks | None) -> Area | None:
        """Return the area that region and classes allow in a source, None for all of it."""
        if not self.named_classes and (self.region is None or self.min_inside == 1):
            return None if self.region is None else self.region.area(source, masks)
        pixels = [] if self.region is None else [self.region.pixels(source, masks)]
        height, width = source.spatial_shape[-2:]
        if self.named_classes:
            if classes is None:
                named = ", ".join(self.named_classes)
                raise ArgumentError(
                    f"The classes {named} are classes of annotations, and there are none; add them."
                )
            pixels += self._annotated_pixels(classes, Rect(0, 0, width, height))
        return PixelArea(pixels, (height, width), self.min_inside, self._overhang)

    @property
    def _overhang(self) -> tuple[int, int]:
        """How far a patch that is inside may reach out of the region, along Y and X."""
        return 0, 0

    def _annotated_pixels(self, classes: ClassMasks, plane: Rect) -> Iterator[PlanePixels]:
        wanted, unwanted = self.region_classes, self.exclude_classes
        if wanted:
            yield PlanePixels(
                lambda window, *of: classes.class_mask(window, wanted, *of),
                classes.class_bounds(wanted),
                classes.is_flat,
            )
        if unwanted:
            yield PlanePixels(
                lambda window, *of: ~classes.class_mask(window, unwanted, *of),
                plane,
                classes.is_flat,
            )

    @abstractmethod
    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        """Return the candidates of each source, in the order of the sources."""

    @property
    def padding(self) -> PadMode:
        """The padding of a patch beyond the image; only `Tiled` lets patches reach there."""
        return "constant"

    def with_region_path(self, change: Callable[[str], str | None]) -> Self:
        """Return the strategy with the path of its region changed, or itself if it has none."""
        region = self.region
        if not isinstance(region, FileRegion) or region.path is None:
            return self
        moved = region.model_copy(update={"path": change(region.path)})
        return self.model_copy(update={"region": moved})

    def _select(self, index: int, source: SourceInfo) -> SelectedSource:
        samples = selected_samples(source, self.select)
        origin, shape = [0] * len(source.spatial_shape), list(source.spatial_shape)
        if len(shape) == 3:
            origin[0], shape[0] = selected_depths(source, self.select)
        if not shape[0] or (self.region is not None and not self.region.is_of(source)):
            samples = samples[:0]
        return SelectedSource(index, source, samples, tuple(origin), tuple(shape))

    def _raise_empty_selection(self, sources: Sequence[SourceInfo]) -> None:
        if self.region is not None and not any(self.region.is_of(source) for source in sources):
            wanted = f"source {self.region.source}, scene {self.region.scene}"
            raise ArgumentError(f"The region is of {wanted}, which is none of the sources.")
        ranges = ", ".join(f"{axis} {format_range(r)}" for axis, r in self.select.items())
        has = "; ".join(f"{s.name} has {describe_axes(s, self.select)}" for s in sources[:3])
        raise ArgumentError(f"Nothing is selected by {ranges}; {has}.")

    def _eligible(self, grid: PatchGrid, selected: SelectedSource) -> PatchGrid:
        """Exclude candidates with a fault, and set the share of the others that has pixels."""
        valid = covered_share(grid, selected.source)
        unwanted, excluded = np.zeros(len(grid), bool), dict(grid.excluded)
        for has_fault, reason in self._faults(grid, selected, valid):
            if n := int((has_fault & ~unwanted).sum()):
                excluded[reason] = excluded.get(reason, 0) + n
                unwanted |= has_fault
        grid = replace(grid, excluded=excluded, valid=valid)
        return grid[~unwanted] if unwanted.any() else grid

    def _faults(
        self, grid: PatchGrid, selected: SelectedSource, valid: NDArray[np.float32] | None
    ) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """Yield the faults of candidates, sorted by sample: which have one, and its name.

        They leave the region, touch a missing plane or have too few pixels.
        """
        source = selected.source
        if selected.area is not None and len(grid):
            inside = _inside(selected.area, grid)
            if self.min_inside == 1:
                # A rectangle may be larger than the image; padding is inside of no region.
                past_end = grid.start[:, -2:] + grid.size[-2:] > source.spatial_shape[-2:]
                inside &= ~past_end.any(axis=1)
            yield ~inside, OUTSIDE
        if source.missing:
            touches = np.zeros(len(grid), bool)
            touches[rows_touching(grid, source, source.missing)] = True
            yield touches, MISSING_PLANE
        if valid is not None:
            yield valid < self.min_covered, UNCOVERED


def _inside(area: Area, grid: PatchGrid) -> NDArray[np.bool_]:
    """Return which patches, sorted by sample, lie inside of an area."""
    if area.is_flat:
        return area.contains(grid.start, grid.size)
    borders = [0, *(np.flatnonzero(np.diff(grid.sample)) + 1).tolist(), len(grid)]
    parts = [
        area.at(int(grid.sample[first])).contains(grid.start[first:end], grid.size)
        for first, end in pairwise(borders)
    ]
    return np.concatenate(parts)
