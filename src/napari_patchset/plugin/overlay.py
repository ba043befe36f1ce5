"""The grid over the image: vectors, in the image's own scale, for the shown plane only."""

from typing import Any

import numpy as np
from napari.layers import Image, Vectors
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.preview import OUTLINE_COLOR, outlines

LAYER_NAME = "Patch grid"
_SCREEN_PIXELS = 1.5
"""Width of a line on the screen, whatever the zoom."""


class GridOverlay:
    """Draw the grid of one image, following its scale, translation and units."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Vectors | None = None
        viewer.scene.camera.events.zoom.connect(self._keep_width)

    @property
    def layer(self) -> Vectors | None:
        """The layer that shows the grid, None if there is none or it was removed."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def draw(self, grid: PatchGrid, image: Image) -> None:
        """Draw the patches of the shown plane over an image."""
        vectors = outlines(grid)
        layer = self.layer
        if layer is None:
            self._add(vectors, image)
            return
        layer.data = vectors
        for name, value in _space(image).items():
            setattr(layer, name, value)
        self._keep_width()

    def clear(self) -> None:
        """Draw nothing; the layer stays, so that it can be hidden and shown."""
        if self.layer is not None:
            self.layer.data = np.empty((0, 2, 2))

    def disconnect(self) -> None:
        """Follow the zoom no longer."""
        self._viewer.scene.camera.events.zoom.disconnect(self._keep_width)

    def remove(self) -> None:
        """Take the layer away."""
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)

    def _add(self, vectors: NDArray[np.float64], image: Image) -> None:
        selected = self._viewer.layers.selection.active
        # Adding a layer moves the sliders, which draws: by then the layer must be known.
        self._layer = Vectors(
            vectors,
            name=LAYER_NAME,
            edge_color=OUTLINE_COLOR,
            edge_width=self._width(image),
            vector_style="line",
            opacity=0.9,
            **_space(image),
        )
        self._viewer.add_layer(self._layer)
        self._viewer.layers.selection.active = selected

    def _keep_width(self) -> None:
        if self.layer is not None:
            self.layer.edge_width = self._width(self.layer)

    def _width(self, layer: Any) -> float:
        """Give the width in pixels of the image that shows as `_SCREEN_PIXELS` on the screen."""
        return float(_SCREEN_PIXELS / (self._viewer.scene.camera.zoom * layer.scale[-1]))


def _space(image: Image) -> dict[str, Any]:
    return {
        "scale": image.scale[-2:],
        "translate": image.translate[-2:],
        "units": image.units[-2:],
        "axis_labels": image.axis_labels[-2:],
    }
