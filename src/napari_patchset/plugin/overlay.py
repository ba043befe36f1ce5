"""The grid over the image: outlines of what is in view or, zoomed out, a map of verdicts."""

from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Vectors
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_patchset.plugin.layers import METADATA_KEY, OVERLAY
from napari_patchset.plugin.shown import plane_space, view_of
from napari_patchset.preview import COLORS, Plane, Raster, outlines, raster_of

GRID_NAME = "Patch grid"
MAP_NAME = "Patch map"
OVERLAYS = (GRID_NAME, MAP_NAME)

MOST_OUTLINES = 2000
_LINE_PIXELS = 1.5
"""Width of a line on the screen, whatever the zoom."""
_MAP_OPACITY = 0.45
_PICKED_COLOR = "#ffffff"
_WAIT_MS = 30
"""A camera that moves on is followed no more often than that."""


class Grid(NamedTuple):
    """What is drawn: the patches of the shown plane, how far they lie apart, and their image."""

    plane: Plane
    step: tuple[int, int]
    image: Image


class GridOverlay:
    """Draw the grid of one image, following its scale, translation and units, and the camera.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    parent : QObject
        Whose destruction ends it: what has no parent is gone before that, when the program ends.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self._viewer = viewer
        self._layers: dict[str, Image | Vectors] = {}
        self._grid: Grid | None = None
        self._raster: Raster | None = None
        self._picked: tuple[int, int] | None = None
        self._soon = QTimer(parent)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_WAIT_MS)
        self._soon.timeout.connect(self._follow)
        viewer.scene.camera.events.connect(self._follow_soon)
        viewer.canvas.events.size.connect(self._follow_soon)

    @property
    def grid(self) -> Grid | None:
        """What is drawn now."""
        return self._grid

    @property
    def is_shown(self) -> bool:
        """Whether its layer is there: a person may take it away."""
        return self._layer(GRID_NAME) is not None

    def draw(self, grid: Grid, picked: tuple[int, int] | None = None) -> None:
        """Draw the patches of a plane.

        Parameters
        ----------
        grid : Grid
            What to draw.
        picked : tuple of int or None
            Start along YX of the patch that is framed.
        """
        if self._grid is None or self._grid.plane is not grid.plane:
            self._raster = None
        self._grid, self._picked = grid, picked
        self._redraw()

    def clear(self) -> None:
        """Draw nothing; the layers stay, so that they can be hidden and shown."""
        self._grid = self._raster = self._picked = None
        if (layer := self._layer(GRID_NAME)) is not None:
            layer.data = np.empty((0, 2, 2))
        self._show_map(False)

    def disconnect(self) -> None:
        """Follow the camera no longer, and let go of the image."""
        self._grid = self._raster = None
        self._soon.stop()
        self._viewer.scene.camera.events.disconnect(self._follow_soon)
        self._viewer.canvas.events.size.disconnect(self._follow_soon)

    def lift(self) -> None:
        """Put the layers above those that came later."""
        layers = self._viewer.layers
        for name in (MAP_NAME, GRID_NAME):
            layer = self._layer(name)
            if layer is not None and layers[-1] is not layer:
                layers.move(layers.index(layer), len(layers))

    def remove(self) -> None:
        """Take the layers away."""
        for name in OVERLAYS:
            if (layer := self._layer(name)) is not None:
                self._viewer.layers.remove(layer)

    def _follow_soon(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _follow(self) -> None:
        if self.is_shown:
            self._redraw()

    def _redraw(self) -> None:
        if self._grid is None:
            return
        plane, _, image = self._grid
        seen = plane.in_view(*view_of(self._viewer, image))
        too_many = len(seen) > MOST_OUTLINES
        pixel = self._pixel(image)
        lines = outlines(plane[seen[:0] if too_many else seen], _LINE_PIXELS * pixel)
        colors = np.array([*COLORS, _PICKED_COLOR])[lines.category]
        data = lines.data
        if self._picked is not None:
            frame = _frame(self._picked, plane.size, pixel)
            data = np.concatenate([data, frame])
            colors = np.append(colors, [_PICKED_COLOR] * len(frame))
        self._draw_lines(data, colors, pixel, image)
        self._draw_map(too_many)

    def _draw_lines(
        self, data: NDArray[np.float64], colors: NDArray[np.str_], pixel: float, image: Image
    ) -> None:
        options = {**plane_space(image), "edge_width": _LINE_PIXELS * pixel}
        layer = self._layer(GRID_NAME)
        if layer is None:
            options |= {"vector_style": "line", "opacity": 0.9}
            layer = self._add(Vectors(data, name=GRID_NAME, **options))
        else:
            _update(layer, options)
            layer.data = data
        if len(data):
            layer.edge_color = colors

    def _draw_map(self, shown: bool) -> None:
        if shown and self._grid is not None:
            raster = self._raster or raster_of(self._grid.plane, self._grid.step)
            options = _map_space(self._grid.image, raster)
            layer = self._layer(MAP_NAME)
            if layer is None:
                options |= {"opacity": _MAP_OPACITY, "blending": "translucent_no_depth"}
                options["metadata"] = {METADATA_KEY: {OVERLAY: MAP_NAME}}
                self._add(Image(raster.picture, name=MAP_NAME, rgb=True, **options))
            else:
                _update(layer, options)
                if raster is not self._raster:
                    layer.data = raster.picture
            self._raster = raster
        self._show_map(shown)

    def _show_map(self, shown: bool) -> None:
        """Show or hide the map; who hides the grid wants neither."""
        layer, grid = self._layer(MAP_NAME), self._layer(GRID_NAME)
        if layer is not None:
            layer.visible = shown and grid is not None and grid.visible

    def _layer(self, name: str) -> Any:
        """Give one of the layers, None if it is not there or was removed."""
        layer = self._layers.get(name)
        return layer if layer is not None and layer in self._viewer.layers else None

    def _add(self, layer: Image | Vectors) -> Image | Vectors:
        selected = self._viewer.layers.selection.active
        # Adding a layer moves the sliders, which draws: by then the layer must be known.
        self._layers[layer.name] = layer
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = selected
        return layer

    def _pixel(self, image: Image) -> float:
        """Give the pixels of the image that one of the screen shows."""
        return float(1 / (self._viewer.scene.camera.zoom * image.scale[-1]))


def _frame(start: tuple[int, int], size: tuple[int, int], pixel: float) -> NDArray[np.float64]:
    """Give the lines of a thick frame: three outlines around each other."""
    boxes = []
    for n in range(3):
        away = (n + 0.5) * _LINE_PIXELS * pixel
        low = np.array(start) - 0.5 - away
        down, right = np.diag(np.array(size) + 2 * away)
        boxes += [(low, right), (low, down), (low + down, right), (low + right, down)]
    return np.array(boxes)


def _map_space(image: Image, raster: Raster) -> dict[str, Any]:
    space, cell = plane_space(image), np.array(raster.cell)
    centre = np.array(raster.low) + (cell - 1) / 2
    moved = {
        "scale": space["scale"] * cell,
        "translate": space["translate"] + space["scale"] * centre,
    }
    return space | moved


def _update(layer: Image | Vectors, options: dict[str, Any]) -> None:
    """Set what differs: each setting is drawn."""
    for name, value in options.items():
        if not np.array_equal(getattr(layer, name), value):
            setattr(layer, name, value)
