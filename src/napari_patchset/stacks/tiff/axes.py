"""A TIFF's axes and its planes in the stack's order."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis

_UNKNOWN = "IQ"
"""What tifffile calls a dimension of which it knows only the size."""
_SPARE = "SQPUGWDJKNO"


class PlaneAxes:
    """The axes of an image, and a number for each of its planes in the order of the file.

    Parameters
    ----------
    axes, shape : str, tuple of int
        As tifffile has them; "S" are the samples of a pixel, "I" and "Q" unknown dimensions.

    Attributes
    ----------
    axes, shape : str, tuple of int
        Each letter once; samples are channels (next to channels, they multiply: all samples of
        the first channel, then of the second), an unknown dimension is S.
    planes : ndarray of int64
        The number of each plane, along `axes`, with Y and X of size 1.
    """

    def __init__(self, axes: str, shape: tuple[int, ...]) -> None:
        kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
        sizes = [1 if axis in "YX" else size for axis, size in kept]
        planes: NDArray[np.int64] = np.arange(prod(sizes), dtype=np.int64).reshape(sizes)
        letters, self.planes = _samples_to_channels([axis for axis, _ in kept], planes)
        self.axes = _unique(letters)
        plane_size = {axis: size for axis, size in kept if axis in "YX"}
        self.shape = tuple(
            plane_size.get(axis, size)
            for axis, size in zip(self.axes, self.planes.shape, strict=True)
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    def at_size(self, height: int, width: int) -> tuple[str, tuple[int, ...]]:
        """Give axes and shape with planes of another size."""
        sizes = {**self.sizes, "Y": height, "X": width}
        return self.axes, tuple(sizes.values())

    def in_stack_order(self, depth_axis: DepthAxis) -> NDArray[np.int64]:
        """Give the number of each plane along S, C and, if there is one, the depth axis."""
        layout = AxisLayout(self.axes, self.planes.shape, depth_axis)
        return layout.to_stack(self.planes)[..., 0, 0]


def _samples_to_channels(
    letters: list[str], planes: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    if "S" not in letters:
        return letters, planes
    samples = letters.index("S")
    if "C" not in letters:
        return ["C" if axis == "S" else axis for axis in letters], planes
    letters = [axis for axis in letters if axis != "S"]
    channels = letters.index("C")
    moved: NDArray[Any] = np.moveaxis(planes, samples, channels + 1)
    shape = list(moved.shape)
    shape[channels : channels + 2] = [shape[channels] * shape[channels + 1]]
    return letters, moved.reshape(shape)


def _unique(letters: list[str]) -> str:
    """Name unknown and repeated dimensions by letters that are free."""
    unique: list[str] = []
    for axis in letters:
        if axis in _UNKNOWN or axis in unique:
            axis = next(spare for spare in _SPARE if spare not in unique + letters)
        unique.append(axis)
    return "".join(unique)
