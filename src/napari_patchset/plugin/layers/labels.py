"""From the label images beside a scene to napari's layer tuples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import PatchsetError
from napari_patchset.plugin.layers.options import levels_of, space, translation_of
from napari_patchset.plugin.pixels.lazy import LazyChannel, lazy_levels, visible_axes
from napari_patchset.plugin.pixels.writing import in_memory
from napari_patchset.source import SceneId
from napari_patchset.stacks.base import ClosableStack, ImageStack
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.metadata import LabelValues
from napari_patchset.stacks.opening import open_stack

_OTHER_VALUES = "#808080"
"""The colour of values of which the file says none, where it does of others."""


class LazyLabels(LazyChannel):
    """Labels that are read where they are indexed; a copy of them lies in memory, to be painted."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self | NDArray[Any]:
        if self.arrivals.levels > 1:
            return super().__deepcopy__(memo)  # napari paints no pyramid
        return in_memory(self)


def labels_layer(
    path: Path, labels: SceneId, image: ImageStack
) -> tuple[Any, dict[str, Any], str] | None:
    """Give labels of an image as a layer; None for what can't be read or does not fit it."""
    try:
        stack = open_stack(path, labels)
    except PatchsetError:
        return None
    levels = lazy_levels(levels_of(stack), 0, LazyLabels)
    around = visible_axes(AxisLayout(image.original_axes, tuple(image.original_data_shape)))
    if levels[0].dtype.kind not in "iu" or not around.endswith(levels[0].axes):
        return None
    options = {
        "name": str(labels).rpartition("/")[2],
        "multiscale": len(levels) > 1,
        **_space(stack, image, levels[0].axes),
        **_look(stack),
    }
    return (levels if len(levels) > 1 else levels[0]), options, "labels"


def _space(stack: ClosableStack, image: ImageStack, axes: str) -> dict[str, Any]:
    own, around = image_metadata(stack), image_metadata(image)
    known = stack if own.pixel_size.x else image
    size, begins = image_metadata(known).pixel_size, translation_of(known)
    return space(axes, size, own.time_step or around.time_step, begins)


def _look(stack: ClosableStack) -> dict[str, Any]:
    """Give the colours and properties that the file states for the values."""
    stated = image_metadata(stack).labels or LabelValues()
    limits = np.iinfo(stack.data_dtype)
    known: dict[int | None, Any] = {
        v: c for v, c in stated.colors.items() if limits.min <= v <= limits.max
    }
    found: dict[str, Any] = {}
    if known:
        colors = {None: _OTHER_VALUES, 0: "transparent"} | known
        found["colormap"] = DirectLabelColormap(color_dict=colors)
    if stated.properties:
        found["features"] = _table(stated.properties)
    return found


def _table(properties: Mapping[int, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Give one column for each name; napari knows the value of a row by the column "index"."""
    names = dict.fromkeys(name for known in properties.values() for name in known)
    columns = {name: [_cell(known.get(name)) for known in properties.values()] for name in names}
    return {**columns, "index": list(properties)}


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
