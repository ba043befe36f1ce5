"""Pictures of an image and its patches, in pure NumPy, for the command and the window."""

from napari_patchset.preview.image import (
    channel_colors,
    composite,
    contact_sheet,
    display_limits,
    draw_patches,
    overview,
    random_rows,
    render,
)
from napari_patchset.preview.outlines import LineSegments, PlanePatches, outline_segments
from napari_patchset.preview.patch_colors import CATEGORY_COLORS, PatchCategory, patch_categories
from napari_patchset.preview.raster import PatchRaster, rasterize

__all__ = [
    "CATEGORY_COLORS",
    "LineSegments",
    "PatchCategory",
    "PatchRaster",
    "PlanePatches",
    "channel_colors",
    "composite",
    "contact_sheet",
    "display_limits",
    "draw_patches",
    "outline_segments",
    "overview",
    "patch_categories",
    "random_rows",
    "rasterize",
    "render",
]
