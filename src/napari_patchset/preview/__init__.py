"""The picture of a grid on an image, in pure NumPy; the command and the widget share it."""

from napari_patchset.preview.contact import contact_sheet, random_rows
from napari_patchset.preview.drawing import draw_grid, render
from napari_patchset.preview.lines import Lines, outlines
from napari_patchset.preview.picture import channel_colors, composite, display_limits, overview
from napari_patchset.preview.plane import Plane
from napari_patchset.preview.raster import Raster, raster_of
from napari_patchset.preview.verdict_colors import COLORS, Category, categories

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
