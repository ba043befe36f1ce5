"""From a stack to napari's layer tuples: lazy, named, coloured, in micrometres.

Options set position and colour; label images of the scene become layers too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.plugin.lazy.channel import LazyChannel, lazy_levels, visible_axes
from napari_patchset.plugin.lazy.first_plane import read_first_plane
from napari_patchset.plugin.overrides import image_path
from napari_patchset.source import PixelSize, Rect, SceneId
from napari_patchset.stacks.metadata import Channel, LabelValues, channel_colors, image_metadata
from napari_patchset.stacks.opening import list_labels, open_stack
from napari_patchset.stacks.protocol import ClosableStack, ImageStack

LayerTuple = tuple[Any, dict[str, Any], str]

METADATA_KEY = "napari-patchset"
"""Key in a layer's metadata of its file, scene and channel."""

OVERLAY, PATCH_SET, LABELS_OF = "overlay", "patch_set", "labels_of"
"""Entry for a layer that is not a source: the drawn grid, patches, and labels."""

RESULT_OF = "result_of"
"""Entry for a layer that was made of an image and lies over it: the path of that image."""


def display(color: str, n_channels: int) -> dict[str, Any]:
    """Return colour and blending; channels add up."""
    blending = "additive" if n_channels > 1 else "translucent_no_depth"
    return {"colormap": color, "blending": blending}


def space(
    axes: str,
    pixel_size: PixelSize,
    time_step: float | None = None,
    translation: Mapping[str, float] | None = None,
    unitless: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return scale, position, units and labels; an axis whose size is unknown is in pixels.

    An axis whose size has no unit in the file is in pixels too, but scaled by that size.
    """
    known = {
        "Z": (pixel_size.z, "um"),
        "Y": (pixel_size.y, "um"),
        "X": (pixel_size.x, "um"),
        "T": (time_step, "s"),
    }
    sizes = [known.get(axis, (None, "")) for axis in axes]
    return {
        "scale": [
            size or (unitless or {}).get(axis, 1.0)
            for axis, (size, _) in zip(axes, sizes, strict=True)
        ],
        "translate": [(translation or {}).get(axis, 0.0) for axis in axes],
        "units": [unit if size else "pixel" for size, unit in sizes],
        "axis_labels": ["patch" if axis == "N" else axis.lower() for axis in axes],
    }


def translation_of(stack: ImageStack) -> Mapping[str, float]:
    """Return the position of an image on the stage, as far as it is known.

    In micrometres along an axis whose pixel size is known, else in pixels. Offsets in micrometres
    are dropped for axes without a pixel size.
    """
    metadata = image_metadata(stack)
    size = metadata.pixel_size
    sizes = {"Z": size.z, "Y": size.y, "X": size.x}
    translation: Mapping[str, float] = getattr(stack, "translation", {})
    rect: Rect | None = getattr(stack, "rect", None)
    if rect is not None:
        return {"Y": rect.y * (size.y or 1.0), "X": rect.x * (size.x or 1.0)}
    return {a: value for a, value in translation.items() if sizes[a] or a in metadata.unitless}


def levels_of(stack: ImageStack) -> Sequence[ImageStack]:
    """Return a stack at all of its resolutions, the finest first."""
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    return levels


_OTHER_VALUES = "#808080"
"""The colour of values without a colour, if the file has one for others."""


def labels_layer(
    path: Path,
    labels: SceneId,
    image: ImageStack,
    tag: dict[str, Any],
    pixel_size: PixelSize | None = None,
) -> LayerTuple | None:
    """Return labels of an image as a layer, None if they can't be read or do not fit.

    `pixel_size` overrides that of the file.
    """
    try:
        stack = open_stack(path, labels, pixel_size=pixel_size)
    except PatchsetError:
        return None
    levels = lazy_levels(levels_of(stack), 0, is_labels=True)
    around = visible_axes(AxisLayout(image.original_axes, tuple(image.original_data_shape)))
    if levels[0].dtype.kind not in "iu" or not around.endswith(levels[0].axes):
        return None
    options = {
        "name": str(labels).rpartition("/")[2],
        "metadata": {METADATA_KEY: tag},
        **_space(stack, image, levels[0].axes),
        **value_options(image_metadata(stack).labels or LabelValues(), np.dtype(stack.data_dtype)),
    }
    return _layer(levels, options, "labels")


def _space(stack: ClosableStack, image: ImageStack, axes: str) -> dict[str, Any]:
    own, around = image_metadata(stack), image_metadata(image)
    known = stack if own.pixel_size.x else image
    size, begins = image_metadata(known).pixel_size, translation_of(known)
    return space(axes, size, own.time_step or around.time_step, begins)


def value_options(labels: LabelValues, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the colours and properties of the values of labels, as options of a layer."""
    limits = np.iinfo(dtype)
    known: dict[int | None, Any] = {
        v: c for v, c in labels.colors.items() if limits.min <= v <= limits.max
    }
    options: dict[str, Any] = {}
    if known:
        colors = {None: _OTHER_VALUES, 0: "transparent"} | known
        options["colormap"] = DirectLabelColormap(color_dict=colors)
    if labels.properties:
        options["features"] = _table(labels.properties)
    return options


def _table(properties: Mapping[int, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return one column for each name; napari finds the value of a row in the column "index"."""
    names = dict.fromkeys(name for known in properties.values() for name in known)
    columns = {name: [_cell(known.get(name)) for known in properties.values()] for name in names}
    return {**columns, "index": list(properties)}


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def scene_layers(ref: ImageRef, axes: str | None = None) -> list[LayerTuple]:
    """Open one scene of a file as layers: one for each channel, RGB as one, then its labels.

    Parameters
    ----------
    ref : ImageRef
        The file, the scene, and the user's overrides.
    axes : str or None
        The axes to show, ending in "YX"; None for those of more than one index.
    """
    path, scene = image_path(ref), ref.scene
    stack = open_stack(ref.path, scene, **ref.overrides)
    channels = image_metadata(stack).channels
    options: list[tuple[int | list[int], dict[str, Any]]] = []
    groups, colors = _color_groups([channel.name for channel in channels]), channel_colors(channels)
    for group in groups:
        channel = channels[group[0]]
        if len(group) == 1:
            look = {**_look_of(channel), **display(colors[group[0]], len(channels))}
            options.append((group[0], look))
        else:
            # Of several, napari would show the last one only, which hides the others.
            look = {"visible": group == groups[0]} if len(groups) > 1 else {}
            options.append((group, {"name": channel.name[:-2] or path.stem, "rgb": True, **look}))
    tag = {"path": str(path), "scene": scene}
    images = [_image_layer(stack, axes, tag, *each) for each in options]
    tag = {LABELS_OF: str(path), "scene": scene}
    labels = () if ref.sequence else list_labels(Path(ref.path), scene)
    annotations = [labels_layer(path, each, stack, tag, ref.pixel_size) for each in labels]
    return [*images, *(layer for layer in annotations if layer is not None)]


def _color_groups(names: Sequence[str]) -> list[list[int]]:
    """Return the indices of channels that are shown together: those of a colour, or one alone."""
    groups, i = list[list[int]](), 0
    while i < len(names):
        of = names[i].removesuffix("R")
        is_color = (of == "" or of.endswith(" ")) and f"{of}A" not in names[i + 3 : i + 4]
        is_color &= list(names[i : i + 3]) == [of + sample for sample in "RGB"]
        groups.append([i, i + 1, i + 2] if is_color else [i])
        i += len(groups[-1])
    return groups


def _look_of(channel: Channel) -> dict[str, Any]:
    return {"name": channel.name, "rgb": False, "contrast_limits": channel.contrast_limits}


def _image_layer(
    stack: ClosableStack,
    axes: str | None,
    tag: dict[str, Any],
    channels: int | list[int],
    look: dict[str, Any],
) -> LayerTuple:
    """Return a channel, or the three of RGB; contrast that the file does not state is estimated."""
    levels = lazy_levels(levels_of(stack), channels, axes)
    limits, metadata = read_first_plane(levels[-1]), image_metadata(stack)
    if look.get("contrast_limits", limits) is None:
        look = {**look, "contrast_limits": limits}
    is_all = not isinstance(channels, int) and len(channels) == stack.data_shape[1]
    channel = None if is_all else channels if isinstance(channels, int) else channels[0]
    options = {
        **look,
        "metadata": {METADATA_KEY: {**tag, "channel": channel}},
        **space(
            levels[0].axes,
            metadata.pixel_size,
            metadata.time_step,
            translation_of(stack),
            metadata.unitless,
        ),
    }
    return _layer(levels, options, "image")


def _layer(levels: Sequence[LazyChannel], options: dict[str, Any], kind: str) -> LayerTuple:
    data = levels if len(levels) > 1 else levels[0]
    return data, {**options, "multiscale": len(levels) > 1}, kind
