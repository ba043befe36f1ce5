"""Any image or labels layer as a stack, whichever plugin opened it.

A path stands for a layer, so that a plan can name one; `open_image` opens a layer or a file.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis, check_depth_axis
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.source import PixelSize, Rect, SceneId
from napari_patchset.stacks.metadata import Channel, ImageMetadata, SceneSummary
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.protocol import ClosableStack, FileStack

_LEADING = "BVHIRSTZ"
"""The axes before Y and X of a layer without axis labels, counted from the last."""

_RGB = "RGB"


class LayerStack(FileStack):
    """The data of a layer as a stack, in memory or lazy.

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
        The level of a multiscale layer, counted from the finest.

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
            check_depth_axis(self._layout.sizes, depth_axis, layer.name)
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
        from napari_patchset.stacks.zarr.spool import spooled_fingerprint  # imports zarr

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
"""Layers by the path that stands for each; deleted layers drop out."""


def register_layer(layer: Image | Labels) -> Path:
    """Register a layer, and return the path that stands for it while it exists."""
    path = f"layer:{layer.unique_id}"
    _LAYERS[path] = layer
    return Path(path)


def layer_at(path: str | Path) -> Image | Labels | None:
    """Return the layer that a path stands for, None for the path of a file."""
    return _LAYERS.get(str(path))


def file_name(path: Path) -> str:
    """Return the name of a file or a layer."""
    layer = layer_at(path)
    return path.name if layer is None else re.sub(r"[^\w-]+", "_", layer.name).strip("_") or "layer"


def open_image(
    path: str | Path,
    scene: SceneId | None = None,
    depth_axis: DepthAxis = "none",
    **overrides: Any,
) -> ClosableStack:
    """Open a layer or a file; see `open_stack`."""
    if (layer := layer_at(path)) is not None:
        return LayerStack(layer, depth_axis)
    return open_stack(path, scene, depth_axis, **overrides)


def image_scenes(ref: ImageRef) -> list[SceneSummary]:
    """List the scenes of an image's file, with the axes that the user set; a layer is one."""
    if (layer := layer_at(ref.path)) is None:
        return [_with_overrides(summary, ref) for summary in list_scenes(ref.path)]
    stack = LayerStack(layer)
    height, width = stack.data_shape[-2:]
    axes, shape = stack.original_axes, stack.original_data_shape
    dtype = np.dtype(stack.data_dtype).name
    return [SceneSummary(None, layer.name, Rect(0, 0, width, height), axes, shape, dtype)]


def _with_overrides(summary: SceneSummary, ref: ImageRef) -> SceneSummary:
    """Return a scene with the axes that the user set, where they fit it, and that of a sequence."""
    sizes = list(zip(summary.axes, summary.shape, strict=True))
    for dimensions in (sizes, [(axis, n) for axis, n in sizes if n > 1 or axis in "YX"]):
        if ref.axes and len(ref.axes) == len(dimensions):
            sizes = [(axis, n) for axis, (_, n) in zip(ref.axes, dimensions, strict=True)]
            break
    if ref.sequence and ref.files:
        sizes.insert(0, (ref.sequence, len(ref.files)))
    axes, shape = "".join(axis for axis, _ in sizes), tuple(n for _, n in sizes)
    return replace(summary, axes=axes, shape=shape)
