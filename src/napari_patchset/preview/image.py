"""RGB pictures in NumPy: a plane of an image, and the patches on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.preview.categories import CATEGORY_COLORS
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.stacks.metadata import Channel, channel_colors, image_metadata
from napari_patchset.stacks.protocol import ImageStack

SCREEN = 1024
"""Pixels of the longer side of a picture that fills a screen."""


def overview(
    stack: ImageStack,
    sample_idx: int,
    depth: int = 0,
    longest: int = SCREEN,
    channels: Sequence[int] | None = None,
) -> tuple[NDArray[Any], float]:
    """Read one plane of some channels, None for all, CYX, at about the resolution of a screen.

    Its longer side is at most `longest` if the stack has levels that small. Its pixels per pixel of
    the image come with it.
    """
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    small = (level for level in levels if max(level.data_shape[-2:]) <= longest)
    level = next(small, levels[-1])
    *outer, height, width = level.data_shape
    is_3d = len(outer) == 3
    start, size = ((depth, 0, 0), (1, height, width)) if is_3d else ((0, 0), (height, width))
    planes = level.extract_patch(sample_idx, channels, start, size)
    return planes[:, 0] if is_3d else planes, width / stack.data_shape[-1]


def display_limits(plane: NDArray[Any]) -> tuple[float, float]:
    """Return the values shown as black and white, without the extreme thousandth at each end.

    Pixels that are not finite are ignored; complex ones count by magnitude. A plane of one value is
    white, unless that is 0 or less.
    """
    values = np.abs(plane) if plane.dtype.kind == "c" else plane
    known = values[np.isfinite(values)].astype(float)
    low, high = (float(v) for v in np.percentile(known, [0.1, 99.9])) if known.size else (0.0, 0.0)
    if high > low:
        return low, high
    is_white = known.size and high > 0 and known.min() == known.max()
    return (0.0, high) if is_white else (low, low + 1)


def composite(planes: NDArray[Any], channels: Sequence[Channel]) -> NDArray[np.uint8]:
    """Add up channels, CYX, each in its colour and contrast, to an RGB picture, YXC.

    Of complex pixels the magnitude is shown.
    """
    planes = np.abs(planes) if planes.dtype.kind == "c" else planes
    picture = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, channel, color in zip(planes, channels, channel_colors(channels), strict=True):
        low, high = channel.contrast_limits or display_limits(plane)
        grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)
        picture += grey[..., np.newaxis] * rgb(color)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def rgb(color: str) -> NDArray[np.float32]:
    """Return "#rrggbb" as three fractions."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


def draw_patches(
    picture: NDArray[np.uint8], patches: PlanePatches, scale: float
) -> NDArray[np.uint8]:
    """Draw the outline of each patch, one pixel wide, on a copy of an RGB picture, YXC.

    `scale` is the pixels of the picture per pixel of the image. Patches that reach past the image
    enlarge the picture.
    """
    # The rejected ones first.
    patches = patches[np.argsort(-patches.category.astype(np.int8), kind="stable")]
    low = np.round(patches.start * scale).astype(int)
    high = np.maximum(np.round((patches.start + patches.size) * scale).astype(int) - 1, low)
    height, width = np.maximum(picture.shape[:2], high.max(axis=0, initial=0) + 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    lines = [np.round(255 * rgb(color)).astype(np.uint8) for color in CATEGORY_COLORS]
    corners = zip(low.tolist(), high.tolist(), patches.category.tolist(), strict=True)
    for (top, left), (bottom, right), category in corners:
        canvas[[top, bottom], left : right + 1] = lines[category]
        canvas[top : bottom + 1, [left, right]] = lines[category]
    return canvas


def render(
    stack: ImageStack,
    grid: PatchGrid,
    category: NDArray[np.uint8],
    *,
    sample: int,
    depth: int = 0,
    channels: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Draw one plane of a stack, the first source of a grid, with its candidates.

    A small image is enlarged by a whole factor.

    Parameters
    ----------
    category : uint8 array
        The `PatchCategory` of each candidate.
    channels : sequence of int or None
        The channels to draw; None for all.
    """
    planes, scale = overview(stack, sample, depth, channels=channels)
    known = image_metadata(stack).channels
    picture = composite(planes, known if channels is None else [known[i] for i in channels])
    enlarge = max(1, SCREEN // max(picture.shape))
    picture = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    patches = PlanePatches.from_grid(grid, category, 0, sample, depth)
    return draw_patches(picture, patches, scale * enlarge)
