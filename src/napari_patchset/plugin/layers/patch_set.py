"""From a patch set to napari's layer tuples."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.layout import IMAGE, LABELS
from napari_patchset.patchset.reader import PatchArray, PatchSet
from napari_patchset.plugin.layers.scene import METADATA_KEY, PATCH_SET, LayerTuple, display, space
from napari_patchset.plugin.lazy.array import LazyArray
from napari_patchset.plugin.lazy.first_plane import read_first_plane
from napari_patchset.plugin.lazy.indexing import Index, as_range, as_slice
from napari_patchset.preview.image import channel_colors
from napari_patchset.stacks.metadata import Channel


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
            layers += _labels(patches, {**common, "visible": is_first})
        else:
            layers += _images(patches, {**common, "visible": is_first and role == IMAGE})
    return layers


def _images(patches: PatchArray, common: dict[str, Any]) -> list[LayerTuple]:
    names, role = patches.layout.channels, patches.layout.role
    colors = channel_colors([Channel(name) for name in names])
    layers: list[LayerTuple] = []
    for index, (name, color) in enumerate(zip(names, colors, strict=True)):
        data = LazyPatches(patches, index)
        label = name if role == IMAGE else f"{name} {role}"
        own = {"name": f"{label} ({patches.layout.split})", "rgb": False}
        limits = {"contrast_limits": read_first_plane(data)}
        layers.append((data, {**own, **limits, **common, **display(color, len(colors))}, "image"))
    return layers


def _labels(patches: PatchArray, common: dict[str, Any]) -> list[LayerTuple]:
    options = {"name": f"{LABELS} ({patches.layout.split})", **common}
    return [(LazyPatches(patches, i, True), options, "labels") for i in range(patches.shape[1])]
