"""From a patch set to napari's layer tuples."""

from pathlib import Path
from typing import Any

from napari_patchset.errors import ArgumentError
from napari_patchset.patchset.arrays import PatchArray
from napari_patchset.patchset.layout import IMAGE, LABELS, ROLES
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.contrast import estimated_limits
from napari_patchset.plugin.layer_options import display, space
from napari_patchset.plugin.layers import METADATA_KEY, PATCH_SET, LayerTuple
from napari_patchset.plugin.lazy import LazyPatches
from napari_patchset.preview import channel_colors
from napari_patchset.stacks.metadata import Channel


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
    first = next(iter(patch_set))
    layers: list[LayerTuple] = []
    for split in patch_set:
        common = {"metadata": {METADATA_KEY: {PATCH_SET: str(path), "split": split}}}
        for role in (role for role in ROLES if f"{split}/{role}" in manifest.arrays):
            patches = patch_set[f"{split}/{role}"]
            common |= space(f"N{patches.layout.axes[2:]}", manifest.pixel_size)
            if len(patches) == 0:
                continue
            if role == LABELS and patches.dtype.kind in "iu":
                layers += _labels(patches, {**common, "visible": split == first})
            else:
                options = {**common, "visible": split == first and role == IMAGE}
                layers += _images(patches, options)
    return layers


def _images(patches: PatchArray, common: dict[str, Any]) -> list[LayerTuple]:
    names, role = patches.layout.channels, patches.layout.role
    colors = channel_colors([Channel(name) for name in names])
    layers: list[LayerTuple] = []
    for index, (name, color) in enumerate(zip(names, colors, strict=True)):
        data = LazyPatches(patches, index)
        shown = name if role == IMAGE else f"{name} {role}"
        own = {"name": f"{shown} ({patches.layout.split})", "rgb": False}
        limits = {"contrast_limits": estimated_limits(data)}
        layers.append((data, {**own, **limits, **common, **display(color, len(colors))}, "image"))
    return layers


def _labels(patches: PatchArray, common: dict[str, Any]) -> list[LayerTuple]:
    options = {"name": f"{LABELS} ({patches.layout.split})", **common}
    return [(LazyPatches(patches, i), options, "labels") for i in range(patches.shape[1])]
