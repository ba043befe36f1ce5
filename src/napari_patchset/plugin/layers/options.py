"""The options of a layer that say where it lies and what colour it has."""

from collections.abc import Mapping, Sequence
from typing import Any

from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.describe import image_metadata


def display(color: str, n_channels: int) -> dict[str, Any]:
    """Give colour and blending; channels add up."""
    blending = "additive" if n_channels > 1 else "translucent_no_depth"
    return {"colormap": color, "blending": blending}


def space(
    axes: str,
    pixel_size: PixelSize,
    time_step: float | None = None,
    translation: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Give scale, place, units and labels; an axis whose size is unknown is counted in pixels."""
    known = {
        "Z": (pixel_size.z, "um"),
        "Y": (pixel_size.y, "um"),
        "X": (pixel_size.x, "um"),
        "T": (time_step, "s"),
    }
    sizes = [known.get(axis, (None, "")) for axis in axes]
    return {
        "scale": [size or 1.0 for size, _ in sizes],
        "translate": [(translation or {}).get(axis, 0.0) for axis in axes],
        "units": [unit if size else "pixel" for size, unit in sizes],
        "axis_labels": list(axes.lower()),
    }


def translation_of(stack: ImageStack) -> Mapping[str, float]:
    """Give where an image begins on the stage, as far as its file says it.

    In micrometres along an axis whose pixel size is known, else in pixels; what is stated in
    micrometres of an axis that is counted in pixels is left out.
    """
    size = image_metadata(stack).pixel_size
    sizes = {"Z": size.z, "Y": size.y, "X": size.x}
    stated: Mapping[str, float] = getattr(stack, "translation", {})
    rect: Rect | None = getattr(stack, "rect", None)
    if rect is not None:
        return {"Y": rect.y * (size.y or 1.0), "X": rect.x * (size.x or 1.0)}
    return {axis: value for axis, value in stated.items() if sizes[axis]}


def levels_of(stack: ImageStack) -> Sequence[ImageStack]:
    """Give a stack at all of its resolutions, the finest first."""
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    return levels
