"""How overlapping predictions become pixels of an image: cropped, or averaged with weights.

`blend_patches` fills one box of an image. Where predictions are summed, the sum is in float64 and
in the order of the table, so that the bytes do not depend on who adds. Patches that follow each
other along X and in the table are read and added together, as a run: arrays of 64 px are too small
for NumPy to be fast.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.stride_tricks import as_strided
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
    numbers : int64 array
        Number of each patch, by which its pixels are read. Those that follow each other are read
        together.
    start : int64 array, (n, 2 or 3)
        First pixel along (Z)YX.
    size : tuple of int
        Size along (Z)YX.
    crops : pair of int64 array, (n, 2 or 3), or None
        First pixel and end of the box that each fills when cropped; None if the tiling has none.
    """

    numbers: Integers
    start: Integers
    size: tuple[int, ...]
    crops: tuple[Integers, Integers] | None = None

    @cached_property
    def grid(self) -> tuple[Integers, ...] | None:
        """The starts along each axis, if one patch is at each combination of them."""
        axes, places = zip(*(np.unique(s, return_inverse=True) for s in self.start.T), strict=True)
        shape = tuple(map(len, axes))
        if prod(shape) != len(self.start):
            return None
        is_taken = np.zeros(shape, bool)
        is_taken[places] = True
        return axes if is_taken.all() else None

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
        return PlacedPatches(self.numbers[rows], self.start[rows], self.size, crops)


ReadPatches = Callable[[int, int], NDArray[Any]]
"""Returns the predictions N, C, (Z), Y, X of patches: from a number to, not including, another."""


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
    blend: Blend, box: Box, patches: PlacedPatches, read: ReadPatches, out: NDArray[Any]
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
        All of the image.
    read : callable
        Reads patches.
    out : ndarray
        C(Z)YX; pixels that no patch covers stay as they are.

    Returns
    -------
    ndarray
        Of bool, (Z)YX: the pixels that a patch covers.
    """
    if blend == "crop":
        return _crop(box, patches.near(box), read, out)
    weights = _weights_of_grid(blend, patches, box)
    return _average(blend, box, patches.near(box), read, out, weights)


def _crop(
    box: Box, patches: PlacedPatches, read: ReadPatches, out: NDArray[Any]
) -> NDArray[np.bool_]:
    covered = np.zeros(box.shape, bool)
    if patches.crops is not None:
        # In raster order: where the overlap is odd, two crops share a line, which the later one
        # fills, as in CAREamics.
        raster = np.lexsort(patches.start.T[::-1])
        start, stop = (corner[raster] for corner in patches.crops)
        for run in _runs(box, patches[raster], start, stop):
            pixels = run.read(read)
            for place, part in run.places(out):
                np.copyto(place, pixels[..., part])
            for place, _ in run.places(covered):
                place[...] = True
    if not covered.all():
        _fill_holes(box, patches, read, out, covered)
    return covered


def _fill_holes(
    box: Box,
    patches: PlacedPatches,
    read: ReadPatches,
    out: NDArray[Any],
    covered: NDArray[np.bool_],
) -> None:
    """Fill the pixels not covered yet from the patch whose border is the farthest away."""
    depth = _distance_to_border(patches.size)
    best = np.where(covered, np.iinfo(np.int32).max, 0).astype(np.int32)
    chosen = np.full(box.shape, -1, np.int64)
    runs = list(_runs(box, patches, patches.start, patches.start + patches.size, at_once=1))
    for run in runs:
        is_better = depth[run.inside] > best[run.target]
        np.copyto(best[run.target], depth[run.inside], where=is_better)
        np.copyto(chosen[run.target], run.number, where=is_better)
    for run in runs:
        is_chosen = chosen[run.target] == run.number
        if is_chosen.any():
            pixels = run.read(read)[..., 0, :]
            np.copyto(out[:, *run.target], pixels, where=is_chosen)
    np.greater(best, 0, out=covered)


def _average(
    blend: Blend,
    box: Box,
    patches: PlacedPatches,
    read: ReadPatches,
    out: NDArray[Any],
    weights: NDArray[np.float64] | None,
) -> NDArray[np.bool_]:
    total, window = np.zeros(out.shape), _window(blend, patches.size)
    sum_of_weights = np.zeros(box.shape) if weights is None else weights
    for run in _runs(box, patches, patches.start, patches.start + patches.size):
        pixels, own = run.read(read), window[run.inside][..., np.newaxis, :]
        if blend == "hann":
            pixels = np.multiply(pixels, own, dtype=np.float64)
        for place, part in run.places(total):
            place += pixels[..., part]
        if weights is None:
            for place, part in run.places(sum_of_weights):
                place += own[..., part]
    covered = sum_of_weights > 0
    if covered.all():
        np.divide(total, sum_of_weights, out=out, casting="same_kind")
    else:
        np.divide(total, sum_of_weights, out=total, where=covered)
        np.copyto(out, total, where=covered, casting="same_kind")
    return covered


def _weights_of_grid(blend: Blend, patches: PlacedPatches, box: Box) -> NDArray[np.float64] | None:
    """Return the sum of the weights on each pixel of a box; None unless patches are a whole grid.

    Then it is the product of the sums along each axis.
    """
    if patches.grid is None:
        return None
    product = np.ones(())
    for starts, n, first, last in zip(patches.grid, patches.size, box.start, box.stop, strict=True):
        sums, window = np.zeros(last - first + 2 * n), _window_along(blend, n)
        for start in starts[(starts > first - n) & (starts < last)].tolist():
            sums[start - first + n :][:n] += window
        product = product[..., np.newaxis] * sums[n:-n]
    return product


Slices = tuple[slice, ...]

_RUN_PIXELS = 100_000
"""Most pixels along (Z)YX of patches that are blended at once, for the processor's cache."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Patches at equal steps along X, of each of which the same part lies in a box.

    Attributes
    ----------
    number, n : int
        Number of the first patch, and how many there are.
    inside : tuple of slice
        That part of a patch, along (Z)YX.
    target : tuple of slice
        Where it lies in the box, of the first patch.
    step : int
        Pixels from one patch to the next.
    """

    number: int
    n: int
    inside: Slices
    target: Slices
    step: int

    def read(self, read: ReadPatches) -> NDArray[Any]:
        """Read the parts of the patches: C, (Z), Y, N, X."""
        pixels = read(self.number, self.number + self.n)[:, :, *self.inside]
        return pixels[0][..., np.newaxis, :] if self.n == 1 else np.moveaxis(pixels, 0, -2)

    def places(self, image: NDArray[Any]) -> Iterator[tuple[NDArray[Any], slice]]:
        """Yield views ..., Y, N, X of what the patches cover of a box, and which part of X each is.

        A view has no pixel twice. They come from the right of the patches to the left, so that a
        pixel is met by its patches in their order.
        """
        index: tuple[Any, ...] = (..., *self.target)
        first = image[index]
        if self.n == 1:
            yield first[..., np.newaxis, :], slice(None)
            return
        (*rows, width), (*strides, x) = first.shape, first.strides
        places = as_strided(first, (*rows, self.n, width), (*strides, self.step * x, x))
        for left in reversed(range(0, width, self.step)):
            part = slice(left, left + self.step)
            yield places[..., part], part


def _runs(
    box: Box, patches: PlacedPatches, start: Integers, stop: Integers, at_once: int | None = None
) -> Iterator[_Run]:
    """Yield the patches whose part start:stop touches a box, in their order."""
    first, end = np.maximum(start, box.start), np.minimum(stop, box.stop)
    rows = np.flatnonzero((first < end).all(axis=1))
    if not len(rows):
        return
    first, end, origin, numbers = first[rows], end[rows], patches.start[rows], patches.numbers[rows]
    boxes = (first - origin, end - origin, first - box.start, end - box.start)
    steps = np.diff(first, axis=0)
    joins = (steps[:, :-1] == 0).all(axis=1) & (steps[:, -1] > 0) & (np.diff(numbers) == 1)
    joins &= (np.diff(np.hstack(boxes[:2]), axis=0) == 0).all(axis=1)
    is_head = np.append(True, ~joins)
    is_head[2:] |= joins[:-1] & (steps[1:, -1] != steps[:-1, -1])
    heads = np.flatnonzero(is_head)
    index = np.arange(len(rows)) - np.repeat(heads, np.diff(heads, append=len(rows)))
    heads = np.flatnonzero(index % (at_once or max(1, _RUN_PIXELS // prod(patches.size))) == 0)
    counts = np.diff(heads, append=len(rows))
    step = np.where(counts > 1, np.append(steps[:, -1], 0)[heads], patches.size[-1])
    corners = (corner[heads].tolist() for corner in boxes)
    for number, n, distance, a, b, c, d in zip(
        numbers[heads].tolist(), counts.tolist(), step.tolist(), *corners, strict=True
    ):
        yield _Run(number, n, tuple(map(slice, a, b)), tuple(map(slice, c, d)), distance)


def _distance_to_border(size: Sequence[int]) -> NDArray[np.int32]:
    """Return the distance of each pixel of a patch to its border: 1 for the outermost."""
    axes = [np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in size]
    distance: NDArray[np.int32] = reduce(np.minimum, np.ix_(*axes)).astype(np.int32)
    return distance


@lru_cache(maxsize=2)
def _window(blend: Blend, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the weight of each pixel of a patch; it is nowhere 0."""
    window: NDArray[np.float64] = reduce(np.multiply.outer, (_window_along(blend, n) for n in size))
    window.flags.writeable = False
    return window


@lru_cache(maxsize=8)
def _window_along(blend: Blend, n: int) -> NDArray[np.float64]:
    window = np.ones(n)
    if blend == "hann":
        window = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    window.flags.writeable = False
    return window
