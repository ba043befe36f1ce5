"""The patch grid on the image: outlines of the visible patches or, zoomed out, what is covered.

`GridOverlay.draw` takes the patches of the shown plane as a `PlaneGrid`; from then on the overlay
follows the camera. It draws a margin around the view, so that panning draws nothing new, and only
what differs from what its layers show already (a `_Drawing`). One patch is highlighted with what
it has in common with others: that under the mouse, the picked one, or an example. In a 3-D view,
patches with a depth axis are boxes.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_patchset.plugin.canvas.overlay_layers import NO_MESH, OverlayLayers, Space, along_yx
from napari_patchset.plugin.canvas.plane_grid import PlaneGrid
from napari_patchset.plugin.layers.viewer_images import plane_space, view_of
from napari_patchset.plugin.napari_compat import camera, canvas_resized
from napari_patchset.plugin.worker import single_shot_timer
from napari_patchset.preview.image import rgb
from napari_patchset.preview.outlines import (
    PlanePatches,
    Point,
    highlight_mesh,
    hull_segments,
    outline_segments,
    volume_segments,
)
from napari_patchset.preview.raster import PatchRaster, rasterize

MAX_OUTLINES = 2000
_MARGINS = (0.5, 0.2)
"""Fractions of the view that are drawn beyond it, the best one first."""

_THIN, _THICK = 1, 2
"""Width of a line on the screen at any zoom, in whole pixels so that all look the same."""

_SMALL = 24
"""Patches of fewer pixels on the screen have thin lines, which cover less of the image."""

_SAME_WIDTH = 1.25
"""Factor by which a line may thicken before it is redrawn; thinner, it would vanish."""

_SCALES = 0.6, 3.0
"""Factors by which lines scale at most while one zooms: thinner, they would vanish."""

_SHADE, _EXAMPLE_SHADE = 0.4, 0.25
"""Opacity of what a patch has in common with others, under the mouse and else."""

_FRAME, _PICKED_FRAME = 2, 4
"""Width of a frame on the screen, in pixels."""

_WAIT_MS = 30
"""Shortest time between redraws while the camera moves."""

_STILL_MS = 120
"""Time without a zoom until lines get their width again; while one zooms they scale."""


class Box(NamedTuple):
    """A part of the plane, by its YX corners in pixels of the image."""

    low: Point
    high: Point

    def contains(self, other: "Box") -> bool:
        """Return whether another part lies inside."""
        lows, highs = zip(self.low, other.low, strict=True), zip(other.high, self.high, strict=True)
        return all(a <= b for a, b in (*lows, *highs))

    def widened(self, fraction: float) -> "Box":
        """Return the box extended by a fraction of its size on every side."""
        low, high = np.array(self)
        margin = fraction * (high - low)
        return Box(*map(tuple, (low - margin, high + margin)))


class _Drawing(NamedTuple):
    """The content of the layers.

    Attributes
    ----------
    pixel : float
        Pixels of the image per pixel of the screen, along X.
    view : Box
        The part in view.
    outlined : Box or None
        Where the patches have outlines; None if the map is shown instead.
    colors : tuple of str
        The colour of each category.
    """

    patches: PlanePatches
    space: Space
    pixel: float
    view: Box
    outlined: Box | None
    colors: tuple[str, ...]

    def shows(self, patches: PlanePatches, space: Space, colors: tuple[str, ...]) -> bool:
        """Return whether it shows these patches at this place, in any view."""
        if self.colors != colors:
            return False
        same = all(np.array_equal(self.space[name], value) for name, value in space.items())
        return same and self.patches.looks_like(patches)

    def covers(self, view: Box) -> bool:
        """Return whether the drawing has what is seen in another view."""
        return self.outlined.contains(view) if self.outlined else self.view == view


def _is_same_width(drawn: float, pixel: float) -> bool:
    """Return whether lines that were drawn at one zoom suit another one."""
    return 0.999 < drawn / pixel < _SAME_WIDTH


class _Highlighted(NamedTuple):
    """What the highlight shows: rows of patches, -1 for none, and at which zoom."""

    patches: PlanePatches
    row: int
    picked: int
    pixel: float


class GridOverlay:
    """Draw the grid of one image, following its scale, translation and units, and the camera.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    parent : QObject
        Whose destruction ends it.
    """

    outlined = Signal(bool)
    """Whether patches have outlines now, or are too many for that in the view."""

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self._viewer = viewer
        self._layers = OverlayLayers(viewer)
        self.grid: PlaneGrid | None = None
        """The grid that is drawn."""
        self.hovered: int | None = None
        """The row of the patch under the mouse."""
        self._picked: int | None = None
        self._example: int | None = None
        self._zoomed_to = 0.0
        self._drawing: _Drawing | None = None
        self._highlighted: _Highlighted | None = None
        self._raster: PatchRaster | None = None
        self._soon = single_shot_timer(parent, self._follow, _WAIT_MS)
        self._still = single_shot_timer(parent, self._follow, _STILL_MS)
        self._layers.shown_again.connect(self._follow)
        camera(viewer).events.connect(self._follow_soon)
        canvas_resized(viewer).connect(self._follow_soon)
        viewer.dims.events.ndisplay.connect(self._follow_soon)

    @property
    def is_shown(self) -> bool:
        """Whether its layer exists: the user may remove it."""
        return self._layers.lines is not None

    @property
    def has_example(self) -> bool:
        """Whether a patch is framed that nobody points at or picked, to show the overlap."""
        framed = self._highlighted
        is_framed = framed is not None and framed.row >= 0
        return is_framed and self.hovered is None and self._picked is None

    def draw(self, grid: PlaneGrid, picked: int | None = None) -> None:
        """Draw the patches of a plane, one of them framed."""
        if self.grid is not None and self.grid.patches is not grid.patches:
            self._turn_to(self.grid.patches, grid.patches)
        self.grid, self._picked = grid, picked
        self._redraw()

    def _turn_to(self, before: PlanePatches, patches: PlanePatches) -> None:
        """Highlight the same place on another plane, unless its patches lie elsewhere."""
        known, shown = self._highlighted, None
        if before.looks_like(patches):
            self.hovered = before.row_on(patches, self.hovered)
            self._example = before.row_on(patches, self._example)
            if known and known.picked < 0:
                row = before.row_on(patches, known.row)
                shown = known._replace(patches=patches, row=_number(row))
        else:
            self.hovered = self._example = None
        self._highlighted = shown

    def hover(self, row: int | None) -> None:
        """Highlight the patch under the mouse; None for an example."""
        if row != self.hovered:
            self.hovered = row
            self._follow()

    def clear(self) -> None:
        """Draw nothing; the layers stay, so that they can be hidden and shown."""
        self.grid = self._raster = self._drawing = self._highlighted = None
        self._picked = self.hovered = self._example = None
        self._layers.clear()

    def release(self) -> None:
        """Stop following the camera, and release the image."""
        self.grid = self._raster = self._drawing = self._highlighted = None
        self._soon.stop()
        self._still.stop()
        self._layers.release()
        camera(self._viewer).events.disconnect(self._follow_soon)
        canvas_resized(self._viewer).disconnect(self._follow_soon)
        self._viewer.dims.events.ndisplay.disconnect(self._follow_soon)

    def lift(self) -> None:
        """Move the layers above those that came later."""
        self._layers.lift()

    def remove(self) -> None:
        """Remove the layers."""
        self._layers.remove()

    def _follow_soon(self, event: object = None) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _follow(self) -> None:
        if self.is_shown:
            self._redraw()

    def _redraw(self) -> None:
        """Draw what is missing; nothing while the grid is hidden."""
        if self.grid is None or self._layers.is_hidden:
            return
        pixel = float(1 / (camera(self._viewer).zoom * self.grid.image.scale[-1]))
        if self._viewer.dims.ndisplay == 3:
            self._draw_volumes(self.grid, pixel)
        else:
            view = Box(*view_of(self._viewer, self.grid.image))
            self._draw_grid(self.grid, view, pixel)
            self._draw_highlight(self.grid, view, pixel)
        self._zoomed_to = pixel

    def _has_width(self, drawn: float, pixel: float) -> bool:
        """Return whether lines may stay; they are drawn anew once the camera has come to rest."""
        if _is_same_width(drawn, pixel):
            return True
        is_moving = self._zoomed_to != pixel
        if is_moving and _SCALES[0] < drawn / pixel < _SCALES[1]:
            self._still.start()
            return True
        return False

    def _draw_grid(self, grid: PlaneGrid, view: Box, pixel: float) -> None:
        space, patches = plane_space(grid.image), grid.patches
        colors = grid.planned.drawn.colors
        drawing = self._drawing if self.is_shown else None
        same = drawing if drawing and drawing.shows(patches, space, colors) else None
        if same and same.covers(view) and self._has_width(same.pixel, pixel):
            return
        seen, outlined = _outlined(patches, view)
        is_map = not (outlined or (same and same.outlined))
        if same and is_map and _is_same_width(same.pixel, pixel):
            self._drawing = same._replace(view=view)
            return
        if not (drawing and drawing.colors == colors and drawing.patches.looks_like(patches)):
            self._raster = None
        self._drawing = _Drawing(patches, space, pixel, view, outlined, colors)
        self.outlined.emit(outlined is not None)
        if outlined:
            self._draw_outlines(patches[seen], pixel, space, colors)
            self._layers.show_map(False)
        else:
            self._draw_map(grid, pixel, space)

    def _draw_outlines(
        self, seen: PlanePatches, pixel: float, space: Space, colors: tuple[str, ...]
    ) -> None:
        is_small = (np.array(seen.size) < along_yx(_SMALL * pixel, space)).any()
        width = (_THIN if is_small else _THICK) * pixel
        lines = outline_segments(seen, along_yx(width / 2 + pixel, space))
        rgba = _rgba(colors)[lines.category]
        self._layers.draw_lines(lines.data, rgba, width, pixel, space)

    def _draw_map(self, grid: PlaneGrid, pixel: float, space: Space) -> None:
        """Draw the outline of what is covered, and which patches are not for training."""
        patches, planned = grid.patches, grid.planned
        has_map = bool(patches.category.any())
        if patches.axes is None or has_map:
            step = planned.shown_source.to_file(planned.step)
            colors = planned.drawn.colors
            self._raster = self._raster or rasterize(patches, (step[0], step[1]), colors)
        if patches.axes is not None:
            lines = hull_segments(patches)
        elif self._raster is not None:
            lines = self._raster.outline()
        rgba = _rgba(planned.drawn.colors)[[0] * len(lines)]
        self._layers.draw_lines(lines, rgba, _THICK * pixel, pixel, space)
        if self._raster is not None and has_map:
            self._layers.draw_map(self._raster, space)
        else:
            self._layers.show_map(False)

    def _draw_highlight(self, grid: PlaneGrid, view: Box, pixel: float) -> None:
        patches, is_outlined = grid.patches, bool(self._drawing and self._drawing.outlined)
        row = self.hovered if self.hovered is not None else self._picked
        if row is None and is_outlined:
            row = self._example = self._choose_example(grid, view)
        shown = _Highlighted(patches, _number(row), _number(self._picked), pixel)
        before = self._highlighted
        is_same = before and before[:3] == shown[:3]
        if before and is_same and self._has_width(before.pixel, pixel):
            return
        self._highlighted = shown
        boxes = {n: patches.box_of(n) for n in (row, self._picked) if n is not None}
        frames = [
            (box, _PICKED_FRAME if n == self._picked else _FRAME)
            for n, box in boxes.items()
            if box is not None
        ]
        box = boxes.get(row) if row is not None else None
        shaded = np.empty((0, 2, 2)) if box is None else patches.overlaps(box)
        shade = _SHADE if row == self.hovered else _EXAMPLE_SHADE
        pixels = along_yx(pixel, plane_space(grid.image))
        mesh = highlight_mesh(shaded, frames, pixels, shade) if frames else NO_MESH
        self._layers.draw_highlight(mesh, plane_space(grid.image))

    def _choose_example(self, grid: PlaneGrid, view: Box) -> int | None:
        """Return a patch that overlaps others by choice; the same one as long as it is in view.

        Those at the border overlap whatever is chosen: nobody asks to see how.
        """
        planned = grid.planned
        if planned.steps[-2:] == planned.grid.size[-2:]:
            return None
        patches = grid.patches
        box = None if self._example is None else patches.box_of(self._example)
        if box is not None and view.contains(Box(*map(tuple, box))):
            return self._example
        seen = patches[patches.in_view(*view)]
        (top, left), (bottom, right) = view
        return seen.example((top + bottom) / 2, (left + right) / 2)

    def _draw_volumes(self, grid: PlaneGrid, pixel: float) -> None:
        """Draw patches of a 3-D view: as boxes if they have its first axis, else on their plane."""
        self._drawing = self._highlighted = None
        image, info = grid.image, grid.planned.shown_source
        rgba = _rgba(grid.planned.drawn.colors)
        width, space = _THICK * pixel, plane_space(image, 3)
        axis = str(image.axis_labels[-3]).upper() if image.ndim > 2 else ""
        if axis == info.depth_axis:
            volumes = grid.volumes()
            volumes = volumes[_evenly(len(volumes), MAX_OUTLINES)]
            depths = grid.planned.grid.start[volumes.rows, 0]
            size = (grid.planned.grid.size[0], *volumes.size)
            lines = volume_segments(np.column_stack([depths, volumes.start]), size)
            white = len(rgba) - 1
            categories = np.where(volumes.rows == self._picked, white, volumes.category)
            colors = rgba[np.tile(categories, len(lines) // max(1, len(volumes)))]
        else:
            plane = grid.patches[_evenly(len(grid.patches), MAX_OUTLINES)]
            flat, place = outline_segments(plane), info.layout.unravel(grid.sample)
            lines = np.insert(flat.data, 0, 0, axis=2)
            lines[:, 0, 0] = dict(place).get(axis, 0)
            colors = rgba[flat.category]
        self._layers.draw_lines(lines, colors, width, pixel, space)
        self._layers.draw_highlight(NO_MESH, {})
        self._layers.show_map(False)


@cache
def _rgba(colors: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the colour, RGBA, of each category; the last one is white."""
    return np.array([[*rgb(color), 1] for color in (*colors, "#ffffff")])


def _number(row: int | None) -> int:
    return -1 if row is None else row


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return the indices of as many as can be drawn, evenly spaced."""
    return np.arange(0, count, max(1, -(-count // most)))


def _outlined(patches: PlanePatches, view: Box) -> tuple[NDArray[np.int64], Box | None]:
    """Return the patches to outline and their box; none if there are too many."""
    seen = patches.in_view(*view)
    if len(seen) > MAX_OUTLINES:
        return seen[:0], None
    # Those of one colour share their lines.
    most = MAX_OUTLINES * (4 if patches[seen].is_uniform else 1)
    for fraction in _MARGINS:
        wide = view.widened(fraction)
        if len(more := patches.in_view(*wide)) <= most:
            return more, wide
    return seen, view
