"""Sources to plan for, their labels, and one maker for each strategy.

A new strategy is one line in MAKERS; every contract then runs over it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions import Masks
from napari_patchset.patching.strategies import (
    Balanced,
    Fixed,
    FixedPatch,
    Random,
    Strategy,
    Stratified,
    Tiled,
    Whole,
)
from napari_patchset.source import SourceInfo

Size = tuple[int, ...]
Sources = Sequence[SourceInfo]


def source(*shape: int, axes: str = "TCYX", key: str = "k", **fields: Any) -> SourceInfo:
    """Describe a source of one channel."""
    return SourceInfo(key=key, axes=axes, shape=shape, dtype="uint16", channels=("a",), **fields)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], list[SourceInfo]]:
    """Draw a patch size and sources of one shape, 2-D or 3-D, with holes or without."""
    deep, several = draw(st.booleans()), draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, 6)] * deep, *[st.integers(1, 40)] * 2))
    size = tuple(draw(st.integers(1, n)) for n in shape)
    block = draw(st.none() | st.tuples(st.integers(1, 50), st.integers(1, 50)))
    extra = {"axes": "TCZYX", "depth_axis": "Z"} if deep else {}
    sources = []
    for i in range(several):
        n = draw(st.integers(1, 4))
        planes = st.tuples(st.integers(0, n - 1), st.just(0), st.integers(0, (*shape, 1)[0] - 1))
        missing = draw(st.frozensets(planes, max_size=2)) if deep else frozenset()
        starts = {"T": draw(st.integers(0, 3)), "Z": draw(st.integers(0, 3))}
        fields = {"missing": missing, "starts": starts, "block_shape": block, "scene": i}
        sources.append(source(n, 1, *shape, key=f"key {i % 2}", **extra, **fields))
    return size, sources


def without_holes(sources: list[SourceInfo]) -> list[SourceInfo]:
    """Return the sources without missing planes."""
    return [source.model_copy(update={"missing": frozenset()}) for source in sources]


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw the length of an axis, a patch size and an overlap."""
    size = draw(st.integers(1, 40))
    return draw(st.integers(1, 200)), size, draw(st.integers(0, size - 1))


def box(start: Iterable[int], length: Iterable[int]) -> tuple[slice, ...]:
    """Return the slices of a patch."""
    return tuple(slice(s, s + n) for s, n in zip(start, length, strict=True))


def _corners(size: Size, sources: Sources, **more: Any) -> Fixed:
    """Return fixed patches in the corners of every sample, the last ones first."""
    patches = []
    for source in reversed(sources):
        ends = [{0, n - p} for n, p in zip(source.spatial_shape, size, strict=True)]
        patches += [
            FixedPatch(source=source.key, scene=source.scene, sample=sample, start=start)
            for sample, start in product(range(source.n_samples), product(*ends))
        ]
    return Fixed(size=size, patches=patches, **more)


@dataclass
class LabelArray:
    """Labels in memory, S(Z)YX, and the windows that were read."""

    pixels: NDArray[Any]
    block_shape: tuple[int, int] | None = None
    names: dict[str, int] = field(default_factory=dict)
    reads: list[Size] = field(default_factory=list)

    def read(self, sample: int, start: Size, size: Size) -> NDArray[Any]:
        self.reads.append(tuple(size))
        return self.pixels[(sample, *box(start, size))]


def checkered(source: SourceInfo) -> LabelArray:
    """Return labels of a source that are 0 and 1 in turn along each axis."""
    shape = source.n_samples, *source.spatial_shape
    return LabelArray(np.indices(shape).sum(axis=0) % 2)


def plan(strategy: Strategy, sources: Sources, masks: Masks | None = None) -> PatchGrid:
    """Plan sources with checkered labels; a case in which a class has too few pixels is no case."""
    try:
        return strategy.plan(sources, masks, [checkered(each) for each in sources])
    except ArgumentError as error:
        if "the class" in str(error).lower():
            reject()
        raise


def _count(sources: Sources) -> int:
    """Return a number of patches for which the labels have pixels."""
    return min(
        24, 1 + sum(source.n_samples * prod(source.spatial_shape) for source in sources) // 4
    )


MAKERS = {
    "tiled": lambda size, sources, **more: Tiled(size=size, **more),
    "tiled, padded": lambda size, sources, **more: Tiled(size=size, edge="pad", **more),
    "random": lambda size, sources, **more: Random(size=size, count=9, seed=3, **more),
    "random, in total": lambda size, sources, **more: Random(
        size=size, count=20, per="total", **more
    ),
    "random, apart": lambda size, sources, **more: Random(
        size=size, count=9, max_overlap=0.3, **more
    ),
    "stratified": lambda size, sources, **more: Stratified(size=size, seed=5, **more),
    "balanced": lambda size, sources, **more: Balanced(
        size=size, count=_count(sources), classes={"1": 1, "background": 4}, **more
    ),
    "fixed": _corners,
    "whole": lambda size, sources, **more: Whole(**more),
}
"""By name: make(size, sources, region=..., select=...)."""


def make_strategy(name: str, size: Size, sources: Sources, **more: Any) -> Strategy:
    """Make the strategy of a name, for a patch size and the sources to plan for."""
    return MAKERS[name](size, sources, **more)


every_strategy = pytest.mark.parametrize("name", MAKERS)
