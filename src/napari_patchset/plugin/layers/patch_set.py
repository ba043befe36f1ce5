"""From a patch set to napari's layer tuples, in the colours of its source."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import ClassLabel
from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import IMAGE, LABELS
from napari_patchset.patchset.reader import PatchArray, PatchSet
from napari_patchset.plugin.dialogs import USER_ERRORS
from napari_patchset.plugin.layers.outlines import CLASS, with_colors
from napari_patchset.plugin.layers.scene import (
    METADATA_KEY,
    PATCH_SET,
    LayerTuple,
    display,
    space,
    value_options,
)
from napari_patchset.plugin.lazy.array import LazyArray
from napari_patchset.plugin.lazy.first_plane import read_first_plane
from napari_patchset.plugin.lazy.indexing import Index, as_range, as_slice
from napari_patchset.stacks.metadata import Channel, LabelValues, channel_colors, image_metadata
from napari_patchset.stacks.opening import open_stack


class LazyPatches(LazyArray):
    """One channel of a patch set as an array of N, (Z), Y, X."""

    def __init__(self, patches: PatchArray, channel: int, is_labels: bool = False) -> None:
        self._patches = patches
        self._channel = channel
        shape = (len(patches), *patches.shape[2:])
        super().__init__(shape, patches.dtype, (1, *shape[1:]), len(shape) - 2, is_labels)

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part, patch by patch."""
        first, *rest = index
        patches = [self._patches[i][self._channel] for i in as_range(first)]
        stacked = np.stack(patches)[(slice(None), *map(as_slice, rest))]
        return stacked[0] if isinstance(first, int) else stacked


def patch_set_layers(path: Path) -> list[LayerTuple]:
    """Open a patch set as layers, one for each array and channel, patches along the first axis.

    Images and labels of the first split are visible.

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
    channels = set_channels(patch_set)
    layers: list[LayerTuple] = []
    for patches in patch_set.values():
        if len(patches) == 0:
            continue
        split, role = patches.layout.split, patches.layout.role
        is_first = split == patch_set.splits[0]
        common = {
            "metadata": {METADATA_KEY: {PATCH_SET: str(path), "split": split}},
            **space(f"N{patches.layout.axes[2:]}", manifest.pixel_size),
        }
        if role == LABELS and patches.dtype.kind in "iu":
            layers += _labels(patches, {**common, "visible": is_first}, manifest.classes)
        else:
            layers += _images(patches, {**common, "visible": is_first and role == IMAGE}, channels)
    return layers


def set_channels(patch_set: PatchSet) -> list[Channel]:
    """Return the channels of a set in the colours of its first source that can be read.

    The contrast is that of the source, else of nearly all pixels of the patches.
    """
    known: dict[str, Channel] = {}
    for source in patch_set.provenance.sources:
        with suppress(*USER_ERRORS), open_stack(source["path"], source.get("scene")) as stack:
            known = {channel.name: channel for channel in image_metadata(stack).channels}
            break
    statistics = patch_set.statistics.get(IMAGE, ())
    channels = []
    for i, name in enumerate(patch_set.manifest.channels):
        of_source = known.get(name, Channel(name))
        limits = of_source.contrast_limits
        if limits is None and i < len(statistics) and (shares := statistics[i].percentiles):
            low, high = float(shares[min(shares)]), float(shares[max(shares)])
            limits = (low, high) if high > low else None
        channels.append(Channel(name, of_source.color, limits))
    return channels


def _images(
    patches: PatchArray, common: dict[str, Any], channels: Sequence[Channel]
) -> list[LayerTuple]:
    role = patches.layout.role
    known = {channel.name: channel for channel in channels}
    own_channels = [known.get(name, Channel(name)) for name in patches.layout.channels]
    colors = channel_colors(own_channels)
    layers: list[LayerTuple] = []
    for index, (channel, color) in enumerate(zip(own_channels, colors, strict=True)):
        data = LazyPatches(patches, index)
        label = channel.name if role == IMAGE else f"{channel.name} {role}"
        own = {"name": f"{label} ({patches.layout.split})", "rgb": False}
        limits = {"contrast_limits": channel.contrast_limits or read_first_plane(data)}
        layers.append((data, {**own, **limits, **common, **display(color, len(colors))}, "image"))
    return layers


def _labels(
    patches: PatchArray, common: dict[str, Any], classes: Sequence[ClassLabel]
) -> list[LayerTuple]:
    """Return labels in the colours of the classes, which napari names under the mouse."""
    colors = with_colors({each.name: each.color for each in classes})
    rgb = {each.value: bytes.fromhex(colors[each.name][1:]) for each in classes}
    values = LabelValues(
        {value: (*(n / 255 for n in color), 1.0) for value, color in rgb.items()},
        {each.value: {CLASS: each.name} for each in classes},
    )
    own = value_options(values, patches.dtype)
    options = {"name": f"{LABELS} ({patches.layout.split})", **own, **common}
    return [(LazyPatches(patches, i, True), options, "labels") for i in range(patches.shape[1])]
