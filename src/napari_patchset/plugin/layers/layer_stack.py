"""Any image or labels layer as a stack, whichever plugin opened it.

What has no path gets one: a stack's pixels as an OME-Zarr, named by their digest.

A path that stands for a layer, so that a plan can name one.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np
import zarr
from napari.layers import Image, Labels
from numpy.typing import NDArray
from zarr.storage import LocalStore, MemoryStore

from napari_patchset.axes import AxisLayout, DepthAxis, require_depth_axis
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import Channel, ImageMetadata, image_metadata
from napari_patchset.stacks.protocol import FileStack, ImageStack
from napari_patchset.stacks.zarr.chunks import chunk_ends, fingerprint_array

_LARGEST_CHUNK = 2048
_ARRAY = "0"


def spool(
    stack: ImageStack, folder: Path, check_cancelled: Callable[[], None] = lambda: None
) -> Path:
    """Write a stack, whole, into a folder and give the path, which `open_stack` opens.

    The name holds a digest of every pixel: the same content is written once, and a changed one
    gets another name.

    Parameters
    ----------
    stack : ImageStack
        SCYX, without a depth axis.
    folder : Path
        Where to write; made if it is not there.
    proceed : callable
        Asked before each read; what it raises ends the writing.
    """
    temporary = folder / f".{uuid4().hex}.zarr"
    try:
        digest = _write(stack, LocalStore(temporary), check_cancelled)
        path = folder / f"{_safe(str(stack.source))}-{digest}.zarr"
        if not path.exists():
            temporary.rename(path)
        return path
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def spooled_fingerprint(stack: ImageStack) -> str:
    """Give the fingerprint that the file of a stack would have, reading little of it."""
    array = _create(stack, MemoryStore())
    chunks = array.chunks

    def ends(key: str) -> bytes:
        corner = [int(i) * n for i, n in zip(key.split("/")[1:], chunks, strict=True)]
        return chunk_ends(_block(stack, corner, chunks).tobytes())

    return fingerprint_array(array, ends)


def _write(stack: ImageStack, store: LocalStore, check_cancelled: Callable[[], None]) -> str:
    array = _create(stack, store)
    digest = hashlib.blake2b(
        f"{np.dtype(stack.data_dtype).str}{array.shape}".encode(), digest_size=8
    )
    for corner in _corners(array):
        check_cancelled()
        block = _block(stack, corner, array.chunks)
        digest.update(block.data)
        inside = tuple(slice(c, c + n) for c, n in zip(corner, array.chunks, strict=True))
        kept = tuple(slice(0, n - c) for c, n in zip(corner, array.shape, strict=True))
        array[inside] = block[kept]
    return digest.hexdigest()


def _create(stack: ImageStack, store: Any) -> zarr.Array[Any]:
    axes, shape = stack.original_axes, stack.original_data_shape
    group = zarr.create_group(store, attributes={"ome": _ome(stack)})
    plane = [min(n, _LARGEST_CHUNK) for n in shape[-2:]]
    return group.create_array(
        _ARRAY,
        shape=shape,
        dtype=stack.data_dtype,
        chunks=(*[1] * (len(shape) - 2), *plane),
        compressors=None,
        fill_value=0,
        dimension_names=list(axes.lower()),
        config={"write_empty_chunks": True},
    )


def _corners(array: zarr.Array[Any]) -> Iterator[tuple[int, ...]]:
    return product(*(range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True)))


def _block(stack: ImageStack, corner: Any, chunks: tuple[int, ...]) -> NDArray[Any]:
    """Read a chunk, zero where it reaches past the image."""
    at = dict(zip(stack.original_axes, corner, strict=True))
    sample = AxisLayout(stack.original_axes, tuple(stack.original_data_shape)).ravel(at)
    pixels = stack.extract_patch(sample, [at.get("C", 0)], corner[-2:], chunks[-2:])
    return np.ascontiguousarray(pixels).reshape(chunks)


def _ome(stack: ImageStack) -> dict[str, Any]:
    """Describe axes, pixel size and channels as OME-Zarr 0.5 does."""
    metadata, axes = image_metadata(stack), stack.original_axes.lower()
    size = metadata.pixel_size
    known = {"z": size.z, "y": size.y, "x": size.x, "t": metadata.time_step}
    transform = {"type": "scale", "scale": [known.get(axis) or 1.0 for axis in axes]}
    described = [_axis(axis, known.get(axis) is not None) for axis in axes]
    datasets = [{"path": _ARRAY, "coordinateTransformations": [transform]}]
    channels = [
        {"label": channel.name, "color": (channel.color or "#ffffff")[1:]}
        for channel in metadata.channels
    ]
    multiscale = {"name": str(stack.source), "axes": described, "datasets": datasets}
    return {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}}


def _axis(name: str, has_unit: bool) -> dict[str, str]:
    kind = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}.get(name)
    unit = "second" if name == "t" else "micrometer"
    return {"name": name} | ({"type": kind} if kind else {}) | ({"unit": unit} if has_unit else {})


def _safe(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name) or "layer"


_LEADING = "BVHIRSTZ"
"""What the axes before Y and X are where the layer does not say: counted from the last."""

_RGB = "RGB"


class LayerStack(FileStack):
    """Cut patches out of the data of a layer: in memory, or lazy in whatever way.

    Y and X are the last two axes, before the colours of an RGB layer; the ones before them are
    what the layer's axis labels call them ("t", "z", "c", ...), else Z, T and so on from the
    last. Patches of a lazy array read only what they cover.

    Parameters
    ----------
    layer : Image or Labels
        The layer.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch.
    level : int
        Of a multiscale layer, counted from the finest.

    Raises
    ------
    RuntimeError
        If the layer does not contain the depth axis.
    """

    def __init__(
        self, layer: Image | Labels, depth_axis: DepthAxis = "none", level: int = 0
    ) -> None:
        data = self._data = layer.data[level] if layer.multiscale else layer.data
        self._rgb = bool(getattr(layer, "rgb", False))
        leading = _leading_axes(layer.axis_labels[:-2])
        planes = dict(zip(leading, data.shape, strict=False))
        if self._rgb:
            planes["C"] = len(_RGB)
        height, width = data.shape[len(leading) : len(leading) + 2]
        self._layout = AxisLayout("".join(planes) + "YX", (*planes.values(), height, width))
        if depth_axis != "none":
            require_depth_axis(self._layout.sizes, depth_axis, layer.name)
            self._layout = AxisLayout(self._layout.axes, self._layout.shape, depth_axis)
        self.source = layer.name
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        self.data_dtype = np.dtype(data.dtype)
        self.metadata = _metadata(layer, leading, self.data_shape[1])
        count = len(layer.data) if layer.multiscale and level == 0 else 1
        coarser = [LayerStack(layer, depth_axis, i) for i in range(1, count)]
        self._coarser = [s for s in coarser if s.data_shape[:2] == self.data_shape[:2]]

    @property
    def levels(self) -> "tuple[LayerStack, ...]":
        """The stack itself, then its lower resolutions."""
        return (self, *self._coarser)

    def fingerprint(self) -> str:
        """Identify the content as the fingerprint of the file that `spool` writes does."""
        return spooled_fingerprint(self)

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        at = dict(self._layout.unravel(sample_idx))
        spans = {
            axis: slice(first, first + n)
            for axis, first, n in zip(self._layout.spatial_axes, start, out.shape[1:], strict=True)
        }
        for channel, target in zip(channels, out, strict=True):
            index = {**at, **spans, "C": channel}
            axes = self._layout.axes.replace("C", "") + "C" if self._rgb else self._layout.axes
            target[...] = np.asarray(self._data[tuple(index[axis] for axis in axes)])


def _leading_axes(labels: Sequence[str]) -> str:
    """Name the axes before Y and X by the initials of their labels, else by their position."""
    initials = [label[:1].upper() for label in labels]
    if all(i.isalpha() and i not in "YX" for i in initials) and len({*initials}) == len(labels):
        return "".join(initials)
    return _LEADING[len(_LEADING) - len(labels) :]


def _metadata(layer: Image | Labels, leading: str, n_channels: int) -> ImageMetadata:
    steps = {
        axis: step * unit
        for axis, step, unit in zip(f"{leading}YX", layer.scale, layer.units, strict=True)
    }
    sizes = {axis.lower(): _magnitude(steps[axis], "um") for axis in "ZYX" if axis in steps}
    time_step = _magnitude(steps["T"], "s") if "T" in steps else None
    return ImageMetadata(_channels(layer, n_channels), PixelSize(**sizes), time_step)


def _magnitude(step: Any, unit: str) -> float | None:
    """Convert the extent of a pixel; None where its unit is of another kind, such as "pixel"."""
    return float(step.to(unit).magnitude) if step.is_compatible_with(unit) else None


def _channels(layer: Image | Labels, count: int) -> tuple[Channel, ...]:
    if getattr(layer, "rgb", False):
        return tuple(map(Channel, _RGB))
    if count > 1 or isinstance(layer, Labels):
        return tuple(Channel(f"Channel {i}" if count > 1 else layer.name) for i in range(count))
    red, green, blue = (round(255 * float(v)) for v in layer.colormap.colors[-1][:3])
    low, high = layer.contrast_limits
    return (Channel(layer.name, f"#{red:02x}{green:02x}{blue:02x}", (float(low), float(high))),)


_LAYERS: WeakValueDictionary[str, Image | Labels] = WeakValueDictionary()
"""By the path that stands for each; a layer that is gone is not kept."""


def path_of(layer: Image | Labels) -> Path:
    """Give the path that stands for a layer while it is there."""
    path = f"layer:{layer.unique_id}"
    _LAYERS[path] = layer
    return Path(path)


def layer_at(path: str | Path) -> Image | Labels | None:
    """Give the layer that a path stands for, None if it is a file's."""
    return _LAYERS.get(str(path))
