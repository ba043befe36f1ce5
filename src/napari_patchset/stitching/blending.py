"""How overlapping predictions become pixels of an image: cropped, or averaged with weights.

`blend_patches` fills one box of an image. Where predictions are summed,
the sum is in float64 and in the order of the table, so that the bytes do not depend on who adds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError

Blend = Literal["crop", "average", "hann"]
BLENDS: tuple[Blend, ...] = get_args(Blend)

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """A box of pixels along (Z)YX: first, and the end of each axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    def rows(self, first: int, last: int) -> "Box":
        """Return the part of the box from a row along Y up to, not including, another."""
        start = (*self.start[:-2], first, self.start[-1])
        return Box(start, (*self.stop[:-2], last, self.stop[-1]))


@dataclass(frozen=True)
class PlacedPatches:
    """Patches of one size at their places in the image, in the order of the table.

    Attributes
    ----------
    indices : int64 array
        Number of each patch, by which its pixels are read.
    start : int64 array, (n, 2 or 3)
        First pixel along (Z)YX.
    size : tuple of int
        Size along (Z)YX.
    crops : pair of int64 array, (n, 2 or 3), or None
        First pixel and end of the box that each fills when cropped; None if the tiling has none.
    """

    indices: Integers
    start: Integers
    size: tuple[int, ...]
    crops: tuple[Integers, Integers] | None = None

    @cached_property
    def _by_row(self) -> tuple[Integers, Integers]:
        """The patches sorted by their start along Y, and these starts."""
        order = np.argsort(self.start[:, -2], kind="stable")
        return order, self.start[order, -2]

    def near(self, box: Box) -> "PlacedPatches":
        """Return the patches that touch the rows of a box, without comparing all of them."""
        order, starts = self._by_row
        first, last = np.searchsorted(starts, [box.start[-2] - self.size[-2] + 1, box.stop[-2]])
        return self[np.sort(order[first:last])]

    def __getitem__(self, rows: Integers) -> "PlacedPatches":
        crops = None if self.crops is None else (self.crops[0][rows], self.crops[1][rows])
        return PlacedPatches(self.indices[rows], self.start[rows], self.size, crops)


ReadPatch = Callable[[int], NDArray[Any]]
"""Returns the prediction of a patch, C(Z)YX, by its number."""


def check_blend(blend: str, dtype: np.dtype[Any]) -> None:
    """Raise ArgumentError if there is no such blend, or it can't blend this type of pixels."""
    if blend not in BLENDS:
        raise ArgumentError(f"There is no blend {blend!r}; it is one of {', '.join(BLENDS)}.")
    if dtype.kind not in "biuf":
        raise ArgumentError(f"Predictions are {dtype}; they must be numbers, and not complex.")
    if blend != "crop" and dtype.kind != "f":
        raise ArgumentError(
            f"Predictions are {dtype}, which may be labels, and labels have no average; use "
            f"the blend crop, or save intensities as float32 for {blend}."
        )


def blend_patches(
    blend: Blend, box: Box, patches: PlacedPatches, read: ReadPatch, out: NDArray[Any]
) -> NDArray[np.bool_]:
    """Fill a box of an image with the patches that touch it.

    Parameters
    ----------
    blend : {"crop", "average", "hann"}
        "crop": each pixel from one patch, the one that the tiling's crops choose; where that is
        not there, from the one whose border is the farthest away. "average": the mean of all.
        "hann": weighted by sin^2(pi (i + 1/2) / n) along each axis, n the size of the patch.
    box : Box
        What is filled.
    patches : PlacedPatches
        Those that may touch it.
    read : callable
        Reads a patch.
    out : ndarray
        C(Z)YX; pixels that no patch covers stay as they are.

    Returns
    -------
    ndarray
        Of bool, (Z)YX: the pixels that a patch covers.
    """
    if blend == "crop":
        return _crop(box, patches, read, out)
    return _average(box, patches, read, out, blend)


def _crop(
    box: Box, patches: PlacedPatches, read: ReadPatch, out: NDArray[Any]
) -> NDArray[np.bool_]:
    covered = np.zeros(box.shape, bool)
    if patches.crops is not None:
        # In raster order: where the overlap is odd, two crops share a line, which the later one
        # fills, as in CAREamics.
        order = np.lexsort(patches.start.T[::-1])
        start, stop = (corner[order] for corner in patches.crops)
        for row, inside, target in _overlaps(box, patches.start[order], start, stop):
            out[:, *target] = read(int(patches.indices[order[row]]))[:, *inside]
            covered[target] = True
    if not covered.all():
        _fill_holes(box, patches, read, out, covered)
    return covered


def _fill_holes(
    box: Box,
    patches: PlacedPatches,
    read: ReadPatch,
    out: NDArray[Any],
    covered: NDArray[np.bool_],
) -> None:
    """Fill the pixels not covered yet from the patch whose border is the farthest away."""
    depth = _distance_to_border(patches.size)
    best = np.where(covered, np.iinfo(np.int32).max, 0).astype(np.int32)
    stop = patches.start + patches.size
    for row, inside, target in _overlaps(box, patches.start, patches.start, stop):
        is_better = depth[inside] > best[target]
        if is_better.any():
            pixels = read(int(patches.indices[row]))[:, *inside]
            np.copyto(out[:, *target], pixels, where=is_better)
            np.copyto(best[target], depth[inside], where=is_better)
    np.greater(best, 0, out=covered)


def _average(
    box: Box, patches: PlacedPatches, read: ReadPatch, out: NDArray[Any], blend: Blend
) -> NDArray[np.bool_]:
    total = np.zeros(out.shape)
    sum_of_weights = np.zeros(box.shape)
    window = _hann_window(patches.size) if blend == "hann" else None
    product = np.empty((len(out), *patches.size))
    stop = patches.start + patches.size
    for row, inside, target in _overlaps(box, patches.start, patches.start, stop):
        pixels = read(int(patches.indices[row]))[:, *inside]
        weights: NDArray[np.float64] | int = 1
        if window is not None:
            weights = window[inside]
            pixels = np.multiply(pixels, weights, out=product[:, *inside])
        total[:, *target] += pixels
        sum_of_weights[target] += weights
    covered = sum_of_weights > 0
    if covered.all():
        np.divide(total, sum_of_weights, out=out, casting="same_kind")
    else:
        np.divide(total, sum_of_weights, out=total, where=covered)
        np.copyto(out, total, where=covered, casting="same_kind")
    return covered


Slices = tuple[slice, ...]


def _overlaps(
    box: Box, origin: Integers, start: Integers, stop: Integers
) -> Iterator[tuple[int, Slices, Slices]]:
    """Yield row, slices of the patch, slices of the box for each start:stop that touches it.

    `origin` is the first pixel of each patch.
    """
    first, end = np.maximum(start, box.start), np.minimum(stop, box.stop)
    rows = np.flatnonzero((first < end).all(axis=1))
    first, end, origin = first[rows], end[rows], origin[rows]
    boxes = (first - origin, end - origin, first - box.start, end - box.start)
    for row, *corners in zip(rows.tolist(), *(box.tolist() for box in boxes), strict=True):
        start_in_patch, stop_in_patch, start_in_box, stop_in_box = corners
        inside = tuple(map(slice, start_in_patch, stop_in_patch))
        yield row, inside, tuple(map(slice, start_in_box, stop_in_box))


def _distance_to_border(size: Sequence[int]) -> NDArray[np.int32]:
    """Return the distance of each pixel of a patch to its border: 1 for the outermost."""
    axes = [np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in size]
    distance: NDArray[np.int32] = reduce(np.minimum, np.ix_(*axes)).astype(np.int32)
    return distance


@lru_cache(maxsize=2)
def _hann_window(size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the product of sin^2(pi (i + 1/2) / n) along each axis; it is nowhere 0."""
    window = np.ones((), np.float64)
    for n in size:
        window = window[..., np.newaxis] * np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    window.flags.writeable = False
    return window
