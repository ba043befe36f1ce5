"""What of the grid is on the screen, and whether it does for another view."""

from typing import NamedTuple

import numpy as np

from napari_patchset.plugin.grid.overlay_layers import Space
from napari_patchset.preview import Plane
from napari_patchset.preview.plane import Point

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

    plane: Plane
    picked: tuple[int, int] | None
    space: Space
    pixel: float
    view: Box
    outlined: Box | None

    def shows(self, plane: Plane, picked: tuple[int, int] | None, space: Space) -> bool:
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
