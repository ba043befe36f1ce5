"""What of a source patches may lie in: regions of a plane, ranges of its other axes, its tiles."""

from typing import Annotated

from pydantic import Field

from napari_patchset.patching.regions.base import Area, Mask, Masks
from napari_patchset.patching.regions.mask import MaskRegion
from napari_patchset.patching.regions.shapes import Point, Polygon, Rectangle, ShapesRegion

__all__ = [
    "Area",
    "Mask",
    "MaskRegion",
    "Masks",
    "Point",
    "Polygon",
    "Rectangle",
    "Region",
    "ShapesRegion",
]

Region = Annotated[Rectangle | Polygon | ShapesRegion | MaskRegion, Field(discriminator="kind")]
"""Every region that a plan can name."""
