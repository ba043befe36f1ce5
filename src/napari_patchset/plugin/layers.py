"""From a stack, or a patch set, to napari's layer tuples: lazy, named, coloured, in micrometres."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.asked import is_window_at_work
from napari_patchset.plugin.lazy import LazyArray, LazyPatches, lazy_levels
from napari_patchset.plugin.redrawing import middle_limits
from napari_patchset.preview import channel_colors
from napari_patchset.source import PixelSize, SceneId
from napari_patchset.stacks.base import ClosableStack, ImageStack
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.metadata import Channel, ImageMetadata
from napari_patchset.stacks.opening import open_stack

LayerTuple = tuple[Any, dict[str, Any], str]

METADATA_KEY = "napari-patchset"
"""Where a layer's metadata says which file, scene and channel it shows."""

OVERLAY, PATCH_SET = "overlay", "patch_set"
"""What it holds instead where a layer is no source: the drawn grid, and patches."""


_CROP = 1024
"""Pixels along a side of what contrast is estimated from, where a plane is too large."""


def scene_layers(path: Path, scene: SceneId | None) -> list[LayerTuple]:
    """Open one scene of a file as layers, one for each channel; RGB as one."""
    stack = open_stack(path, scene)
    metadata = image_metadata(stack)
    names = [channel.name for channel in metadata.channels]
    if names == ["R", "G", "B"]:
        return [_rgb_layer(stack, path, scene, metadata)]
    colors = channel_colors(metadata.channels)
    return [
        _channel_layer(stack, path, scene, metadata, index, color)
        for index, color in enumerate(colors)
    ]


def patch_set_layers(path: Path) -> list[LayerTuple]:
    """Open a patch set as layers, one for each split and channel, patches along the first axis.

    Raises
    ------
    ArgumentError
        If it holds no pixels.
    """
    patch_set = PatchSet(path)
    manifest = patch_set.manifest
    if not patch_set:
        raise ArgumentError(
            f"{path}: a set of the format {manifest.format} holds no pixels to show; open its "
            "sources, or export a zarr."
        )
    colors = channel_colors([Channel(name) for name in manifest.channels])
    layers: list[LayerTuple] = []
    for split, patches in patch_set.items():
        for index, (name, color) in enumerate(zip(manifest.channels, colors, strict=True)):
            data = LazyPatches(patches, index)
            axes = f"N{patches.layout.axes[2:]}"
            options = {
                "name": f"{name} ({split})",
                "contrast_limits": _estimated_limits(data),
                "metadata": {METADATA_KEY: {PATCH_SET: str(path), "split": split}},
                **_display(color, len(colors)),
                **_space(axes, manifest.pixel_size),
            }
            layers.append((data, options, "image"))
    return layers


def _channel_layer(
    stack: ClosableStack,
    path: Path,
    scene: SceneId | None,
    metadata: ImageMetadata,
    index: int,
    color: str,
) -> LayerTuple:
    channel = metadata.channels[index]
    levels = lazy_levels(_levels(stack), index)
    options = {
        "name": channel.name,
        "contrast_limits": channel.contrast_limits or _estimated_limits(levels[-1]),
        "rgb": False,
        "multiscale": len(levels) > 1,
        "metadata": {METADATA_KEY: {"path": str(path), "scene": scene, "channel": index}},
        **_display(color, len(metadata.channels)),
        **_space(levels[0].axes, metadata.pixel_size, metadata.time_step),
    }
    return (levels if len(levels) > 1 else levels[0]), options, "image"


def _rgb_layer(
    stack: ClosableStack, path: Path, scene: SceneId | None, metadata: ImageMetadata
) -> LayerTuple:
    levels = lazy_levels(_levels(stack), [0, 1, 2])
    options = {
        "name": path.stem,
        "rgb": True,
        "multiscale": len(levels) > 1,
        "metadata": {METADATA_KEY: {"path": str(path), "scene": scene, "channel": None}},
        **_space(levels[0].axes, metadata.pixel_size, metadata.time_step),
    }
    return (levels if len(levels) > 1 else levels[0]), options, "image"


def _levels(stack: ClosableStack) -> Sequence[ImageStack]:
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    return levels


def _display(color: str, n_channels: int) -> dict[str, Any]:
    blending = "additive" if n_channels > 1 else "translucent_no_depth"
    return {"colormap": color, "blending": blending}


def _space(axes: str, pixel_size: PixelSize, time_step: float | None = None) -> dict[str, Any]:
    """Give scale, units and labels; an axis whose size is unknown is counted in pixels."""
    known = {
        "Z": (pixel_size.z, "um"),
        "Y": (pixel_size.y, "um"),
        "X": (pixel_size.x, "um"),
        "T": (time_step, "s"),
    }
    sizes = [known.get(axis, (None, "")) for axis in axes]
    return {
        "scale": [size or 1.0 for size, _ in sizes],
        "units": [unit if size else "pixel" for size, unit in sizes],
        "axis_labels": list(axes.lower()),
    }


def _estimated_limits(data: LazyArray) -> tuple[float, float]:
    """Estimate contrast from the middle plane, at the lowest resolution.

    The window at work does not wait for it: it gets limits that are replaced when pixels come.
    """
    middle = tuple(n // 2 for n in data.shape[: data.plane])
    height, width = data.shape[data.plane :]
    if not is_window_at_work():
        return middle_limits(data.read((*middle, _middle(height, 0), _middle(width, 0))))
    data.arrivals.show(data, (*middle, _middle(height), _middle(width)))
    if (limits := data.arrivals.limits) is None:
        limits = data.arrivals.provisional = _widest(data.dtype)
    return limits


def _middle(n: int, whole: int = 4096) -> range:
    """Leave out the margins of a plane that is too large to be read whole."""
    return range(n) if n <= max(_CROP, whole) else range((n - _CROP) // 2, (n + _CROP) // 2)


def _widest(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind not in "iu":
        return (0.0, 1.0)
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
