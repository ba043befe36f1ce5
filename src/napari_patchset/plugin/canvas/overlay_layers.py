"""The layers of the grid: outlines, one highlighted patch, and a map for too many outlines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Image, Surface, Vectors
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal

from napari_patchset.plugin.layers.scene import METADATA_KEY, OVERLAY
from napari_patchset.plugin.napari_compat import (
    draw_in_own_context,
    drawn_once,
    keep_program,
    limit_thumbnail,
    move_mesh,
    set_mesh,
)
from napari_patchset.preview.outlines import Mesh, halo
from napari_patchset.preview.raster import PatchRaster

GRID_NAME = "Patch grid"
MAP_NAME = "Patch map"
HIGHLIGHT_NAME = "Patch highlight"
OVERLAYS = (MAP_NAME, GRID_NAME, HIGHLIGHT_NAME)
"""The lowest first."""

_HALO = (0, 0, 0, 0.6)

_NOTHING = Mesh(np.zeros((3, 2)), np.array([[0, 1, 2]]), np.zeros((3, 4), np.float32))
NO_MESH = _NOTHING._replace(faces=_NOTHING.faces[:0])
"""napari can't draw a surface without a triangle: it gets one that is invisible."""
_MAX_IN_THUMBNAIL = 16
"""napari draws a layer's thumbnail line by line, in Python."""

Space = Mapping[str, Any]
"""The position of an image's planes, as options of a flat layer: see `plane_space`."""


class OverlayLayers:
    """Add, change and remove the layers. Redraw only what changed, once."""

    shown_again = Signal()
    """Emitted when a hidden grid is shown again."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[str, Image | Vectors | Surface] = {}
        self._raster: PatchRaster | None = None
        self._mesh = NO_MESH
        viewer.layers.events.removing.connect(self._on_removing)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def lines(self) -> Vectors | None:
        """The layer of the lines, None if it is not there or was removed."""
        return self._layer(GRID_NAME)

    @property
    def is_hidden(self) -> bool:
        """Whether the user hides the grid, and so its map."""
        return self.lines is not None and not self.lines.visible

    def draw_lines(
        self,
        lines: NDArray[np.float64],
        colors: NDArray[np.float64],
        width: float,
        pixel: float,
        space: Space,
    ) -> None:
        """Show lines, each with a dark halo that makes it legible on any image.

        Parameters
        ----------
        lines : float64 array, (n, 2, 2) or (n, 2, 3)
            Start and extent of each; those in space have no halo.
        colors : float64 array, (n, 4)
            RGBA.
        width, pixel : float
            The width of a line, and of a pixel of the screen, in pixels of the image along X.
        """
        n_axes = lines.shape[2]
        lines, space = _in_square_pixels(lines, space)
        if n_axes == 2 and len(lines):
            around = halo(lines, pixel)
            lines = np.concatenate([around, lines])
            colors = np.concatenate([np.resize(_HALO, (len(around), 4)), colors])
        layer = self.lines
        if layer is not None and layer.ndim != n_axes:
            self._viewer.layers.remove(layer)
            layer = None
        if layer is None:
            self._add_lines(lines, colors, width, space)
        elif not len(lines):
            _update(layer, space)
            if len(layer.data):
                layer.data = lines
        elif not self._has_lines(layer, lines, colors, width, space):
            with layer.events.set_data.blocker():
                _update(layer, {**space, "edge_width": width})
                layer.data = lines
            layer.edge_color = colors  # draws all of it

    @staticmethod
    def _has_lines(
        layer: Vectors,
        lines: NDArray[np.float64],
        colors: NDArray[np.float64],
        width: float,
        space: Space,
    ) -> bool:
        same = all(np.array_equal(getattr(layer, name), value) for name, value in space.items())
        same &= layer.edge_width == width and np.array_equal(layer.data, lines)
        return bool(same and np.allclose(layer.edge_color, colors))

    def draw_highlight(self, mesh: Mesh, space: Space) -> None:
        """Show a mesh above the lines, whose user may hide it; one without triangles is nothing."""
        layer, before = self._layer(HIGHLIGHT_NAME), self._mesh
        self._mesh, is_empty = mesh, not len(mesh.faces)
        if is_empty and (layer is None or not len(before.faces)):
            return
        vertices, faces, colors = _NOTHING if is_empty else mesh
        data = vertices, faces
        if layer is not None:
            _update(layer, space)
            if not before.equals(mesh):
                is_moved = len(before.faces) and not is_empty
                (move_mesh if is_moved else set_mesh)(layer, data, colors)
        else:
            options = {**space, "blending": "translucent_no_depth", "shading": "none"}
            options |= {"vertex_colors": colors, "metadata": _mark(HIGHLIGHT_NAME)}
            self._add(Surface(data, name=HIGHLIGHT_NAME, **options))

    def draw_map(self, raster: PatchRaster, space: Space) -> None:
        """Show a map; the one that is shown already is not drawn again."""
        affine = _cells_to_pixels(raster, space)
        layer = self._layer(MAP_NAME)
        if layer is None:
            options = {**space, "affine": affine, "blending": "translucent_no_depth"}
            options["metadata"] = _mark(MAP_NAME)
            self._add(Image(raster.picture, name=MAP_NAME, rgb=True, **options))
        else:
            with drawn_once(layer):
                if raster is not self._raster:
                    layer.data = raster.picture
                _update(layer, space)
                layer.affine = affine  # a hidden layer would recompute its extent for this only
        self._raster = raster
        self.show_map(True)

    def show_map(self, shown: bool) -> None:
        """Show or hide the map. It stays hidden while the grid is."""
        layer, wanted = self._layer(MAP_NAME), shown and not self.is_hidden and bool(self.lines)
        if layer is not None and layer.visible != wanted:
            layer.visible = wanted

    def clear(self) -> None:
        """Show nothing; the layers stay, so that they can be hidden and shown."""
        self._raster = None
        if self.lines is not None and len(self.lines.data):
            self.lines.data = np.empty((0, 2, self.lines.ndim))
        self.show_map(False)
        self.draw_highlight(NO_MESH, {})

    def lift(self) -> None:
        """Put the layers above those that came later."""
        layers = self._viewer.layers
        ours = [layer for name in OVERLAYS if (layer := self._layer(name)) is not None]
        if list(layers)[len(layers) - len(ours) :] != ours:
            for layer in ours:
                layers.move(layers.index(layer), len(layers))

    def remove(self) -> None:
        """Remove the layers."""
        for name in OVERLAYS:
            if (layer := self._layer(name)) is not None:
                self._viewer.layers.remove(layer)

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.layers.events.removing.disconnect(self._on_removing)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _on_removing(self) -> None:
        draw_in_own_context(self._viewer)

    def _on_removed(self) -> None:
        if self.lines is None:
            self.draw_highlight(NO_MESH, {})

    def _layer(self, name: str) -> Any:
        layer = self._layers.get(name)
        return layer if layer is not None and layer in self._viewer.layers else None

    def _add_lines(
        self, lines: NDArray[np.float64], colors: NDArray[np.float64], width: float, space: Space
    ) -> None:
        options = {**space, "edge_width": width, "vector_style": "line", "opacity": 1}
        options["metadata"] = _mark(GRID_NAME)
        layer = Vectors(lines, name=GRID_NAME, **options)
        limit_thumbnail(layer, _MAX_IN_THUMBNAIL)
        if len(lines):
            layer.edge_color = colors
        layer.events.visible.connect(self._on_visible)
        self._add(layer)

    def _add(self, layer: Image | Vectors | Surface) -> None:
        selection = self._viewer.layers.selection
        chosen = [*selection]
        # Adding a layer moves the sliders, which redraws: the layer must be registered by then.
        self._layers[layer.name] = layer
        with selection.events.blocker_all():  # what is chosen stays: nothing of the window changes
            self._viewer.add_layer(layer)
            if len(chosen) == 1:
                selection.active = chosen[0]
            else:
                selection.clear()
                selection.update(chosen)
        if not isinstance(layer, Image):
            keep_program(self._viewer, layer)

    def _on_visible(self) -> None:
        if self.is_hidden:
            self.show_map(False)
            self.draw_highlight(NO_MESH, {})
        else:
            self.shown_again.emit()


def _mark(name: str) -> dict[str, Any]:
    """Return the metadata that mark a layer as drawn by the plugin."""
    return {METADATA_KEY: {OVERLAY: name}}


def along_yx(length: float, space: Space) -> NDArray[np.float64]:
    """Return a length in pixels along X as pixels along Y and X, which may have other sizes."""
    y, x = space["scale"][-2:]
    return np.array([length * x / y, length])


def _in_square_pixels(
    lines: NDArray[np.float64], space: Space
) -> tuple[NDArray[np.float64], Space]:
    """Return lines in pixels that are as high as wide, so that lines of one width look the same."""
    scale = np.array(space["scale"])
    if scale[-2] == scale[-1]:
        return lines, space
    stretch = np.ones_like(scale)
    stretch[-2] = scale[-2] / scale[-1]
    return lines * stretch, {**space, "scale": scale / stretch}


def _cells_to_pixels(raster: PatchRaster, space: Space) -> NDArray[np.float64]:
    """Return the affine from raster cells to world coordinates; scale and translate draw twice."""
    cell = np.array(raster.cell)
    centre = np.array(raster.low) + (cell - 1) / 2
    affine = np.diag([*cell, 1.0])
    affine[:2, 2] = space["scale"] * centre + space["translate"] * (1 - cell)
    return affine


def _update(layer: Image | Vectors | Surface, options: Space) -> None:
    """Set only the values that differ, since each setting redraws."""
    for name, value in options.items():
        if not np.array_equal(getattr(layer, name), value):
            setattr(layer, name, value)
