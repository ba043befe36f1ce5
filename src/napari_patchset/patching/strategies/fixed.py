"""Fixed and Whole: patches that are listed, or that are the whole image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies.base import (
    NOT_SELECTED,
    TWICE,
    PatchStrategy,
    SelectedSource,
)
from napari_patchset.patching.strategies.sized import SizedStrategy, format_size
from napari_patchset.source import SceneId, SourceInfo

_MAX_NAMED = 5
"""Most patches that a message names."""

SourceId = tuple[str, SceneId | None]
"""Key and scene."""


class FixedPatch(Frozen):
    """Name one patch.

    Attributes
    ----------
    source : str
        The key of its source, see `SourceInfo`.
    scene : int, str or None
        The file's own id of the scene, None if it has none.
    sample : int
        Index along S.
    start : tuple of int
        Its first pixel along (Z)YX, in the file's own pixels.
    """

    source: str
    scene: SceneId | None = None
    sample: int = 0
    start: tuple[int, ...]

    def __str__(self) -> str:
        scene = "" if self.scene is None else f"scene {self.scene}, "
        return f"{scene}sample {self.sample}, start {self.start}"


class Fixed(SizedStrategy):
    """Cut the patches that are listed.

    Parameters
    ----------
    patches : tuple of FixedPatch
        The patches in any order; each must lie inside of its source.
    size, region, select, min_covered
        See `SizedStrategy`, `PatchStrategy`.
    """

    kind: Literal["fixed"] = "fixed"
    patches: tuple[FixedPatch, ...]

    @model_validator(mode="after")
    def _check_starts(self) -> Self:
        for patch in self.patches:
            if len(patch.start) != len(self.size):
                raise ValueError(f"{patch} needs one number per axis of the size {self.size}")
        return self

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        patches: defaultdict[SourceId, list[FixedPatch]] = defaultdict(list)
        for patch in self.patches:
            patches[patch.source, patch.scene].append(patch)
        self._check_patches({_id(each.source): each.source for each in sources}, patches)
        return [self._candidates_in(each, patches.get(_id(each.source), [])) for each in sources]

    def _check_patches(
        self,
        sources: Mapping[SourceId, SourceInfo],
        patches: Mapping[SourceId, Sequence[FixedPatch]],
    ) -> None:
        unknown = [f"{key[0]}, {p}" for key in patches if key not in sources for p in patches[key]]
        _refuse(unknown, "lie in none of the sources; add the file that they were placed in")
        outside = []
        for key, source in sources.items():
            self._check_dimensions(source)
            wrong = (p for p in patches.get(key, ()) if not self._is_inside(p, source))
            outside += [f"{source.name}, {patch}" for patch in wrong]
        _refuse(outside, f"do not lie inside of their image at the size {format_size(self.pixels)}")

    def _is_inside(self, patch: FixedPatch, source: SourceInfo) -> bool:
        axes = zip(self.start_in(patch, source), self.pixels, source.spatial_shape, strict=True)
        inside = all(0 <= start <= n - p for start, p, n in axes)
        return inside and 0 <= patch.sample < source.n_samples

    def start_in(self, patch: FixedPatch, source: SourceInfo) -> tuple[int, ...]:
        """Return the start in the pixels of a source; of a resampled one, the nearest inside."""
        if source.ratio is None:
            return patch.start
        *depth, y, x = patch.start
        axes = zip((y, x), source.ratio, self.pixels[-2:], source.spatial_shape[-2:], strict=True)
        nearest = (
            min(floor(start / r + Fraction(1, 2)), max(0, n - p)) if start < n * r else n
            for start, r, p, n in axes
        )
        return (*depth, *nearest)

    def _candidates_in(self, selected: SelectedSource, patches: Sequence[FixedPatch]) -> PatchGrid:
        places = [(p.sample, *self.start_in(p, selected.source)) for p in patches]
        listed = np.array(places, np.int64).reshape(-1, 1 + len(self.pixels))
        unique = np.unique(listed, axis=0)
        excluded = {TWICE: len(listed) - len(unique)} if len(unique) < len(listed) else {}
        grid = selected.grid(self.pixels, unique[:, 0], unique[:, 1:], excluded)
        first = grid.start[:, 0]
        is_selected = np.isin(grid.sample, selected.samples) & (first >= selected.origin[0])
        is_selected &= first + self.pixels[0] <= selected.origin[0] + selected.shape[0]
        if n := int((~is_selected).sum()):
            excluded[NOT_SELECTED] = n
            grid = replace(grid[is_selected], excluded=excluded)
        return grid


class Whole(PatchStrategy):
    """Take each sample as one patch; all of them must have one shape.

    Parameters
    ----------
    region, select, min_covered
        See `PatchStrategy`. A range along the depth axis is the depth of the patches.
    """

    kind: Literal["whole"] = "whole"

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        first, *others = [each for each in sources if len(each.samples)]
        differ = [
            f"{each.source.name} is {format_size(each.shape)}"
            for each in others
            if each.shape != first.shape
        ]
        if differ:
            raise ArgumentError(
                f"Whole planes must have one size: {first.source.name} is "
                f"{format_size(first.shape)}, but {_first_few(differ)}. Export them as sets of "
                "their own, or cut patches."
            )
        return [
            each.grid(first.shape, each.samples, np.tile(each.origin, (len(each.samples), 1)))
            for each in sources
        ]


def _id(source: SourceInfo) -> SourceId:
    return source.key, source.scene


def _refuse(patches: Sequence[str], fault: str) -> None:
    if patches:
        raise ArgumentError(f"{len(patches)} of the patches {fault}: {_first_few(patches)}.")


def _first_few(names: Sequence[str]) -> str:
    more = f"; and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return "; ".join(names[:_MAX_NAMED]) + more
