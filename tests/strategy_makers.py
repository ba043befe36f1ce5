"""One of each strategy: a further one is one line in MAKERS, and every contract runs over it."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from napari_patchset.patching.strategies import (
    Fixed,
    Place,
    Random,
    Strategy,
    Stratified,
    Tiled,
    Whole,
)
from napari_patchset.source import SourceInfo

Size = tuple[int, ...]
Sources = Sequence[SourceInfo]


def _corners(size: Size, sources: Sources, **more: Any) -> Fixed:
    """Fixed patches in the corners of every sample, the last ones first."""
    places = []
    for source in reversed(sources):
        ends = [{0, n - p} for n, p in zip(source.spatial_shape, size, strict=True)]
        places += [
            Place(source=source.key, scene=source.scene, sample=sample, start=start)
            for sample, start in product(range(source.n_samples), product(*ends))
        ]
    return Fixed(size=size, patches=places, **more)


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
    "fixed": _corners,
    "whole": lambda size, sources, **more: Whole(**more),
}
"""By name: make(size, sources, region=..., select=...)."""


def make_strategy(name: str, size: Size, sources: Sources, **more: Any) -> Strategy:
    """Make the strategy of a name for the sources that it is to be planned for."""
    return MAKERS[name](size, sources, **more)


every_strategy = pytest.mark.parametrize("name", MAKERS)
