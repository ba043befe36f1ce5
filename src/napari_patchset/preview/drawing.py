"""The grid drawn into a picture, for a PNG."""

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.preview.colors import CATEGORY_COLORS, patch_categories
from napari_patchset.preview.image import LONGEST, composite, overview, rgb
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.stacks.metadata import image_metadata
from napari_patchset.stacks.protocol import ImageStack


def draw_grid(picture: NDArray[np.uint8], plane: PlanePatches, scale: float) -> NDArray[np.uint8]:
    """Draw the outline of each patch, one picture pixel wide, on a copy of an RGB picture.

    Patches that reach past the image enlarge the picture.

    Parameters
    ----------
    picture : uint8 array, YXC
        The image.
    plane : PlanePatches
        The patches, each drawn in the colour of its category, the rejected ones first.
    scale : float
        Picture pixels per image pixel.
    """
    plane = plane[np.argsort(-plane.category.astype(np.int8), kind="stable")]
    low = np.round(plane.start * scale).astype(int)
    high = np.maximum(np.round((plane.start + plane.size) * scale).astype(int) - 1, low)
    height, width = np.maximum(picture.shape[:2], high.max(axis=0, initial=0) + 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    lines = [np.round(255 * rgb(color)).astype(np.uint8) for color in CATEGORY_COLORS]
    corners = zip(low.tolist(), high.tolist(), plane.category.tolist(), strict=True)
    for (top, left), (bottom, right), category in corners:
        canvas[[top, bottom], left : right + 1] = lines[category]
        canvas[top : bottom + 1, [left, right]] = lines[category]
    return canvas


def render(
    stack: ImageStack,
    grid: PatchGrid,
    index: int,
    sample: int,
    depth: int = 0,
    verdicts: Verdicts | None = None,
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
    verdicts : Verdicts or None
        What becomes of the patches of the grid; None if all are kept for one split.

    Returns
    -------
    ndarray
        RGB, YXC, uint8; a small image is enlarged to be looked at.
    """
    planes, scale = overview(stack, sample, depth)
    picture = composite(planes, image_metadata(stack).channels)
    enlarge = max(1, LONGEST // max(picture.shape))
    picture = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    category = patch_categories(verdicts) if verdicts else np.zeros(len(grid), np.uint8)
    plane = PlanePatches.of(grid, category, index, sample, depth)
    return draw_grid(picture, plane, scale * enlarge)
