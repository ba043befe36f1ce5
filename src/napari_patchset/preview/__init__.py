"""The picture of a grid on an image, in pure NumPy; the command and the widget share it."""

from napari_patchset.preview.colors import COLORS, Category, categories
from napari_patchset.preview.drawing import draw_grid, render
from napari_patchset.preview.image import (
    channel_colors,
    composite,
    contact_sheet,
    display_limits,
    overview,
    random_rows,
)
from napari_patchset.preview.outlines import Lines, Plane, outlines
from napari_patchset.preview.raster import Raster, raster_of

__all__ = [
    "COLORS",
    "Category",
    "Lines",
    "Plane",
    "Raster",
    "categories",
    "channel_colors",
    "composite",
    "contact_sheet",
    "display_limits",
    "draw_grid",
    "outlines",
    "overview",
    "random_rows",
    "raster_of",
    "render",
]
