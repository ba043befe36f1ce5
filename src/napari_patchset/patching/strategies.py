"""Strategies: each is configuration, code, form and JSON in one frozen model with `plan`."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from napari_patchset.errors import ArgumentError
from napari_patchset.model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.lattice import Edge, axis_starts, ordered_product
from napari_patchset.patching.padding import PadMode
from napari_patchset.source import SourceInfo

MISSING_PLANE = "missing plane"
TOO_SMALL = "smaller than a patch"


class Tiled(Frozen):
    """Cover every sample with a regular grid of patches.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    overlap : tuple of int
        Pixels shared by neighbours, per axis, 0 <= overlap < size; () for none.
    edge : {"shift", "drop", "pad", "balance"}
        What to do where the grid does not fit; see `axis_starts`.
    pad : {"reflect", "symmetric", "edge", "constant"}
        What fills a patch beyond the image; NumPy's names, "constant" is zero.
    small : {"error", "skip", "pad"}
        What to do with an image smaller than a patch.
    """

    kind: Literal["tiled"] = "tiled"
    size: tuple[int, ...]
    overlap: tuple[int, ...] = ()
    edge: Edge = "shift"
    pad: PadMode = "reflect"
    small: Literal["error", "skip", "pad"] = "error"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise ValueError(f"patch size {self.size} must be 2 or 3 numbers of at least 1")
        if self.overlap and len(self.overlap) != len(self.size):
            raise ValueError(f"overlap {self.overlap} needs one number per axis of {self.size}")
        if not all(0 <= o < p for o, p in zip(self.overlap, self.size, strict=False)):
            raise ValueError(f"overlap {self.overlap} must be at least 0 and below {self.size}")
        return self

    def plan(self, sources: Sequence[SourceInfo]) -> PatchGrid:
        """Lay the grid over each source; candidates on a missing plane are dropped and counted.

        Raises
        ------
        ArgumentError
            If the patch size does not fit a source's dimensions, or is larger than a source and
            `small` is "error".
        """
        return PatchGrid.concatenate([self._plan_one(i, s) for i, s in enumerate(sources)])

    def _plan_one(self, stack: int, source: SourceInfo) -> PatchGrid:
        rows = self._plane_rows(source)
        n = source.n_samples
        grid = PatchGrid(
            self.size,
            np.full(n * len(rows), stack, np.int32),
            np.repeat(np.arange(n, dtype=np.int32), len(rows)),
            np.tile(rows, (n, 1)),
            {} if len(rows) else {TOO_SMALL: n},
        )
        return drop_missing(grid, source)

    def _plane_rows(self, source: SourceInfo) -> NDArray[np.int32]:
        shape = source.spatial_shape
        if len(shape) != len(self.size):
            raise ArgumentError(
                f"Patch size {self.size} has {len(self.size)} dimensions, but {source.name} is "
                f"{source.layout.spatial_axes}; give {len(shape)} numbers."
            )
        if any(n < p for n, p in zip(shape, self.size, strict=True)):
            if self.small == "error":
                raise ArgumentError(
                    f"Patch size {_by(self.size)} is larger than {source.name}, which is "
                    f"{_by(shape)} ({source.layout.spatial_axes}); choose a smaller patch."
                )
            if self.small == "skip":
                return np.empty((0, len(shape)), np.int32)
        overlap = self.overlap or (0,) * len(self.size)
        axes = [
            axis_starts(n, p, o, self.edge)
            for n, p, o in zip(shape, self.size, overlap, strict=True)
        ]
        return ordered_product(axes, source.block_shape)


Strategy = Tiled
"""Every strategy that a plan can name; a union discriminated by `kind` as soon as there are two."""


def drop_missing(grid: PatchGrid, source: SourceInfo) -> PatchGrid:
    """Leave out, and count, the candidates that touch a plane which the source does not hold."""
    touches = np.zeros(len(grid), bool)
    for sample, _, depth in source.missing:
        hit = grid.sample == sample
        if len(grid.size) == 3:
            first = grid.start[:, 0]
            hit &= (first <= depth) & (depth < first + grid.size[0])
        touches |= hit
    count = int(touches.sum())
    if not count:
        return grid
    kept = grid[~touches]
    dropped = {**grid.dropped, MISSING_PLANE: count}
    return PatchGrid(kept.size, kept.stack, kept.sample, kept.start, dropped)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
