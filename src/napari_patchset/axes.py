"""AxisLayout: the mapping of an image's own axes to the stack order SC(Z)YX."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, MissingAxisError, SampleIndexError

DepthAxis = Literal["none", "Z", "T"]
DEPTH_AXES: tuple[DepthAxis, ...] = get_args(DepthAxis)

_SAMPLE_ORDER = "STZRIHVB"
"""The order in which S merges axes, whatever their order in a file."""


def check_depth_axis(sizes: Mapping[str, int], depth_axis: DepthAxis, name: str) -> None:
    """Require that the image called `name` has the depth axis, with a size of at least 2."""
    if depth_axis not in DEPTH_AXES:
        raise ArgumentError(f"depth_axis is {depth_axis!r}; it must be one of {DEPTH_AXES}.")
    if depth_axis != "none" and sizes.get(depth_axis, 1) < 2:
        has = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise MissingAxisError(
            f"{name} does not contain a {depth_axis} axis to use as depth axis (it has {has}). "
            "Choose another one, or 'none' for 2-D patches."
        )


def check_axes_override(axes: str, found: str, shape: tuple[int, ...], name: str) -> str:
    """Return the user's axes, in capitals, if they fit the image called `name`.

    `found` are the axes that the file states, `shape` is the size along each.
    """
    axes = axes.strip().upper()
    try:
        AxisLayout(axes, shape)
    except ArgumentError as error:
        sizes = " ".join(f"{axis}{n}" for axis, n in zip(found, shape, strict=True))
        several = " Planes of several axes need an OME-TIFF, which states their sizes."
        remedy = several if len(axes) > len(shape) else ""
        raise ArgumentError(f"{name}, which is {sizes}: {error}{remedy}") from error
    return axes


@dataclass(frozen=True)
class AxisLayout:
    """Map an image's own axes to the stack order SC(Z)YX.

    S merges every axis that is neither C, the depth axis, Y nor X, always in the order S, T, Z, R,
    I, H, V, B and then others as the image has them: the same image gives the same samples however
    it was saved. A sample index is unravelled over them in C order.

    Parameters
    ----------
    axes : str
        The image's axes, one capital letter each, including Y and X, e.g. "TZCYX".
    shape : tuple of int
        The size along each axis.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third spatial axis.

    Raises
    ------
    ArgumentError
        If axes and shape differ in length, an axis occurs twice, or Y or X is missing.
    """

    axes: str
    shape: tuple[int, ...]
    depth_axis: DepthAxis = "none"

    def __post_init__(self) -> None:
        repeated = [axis for axis, count in Counter(self.axes).items() if count > 1]
        if repeated or not {"Y", "X"} <= set(self.axes):
            raise ArgumentError(f"Axes {self.axes!r} must contain Y and X, and each letter once.")
        if len(self.axes) != len(self.shape):
            raise ArgumentError(
                f"Axes {self.axes!r} name {len(self.axes)} dimensions, "
                f"but the data has {len(self.shape)}: {self.shape}."
            )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size along each axis, in the image's own order."""
        return dict(zip(self.axes, self.shape, strict=True))

    @cached_property
    def spatial_axes(self) -> str:
        """The axes of a patch after C: "YX", "ZYX" or "TYX"."""
        return "YX" if self.depth_axis == "none" else f"{self.depth_axis}YX"

    @cached_property
    def sample_axes(self) -> str:
        """The axes merged into S, in the order of S."""
        merged = [axis for axis in self.axes if axis not in f"C{self.spatial_axes}"]
        rank = {axis: i for i, axis in enumerate(_SAMPLE_ORDER)}
        return "".join(sorted(merged, key=lambda axis: rank.get(axis, len(rank))))

    @cached_property
    def sample_shape(self) -> tuple[int, ...]:
        """Size along each of `sample_axes`."""
        return tuple(self.sizes[axis] for axis in self.sample_axes)

    @cached_property
    def stack_axes(self) -> str:
        """The axes of the stack: "SCYX", "SCZYX" or "SCTYX"."""
        return f"SC{self.spatial_axes}"

    @cached_property
    def stack_shape(self) -> tuple[int, ...]:
        """Shape in the order of `stack_axes`; an axis that the image lacks has size 1."""
        sizes = self.sizes
        spatial = (sizes.get(axis, 1) for axis in self.spatial_axes)
        return (prod(self.sample_shape), sizes.get("C", 1), *spatial)

    def unravel(self, sample_idx: int) -> dict[str, int]:
        """Return a sample's index, counted from 0, along each of `sample_axes`."""
        count = prod(self.sample_shape)
        if not 0 <= sample_idx < count:
            raise SampleIndexError(
                f"Sample index {sample_idx} is out of bounds for data with {count} samples."
            )
        indices = np.unravel_index(sample_idx, self.sample_shape) if self.sample_axes else ()
        return {axis: int(i) for axis, i in zip(self.sample_axes, indices, strict=True)}

    def ravel(self, indices: Mapping[str, int]) -> int:
        """Return the sample at the indices along `sample_axes`; 0 along an axis not listed."""
        if not self.sample_axes:
            return 0
        index = [indices.get(axis, 0) for axis in self.sample_axes]
        return int(np.ravel_multi_index(index, self.sample_shape))

    def to_stack(self, data: NDArray[Any]) -> NDArray[Any]:
        """View an array with `axes` as SC(Z)YX, copied only if its memory order requires it."""
        others = [axis for axis in f"C{self.spatial_axes}" if axis in self.axes]
        order = [self.axes.index(axis) for axis in (*self.sample_axes, *others)]
        return data.transpose(order).reshape(self.stack_shape)
