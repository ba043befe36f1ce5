"""ZarrImageStack: one zarr array as a stack."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis, require_depth_axis
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.metadata import Channel, ImageMetadata
from napari_patchset.stacks.protocol import Block, FileStack
from napari_patchset.stacks.zarr.chunks import ZarrPixels
from napari_patchset.stacks.zarr.store import label, reason, uri
from napari_patchset.stacks.zarr.validation import array_fingerprint, check_array, check_channels


class ZarrImageStack(FileStack):
    """Cut patches out of a zarr array.

    Parameters
    ----------
    group : zarr.Group
        The group that holds the array.
    data_path : str
        Path of the array in the group.
    axes : str
        The array's axes, one capital letter each, e.g. "TCZYX".
    depth_axis : {"none", "Z", "T"} or None
        The axis that becomes the third one of a patch; None for Z if `axes` has it.

    Attributes
    ----------
    data_path, scene : str, str or None
        Path of the array; the file's own id of the image where it has several.
    source : str
        URI of the array, such as "file:///data/image.zarr/0".
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    data_shape : tuple of int
        Size along `axes`.
    data_dtype : dtype
        Type of a pixel, in the machine's byte order.
    chunks, shards : tuple of int, tuple of int or None
        Size of a chunk and of a shard along each axis of the array.
    block_shape : tuple of int
        Height and width of what is decoded at once.
    metadata : ImageMetadata
        Pixel size, and the channels' names, colours and contrast limits.
    translation : dict of str to float
        Where the image begins along Z, Y and X in micrometres, as far as the file says it.

    Raises
    ------
    TypeError
        If `group` is no group, or there is no array at `data_path`.
    ValueError
        If there is nothing at `data_path`, or the axes do not fit.
    RuntimeError
        If the array does not contain the depth axis.
    UnreadableFileError
        If its pixels can't be decoded.
    """

    def __init__(
        self,
        group: zarr.Group,
        data_path: str,
        axes: str,
        *,
        depth_axis: DepthAxis | None = None,
    ) -> None:
        self._set_up(_member(group, data_path), data_path, axes, depth_axis)

    @classmethod
    def from_array(
        cls,
        array: zarr.Array[Any],
        axes: str,
        depth_axis: DepthAxis | None = None,
        *,
        scene: SceneId | None = None,
        metadata: ImageMetadata | None = None,
        translation: dict[str, float] | None = None,
        coarser: Sequence["ZarrImageStack"] = (),
    ) -> Self:
        """Build a stack from an open array, with what is known of it and its lower resolutions.

        One that has other samples (Z halved, merged into S) would show another plane, and is left
        out.
        """
        stack = cls.__new__(cls)
        stack._set_up(array, array.path, axes, depth_axis)
        stack.scene = scene
        stack.metadata = metadata or stack.metadata
        stack.translation = dict(translation or {})
        stack._coarser = tuple(s for s in coarser if s.data_shape[:2] == stack.data_shape[:2])
        return stack

    def _set_up(
        self, array: zarr.Array[Any], path: str, axes: str, depth_axis: DepthAxis | None
    ) -> None:
        self.data_path = path
        self.source, name = uri(array.store_path), label(array.store_path)
        check_array(array, name)
        self._layout = _layout(axes, array.shape, depth_axis, name)
        check_channels(self._layout.stack_shape[1], name)
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        plane = (axes.index("Y"), axes.index("X"))
        self._pixels = ZarrPixels(array, name, plane)
        self.data_dtype = self._pixels.dtype
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.shards = None if array.shards is None else tuple(array.shards)
        self.block_shape = (self._pixels.block[plane[0]], self._pixels.block[plane[1]])
        self.scene: SceneId | None = None
        names = (f"Channel {i}" for i in range(self.data_shape[1]))
        self.metadata = ImageMetadata(tuple(map(Channel, names)))
        self.translation: dict[str, float] = {}
        self._coarser: tuple[ZarrImageStack, ...] = ()

    @property
    def levels(self) -> "tuple[ZarrImageStack, ...]":
        """The stack itself, then its lower resolutions."""
        return (self, *self._coarser)

    @property
    def tiles_decoded(self) -> int:
        """How many blocks this stack has decoded so far."""
        return self._pixels.cache.decoded

    def fingerprint(self) -> str | None:
        """Identify the content, wherever it lies; None for an array that is not on a disk."""
        folder = self._pixels.folder
        return array_fingerprint(self._pixels.array, folder) if folder else None

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Give the chunks of a plane that meet a window; see `BlockStack`."""
        axes, shape = self._layout.axes, self._layout.shape
        place = {**self._layout.unravel(sample_idx), "C": channel, self._layout.depth_axis: depth}
        place |= {"Y": window.y, "X": window.x}
        extent = {"Y": window.h, "X": window.w}
        start = [place[axis] for axis in axes]
        stop = [place[axis] + extent.get(axis, 1) for axis in axes]
        for index, decode in self._pixels.blocks(start, stop):
            low = [i * size for i, size in zip(index, self._pixels.block, strict=True)]
            high = [min(a + b, n) for a, b, n in zip(low, self._pixels.block, shape, strict=True)]
            held = {axis: range(a, b) for axis, a, b in zip(axes, low, high, strict=True)}
            rect = Rect(held["X"][0], held["Y"][0], len(held["X"]), len(held["Y"]))
            at = tuple(
                slice(None) if axis in "YX" else place[axis] - held[axis][0] for axis in axes
            )
            yield Block(
                index, rect, self._samples(held), held.get(self._layout.depth_axis, range(1)),
                (axes.index("Y"), axes.index("X")), decode,
                partial(_plane, at=at, rect=rect, transposed=axes.index("X") < axes.index("Y")),
            )  # fmt: skip

    def _samples(self, held: dict[str, range]) -> tuple[int, ...]:
        """Give every sample that a block holds a part of."""
        spans = product(*(held[axis] for axis in self._layout.sample_axes))
        merged = (dict(zip(self._layout.sample_axes, indices, strict=True)) for indices in spans)
        return tuple(map(self._layout.ravel, merged))

    def close(self) -> None:  # noqa: D102, said on BoundedStack
        for stack in self._coarser:
            stack.close()
        self._pixels.close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        spatial, axes = self._layout.spatial_axes, self._layout.axes
        corner = {**self._layout.unravel(sample_idx), **dict(zip(spatial, start, strict=True))}
        order = [spatial.index(axis) for axis in axes if axis in spatial]
        others = tuple(slice(None) if axis in spatial else np.newaxis for axis in axes)
        for channel, target in zip(channels, out, strict=True):
            corner["C"] = channel
            # The target as the array's own axes see it, so that no block is transposed or copied.
            self._pixels.read([corner[a] for a in axes], target.transpose(order)[others])


def _plane(
    block: NDArray[Any], at: tuple[slice | int, ...], rect: Rect, transposed: bool
) -> NDArray[Any]:
    """Cut one plane YX out of a decoded block; one value stands for all of a large absent one."""
    if not block.ndim:
        return np.broadcast_to(block, (rect.h, rect.w))
    return block[at].T if transposed else block[at]


def _member(group: zarr.Group, path: str) -> zarr.Array[Any]:
    if not isinstance(group, zarr.Group):
        raise TypeError(f"group must be a zarr.Group instance, got {type(group)}.")
    try:
        found = group[path]
    except KeyError as error:
        raise ArgumentError(
            f"Did not find array at '{path}' in store '{label(group.store_path)}'."
        ) from error
    except Exception as error:  # zarr has no one error for metadata that it can't read
        raise UnreadableFileError(f"{label(group.store_path)}/{path}: {reason(error)}.") from error
    if not isinstance(found, zarr.Array):
        raise TypeError(f"data at path '{path}' must be a zarr.Array instance, got {type(found)}.")
    return found


def _layout(
    axes: str, shape: tuple[int, ...], depth_axis: DepthAxis | None, name: str
) -> AxisLayout:
    if depth_axis is None:
        return AxisLayout(axes, shape, "Z" if "Z" in axes else "none")
    layout = AxisLayout(axes, shape, depth_axis)
    require_depth_axis(layout.sizes, depth_axis, name)
    return layout
