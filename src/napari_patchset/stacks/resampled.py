"""ResampledStack: an image at a larger pixel size, computed while it is read.

Made pixel j averages the interval [j r, (j + 1) r) of the pixels of a level, r being the ratio of
the two pixel sizes; label images take the pixel at its centre instead. The level is the coarsest
stored one that is not coarser than the wanted size.

Weights are whole numbers, in units of a fraction of a pixel in which the length of an interval is
exact if it can be. Integers are summed as integers and rounded half up: the same bytes on every
machine. Floating-point pixels are summed in one order, first along Y and then along X, in double
precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, prod
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.source import PartialPlanes, PixelSize, Rect, pixel_ratio
from napari_patchset.stacks.metadata import image_metadata
from napari_patchset.stacks.protocol import BoundedStack, ImageStack

Integers = NDArray[np.int64]

_READ_PIXELS = 2**23
"""Pixels of the source that are read at once, as far as a row of made pixels allows."""

_COARSEST = 512
"""Lower resolutions stop at this number of pixels along the longer side."""

_UNCHANGED = frozenset(
    {"scene", "starts", "axes", "files", "file_keys", "fingerprint", "missing_planes", "data_path"}
)
"""Attributes that are those of the source; it may lack any of them."""

_SUM_BITS = 61
"""Bits of the largest sum of weighted pixels, so that its double fits into int64."""

_ROWS = 32
"""Made rows that are averaged at once."""

_MAX_UNIT_BITS = 20
"""A pixel is divided into at most 2**20 units of weight."""


class ResampledStack(BoundedStack):
    """Cut patches out of a stack as if its pixels were larger along Y and X.

    Parameters
    ----------
    stack : ImageStack
        The source; it is closed with this stack.
    pixel_size : PixelSize
        The wanted size along Y and X in micrometres. That along Z stays the source's own.
    nearest : bool
        Whether to take the pixel at the centre, as for labels, instead of the average.
    source_pixel_size : PixelSize or None
        The size of the source's pixels; None for that in its metadata.

    Attributes
    ----------
    level, level_stack : int, ImageStack
        The level that is read, 0 is full resolution.

    Raises
    ------
    UnknownPixelSizeError
        If the source's pixel size is not known.
    ArgumentError
        If the wanted pixels are smaller than those of the source, or larger than the image.
    """

    def __init__(
        self,
        stack: ImageStack,
        pixel_size: PixelSize,
        *,
        nearest: bool = False,
        source_pixel_size: PixelSize | None = None,
    ) -> None:
        self.stack = stack
        self.source = stack.source
        self.data_dtype = stack.data_dtype
        self.nearest = nearest
        self.source_pixel_size = source_pixel_size or image_metadata(stack).pixel_size
        self._ratio = pixel_ratio(self.source_pixel_size, pixel_size, str(self.source))
        *outer, height, width = stack.data_shape
        made = [floor(n / r) for n, r in zip((height, width), self._ratio, strict=True)]
        if min(made) < 1:
            raise ArgumentError(
                f"{self.source}, {height} x {width} pixels, is smaller than one pixel of "
                f"{pixel_size.y:g} x {pixel_size.x:g} um."
            )
        self.data_shape = [*outer, *made]
        self.original_axes = stack.original_axes
        sizes = dict(zip(stack.original_axes, stack.original_data_shape, strict=True))
        self.original_data_shape = tuple((sizes | dict(zip("YX", made, strict=True))).values())
        self._pixel_size = PixelSize(z=self.source_pixel_size.z, y=pixel_size.y, x=pixel_size.x)
        self.metadata = replace(image_metadata(stack), pixel_size=self._pixel_size)
        self.level, self.level_stack, scale = self._choose_level()
        ratios = [(r / s).limit_denominator(10**6) for r, s in zip(self._ratio, scale, strict=True)]
        dtype = np.dtype(self.data_dtype)
        self._y, self._x = (
            AveragedAxis.for_type(ratio, n, dtype)
            for ratio, n in zip(ratios, self.level_stack.data_shape[-2:], strict=True)
        )

    def __getattr__(self, name: str) -> Any:
        if name in _UNCHANGED:
            return getattr(self.stack, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def levels(self) -> "tuple[ResampledStack, ...]":
        """The stack itself, then lower resolutions, each half as fine."""
        longest, shortest = max(self.data_shape[-2:]), min(self.data_shape[-2:])
        factors = [1]
        while longest > _COARSEST * factors[-1] and shortest >= 2 * factors[-1]:
            factors.append(2 * factors[-1])
        y, x = self._pixel_size.y or 0, self._pixel_size.x or 0
        options: Any = {"nearest": self.nearest, "source_pixel_size": self.source_pixel_size}
        sizes = [PixelSize(y=y * factor, x=x * factor) for factor in factors[1:]]
        return (self, *(ResampledStack(self.stack, size, **options) for size in sizes))

    @property
    def block_shape(self) -> tuple[int, int] | None:
        """Height and width, in made pixels, of the block that the level decodes at once."""
        block = getattr(self.level_stack, "block_shape", None)
        if block is None:
            return None
        height, width = (
            max(1, int(n / axis.ratio)) for n, axis in zip(block, (self._y, self._x), strict=True)
        )
        return height, width

    @property
    def covered(self) -> tuple[Rect, ...] | None:
        """The rectangles that tiles cover, their edges rounded to made pixels."""
        covered = getattr(self.stack, "covered", None)
        return None if covered is None else tuple(map(self._made_rect, covered))

    @property
    def partial_planes(self) -> tuple[PartialPlanes, ...]:
        """The planes that lack some of these rectangles."""
        return tuple(
            PartialPlanes(planes=group.planes, covered=tuple(map(self._made_rect, group.covered)))
            for group in getattr(self.stack, "partial_planes", ())
        )

    @property
    def rect(self) -> Rect | None:
        """Position on the stage in made pixels."""
        rect: Rect | None = getattr(self.stack, "rect", None)
        if rect is None:
            return None
        y, x = (floor(n / r) for n, r in zip((rect.y, rect.x), self._ratio, strict=True))
        return Rect(x, y, self.data_shape[-1], self.data_shape[-2])

    def footprint(self, low: Integers, high: Integers) -> tuple[Integers, Integers]:
        """Return the pixels of the level, (..., YX), that made pixels are computed from."""
        ratios = (self._y.ratio, self._x.ratio)
        numerators = np.array([ratio.numerator for ratio in ratios], np.int64)
        denominators = np.array([ratio.denominator for ratio in ratios], np.int64)
        bounds = np.array(self.level_stack.data_shape[-2:], np.int64)
        first = low * numerators // denominators
        end = -(-high * numerators // denominators)
        return np.minimum(first, bounds), np.minimum(end, bounds)

    def derive(self, pixels: NDArray[Any], corner: Sequence[int], window: Rect) -> NDArray[Any]:
        """Compute the made pixels, YX, of a window.

        Parameters
        ----------
        pixels : ndarray, YX
            Pixels of the level, at least the window's `footprint`.
        corner : sequence of int
            Y and X of the first of them.
        window : Rect
            In made pixels.
        """
        rows, columns = (window.y, window.y + window.h), (window.x, window.x + window.w)
        top, left = corner
        if self.nearest:
            y, x = self._y.centres(*rows) - top, self._x.centres(*columns) - left
            return pixels[y[:, np.newaxis], x]
        return area_average(pixels, self._y.taps(*rows, top), self._x.taps(*columns, left))

    def close(self) -> None:
        """Close the source."""
        close = getattr(self.stack, "close", None)
        if close is not None:
            close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        *depth, height, width = out.shape[1:]
        *z, y, x = start
        n_planes = prod(out.shape[:-2])
        rows = max(1, int(_READ_PIXELS / (n_planes * width * self._y.ratio * self._x.ratio)))
        for top in range(0, height, rows):
            window = Rect(x, y + top, width, min(rows, height - top))
            corners = np.array([(window.y, x), (window.y + window.h, x + width)])
            low, high = self.footprint(corners[0], corners[1])
            pixels = self.level_stack.extract_patch(
                sample_idx, channels, (*z, *low.tolist()), (*depth, *(high - low).tolist())
            )
            band = out[..., top : top + window.h, :]
            for plane in np.ndindex(out.shape[:-2]):
                band[plane] = self.derive(pixels[plane], low.tolist(), window)

    def _choose_level(self) -> tuple[int, ImageStack, tuple[Fraction, Fraction]]:
        """Return the coarsest stored level that is not coarser than wanted, and its scale."""
        chosen = 0, self.stack, (Fraction(1), Fraction(1))
        coarser = () if self.nearest else getattr(self.stack, "levels", ())[1:]
        for index, level in enumerate(coarser, 1):
            if getattr(level, "block_shape", None) is None:  # computed, not stored
                continue
            sizes = zip(self.stack.data_shape[-2:], level.data_shape[-2:], strict=True)
            y, x = (_scale(n, reduced) for n, reduced in sizes)
            if y <= self._ratio[0] and x <= self._ratio[1]:
                chosen = index, level, (y, x)
        return chosen

    def _made_rect(self, rect: Rect) -> Rect:
        (top, bottom), (left, right) = (
            (floor(start / r + Fraction(1, 2)), floor((start + n) / r + Fraction(1, 2)))
            for start, n, r in zip((rect.y, rect.x), (rect.h, rect.w), self._ratio, strict=True)
        )
        return Rect(left, top, right - left, bottom - top)


def _scale(n: int, reduced: int) -> Fraction:
    """Return how many pixels of the full resolution are one of a level, of `reduced` pixels."""
    factor = round(n / reduced)
    is_whole = reduced in (n // factor, -(-n // factor))
    return Fraction(factor) if is_whole else Fraction(n, reduced)


class Taps(NamedTuple):
    """The weighted pixels that are summed along one axis for each made pixel."""

    first: Integers
    """The first pixel of each."""
    weights: Integers
    """Of shape (taps, made): weight of the first, second, ... pixel of each; zero where there are
    fewer."""
    step: int | None
    """The distance between the first pixels if every weight is one."""

    def part(self, start: int, stop: int) -> "Taps":
        """Return the taps of some of the made pixels."""
        return Taps(self.first[start:stop], self.weights[:, start:stop], self.step)

    @property
    def total(self) -> Integers:
        """The sum of the weights of each made pixel."""
        total: Integers = self.weights.sum(axis=0)
        return total


class AveragedAxis(NamedTuple):
    """One axis of an image whose pixels are averaged."""

    ratio: Fraction
    """The length of an interval, a made pixel, in pixels."""
    n: int
    """Number of pixels."""
    unit: int
    """Units of weight in a pixel."""

    @classmethod
    def for_type(cls, ratio: Fraction, n: int, dtype: np.dtype[Any]) -> Self:
        """Return an axis with as many units as sums of pixels of a type can't overflow with."""
        bits = 8 * dtype.itemsize if dtype.kind in "biu" and dtype.itemsize < 8 else 16
        free = (_SUM_BITS - bits) // 2 - ceil(ratio).bit_length()
        largest = 2 ** max(0, min(free, _MAX_UNIT_BITS))
        return cls(ratio, n, min(ratio.denominator, largest))

    def centres(self, start: int, stop: int) -> Integers:
        """Return the pixel at the centre of each made pixel of a range."""
        made = np.arange(start, stop, dtype=np.int64)
        centres = (2 * made + 1) * self.ratio.numerator // (2 * self.ratio.denominator)
        nearest: Integers = np.minimum(centres, self.n - 1)
        return nearest

    def taps(self, start: int, stop: int, first: int) -> Taps:
        """Return the taps of a range of made pixels, counted from the pixel `first`."""
        taps = _taps(self, start, stop)
        return taps._replace(first=taps.first - first)


@lru_cache(maxsize=64)
def _taps(axis: AveragedAxis, start: int, stop: int) -> Taps:
    ratio, n, unit = axis
    made = np.arange(start, stop + 1, dtype=np.int64)
    whole, part = np.divmod(made * ratio.numerator, ratio.denominator)
    edges = whole * unit + (2 * part * unit + ratio.denominator) // (2 * ratio.denominator)
    edges = np.minimum(edges, n * unit)
    first = edges[:-1] // unit
    count = int(((edges[1:] - 1) // unit - first).max()) + 1
    left = first * unit + np.arange(count)[:, np.newaxis] * unit
    weights = np.minimum(edges[1:], left + unit) - np.maximum(edges[:-1], left)
    weights = np.maximum(weights, 0)
    is_whole = ratio.denominator == 1 and bool((weights == 1).all())
    return Taps(first, weights, int(ratio) if is_whole else None)


def area_average(pixels: NDArray[Any], down: Taps, across: Taps) -> NDArray[Any]:
    """Average pixels, YX, over the intervals of two axes; the result is of the same type."""
    if pixels.dtype.kind == "b":
        return area_average(pixels.view(np.uint8), down, across).astype(bool)
    if len(down.first) > _ROWS:  # few at a time stay in the processor's cache
        firsts = range(0, len(down.first), _ROWS)
        bands = [area_average(pixels, down.part(i, i + _ROWS), across) for i in firsts]
        return np.concatenate(bands)
    total = down.total[:, np.newaxis] * across.total
    if pixels.dtype.kind in "iu":
        sums = _sums(pixels, down, across, _sum_type(pixels.dtype, int(total.max())))
        return _divided(sums, total).astype(pixels.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = np.result_type(pixels.dtype, np.float64)
        means = _sums(pixels, down, across, wide) / total
        if wide == pixels.dtype == np.float64:  # its sums are rounded, and a constant stays
            low, high = _extremes(pixels, down, across)
            means = np.clip(means, low, high)
        averaged: NDArray[Any] = means.astype(pixels.dtype)
        return averaged


def _sum_type(dtype: np.dtype[Any], total: int) -> np.dtype[Any]:
    """Return the smallest type that holds the double of every sum; Python's integers are last."""
    bits = 8 * dtype.itemsize + total.bit_length() + 1
    if dtype.itemsize == 8:
        return np.dtype(object)
    return np.dtype(np.int32 if bits < 32 else np.int64)


def _sums(pixels: NDArray[Any], down: Taps, across: Taps, dtype: np.dtype[Any]) -> NDArray[Any]:
    rows = np.zeros((len(down.first), pixels.shape[1]), dtype)
    for made, index, weight in _terms(down):
        few = pixels[index].astype(dtype)
        rows[made] += few if weight is None else few * weight[:, np.newaxis]
    sums = np.zeros((len(rows), len(across.first)), dtype)
    for made, index, weight in _terms(across):
        sums[:, made] += rows[:, index] if weight is None else rows[:, index] * weight
    return sums


def _extremes(pixels: NDArray[Any], down: Taps, across: Taps) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the largest pixel that each made pixel averages."""
    extremes = []
    for extreme, start in ((np.fmin, np.inf), (np.fmax, -np.inf)):
        rows = np.full((len(down.first), pixels.shape[1]), start)
        for made, index, _ in _terms(down):
            rows[made] = extreme(rows[made], pixels[index])
        ends = np.full((len(rows), len(across.first)), start)
        for made, index, _ in _terms(across):
            ends[:, made] = extreme(ends[:, made], rows[:, index])
        extremes.append(ends)
    return extremes[0], extremes[1]


def _terms(taps: Taps) -> Iterator[tuple[slice | Integers, slice | Integers, Integers | None]]:
    """Yield the made pixels that have a first, second, ... tap, its pixels, and its weights."""
    n = len(taps.first)
    for tap, weights in enumerate(taps.weights):
        if taps.step is not None:
            first = int(taps.first[0]) + tap
            yield slice(None), slice(first, first + (n - 1) * taps.step + 1, taps.step), None
            continue
        has = np.flatnonzero(weights)
        if len(has) == n:
            yield slice(None), taps.first + tap, weights
        else:
            yield has, taps.first[has] + tap, weights[has]


def _divided(sums: NDArray[Any], total: Integers) -> NDArray[Any]:
    """Divide sums, rounding half up."""
    first = int(total.flat[0])
    if (total == first).all():
        if first & (first - 1) == 0 and sums.dtype != object:
            shift = first.bit_length() - 1
            return sums if first == 1 else (sums + first // 2) >> shift
        total = np.asarray(first)
    half_up: NDArray[Any] = (2 * sums + total) // (2 * total)
    return half_up
