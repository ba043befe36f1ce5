"""Tiled: a regular grid.

How tiles are cropped and put together again: the fields of CAREamics' TileSpecs.

Neighbours share an overlap, and each gives up half of it, rounded down. What is left covers the
image once, but for lines of one pixel that lie in two tiles where the overlap is odd.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import Edge, PadMode, PatchGrid, axis_starts, starts_by_tile
from napari_patchset.patching.strategies.base import Part, Sized
from napari_patchset.source import SourceInfo

Integers = NDArray[np.int64]


class Crops(NamedTuple):
    """What is taken of tiles and where it goes, along one axis or in columns (n, 2 or 3).

    Attributes
    ----------
    crop_coords : int64 array
        First pixel, in the tile.
    crop_size : int64 array
        How many pixels from there.
    stitch_coords : int64 array
        First pixel in the image.
    """

    crop_coords: Integers
    crop_size: Integers
    stitch_coords: Integers


def crop_axis(starts: Integers, n: int, size: int, overlap: int) -> Crops:
    """Crop the tiles along an axis of `n` pixels that start where the edge "shift" lets them.

    Of 200 pixels, tiles of 64 with an overlap of 16 start at 0, 48, 96 and 136; they are cropped
    from 0, 8, 8 and 16 to a size of 56, 48, 48 and 48.
    """
    stitch, length = starts + overlap // 2, np.full(len(starts), size - overlap)
    stitch[0], length[0] = 0, size - overlap // 2
    if len(starts) > 1:
        stitch[-1] = stitch[-2] + length[-2]
    length[-1] = n - stitch[-1]
    return Crops(stitch - starts, length, stitch)


class Tiled(Sized):
    """Cover every sample with a regular grid of patches.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    overlap : tuple of int
        Pixels shared by neighbours, per axis, 0 <= overlap < size; () for none.
    edge : {"shift", "drop", "pad", "balance"}
        What to do where the grid does not fit; see `axis_starts`. Along a depth axis that
        `select` narrows, "pad" is "shift": what lies beyond is not padding, but not chosen.
    pad : {"reflect", "symmetric", "edge", "constant"}
        What fills a patch beyond the image; NumPy's names, "constant" is zero.
    small : {"error", "skip", "pad"}
        What to do with an image smaller than a patch.
    region, select, min_covered
        See `PatchStrategy`. The grid lies as it does without a region.
    """

    kind: Literal["tiled"] = "tiled"
    overlap: tuple[int, ...] = ()
    edge: Edge = "shift"
    pad: PadMode = "reflect"
    small: Literal["error", "skip", "pad"] = "error"

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.overlap and len(self.overlap) != len(self.size):
            raise ValueError(f"overlap {self.overlap} needs one number per axis of {self.size}")
        if not all(0 <= o < p for o, p in zip(self.overlap, self.size, strict=False)):
            raise ValueError(f"overlap {self.overlap} must be at least 0 and below {self.size}")
        return self

    def crops(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Crops:
        """Say how planned tiles, or some of them, are put together again, as CAREamics does it.

        Raises
        ------
        ArgumentError
            If `edge` is not "shift": such tiles do not lie as CAREamics' do.
        """
        if self.edge != "shift":
            raise ArgumentError(
                f"Tiles with the edge {self.edge!r} can't be stitched; use 'shift'."
            )
        found = Crops(*(np.empty(grid.start.shape, np.int64) for _ in Crops._fields))
        for stack in np.unique(grid.source_index).tolist():
            part, rows = (
                self._part(stack, sources[stack]),
                np.flatnonzero(grid.source_index == stack),
            )
            sides = zip(
                self._axes(part), part.first, part.shape, self.size, self._overlap, strict=True
            )
            for axis, (starts, first, n, p, o) in enumerate(sides):
                crop, size, stitch = crop_axis(starts - first, n, p, o)
                at = np.searchsorted(starts, grid.start[rows, axis])
                for column, values in zip(found, (crop, size, stitch + first), strict=True):
                    column[rows, axis] = values[at]
        return found

    def _candidates(self, parts: Sequence[Part]) -> list[PatchGrid]:
        return [self._plan_one(part) for part in parts]

    def _plan_one(self, part: Part) -> PatchGrid:
        if not self._is_cut(part):
            return part.empty(self.size)
        self._require_few(part, [p - o for p, o in zip(self.size, self._overlap, strict=True)])
        rows, n = starts_by_tile(self._axes(part), part.source.block_shape), len(part.samples)
        return PatchGrid(
            self.size,
            np.full(n * len(rows), part.stack, np.int32),
            np.repeat(part.samples.astype(np.int32), len(rows)),
            np.tile(rows.T, n).T,
        )

    def _is_cut(self, part: Part) -> bool:
        if self.small != "pad":
            return self._fits(part, self.small)
        self._check_dimensions(part.source)
        # Too few depths that were chosen can't be padded: other planes lie beside them.
        too_thin = part.is_narrowed and self.size[0] > part.shape[0]
        return self._fits(part, "error") if too_thin else bool(len(part.samples))

    def _axes(self, part: Part) -> list[NDArray[np.int64]]:
        """Give the starts along each axis."""
        edges: list[Edge] = [self.edge] * len(self.size)
        if part.is_narrowed and self.edge == "pad":
            edges[0] = "shift"
        axes = zip(part.first, part.shape, self.size, self._overlap, edges, strict=True)
        return [first + axis_starts(n, p, o, edge) for first, n, p, o, edge in axes]

    @property
    def _overlap(self) -> tuple[int, ...]:
        return self.overlap or (0,) * len(self.size)
