"""The grid over the image: outlines of what is in view or, zoomed out, a map of verdicts.

What of the grid is on the screen, and whether it does for another view.
"""

from typing import NamedTuple

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_patchset.plugin.canvas.overlay_layers import OverlayLayers, Space
from napari_patchset.plugin.layers.shown import plane_space, view_of
from napari_patchset.plugin.napari_compat import camera, canvas_resized
from napari_patchset.plugin.worker import later
from napari_patchset.preview.image import rgb
from napari_patchset.preview.outlines import PlanePatches, Point, outline_segments
from napari_patchset.preview.patch_colors import CATEGORY_COLORS
from napari_patchset.preview.raster import PatchRaster, rasterize

_NEARLY = 1.25
"""A line may become so many times as thick before it is drawn anew; thinner, it would vanish."""


class Box(NamedTuple):
    """A part of the plane, by its YX corners in pixels of the image."""

    low: Point
    high: Point

    def holds(self, other: "Box") -> bool:
        """Whether another part lies inside."""
        lows, highs = zip(self.low, other.low, strict=True), zip(other.high, self.high, strict=True)
        return all(a <= b for a, b in (*lows, *highs))

    def widened(self, share: float) -> "Box":
        """Give a share of its extent on every side besides, so that panning has room."""
        low, high = np.array(self)
        margin = share * (high - low)
        return Box(*map(tuple, (low - margin, high + margin)))


class OnScreen(NamedTuple):
    """What the layers show.

    Attributes
    ----------
    pixel : float
        The pixels of the image that one of the screen showed then.
    view : Box
        What was in view.
    outlined : Box or None
        Where the patches have outlines; None if there is the map instead.
    """

    plane: PlanePatches
    picked: tuple[int, int] | None
    space: Space
    pixel: float
    view: Box
    outlined: Box | None

    def shows(self, plane: PlanePatches, picked: tuple[int, int] | None, space: Space) -> bool:
        """Whether it shows all of that, wherever it does."""
        same = all(np.array_equal(self.space[name], value) for name, value in space.items())
        return same and self.picked == picked and self.plane.looks_like(plane)

    def does_for(self, view: Box, pixel: float) -> bool:
        """Whether nothing else would be drawn for another view."""
        inside = self.outlined.holds(view) if self.outlined else self.view == view
        return inside and self.is_near(pixel)

    def is_near(self, pixel: float) -> bool:
        """Whether lines that were drawn at its zoom are as good at another."""
        return 0.999 < self.pixel / pixel < _NEARLY


MOST_OUTLINES = 2000
_THIN, _THICK = 1, 2
"""Width of a line on the screen, whatever the zoom: whole pixels, so that all are alike."""
_SMALL = 24
"""Patches of fewer pixels on the screen have thin lines, which leave more of the image."""
_COLORS = np.array([[*rgb(color), 1] for color in (*CATEGORY_COLORS, "#ffffff")])
_PICKED = len(CATEGORY_COLORS)
_MARGINS = (0.5, 0.2)
"""Shares of the view that are drawn beyond it, the best one first."""
_WAIT_MS = 30
"""A camera that moves on is followed no more often than that."""


class Grid(NamedTuple):
    """What is drawn: the patches of the shown plane, how far they lie apart, and their image."""

    plane: PlanePatches
    step: tuple[int, int]
    image: Image


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
        self._grid: Grid | None = None
        self._picked: tuple[int, int] | None = None
        self._drawn: OnScreen | None = None
        self._raster: PatchRaster | None = None
        self._soon = later(parent, self._follow, _WAIT_MS)
        self._layers.uncovered.connect(self._follow)
        camera(viewer).events.connect(self._follow_soon)
        canvas_resized(viewer).connect(self._follow_soon)

    @property
    def grid(self) -> Grid | None:
        """What is drawn now."""
        return self._grid

    @property
    def is_shown(self) -> bool:
        """Whether its layer is there: a person may take it away."""
        return self._layers.lines is not None

    def draw(self, grid: Grid, picked: tuple[int, int] | None = None) -> None:
        """Draw the patches of a plane.

        Parameters
        ----------
        grid : Grid
            What to draw.
        picked : tuple of int or None
            Start along YX of the patch that is framed.
        """
        self._grid, self._picked = grid, picked
        self._redraw()

    def clear(self) -> None:
        """Draw nothing; the layers stay, so that they can be hidden and shown."""
        self._grid = self._raster = self._picked = self._drawn = None
        self._layers.clear()

    def disconnect(self) -> None:
        """Follow the camera no longer, and let go of the image."""
        self._grid = self._raster = self._drawn = None
        self._soon.stop()
        self._layers.disconnect()
        camera(self._viewer).events.disconnect(self._follow_soon)
        canvas_resized(self._viewer).disconnect(self._follow_soon)

    def lift(self) -> None:
        """Put the layers above those that came later."""
        self._layers.lift()

    def remove(self) -> None:
        """Take the layers away."""
        self._layers.remove()

    def _follow_soon(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _follow(self) -> None:
        if self.is_shown:
            self._redraw()

    def _redraw(self) -> None:
        """Draw what is not drawn already; nothing while it is hidden."""
        if self._grid is None or self._layers.is_hidden:
            return
        plane, _, image = self._grid
        space, view = plane_space(image), Box(*view_of(self._viewer, image))
        pixel, drawn = self._pixel(image), self._drawn if self.is_shown else None
        same = drawn if drawn is not None and drawn.shows(plane, self._picked, space) else None
        if same and same.does_for(view, pixel):
            return
        seen, outlined = _outlined(plane, view)
        if same and not (outlined or same.outlined) and (same.is_near(pixel) or not self._picked):
            self._drawn = same._replace(view=view)
            return
        if not (drawn and drawn.plane.looks_like(plane)):
            self._raster = None
        self._drawn = OnScreen(plane, self._picked, space, pixel, view, outlined)
        self._draw(plane[seen], self._drawn)

    def _draw(self, seen: PlanePatches, drawn: OnScreen) -> None:
        is_small = min(seen.size) < _SMALL * drawn.pixel
        width = (_THIN if is_small else _THICK) * drawn.pixel
        lines = outline_segments(seen, width)
        data, colors = lines.data, _COLORS[lines.category]
        if drawn.picked is not None:
            frame = _frame(drawn.picked, seen.size, width)
            data = np.concatenate([data, frame])
            colors = np.append(colors, _COLORS[[_PICKED] * len(frame)], axis=0)
        self._layers.draw_lines(data, colors, width, drawn.space)
        if drawn.outlined:
            self._layers.show_map(False)
        elif self._grid is not None:
            self._raster = self._raster or rasterize(drawn.plane, self._grid.step)
            self._layers.draw_map(self._raster, drawn.space)

    def _pixel(self, image: Image) -> float:
        """Give the pixels of the image that one of the screen shows."""
        return float(1 / (camera(self._viewer).zoom * image.scale[-1]))


def _outlined(plane: PlanePatches, view: Box) -> tuple[NDArray[np.int64], Box | None]:
    """Find the patches that get outlines, and where they lie; none if there are too many."""
    seen = plane.in_view(*view)
    if len(seen) > MOST_OUTLINES:
        return seen[:0], None
    # Those of one colour share their lines.
    most = MOST_OUTLINES * (4 if plane[seen].is_uniform else 1)
    for share in _MARGINS:
        wide = view.widened(share)
        if len(more := plane.in_view(*wide)) <= most:
            return more, wide
    return seen, view


def _frame(start: tuple[int, int], size: tuple[int, int], width: float) -> NDArray[np.float64]:
    """Give the lines of a thick frame: three outlines around each other."""
    boxes = []
    for n in range(3):
        away = (n + 0.5) * width
        low = np.array(start) - 0.5 - away
        down, right = np.diag(np.array(size) + 2 * away)
        boxes += [(low, right), (low, down), (low + down, right), (low + right, down)]
    return np.array(boxes)
