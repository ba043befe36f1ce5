"""The image itself as a picture: one plane of every channel, in colour and contrast.

A contact sheet: some of the patches beside each other at full resolution.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.metadata import Channel
from napari_patchset.stacks.protocol import ImageStack

_FALLBACK_COLORS = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff8000", "#0080ff")

LONGEST = 1024
"""Pixels of the longer side of a picture that fills a screen."""


def overview(
    stack: ImageStack, sample_idx: int, depth: int = 0, longest: int = LONGEST
) -> tuple[NDArray[Any], float]:
    """Read one plane of every channel at about the resolution of a screen.

    Returns
    -------
    ndarray
        CYX, its longer side at most `longest` if the stack has levels that small.
    float
        Its pixels per pixel of the image.
    """
    levels: Sequence[ImageStack] = getattr(stack, "levels", (stack,))
    small = (level for level in levels if max(level.data_shape[-2:]) <= longest)
    level = next(small, levels[-1])
    *outer, height, width = level.data_shape
    is_3d = len(outer) == 3
    start, size = ((depth, 0, 0), (1, height, width)) if is_3d else ((0, 0), (height, width))
    planes = level.extract_patch(sample_idx, None, start, size)
    return planes[:, 0] if is_3d else planes, width / stack.data_shape[-1]


def display_limits(plane: NDArray[Any]) -> tuple[float, float]:
    """Choose black and white for a plane: the darkest and the brightest thousandth are cut off.

    Pixels that are not finite do not count; of complex ones the magnitude does.
    """
    values = np.abs(plane) if plane.dtype.kind == "c" else plane
    known = values[np.isfinite(values)].astype(float)
    low, high = (float(v) for v in np.percentile(known, [0.1, 99.9])) if known.size else (0.0, 0.0)
    return (low, high) if high > low else (low, low + 1)


def channel_colors(channels: Sequence[Channel]) -> list[str]:
    """Give each channel a colour, "#rrggbb": its own, else white if alone, else one of a row."""
    if len(channels) == 1:
        return [channels[0].color or "#ffffff"]
    spare = iter(_FALLBACK_COLORS * len(channels))
    return [channel.color or next(spare) for channel in channels]


def composite(planes: NDArray[Any], channels: Sequence[Channel]) -> NDArray[np.uint8]:
    """Add up the channels of CYX, each in its colour and contrast, to an RGB picture, YXC."""
    picture = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, channel, color in zip(planes, channels, channel_colors(channels), strict=True):
        low, high = channel.contrast_limits or display_limits(plane)
        grey = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)
        picture += grey[..., np.newaxis] * rgb(color)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def rgb(color: str) -> NDArray[np.float32]:
    """Give "#rrggbb" as fractions."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)


_GAP = 4


def random_rows(candidates: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw some rows, none of them twice, in ascending order."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(candidates, min(count, len(candidates)), replace=False)
    found: NDArray[np.int64] = np.sort(drawn)
    return found


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], colors: Sequence[str], width: int
) -> NDArray[np.uint8]:
    """Lay pictures of one shape out in rows, each in a frame of its colour.

    Parameters
    ----------
    pictures : sequence of uint8 arrays, YXC
        RGB, all of one shape.
    colors : sequence of str
        "#rrggbb" of the frame of each.
    width : int
        Pixels that the sheet may be wide; one picture is always shown whole.

    Returns
    -------
    ndarray
        RGB, YXC, uint8.
    """
    h, w, _ = pictures[0].shape
    pitch_y, pitch_x = h + 2 + _GAP, w + 2 + _GAP
    columns = min(len(pictures), max(1, (width - _GAP) // pitch_x))
    rows = ceil(len(pictures) / columns)
    sheet = np.zeros((_GAP + rows * pitch_y, _GAP + columns * pitch_x, 3), np.uint8)
    for i, (picture, color) in enumerate(zip(pictures, colors, strict=True)):
        y, x = _GAP + i // columns * pitch_y, _GAP + i % columns * pitch_x
        sheet[y : y + h + 2, x : x + w + 2] = 255 * rgb(color)
        sheet[y + 1 : y + 1 + h, x + 1 : x + 1 + w] = picture
    return sheet
