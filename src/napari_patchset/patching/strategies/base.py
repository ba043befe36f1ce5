"""What all strategies share: what they may choose from, and what is left out.

What a strategy may choose from in one source.

Why a candidate is no patch, and how many are not for each reason.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.axis_ranges import (
    AxisRanges,
    describe_numbers,
    selected_depth,
    selected_samples,
)
from napari_patchset.patching.coverage import covered_share
from napari_patchset.patching.grid import PadMode, PatchGrid, sorted_by_tile
from napari_patchset.patching.regions import Area, MaskRegion, Masks, Region
from napari_patchset.source import SourceInfo

MISSING_PLANE = "missing plane"
UNCOVERED = "too few pixels"
TOO_SMALL = "smaller than a patch"
OUTSIDE = "outside of the region"
OVERLAPS = "overlaps too much"
NO_POSITION = "no position left"
NOT_SELECTED = "not selected"
TWICE = "listed twice"


def drop(grid: PatchGrid, unwanted: NDArray[np.bool_], reason: str) -> PatchGrid:
    """Leave out candidates, counting them under a reason."""
    count = int(unwanted.sum())
    if not count:
        return grid
    kept = grid[~unwanted]
    dropped = {**grid.excluded, reason: grid.excluded.get(reason, 0) + count}
    return replace(kept, excluded=dropped)


def drop_missing(grid: PatchGrid, source: SourceInfo) -> PatchGrid:
    """Leave out, and count, the candidates that touch a plane which the source does not hold."""
    if not source.missing:
        return grid
    deep = len(grid.size) == 3
    depth = source.spatial_shape[0] if deep else 1
    holes = np.zeros((source.n_samples, depth), bool)
    for sample, _, z in source.missing:
        holes[sample, z if deep else 0] = True
    # A patch touches as many holes as lie before its end, less those before its start.
    before = np.pad(holes.cumsum(axis=1), ((0, 0), (1, 0)))
    first = grid.start[:, 0] if deep else 0
    last = np.minimum(first + grid.size[0], depth) if deep else 1
    return drop(grid, before[grid.sample, last] > before[grid.sample, first], MISSING_PLANE)


def drop_uncovered(grid: PatchGrid, source: SourceInfo, least: float) -> PatchGrid:
    """Leave out, and count, the candidates of which too little is covered by pixels."""
    valid = covered_share(grid, source)
    if valid is None:
        return grid
    return drop(replace(grid, valid=valid), valid < least, UNCOVERED)


@dataclass(frozen=True, eq=False)
class Part:
    """What a strategy may choose from in one source.

    Attributes
    ----------
    stack : int
        Index of the source among those planned for.
    samples : int64 array
        The samples, ascending.
    first, shape : tuple of int
        First pixel along (Z)YX, and how many from there.
    area : Area or None
        What the region leaves of each plane.
    """

    stack: int
    source: SourceInfo
    samples: NDArray[np.int64]
    first: tuple[int, ...]
    shape: tuple[int, ...]
    area: Area | None = None

    def near_area(self) -> Self:
        """Narrow Y and X to the bounds of the area, so that few draws fall outside of it."""
        if self.area is None:
            return self
        rect = self.area.bounds
        (*depth, y, x), (*deep, h, w) = self.first, self.shape
        top, left = max(y, rect.y), max(x, rect.x)
        bottom, right = min(y + h, rect.y + rect.h), min(x + w, rect.x + rect.w)
        shape = (*deep, max(0, bottom - top), max(0, right - left))
        return replace(self, first=(*depth, top, left), shape=shape)

    @property
    def is_narrowed(self) -> bool:
        """Whether it is less than the planes and depths of the source."""
        return self.shape != self.source.spatial_shape

    def grid(
        self,
        size: tuple[int, ...],
        sample: NDArray[np.integer],
        start: NDArray[np.integer],
        dropped: Mapping[str, int] | None = None,
    ) -> PatchGrid:
        """Make a grid of unordered candidates, in the order of the source's tiles."""
        columns = sorted_by_tile(sample, start, self.source.block_shape)
        stack = np.full(len(start), self.stack, np.int32)
        return PatchGrid(size, stack, *columns, dropped or {})

    def empty(self, size: tuple[int, ...]) -> PatchGrid:
        """Make a grid without candidates; the samples, if any, count as too small."""
        none = np.empty((0, len(size)), np.int64)
        n = len(self.samples)
        return self.grid(size, none[:, 0], none, {TOO_SMALL: n} if n else {})


MOST_CANDIDATES = 2**26
"""Of one source; each takes 16 bytes, and as much again while they are ordered."""


class PatchStrategy(Frozen, ABC):
    """Choose where patches lie.

    Parameters
    ----------
    region : Rectangle, Polygon, MaskRegion or None
        Keep only patches wholly inside; a source that the region does not lie in gives none.
    select : dict of str to (int or None, int or None)
        Half-open ranges of Z, T, ... in the file's own numbering, or of S, the sample counted
        from 0. A range along the depth axis narrows where patches may lie, others the samples.
    min_covered : float
        Leave out patches of which the tiles of a mosaic cover less, 0 to 1.
    """

    region: Region | None = None
    select: AxisRanges = Field(default_factory=dict)
    min_covered: float = Field(default=0.5, ge=0, le=1)

    def plan(self, sources: Sequence[SourceInfo], masks: Masks | None = None) -> PatchGrid:
        """Choose patches; those on a missing plane or outside of the region are counted.

        They are ordered by source, sample and source tile, within a tile by their start.

        Parameters
        ----------
        masks : dict of str to bool array, YX
            The pixels of the mask, by its digest, where the region is one.

        Raises
        ------
        ArgumentError
            If the patches asked for do not fit a source, or nothing is selected.
        """
        parts = [self._part(i, source) for i, source in enumerate(sources)]
        if not any(len(part.samples) for part in parts):
            self._refuse_nothing(sources)
        parts = [self._limited(part, masks or {}) for part in parts]
        grids = zip(self._candidates(parts), parts, strict=True)
        return PatchGrid.concatenate([self._kept(grid, part) for grid, part in grids])

    def with_mask_path(self, change: Callable[[str], str | None]) -> Self:
        """Give the same strategy with another path to the mask, where its region is one."""
        region = self.region
        if not isinstance(region, MaskRegion) or region.path is None:
            return self
        moved = region.model_copy(update={"path": change(region.path)})
        return self.model_copy(update={"region": moved})

    @abstractmethod
    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        """Choose the candidates of each source, in order."""

    def _part(self, stack: int, source: SourceInfo) -> Part:
        samples = selected_samples(source, self.select)
        first, shape = [0] * len(source.spatial_shape), list(source.spatial_shape)
        if len(shape) == 3:
            first[0], shape[0] = selected_depth(source, self.select)
        if not shape[0] or (self.region is not None and not self.region.is_of(source)):
            samples = samples[:0]
        return Part(stack, source, samples, tuple(first), tuple(shape))

    def _limited(self, part: Part, masks: Masks) -> Part:
        """Give a part the area that the region leaves."""
        if self.region is None or not len(part.samples):
            return part
        return replace(part, area=self.region.area(part.source, masks))

    def _refuse_nothing(self, sources: Sequence[SourceInfo]) -> None:
        if self.region is not None and not any(self.region.is_of(source) for source in sources):
            wanted = f"source {self.region.source}, scene {self.region.scene}"
            raise ArgumentError(f"The region is of {wanted}, which is none of the sources.")
        ranges = ", ".join(f"{axis} {_range(*wanted)}" for axis, wanted in self.select.items())
        has = "; ".join(f"{s.name} has {describe_numbers(s, self.select)}" for s in sources[:3])
        raise ArgumentError(f"Nothing is selected by {ranges}: {has}.")

    def _kept(self, grid: PatchGrid, part: Part) -> PatchGrid:
        if part.area is not None and len(grid):
            height, width = grid.size[-2:]
            inside = part.area.holds(grid.start[:, -2:], (height, width))
            grid = drop(grid, ~inside, OUTSIDE)
        return drop_uncovered(drop_missing(grid, part.source), part.source, self.min_covered)


class Sized(PatchStrategy):
    """Choose patches of a given size.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    """

    size: tuple[int, ...]

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            given = ", ".join(map(str, self.size))
            raise ValueError(
                f"patch size {given} must be 2 or 3 numbers of at least 1: along Y, X or Z, Y, X"
            )
        return self

    def _check_dimensions(self, source: SourceInfo) -> None:
        n = len(source.spatial_shape)
        if n != len(self.size):
            raise ArgumentError(
                f"Patch size {self.size} has {len(self.size)} dimensions, but {source.name} is "
                f"{source.layout.spatial_axes}; give {n} numbers."
            )

    def _fits(self, part: Part, small: Literal["error", "skip"]) -> bool:
        """Whether a patch fits; False too if there is no sample.

        Raises
        ------
        ArgumentError
            If the patch size has another number of dimensions, or none fits and `small` is
            "error".
        """
        self._check_dimensions(part.source)
        if not len(part.samples):
            return False
        if all(p <= n for p, n in zip(self.size, part.shape, strict=True)):
            return True
        if small == "error":
            what = f"what is chosen of {part.source.name}" if part.is_narrowed else part.source.name
            raise ArgumentError(
                f"Patch size {by(self.size)} is larger than {what}, which is {by(part.shape)} "
                f"({part.source.layout.spatial_axes}); choose a smaller patch."
            )
        return False

    def _require_few(self, part: Part, strides: Sequence[int]) -> None:
        """Refuse more candidates than can be planned, before memory is taken for them.

        Raises
        ------
        ArgumentError
            Naming the source, whose size may be one that a damaged file declares.
        """
        per_sample = prod(ceil(n / s) for n, s in zip(part.shape, strides, strict=True))
        if (count := per_sample * len(part.samples)) > MOST_CANDIDATES:
            raise ArgumentError(
                f"{part.source.name}, {by(part.shape)} ({part.source.layout.spatial_axes}), would "
                f"give {count} patches, more than {MOST_CANDIDATES}; choose larger patches or "
                "less overlap."
            )


class InBounds:
    """Say that no patch reaches past the image, so that there is nothing to fill."""

    pad: ClassVar[PadMode] = "constant"


def by(size: Sequence[int]) -> str:
    """Write a size as "64 x 64"."""
    return " x ".join(map(str, size))


def _range(first: int | None, stop: int | None) -> str:
    return f"{'' if first is None else first}:{'' if stop is None else stop}"
