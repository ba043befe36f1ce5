"""Fixed and Whole: patches that are named, or need no choice."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from napari_patchset._model import Frozen
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies.base import (
    NOT_SELECTED,
    TWICE,
    InBounds,
    Part,
    PatchStrategy,
    Sized,
    by,
    drop,
)
from napari_patchset.source import SceneId, SourceInfo

_NAMED = 5
"""How many faults a message names."""

SourceId = tuple[str, SceneId | None]


class FixedPatch(Frozen):
    """Name one patch.

    Attributes
    ----------
    source : str
        The key of its source, see `SourceInfo`.
    scene : int, str or None
        The file's own id of the scene, None where it has none.
    sample : int
        Index along S.
    start : tuple of int
        Its first pixel along (Z)YX.
    """

    source: str
    scene: SceneId | None = None
    sample: int = 0
    start: tuple[int, ...]

    def __str__(self) -> str:
        scene = "" if self.scene is None else f"scene {self.scene}, "
        return f"{scene}sample {self.sample}, start {self.start}"


class Fixed(InBounds, Sized):
    """Cut patches at the places that are listed.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    patches : tuple of FixedPatch
        Where they lie, in any order; each must lie inside of its source.
    region, select, min_covered
        See `PatchStrategy`.
    """

    kind: Literal["fixed"] = "fixed"
    patches: tuple[FixedPatch, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        odd = [place for place in self.patches if len(place.start) != len(self.size)]
        if odd:
            raise ValueError(f"{odd[0]} needs one number per axis of the size {self.size}")
        return self

    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        places: defaultdict[SourceId, list[FixedPatch]] = defaultdict(list)
        for place in self.patches:
            places[place.source, place.scene].append(place)
        self._check_places(parts, places)
        return [self._plan_one(part, places.get(_id(part.source), [])) for part in parts]

    def _check_places(
        self, parts: Sequence[Part], places: Mapping[SourceId, Sequence[FixedPatch]]
    ) -> None:
        sources = {_id(part.source): part.source for part in parts}
        unknown = [
            f"{key}, {p}" for (key, s), ps in places.items() for p in ps if (key, s) not in sources
        ]
        _refuse(unknown, "lie in none of the sources; plan them with the file that they are of")
        outside = []
        for identity, source in sources.items():
            self._check_dimensions(source)
            wrong = (p for p in places.get(identity, ()) if not self._is_inside(p, source))
            outside += [f"{source.name}, {place}" for place in wrong]
        _refuse(outside, f"do not lie inside of their image at the size {by(self.size)}")

    def _is_inside(self, place: FixedPatch, source: SourceInfo) -> bool:
        axes = zip(place.start, self.size, source.spatial_shape, strict=True)
        inside = all(0 <= start <= n - p for start, p, n in axes)
        return inside and 0 <= place.sample < source.n_samples

    def _plan_one(self, part: Part, places: Sequence[FixedPatch]) -> PatchGrid:
        rows = np.array([(p.sample, *p.start) for p in places], np.int64)
        rows = rows.reshape(-1, 1 + len(self.size))
        distinct = np.unique(rows, axis=0)
        twice = len(rows) - len(distinct)
        grid = part.grid(
            self.size, distinct[:, 0], distinct[:, 1:], {TWICE: twice} if twice else {}
        )
        first = grid.start[:, 0]
        chosen = np.isin(grid.sample, part.samples) & (first >= part.first[0])
        chosen &= first + self.size[0] <= part.first[0] + part.shape[0]
        return drop(grid, ~chosen, NOT_SELECTED)


class Whole(InBounds, PatchStrategy):
    """Take each sample as one patch; all of them must have one shape.

    Parameters
    ----------
    region, select, min_covered
        See `PatchStrategy`. A range along the depth axis is the depth of the patches.
    """

    kind: Literal["whole"] = "whole"

    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        chosen = [part for part in parts if len(part.samples)]
        size = chosen[0].shape
        first, *others = chosen
        differ = [f"{p.source.name} is {by(p.shape)}" for p in others if p.shape != size]
        if differ:
            raise ArgumentError(
                f"Whole samples must have one shape: {first.source.name} is {by(size)}, but "
                f"{_some(differ)}. Export them as sets of their own, or cut patches."
            )
        return [self._plan_one(part, size) for part in parts]

    def _plan_one(self, part: Part, size: tuple[int, ...]) -> PatchGrid:
        start = np.tile(np.array(part.first, np.int64), (len(part.samples), 1))
        return part.grid(size, part.samples, start)


def _id(source: SourceInfo) -> SourceId:
    return source.key, source.scene


def _refuse(faults: Sequence[str], why: str) -> None:
    if faults:
        raise ArgumentError(f"{len(faults)} of the patches {why}: {_some(faults)}.")


def _some(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    return "; ".join(faults[:_NAMED]) + more
