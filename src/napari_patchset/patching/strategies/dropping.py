"""Why a candidate is no patch, and how many are not for each reason."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.regions.coverage import covered_share
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
    dropped = {**grid.dropped, reason: grid.dropped.get(reason, 0) + count}
    return replace(kept, dropped=dropped)


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
