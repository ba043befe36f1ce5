"""Images of resampled sets at the size of their sources: nearest or linear interpolation.

A box of the source's pixels is interpolated from the box of made pixels around it, so that an image
may be larger than memory. Made pixel j is the mean of the source's interval [j r, (j + 1) r) (see
`stacks.resampled`), so that the centre of source pixel i lies at (i + 1/2) / r - 1/2, counted from
the centre of made pixel 0.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset._model import Frozen
from napari_patchset.source import Ratio, Rect
from napari_patchset.stitching.blending import Box

Interpolation = Literal["nearest", "linear"]


class FullSize(Frozen):
    """The size of a source that was resampled, and its place on the stage.

    Attributes
    ----------
    shape : pair of int
        Height and width, in the source's pixels.
    rect : Rect or None
        Position on the stage in the source's pixels, None if unknown.
    """

    shape: tuple[int, int]
    rect: Rect | None


class _Axis(NamedTuple):
    """Where pixels of the source lie between made pixels, along one axis."""

    nearest: NDArray[np.int64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    weight: NDArray[np.float64]
    """Of the upper one; the rest is the lower one's."""


def made_box(box: Box, ratio: Ratio, made_shape: Sequence[int]) -> Box:
    """Return the box of made pixels from which a box of the source's is interpolated.

    Parameters
    ----------
    box : Box
        Along (Z)YX; Z is not resampled.
    ratio : pair of Fraction
        Along Y and X, the length of a made pixel in pixels of the source.
    made_shape : sequence of int
        Size of the made image along (Z)YX.
    """
    axes = _axes(box, ratio, made_shape)
    start = (*box.start[:-2], *(int(axis.lower[0]) for axis in axes))
    return Box(start, (*box.stop[:-2], *(int(axis.upper[-1]) + 1 for axis in axes)))


def interpolate(
    made: NDArray[Any],
    is_covered: NDArray[np.bool_],
    origin: Box,
    box: Box,
    ratio: Ratio,
    made_shape: Sequence[int],
    kind: Interpolation,
    out: NDArray[Any],
) -> NDArray[np.bool_]:
    """Fill a box of the source's pixels.

    Parameters
    ----------
    made : ndarray
        Made pixels C, (Z), Y, X of the box `origin`, which is `made_box` of the other one.
    is_covered : ndarray of bool
        Which of them a patch covers, (Z), Y, X. No other one counts.
    box, ratio, made_shape
        As of `made_box`.
    kind : {"nearest", "linear"}
        Linear is in double precision, and in one order, so that the bytes are the same everywhere.
    out : ndarray
        C, (Z), Y, X; pixels that are not covered stay as they are.

    Returns
    -------
    ndarray of bool
        (Z), Y, X: the pixels whose nearest made pixel a patch covers.
    """
    rows, columns = (
        _Axis(axis.nearest - first, axis.lower - first, axis.upper - first, axis.weight)
        for axis, first in zip(_axes(box, ratio, made_shape), origin.start[-2:], strict=True)
    )
    covered: NDArray[np.bool_] = is_covered[..., rows.nearest[:, np.newaxis], columns.nearest]
    if kind == "nearest":
        values = made[..., rows.nearest[:, np.newaxis], columns.nearest]
    else:
        values = _interpolate_linearly(np.where(is_covered, made, 0), rows, columns)
        if not is_covered.all():
            share = _interpolate_linearly(is_covered, rows, columns)
            np.divide(values, share, out=values, where=covered)
    np.copyto(out, values, where=covered, casting="same_kind")
    return covered


def _interpolate_linearly(values: NDArray[Any], rows: _Axis, columns: _Axis) -> NDArray[np.float64]:
    weight = rows.weight[:, np.newaxis]
    between_rows = values[..., rows.lower, :] * (1 - weight) + values[..., rows.upper, :] * weight
    weight = columns.weight
    interpolated: NDArray[np.float64] = between_rows[..., columns.lower] * (1 - weight)
    interpolated += between_rows[..., columns.upper] * weight
    return interpolated


def _axes(box: Box, ratio: Ratio, made_shape: Sequence[int]) -> tuple[_Axis, _Axis]:
    y, x = (
        _axis(*each)
        for each in zip(box.start[-2:], box.stop[-2:], ratio, made_shape[-2:], strict=True)
    )
    return y, x


def _axis(first: int, last: int, ratio: Fraction, n: int) -> _Axis:
    """Place source pixels first ... last - 1 between `n` made ones, in whole numbers."""
    twice = 2 * ratio.numerator
    middle = (2 * np.arange(first, last, dtype=np.int64) + 1) * ratio.denominator
    lower, rest = np.divmod(middle - ratio.numerator, twice)
    nearest = (middle // twice).clip(0, n - 1)
    return _Axis(nearest, lower.clip(0, n - 1), (lower + 1).clip(0, n - 1), rest / twice)
