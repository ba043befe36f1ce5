"""ZarrImageStack: one zarr array as a stack; and opening an image of a store as such stacks."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ZipStore

from napari_patchset.axes import AxisLayout, DepthAxis, check_axes_override, check_depth_axis
from napari_patchset.errors import ArgumentError, MissingAxisError, UnreadableFileError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.fingerprint import file_key, text_key
from napari_patchset.stacks.metadata import (
    MAX_LISTED,
    ImageMetadata,
    SceneSummary,
    default_channels,
    only_scene,
)
from napari_patchset.stacks.protocol import Block, FileStack
from napari_patchset.stacks.zarr.chunks import ChunkReader
from napari_patchset.stacks.zarr.ome import (
    label_values,
    multiscale_metadata,
    multiscale_translation,
)
from napari_patchset.stacks.zarr.scenes import (
    ZarrImage,
    ZarrLevel,
    find_image,
    open_root,
    scene_summaries,
)
from napari_patchset.stacks.zarr.store import Root, node_name, node_uri, zarr_reason
from napari_patchset.stacks.zarr.validation import check_array, check_channels, check_chunks


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
        Path of the array; the file's own id of the image where it has several. For what every stack
        has see `FileStack`.
    chunks, shards : tuple of int, tuple of int or None
        Size of a chunk and of a shard along each axis of the array.
    are_axes_guessed : bool
        Whether neither the file nor the caller states the axes.
    translation : dict of str to float
        Position of the first pixel along Z, Y and X in micrometres, where the file has it.

    Raises
    ------
    TypeError
        If `group` is not a group, or there is no array at `data_path`.
    ValueError
        If there is nothing at `data_path`, or the axes do not fit the array.
    RuntimeError
        If the array does not contain the depth axis.
    UnreadableFileError
        If its pixels can't be decoded.
    """

    def __init__(
        self, group: zarr.Group, data_path: str, axes: str, *, depth_axis: DepthAxis | None = None
    ) -> None:
        self._set_up(_array_in(group, data_path), data_path, axes, depth_axis)

    @classmethod
    def from_array(
        cls, array: zarr.Array[Any], axes: str, depth_axis: DepthAxis | None = None
    ) -> Self:
        """Build a stack from an open array."""
        stack = cls.__new__(cls)
        stack._set_up(array, array.path, axes, depth_axis)
        return stack

    def _set_up(
        self, array: zarr.Array[Any], path: str, axes: str, depth_axis: DepthAxis | None
    ) -> None:
        self.data_path = path
        self.source, name = node_uri(array.store_path), node_name(array.store_path)
        check_array(array, name)
        default: DepthAxis = "Z" if "Z" in axes else "none"
        self._layout = AxisLayout(axes, array.shape, depth_axis or default)
        if depth_axis is not None:
            check_depth_axis(self._layout.sizes, depth_axis, name)
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        check_channels(self.data_shape[1], name)
        plane_axes = (axes.index("Y"), axes.index("X"))
        self._chunks = ChunkReader(array, name, plane_axes)
        self.data_dtype = self._chunks.dtype
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.shards = None if array.shards is None else tuple(array.shards)
        height, width = (self._chunks.block_shape[axis] for axis in plane_axes)
        self.block_shape = (height, width)
        self.scene: SceneId | None = None
        self.are_axes_guessed = False
        self.metadata = ImageMetadata(default_channels(self.data_shape[1]))
        self.translation: dict[str, float] = {}
        self.coarser: list[ZarrImageStack] = []
        self._zip = array.store if isinstance(array.store, ZipStore) else None

    @property
    def levels(self) -> "tuple[ZarrImageStack, ...]":
        """The stack itself, then its lower resolutions."""
        return (self, *self.coarser)

    def fingerprint(self) -> str | None:
        """Return the key of the content, None if it is not on a disk."""
        if self._zip is not None:
            return text_key([file_key(Path(self._zip.path)), self.data_path])
        return self._chunks.fingerprint()

    @property
    def n_absent(self) -> int:
        """The number of chunks that were read and that the server does not have."""
        return self._chunks.n_absent

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Yield the blocks of a plane that meet a window; see `BlockStack`."""
        axes = self._layout.axes
        plane = {**self._layout.unravel(sample_idx), "C": channel, self._layout.depth_axis: depth}
        corner = {**plane, "Y": window.y, "X": window.x}
        size = {"Y": window.h, "X": window.w}
        start = [corner[axis] for axis in axes]
        stop = [corner[axis] + size.get(axis, 1) for axis in axes]
        for index, span, decode in self._chunks.blocks(start, stop):
            covered = dict(zip(axes, span, strict=True))
            y, x = covered["Y"], covered["X"]
            rect = Rect(x.start, y.start, len(x), len(y))
            inside = tuple(
                slice(None) if axis in "YX" else plane[axis] - covered[axis].start for axis in axes
            )
            yield Block(
                key=index,
                rect=rect,
                samples=self._samples(covered),
                depths=covered.get(self._layout.depth_axis, range(1)),
                yx=(axes.index("Y"), axes.index("X")),
                decode=decode,
                plane=partial(
                    _plane_of_block,
                    index=inside,
                    rect=rect,
                    transposed=axes.index("X") < axes.index("Y"),
                ),
            )

    def _samples(self, covered: dict[str, range]) -> tuple[int, ...]:
        """Return every sample that a block covers in part."""
        axes = self._layout.sample_axes
        indices = product(*(covered[axis] for axis in axes))
        return tuple(self._layout.ravel(dict(zip(axes, index, strict=True))) for index in indices)

    def close(self) -> None:  # noqa: D102, documented on BoundedStack
        for stack in self.coarser:
            stack.close()
        self._chunks.close()
        if self._zip is not None:
            self._zip.close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        spatial, axes = self._layout.spatial_axes, self._layout.axes
        corner = {**self._layout.unravel(sample_idx), **dict(zip(spatial, start, strict=True))}
        order = [spatial.index(axis) for axis in axes if axis in spatial]
        others = tuple(slice(None) if axis in spatial else np.newaxis for axis in axes)
        for channel, target in zip(channels, out, strict=True):
            corner["C"] = channel
            # The target is viewed in the array's axes, so that no block is transposed or copied.
            self._chunks.read([corner[a] for a in axes], target.transpose(order)[others])


def _plane_of_block(
    block: NDArray[Any], index: tuple[slice | int, ...], rect: Rect, transposed: bool
) -> NDArray[Any]:
    """Cut one plane YX out of a decoded block; a large absent one is a single value."""
    if not block.ndim:
        return np.broadcast_to(block, (rect.h, rect.w))
    return block[index].T if transposed else block[index]


def _array_in(group: zarr.Group, path: str) -> zarr.Array[Any]:
    if not isinstance(group, zarr.Group):
        raise TypeError(f"group must be a zarr.Group instance, got {type(group)}.")
    name = node_name(group.store_path)
    try:
        node = group[path]
    except KeyError as error:
        raise ArgumentError(f"Did not find array at '{path}' in store '{name}'.") from error
    except (UnreadableFileError, MemoryError):
        raise
    except Exception as error:  # zarr has no one error for metadata that it can't read
        raise UnreadableFileError(f"{name}/{path}: {zarr_reason(error)}.") from error
    if not isinstance(node, zarr.Array):
        raise TypeError(f"data at path '{path}' must be a zarr.Array instance, got {type(node)}.")
    return node


def open_zarr(
    path: Path | str,
    scene: SceneId | None = None,
    depth_axis: DepthAxis = "none",
    axes: str | None = None,
) -> ZarrImageStack:
    """Open one image of a store as a stack, with its lower resolutions as `levels`.

    `scene` is the path of an image or label image below `path`, such as "A/1/0". Metadata that is
    older or invalid is a warning if the pixels can be read.
    """
    root, base = open_root(path)
    if scene is None:
        scene = only_scene(root.full_name(base), scene_summaries(root, base)[0])
    image_path = base if scene is None else root.join(base, str(scene))
    image = find_image(root, image_path)
    if image is None:
        existing = _listed(scene_summaries(root, base)[0])
        raise ArgumentError(f"{path}: there is no scene {scene!r}; {existing}.")
    if axes is not None:
        shape = image.levels[0].array.shape
        axes = check_axes_override(axes, image.axes, shape, root.full_name(image_path))
        image = replace(image, axes=axes)
    elif problems := image.problems:
        warnings.warn(f"{root.full_name(image_path)}: {problems}.", UserWarning, stacklevel=2)
    stack = _open_level(root, image, image.levels[0], depth_axis)
    stack.scene = scene
    stack.are_axes_guessed = image.are_axes_guessed and axes is None
    for level in image.levels[1:]:
        try:
            coarser = _open_level(root, image, level, depth_axis)
        except MissingAxisError:  # the depth axis was reduced to one plane
            continue
        except UnreadableFileError as error:
            warnings.warn(f"a lower resolution is ignored: {error}", UserWarning, stacklevel=2)
            continue
        # One of other samples would show another plane, as where Z is reduced and merged into S.
        if coarser.data_shape[:2] == stack.data_shape[:2]:
            stack.coarser.append(coarser)
    return stack


def _listed(scenes: Sequence[SceneSummary]) -> str:
    """Return which scenes a store has, for an error."""
    if scenes[0].id is None:
        return "it is a single image"
    listed = ", ".join(str(each.id) for each in scenes[:MAX_LISTED])
    return f"there are {listed}{', ...' if len(scenes) > MAX_LISTED else ''}"


def _open_level(
    root: Root, image: ZarrImage, level: ZarrLevel, depth_axis: DepthAxis
) -> ZarrImageStack:
    multiscale, axes, (declared, dataset) = image.multiscale, image.axes, level
    path, name = declared.path, root.full_name(declared.path)
    n_channels = dict(zip(axes, declared.shape, strict=True)).get("C", 1)
    check_channels(n_channels, name)
    folder = root.folder(path)  # refuses a link out of the store, which zarr would follow
    try:
        array = zarr.open_array(
            root.store(), path=root.store_path(path), mode="r", zarr_format=declared.zarr_format
        )
    except (UnreadableFileError, MemoryError):
        raise
    except Exception as error:  # zarr has no one error for metadata that it can't read
        raise UnreadableFileError(
            f"{name}: zarr can't open this array: {zarr_reason(error)}."
        ) from error
    stack = ZarrImageStack.from_array(array, axes, depth_axis)
    metadata = multiscale_metadata(multiscale, dataset, axes, n_channels)
    stack.metadata = replace(metadata, labels=label_values(image.node))
    if multiscale is not None:
        stack.translation = multiscale_translation(multiscale, dataset, axes)
    if folder is not None:
        check_chunks(array, folder, name)
    return stack
