"""The picture of a grid on an image, in pure NumPy; the command and the widget share it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.describe import image_metadata
from napari_patchset.stacks.metadata import Channel

OUTLINE_COLOR = "#ffd60a"
"""Of a patch that is exported, whatever its split."""

_FALLBACK_COLORS = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff8000", "#0080ff")
_LONGEST = 1024


def overview(
    stack: ImageStack, sample_idx: int, depth: int = 0, longest: int = _LONGEST
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
    """Choose black and white for a plane: the darkest and the brightest thousandth are cut off."""
    low, high = (float(value) for value in np.percentile(plane, [0.1, 99.9]))
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
        picture += grey[..., np.newaxis] * _rgb(color)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def in_plane(grid: PatchGrid, stack: int, sample: int, depth: int | None = None) -> PatchGrid:
    """Give the patches of one sample, and of those with a depth axis the ones that hold `depth`."""
    shown = (grid.stack == stack) & (grid.sample == sample)
    if len(grid.size) == 3 and depth is not None:
        first = grid.start[:, 0]
        shown = shown & (first <= depth) & (depth < first + grid.size[0])
    return grid[np.flatnonzero(shown)]


def outlines(grid: PatchGrid) -> NDArray[np.float64]:
    """Give the outlines of the patches of one plane as lines.

    Patches that form a lattice share their lines, so a million of them take a few thousand.

    Returns
    -------
    ndarray
        (n, 2, 2): start and extent along YX of each line, in pixels, measured from the centre of
        the first pixel as napari does.
    """
    ys, xs = (_distinct(grid.start[:, axis]) for axis in (-2, -1))
    n_depths = len(_distinct(grid.start[:, 0])) if len(grid.size) == 3 else 1
    size = np.array(grid.size[-2:], float)
    if len(grid) == len(ys) * len(xs) * n_depths:
        return _lattice_lines(ys - 0.5, xs - 0.5, size)
    low = np.unique(grid.start[:, -2:], axis=0) - 0.5
    down, right = np.array([size[0], 0]), np.array([0, size[1]])
    corners = np.concatenate([low, low, low + down, low + right])
    along = np.repeat([right, down, right, down], len(low), axis=0)
    return np.stack([corners, along], axis=1)


def _distinct(starts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Give the different values in order, without sorting all of them."""
    first = starts.min(initial=0)
    present = np.zeros(starts.max(initial=0) - first + 1, bool)
    present[starts - first] = True
    found: NDArray[np.float64] = np.flatnonzero(present).astype(np.float64) + first
    return found


def _lattice_lines(
    ys: NDArray[np.float64], xs: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not len(ys):
        return np.empty((0, 2, 2))
    height, width = ys[-1] + size[0] - ys[0], xs[-1] + size[1] - xs[0]
    rows, columns = np.union1d(ys, ys + size[0]), np.union1d(xs, xs + size[1])
    starts = [(y, xs[0]) for y in rows] + [(ys[0], x) for x in columns]
    extents = [(0.0, width)] * len(rows) + [(height, 0.0)] * len(columns)
    return np.stack([np.array(starts), np.array(extents)], axis=1)


def draw_grid(
    picture: NDArray[np.uint8], grid: PatchGrid, scale: float, color: str = OUTLINE_COLOR
) -> NDArray[np.uint8]:
    """Draw the outline of each patch, one picture pixel wide, on a copy of an RGB picture.

    Patches that reach past the image enlarge the picture.

    Parameters
    ----------
    picture : uint8 array, YXC
        The image.
    grid : PatchGrid
        Patches of the plane that the picture shows.
    scale : float
        Picture pixels per image pixel.
    """
    low = np.round(grid.start[:, -2:] * scale).astype(int)
    high = np.maximum(np.round((grid.start[:, -2:] + grid.size[-2:]) * scale).astype(int) - 1, low)
    height, width = np.maximum(picture.shape[:2], high.max(axis=0, initial=0) + 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    lines = np.round(255 * _rgb(color)).astype(np.uint8)
    for (top, left), (bottom, right) in zip(low.tolist(), high.tolist(), strict=True):
        canvas[[top, bottom], left : right + 1] = lines
        canvas[top : bottom + 1, [left, right]] = lines
    return canvas


def render(
    stack: ImageStack, grid: PatchGrid, index: int, sample: int, depth: int = 0
) -> NDArray[np.uint8]:
    """Draw one plane of a stack with its patches.

    Parameters
    ----------
    stack : ImageStack
        What the grid's source number `index` is.
    grid : PatchGrid
        Patches of any number of sources.
    index, sample, depth : int
        The plane to draw.

    Returns
    -------
    ndarray
        RGB, YXC, uint8; a small image is enlarged to be looked at.
    """
    planes, scale = overview(stack, sample, depth)
    picture = composite(planes, image_metadata(stack).channels)
    enlarge = max(1, _LONGEST // max(picture.shape))
    picture = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    return draw_grid(picture, in_plane(grid, index, sample, depth), scale * enlarge)


def _rgb(color: str) -> NDArray[np.float32]:
    """Give "#rrggbb" as fractions."""
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)
