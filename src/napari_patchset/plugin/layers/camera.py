"""Bring a patch into sight."""

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_patchset.plugin.layers.shown import view_of

_PATCH, _ALL = 0.4, 0.95
"""How much of the view a patch takes that is zoomed to, and an image."""

Corner = tuple[int, int]


def bring_into_view(viewer: Viewer, image: Image, start: Corner, size: Corner) -> None:
    """Move the view to a part of an image, YX in its pixels, unless all of it is in sight."""
    low, high = view_of(viewer, image)
    stop = np.add(start, size)
    if np.any(np.less(start, low)) or np.any(np.greater(stop, high)):
        _centre(viewer, image, start, size)


def zoom_to(viewer: Viewer, image: Image, start: Corner, size: Corner) -> None:
    """Fill much of the view with a patch of an image."""
    _zoom(viewer, image, start, size, _PATCH)


def show_all(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image."""
    _zoom(viewer, image, (0, 0), _extent(image), _ALL)


def show_unseen(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image that no part of is in sight, as its file lies elsewhere."""
    low, high = view_of(viewer, image)
    if np.any(np.less_equal(high, 0)) or np.any(np.greater_equal(low, _extent(image))):
        show_all(viewer, image)


def _extent(image: Image) -> Corner:
    shape = image.level_shapes[0] if image.multiscale else image.data.shape
    height, width = shape[image.ndim - 2 : image.ndim]
    return int(height), int(width)


def _zoom(viewer: Viewer, image: Image, start: Corner, size: Corner, share: float) -> None:
    extent = np.multiply(size, image.scale[-2:])
    viewer.scene.camera.zoom = float(share * min(np.divide(viewer.canvas.size, extent)))
    _centre(viewer, image, start, size)


def _centre(viewer: Viewer, image: Image, start: Corner, size: Corner) -> None:
    # napari measures from the centre of the first pixel, a patch from its corner.
    middle = np.add(start, np.divide(size, 2)) - 0.5
    outer = (0.0,) * (image.ndim - 2)
    world = image.data_to_world((*outer, *middle))[-2:]
    camera = viewer.scene.camera
    camera.center = (*camera.center[:-2], *world)
