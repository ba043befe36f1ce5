"""Black and white for a plane of pixels."""

from typing import Any

from numpy.typing import NDArray

from napari_patchset.preview import display_limits

Limits = tuple[float, float]

MIDDLE = 1024
"""Pixels along a side of what contrast is estimated from, where a plane is larger."""


def middle_limits(pixels: NDArray[Any]) -> Limits:
    """Estimate contrast from the middle of a plane, its last two axes."""
    height, width = pixels.shape[-2:]
    y, x = (slice(max(0, (n - MIDDLE) // 2), (n + MIDDLE) // 2) for n in (height, width))
    return display_limits(pixels[..., y, x])
