"""Sensible first values, from what is known of the image."""

from pathlib import Path

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.plugin.form.where import Extent
from napari_patchset.plugin.layers.named import file_name
from napari_patchset.plugin.layers.paths import layer_at
from napari_patchset.sample import sample_path
from napari_patchset.source import SourceInfo


def depth_choices(info: SourceInfo) -> dict[DepthAxis, str]:
    """Give each depth axis and why it can't be chosen; an empty reason if it can."""
    sizes = info.layout.sizes
    return {
        axis: ""
        if axis == "none" or sizes.get(axis, 1) > 1
        else f"The image has only one {'plane' if axis == 'Z' else 'time point'} along {axis}."
        for axis in DEPTH_AXES
    }


def fitting_size(info: SourceInfo) -> tuple[int, int, int]:
    """Give the largest patch that fits an image along Z (or T), Y, X: powers of two."""
    sizes = info.layout.sizes
    depth = max(sizes.get("Z", 1), sizes.get("T", 1))
    z, y, x = (1 << (n.bit_length() - 1) for n in (depth, sizes["Y"], sizes["X"]))
    return z, y, x


def extents(info: SourceInfo) -> dict[str, Extent]:
    """Give first and last number of each axis that ranges can be chosen along."""
    return {
        axis: Extent(start := info.starts.get(axis, 0), start + size - 1)
        for axis, size in info.layout.sizes.items()
        if axis not in "CYX" and size > 1
    }


def default_out(path: Path, suffix: str) -> str:
    """Propose a name that is not taken yet: beside the file, at home for the sample and a layer."""
    stem = file_name(path).split(".")[0]
    if path == sample_path() or layer_at(path) is not None:
        path = Path.home() / path.name
    name, number = f"{stem}{suffix}", 2
    while path.with_name(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return str(path.with_name(name))
