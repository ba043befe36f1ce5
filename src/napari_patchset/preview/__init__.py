"""The picture of a grid on an image, in pure NumPy; the command and the widget share it."""

from napari_patchset.preview.colors import CATEGORY_COLORS, PatchCategory, patch_categories
from napari_patchset.preview.drawing import draw_grid, render
from napari_patchset.preview.image import (
    channel_colors,
    composite,
    contact_sheet,
    display_limits,
    overview,
    random_rows,
)
from napari_patchset.preview.outlines import LineSegments, PlanePatches, outline_segments
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
    "draw_grid",
    "outline_segments",
    "overview",
    "patch_categories",
    "random_rows",
    "rasterize",
    "render",
]
