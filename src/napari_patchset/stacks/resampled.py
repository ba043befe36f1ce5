"""ResampledStack: an image at a larger pixel size, computed while it is read.

Made pixel j averages the interval [j r, (j + 1) r) of the pixels of a level, r being the ratio of
the two pixel sizes (see `area_average`); label images take the pixel at its centre instead. The
level is the coarsest stored one that is not coarser than the wanted size.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.source import PartialPlanes, PixelSize, Rect, pixel_ratio
from napari_patchset.stacks.area_average import AveragedAxis, Integers, area_average
from napari_patchset.stacks.metadata import image_metadata
from napari_patchset.stacks.protocol import BoundedStack, ImageStack

_READ_PIXELS = 2**23
"""Pixels of the source that are read at once, as far as a row of made pixels allows."""

_COARSEST = 512
"""Lower resolutions stop at this number of pixels along the longer side."""

_UNCHANGED = frozenset(
    {"scene", "starts", "axes", "files", "file_keys", "fingerprint", "missing_planes", "data_path"}
)
"""Attributes that are those of the source; it may lack any of them."""


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
