"""The options of a layer that say where it lies and what colour it has."""

from collections.abc import Mapping, Sequence
from typing import Any

from napari_patchset.source import PixelSize
from napari_patchset.stacks.base import ImageStack


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
        "translate": [
            (translation or {}).get(axis, 0.0) if size else 0.0
            for axis, (size, _) in zip(axes, sizes, strict=True)
        ],
        "units": [unit if size else "pixel" for size, unit in sizes],
        "axis_labels": list(axes.lower()),
    }


def translation_of(stack: ImageStack) -> Mapping[str, float]:
    """Give where the file says that an image begins, where it does."""
    translation: Mapping[str, float] = getattr(stack, "translation", {})
    return translation


def levels_of(stack: ImageStack) -> Sequence[ImageStack]:
    """Give a stack at all of its resolutions, the finest first."""
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    return levels
