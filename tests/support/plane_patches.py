"""Patches of one plane, with categories."""

import numpy as np

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies import Strategy
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.source import SourceInfo

YELLOW, CYAN, VIOLET, RED = (255, 214, 10), (64, 224, 255), (215, 131, 255), (255, 69, 58)
"""The colours of training, validation, test and rejected patches."""


def grid_over(*shape: int, strategy: Strategy, depth_axis: str = "none") -> PatchGrid:
    axes = "TCYX" if depth_axis == "none" else "TCZYX"
    info = SourceInfo(
        key="k", axes=axes, shape=shape, dtype="uint16", channels=("a",), depth_axis=depth_axis
    )
    return strategy.plan([info])


def plane_of(
    grid: PatchGrid, *category: int, sample: int = 0, depth: int | None = None
) -> PlanePatches:
    """Return the patches of a plane; the categories are repeated over them."""
    return PlanePatches.from_grid(
        grid, np.resize(category or (0,), len(grid)).astype(np.uint8), 0, sample, depth
    )
