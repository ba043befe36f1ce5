"""The patch grid on the image: outlines of the visible patches or, zoomed out, a map of categories.

`GridOverlay.draw` takes the patches of the shown plane as a `PlaneGrid`; from then on the overlay
follows the camera. It draws a margin around the view, so that panning draws nothing new, and only
what differs from what its two layers show already (a `_Drawing`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_patchset.plugin.canvas.overlay_layers import OverlayLayers, Space
from napari_patchset.plugin.layers.viewer_images import YX, plane_space, view_of
from napari_patchset.plugin.napari_compat import camera, canvas_resized
from napari_patchset.plugin.planning import PlanPreview
from napari_patchset.plugin.worker import single_shot_timer
from napari_patchset.preview.categories import CATEGORY_COLORS
from napari_patchset.preview.image import rgb
from napari_patchset.preview.outlines import PlanePatches, Point, outline_segments
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

_COLORS = np.array([[*rgb(color), 1] for color in (*CATEGORY_COLORS, "#ffffff")])
_PICKED = len(CATEGORY_COLORS)
_FRAME_LINES = 3

_WAIT_MS = 30
"""Shortest time between redraws while the camera moves."""


class PlaneGrid(NamedTuple):
    """The patches of a plan on the plane of an image that the sliders show.

    Attributes
    ----------
    planned : PlanPreview
        The plan.
    image : Image
        The layer that shows its image.
    sample, depth : int
        The plane, as patches count them.
    patches : PlanePatches
        The patches there.
    """

    planned: PlanPreview
    image: Image
    sample: int
    depth: int
    patches: PlanePatches

    @classmethod
    def find(
        cls, planned: PlanPreview, image: Image, plane: tuple[int, int], before: "PlaneGrid | None"
    ) -> "PlaneGrid":
        """Select the patches of a plane, reusing an earlier selection."""
        if before is not None and before._has_patches_of(planned, plane):
            patches = before.patches
        else:
            patches = PlanePatches.from_grid(
                planned.grid, planned.category, planned.state.shown_index, *plane
            ).scaled(planned.shown_source.ratio)
        return cls(planned, image, *plane, patches)

    def _has_patches_of(self, planned: PlanPreview, plane: tuple[int, int]) -> bool:
        return (
            self.planned.grid is planned.grid
            and self.planned.category is planned.category
            and self.planned.state.shown_index == planned.state.shown_index
            and (self.sample, self.depth) == plane
        )


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
        Pixels of the image per pixel of the screen.
    view : Box
        The part in view.
    outlined : Box or None
        Where the patches have outlines; None if the map is shown instead.
    """

    patches: PlanePatches
    picked: YX | None
    space: Space
    pixel: float
    view: Box
    outlined: Box | None

    def shows(self, patches: PlanePatches, picked: YX | None, space: Space) -> bool:
        """Return whether it shows these patches at this place, in any view."""
        same = all(np.array_equal(self.space[name], value) for name, value in space.items())
        return same and self.picked == picked and self.patches.looks_like(patches)

    def is_valid_for(self, view: Box, pixel: float) -> bool:
        """Return whether the drawing would be the same for another view."""
        inside = self.outlined.contains(view) if self.outlined else self.view == view
        return inside and self.has_lines_for(pixel)

    def has_lines_for(self, pixel: float) -> bool:
        """Return whether its lines suit another zoom."""
        return 0.999 < self.pixel / pixel < _SAME_WIDTH


class GridOverlay:
    """Draw the grid of one image, following its scale, translation and units, and the camera.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    parent : QObject
        Whose destruction ends it.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        self._viewer = viewer
        self._layers = OverlayLayers(viewer)
        self.grid: PlaneGrid | None = None
        """The grid that is drawn."""
        self._picked: YX | None = None
        self._drawing: _Drawing | None = None
        self._raster: PatchRaster | None = None
        self._soon = single_shot_timer(parent, self._follow, _WAIT_MS)
        self._layers.shown_again.connect(self._follow)
        camera(viewer).events.connect(self._follow_soon)
        canvas_resized(viewer).connect(self._follow_soon)

    @property
    def is_shown(self) -> bool:
        """Whether its layer exists: the user may remove it."""
        return self._layers.lines is not None

    def draw(self, grid: PlaneGrid, picked: YX | None = None) -> None:
        """Draw the patches of a plane, one of them framed."""
        self.grid, self._picked = grid, picked
        self._redraw()

    def clear(self) -> None:
        """Draw nothing; the layers stay, so that they can be hidden and shown."""
        self.grid = self._raster = self._picked = self._drawing = None
        self._layers.clear()

    def release(self) -> None:
        """Stop following the camera, and release the image."""
        self.grid = self._raster = self._drawing = None
        self._soon.stop()
        self._layers.release()
        camera(self._viewer).events.disconnect(self._follow_soon)
        canvas_resized(self._viewer).disconnect(self._follow_soon)

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
        image, patches = self.grid.image, self.grid.patches
        space, view = plane_space(image), Box(*view_of(self._viewer, image))
        pixel = float(1 / (camera(self._viewer).zoom * image.scale[-1]))
        drawing = self._drawing if self.is_shown else None
        same = drawing if drawing and drawing.shows(patches, self._picked, space) else None
        if same and same.is_valid_for(view, pixel):
            return
        seen, outlined = _outlined(patches, view)
        is_map = not (outlined or (same and same.outlined))
        if same and is_map and (same.has_lines_for(pixel) or not self._picked):
            self._drawing = same._replace(view=view)
            return
        if not (drawing and drawing.patches.looks_like(patches)):
            self._raster = None
        self._drawing = _Drawing(patches, self._picked, space, pixel, view, outlined)
        self._draw_lines(self.grid, seen, self._drawing)
        if outlined:
            self._layers.show_map(False)
        else:
            planned = self.grid.planned
            height, width = planned.shown_source.to_file(planned.step)
            self._raster = self._raster or rasterize(patches, (height, width))
            self._layers.draw_map(self._raster, space)

    def _draw_lines(self, grid: PlaneGrid, rows: NDArray[np.int64], drawing: _Drawing) -> None:
        seen = grid.patches[rows]
        is_small = min(seen.size) < _SMALL * drawing.pixel
        width = (_THIN if is_small else _THICK) * drawing.pixel
        lines = outline_segments(seen, width)
        data, colors = lines.data, _COLORS[lines.category]
        if drawing.picked is not None:
            shown = grid.planned.shown_source
            shape = shown.to_file(shown.spatial_shape[-2:])
            frame = _frame(drawing.picked, seen.size, width, shape)
            data = np.concatenate([data, frame])
            colors = np.append(colors, _COLORS[[_PICKED] * len(frame)], axis=0)
        self._layers.draw_lines(data, colors, width, drawing.space)


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


def _frame(
    start: YX, size: tuple[int, int], width: float, shape: Sequence[int]
) -> NDArray[np.float64]:
    """Return the lines of a thick frame: outlines around each other, each of a width in pixels.

    It lies around the patch; at the border of the image, of a shape YX, within the patch, since
    napari's home view shows the middle of all that is drawn.
    """
    first, stop = np.array(start), np.add(start, size)
    thickness = _FRAME_LINES * width
    at_start, at_end = first < thickness, stop + thickness > shape
    boxes = []
    for n in range(_FRAME_LINES):
        away = (n + 0.5) * width
        low = np.where(at_start, first + away, first - away) - 0.5
        high = np.where(at_end, stop - away, stop + away) - 0.5
        down, right = np.diag(high - low)
        boxes += [(low, right), (low, down), (low + down, right), (low + right, down)]
    return np.array(boxes)
