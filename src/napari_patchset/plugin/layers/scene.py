"""From a stack to napari's layer tuples: lazy, named, coloured, in micrometres."""

from pathlib import Path
from typing import Any

from napari_patchset.plugin.layers.labels import labels_layer
from napari_patchset.plugin.layers.options import display, levels_of, space, translation_of
from napari_patchset.plugin.pixels.contrast import estimated_limits
from napari_patchset.plugin.pixels.lazy import lazy_levels
from napari_patchset.preview import channel_colors
from napari_patchset.source import SceneId
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.metadata import ImageMetadata
from napari_patchset.stacks.opening import list_labels, open_stack

LayerTuple = tuple[Any, dict[str, Any], str]

METADATA_KEY = "napari-patchset"
"""Where a layer's metadata says which file, scene and channel it shows."""

OVERLAY, PATCH_SET, LABELS_OF = "overlay", "patch_set", "labels_of"
"""What it holds instead where a layer is no source: the drawn grid, patches, and labels."""


def scene_layers(path: Path, scene: SceneId | None, axes: str | None = None) -> list[LayerTuple]:
    """Open one scene of a file as layers: one for each channel, RGB as one, then its labels.

    Parameters
    ----------
    axes : str or None
        The axes to show, ending in "YX"; None for those of more than one index.
    """
    stack = open_stack(path, scene)
    metadata = image_metadata(stack)
    names = [channel.name for channel in metadata.channels]
    if names == ["R", "G", "B"]:
        images = [_rgb_layer(stack, path, scene, metadata, axes)]
    else:
        images = [
            _channel_layer(stack, path, scene, metadata, index, color, axes)
            for index, color in enumerate(channel_colors(metadata.channels))
        ]
    for data, options, _ in images:
        if options.get("contrast_limits", ()) is None:
            options["contrast_limits"] = estimated_limits(
                data[-1] if options["multiscale"] else data
            )
    tag = {METADATA_KEY: {LABELS_OF: str(path), "scene": scene}}
    beside = [labels_layer(path, labels, stack) for labels in list_labels(path, scene)]
    shown = [layer for layer in beside if layer is not None]
    return [*images, *((data, {**options, "metadata": tag}, kind) for data, options, kind in shown)]


def _channel_layer(
    stack: ClosableStack,
    path: Path,
    scene: SceneId | None,
    metadata: ImageMetadata,
    index: int,
    color: str,
    axes: str | None,
) -> LayerTuple:
    channel = metadata.channels[index]
    levels = lazy_levels(levels_of(stack), index, axes=axes)
    options = {
        "name": channel.name,
        "contrast_limits": channel.contrast_limits,
        "rgb": False,
        "multiscale": len(levels) > 1,
        "metadata": {METADATA_KEY: {"path": str(path), "scene": scene, "channel": index}},
        **display(color, len(metadata.channels)),
        **space(levels[0].axes, metadata.pixel_size, metadata.time_step, translation_of(stack)),
    }
    return (levels if len(levels) > 1 else levels[0]), options, "image"


def _rgb_layer(
    stack: ClosableStack,
    path: Path,
    scene: SceneId | None,
    metadata: ImageMetadata,
    axes: str | None,
) -> LayerTuple:
    levels = lazy_levels(levels_of(stack), [0, 1, 2], axes=axes)
    options = {
        "name": path.stem,
        "rgb": True,
        "multiscale": len(levels) > 1,
        "metadata": {METADATA_KEY: {"path": str(path), "scene": scene, "channel": None}},
        **space(levels[0].axes, metadata.pixel_size, metadata.time_step, translation_of(stack)),
    }
    return (levels if len(levels) > 1 else levels[0]), options, "image"
