"""A region that is drawn on the image, as a napari Shapes layer."""

import numpy as np
from napari.layers import Image, Labels, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.regions import Polygon, Rectangle
from napari_patchset.plugin.shown import plane_space
from napari_patchset.source import SourceInfo

REGION_NAME = "Patch region"
_ELLIPSE_CORNERS = 128


def add_region_layer(viewer: Viewer, image: Image) -> Shapes:
    """Add a layer in which the next drag on the image draws a rectangle."""
    layer = Shapes(
        name=REGION_NAME,
        face_color="transparent",
        edge_color="#ffffff",
        edge_width=2,
        **plane_space(image),
    )
    viewer.add_layer(layer)
    layer.mode = "add_rectangle"
    return layer


def add_mask_layer(viewer: Viewer, mask: NDArray[np.bool_], image: Image) -> Labels:
    """Add a layer that says where a mask lies on the image."""
    layer = Labels(mask.view(np.uint8), name=REGION_NAME, **plane_space(image))
    viewer.add_layer(layer)
    return layer


def draw_region(layer: Shapes, region: Polygon | Rectangle, image: Image) -> None:
    """Draw a region of an image into a layer."""
    x, y, w, h = region.bounds
    box = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    corners = region.points if isinstance(region, Polygon) else box
    outer = (0.0,) * (image.ndim - 2)
    world = [image.data_to_world((*outer, y - 0.5, x - 0.5))[-2:] for x, y in corners]
    layer.add_polygons([np.array([layer.world_to_data(point) for point in world])])


def region_of(layer: Shapes, image: Image, info: SourceInfo) -> Polygon | None:
    """Give the shape of a layer as a region of an image, None if nothing is drawn yet.

    Raises
    ------
    ArgumentError
        If several shapes are drawn, or one that encloses nothing.
    """
    if not len(layer.data):
        return None
    if len(layer.data) > 1:
        raise ArgumentError(
            f"{layer.name} has {len(layer.data)} shapes; draw one, a polygon if need be."
        )
    if layer.shape_type[0] in ("line", "path"):
        raise ArgumentError(f"{layer.name} has a {layer.shape_type[0]}; draw a closed shape.")
    outer = (0.0,) * (image.ndim - 2)
    drawn = _ellipse(layer.data[0]) if layer.shape_type[0] == "ellipse" else layer.data[0]
    corners = [layer.data_to_world(corner)[-2:] for corner in drawn]
    # napari measures from the centre of the first pixel, a region from its corner.
    pixels = [np.array(image.world_to_data((*outer, *corner))[-2:]) + 0.5 for corner in corners]
    points = tuple((round(float(x), 3), round(float(y), 3)) for y, x in pixels)
    return Polygon(points=points, source=info.key, scene=info.scene)


def _ellipse(box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give the corners of a polygon that is an ellipse in a box, given by its corners in order."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    along, across = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    corners: NDArray[np.floating] = (
        box.mean(axis=0) + np.cos(angles) * along + np.sin(angles) * across
    )
    return corners
