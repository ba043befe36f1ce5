"""A region that is drawn on the image, as a napari Shapes layer."""

import numpy as np
from napari.layers import Image, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.regions import Polygon
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
        scale=image.scale[-2:],
        translate=image.translate[-2:],
        units=image.units[-2:],
        axis_labels=image.axis_labels[-2:],
    )
    viewer.add_layer(layer)
    layer.mode = "add_rectangle"
    return layer


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
