"""Tiled: a regular grid of patches, and how its tiles are put together again.

The crop fields are those of CAREamics' TileSpecs: each of two neighbours gives up half of their
overlap, rounded down. The rest covers the image once, except for lines of one pixel that lie in
two tiles where the overlap is odd.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import Edge, PadMode, PatchGrid, axis_starts, starts_by_tile
from napari_patchset.patching.lengths import Length, LengthPerAxis, to_pixels
from napari_patchset.patching.strategies.base import SelectedSource
from napari_patchset.patching.strategies.sized import SizedStrategy
from napari_patchset.source import SourceInfo

Integers = NDArray[np.int64]

SMALL_REMEDY = "skip or pad small images"
"""A remedy that errors name, the option `small`."""


class Tiled(SizedStrategy):
    """Cover every sample with a regular grid of patches.

    Parameters
    ----------
    size : tuple of int, int or str
        Patch size along YX, or ZYX (TYX) with a depth axis; one number is the size along Y and X.
    overlap : tuple of int, int or str
        Pixels, or micrometres like "8um", shared by neighbours, per axis, 0 <= overlap < size; ()
        for none. One number is the overlap along Y and X.
    edge : {"shift", "drop", "pad", "balance"}
        What to do where the grid does not fit; see `axis_starts`. Along a depth axis that
        `select` limits, "pad" acts as "shift": the planes beyond exist and must not be made up.
    pad : {"reflect", "symmetric", "edge", "constant"}
        What fills a patch beyond the image; NumPy's names, "constant" is zero.
    small : {"error", "skip", "pad"}
        What to do with an image smaller than a patch.
    region, select, min_covered
        See `PatchStrategy`. The grid lies where it would without a region.
    """

    _lengths: ClassVar[tuple[str, ...]] = ("size", "overlap")

    kind: Literal["tiled"] = "tiled"
    overlap: LengthPerAxis = Field(
        default=(), description="Pixels, or micrometres like 8um, shared by neighbours."
    )
    edge: Edge = Field(
        default="shift", description="What happens to a last patch that does not fit."
    )
    pad: PadMode = "reflect"
    small: Literal["error", "skip", "pad"] = "error"

    @field_validator("overlap")
    @classmethod
    def _along_yx(cls, overlap: tuple[Length, ...], info: ValidationInfo) -> tuple[Length, ...]:
        if len(overlap) != 1:
            return overlap
        n_axes = len(info.data.get("size", overlap * 2))
        return (*(0 for _ in range(n_axes - 2)), *overlap, *overlap)

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.overlap and len(self.overlap) != len(self.size):
            raise ValueError(f"overlap {self.overlap} needs one number per axis of {self.size}")
        # Pixels are compared with micrometres once the pixel size is known.
        pairs = zip(self.overlap, self.size, strict=False)
        axes = ("Z (or T)", "Y", "X")[-len(self.size) :]
        for axis, (o, p) in zip(axes, pairs, strict=False):
            if isinstance(o, int) == isinstance(p, int) and not 0 <= _number(o) < _number(p):
                raise ValueError(
                    f"the overlap along {axis} is {o}; it must be at least 0 and less than the "
                    f"size there, {p}"
                )
        return self

    @property
    def padding(self) -> PadMode:  # noqa: D102, on PatchStrategy
        return self.pad

    def crops(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> "Crops":
        """Return how planned tiles, or some of them, are put together again, as in CAREamics.

        Raises
        ------
        ArgumentError
            If `edge` is not "shift": CAREamics has no such tiles.
        """
        if self.edge != "shift":
            raise ArgumentError(
                f"Tiles with the edge {self.edge!r} can't be stitched; use 'shift'."
            )
        if (strategy := self._in_pixels_of(sources[0])) is not self:  # as they were planned
            return strategy.crops(grid, sources)
        crops = Crops(*(np.empty(grid.start.shape, np.int64) for _ in Crops._fields))
        for index in np.unique(grid.source_index).tolist():
            selected = self._select(index, sources[index])
            rows = np.flatnonzero(grid.source_index == index)
            axes = zip(
                self._starts(selected), selected.origin, selected.shape, self.pixels, self._overlap,
                strict=True,
            )  # fmt: skip
            for axis, (starts, origin, n, p, o) in enumerate(axes):
                crop, size, stitch = crop_axis(starts - origin, n, p, o)
                tile = np.searchsorted(starts, grid.start[rows, axis])
                for column, values in zip(crops, (crop, size, stitch + origin), strict=True):
                    column[rows, axis] = values[tile]
        return crops

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        return [self._candidates_in(selected) for selected in sources]

    def _candidates_in(self, selected: SelectedSource) -> PatchGrid:
        if not self._is_tiled(selected):
            return selected.empty_grid(self.pixels)
        self._check_count(
            selected, [p - o for p, o in zip(self.pixels, self._overlap, strict=True)]
        )
        starts = starts_by_tile(self._starts(selected), selected.source.block_shape)
        n_samples, per_sample = len(selected.samples), len(starts)
        return PatchGrid(
            self.pixels,
            np.full(n_samples * per_sample, selected.index, np.int32),
            np.repeat(selected.samples.astype(np.int32), per_sample),
            np.tile(starts.T, n_samples).T,
        )

    @property
    def _small_hint(self) -> str:
        return f", or {SMALL_REMEDY}"

    def _is_tiled(self, selected: SelectedSource) -> bool:
        if self.small != "pad":
            return self._fits(selected, self.small)
        self._check_dimensions(selected.source)
        # Too few selected depths can't be padded: there are other planes next to them.
        too_thin = selected.is_cropped and self.pixels[0] > selected.shape[0]
        return self._fits(selected, "error") if too_thin else bool(len(selected.samples))

    def _starts(self, selected: SelectedSource) -> list[Integers]:
        """Return the starts along each axis."""
        edges: list[Edge] = [self.edge] * len(self.pixels)
        if selected.is_cropped and self.edge == "pad":
            edges[0] = "shift"
        axes = zip(selected.origin, selected.shape, self.pixels, self._overlap, edges, strict=True)
        return [origin + axis_starts(n, p, o, edge) for origin, n, p, o, edge in axes]

    @property
    def _overlap(self) -> tuple[int, ...]:
        return to_pixels(self.overlap) or (0,) * len(self.pixels)


def _number(length: Length) -> float:
    return length if isinstance(length, int) else length.number


class Crops(NamedTuple):
    """The part of each tile that is used, and where it goes: along one axis, or (n, 2 or 3).

    Attributes
    ----------
    crop_coords : int64 array
        First pixel used, in the tile.
    crop_size : int64 array
        Number of pixels used.
    stitch_coords : int64 array
        First pixel used, in the image.
    """

    crop_coords: Integers
    crop_size: Integers
    stitch_coords: Integers


def crop_axis(starts: Integers, n: int, size: int, overlap: int) -> Crops:
    """Return the crops of tiles along an axis of `n` pixels, for starts with the edge "shift".

    Of 200 pixels, tiles of 64 with an overlap of 16 start at 0, 48, 96 and 136; they are cropped
    from 0, 8, 8 and 16 to a size of 56, 48, 48 and 48.
    """
    stitch, length = starts + overlap // 2, np.full(len(starts), size - overlap)
    stitch[0], length[0] = 0, size - overlap // 2
    if len(starts) > 1:
        stitch[-1] = stitch[-2] + length[-2]
    length[-1] = n - stitch[-1]
    return Crops(stitch - starts, length, stitch)
