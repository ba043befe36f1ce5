"""Where a map draws a file's scenes: as they lie on the stage, the empty space between squeezed."""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect

SMALLEST = 22
"""Pixels of the screen that a scene has at least along each side."""

GAP, LEAST_GAP = 4, 2
"""Pixels of the screen that empty space has at most, and at least."""

_HALVINGS = 40


class Cell(NamedTuple):
    """Where a scene is drawn, in pixels of the screen."""

    x: float
    y: float
    w: float
    h: float

    @property
    def center(self) -> tuple[float, float]:
        """The middle, x and y."""
        return self.x + self.w / 2, self.y + self.h / 2


def lay_out(rects: Sequence[Rect], width: int, height: int) -> list[Cell]:
    """Draw scenes as they lie on the stage, as large as the map allows.

    Order and overlap along X and Y stay, empty space shrinks to `GAP`, and a scene much smaller
    than the others grows to `SMALLEST`. Scenes that hide each other, as those of files without
    positions do, are drawn in rows instead.

    Parameters
    ----------
    rects : sequence of Rect
        The scenes on the stage.
    width, height : int
        Of the map. Scenes too many for it at their smallest reach past it.
    """
    if not rects:
        return []
    rects = apart(rects)
    columns = _Axis([(rect.x, rect.x + rect.w) for rect in rects])
    rows = _Axis([(rect.y, rect.y + rect.h) for rect in rects])
    scale = min(columns.fit(width), rows.fit(height))
    return [
        Cell(left, top, right - left, bottom - top)
        for (left, right), (top, bottom) in zip(columns.draw(scale), rows.draw(scale), strict=True)
    ]


def apart(rects: Sequence[Rect]) -> Sequence[Rect]:
    """Give scenes as they lie, or in rows if they hide each other."""
    return _in_rows(rects) if hide_each_other(rects) else rects


def hide_each_other(rects: Sequence[Rect]) -> bool:
    """Whether the middle of a scene lies within another one."""
    x, y, w, h = np.array(rects, float).T
    middle_x, middle_y = x + w / 2, y + h / 2
    for left, top, width, height in rects:
        inside = (np.abs(middle_x - left - width / 2) < width / 2) & (
            np.abs(middle_y - top - height / 2) < height / 2
        )
        if inside.sum() > 1:
            return True
    return False


def neighbour(cells: Sequence[Cell], start: int, right: int, down: int) -> int:
    """Give the nearest cell in a direction, `start` itself if there is none.

    What lies straight ahead is nearer than what lies aside; `right` and `down` are -1, 0 or 1.
    """
    here = cells[start].center
    best, nearest = start, float("inf")
    for index, cell in enumerate(cells):
        x, y = cell.center[0] - here[0], cell.center[1] - here[1]
        ahead, aside = x * right + y * down, abs(x * down) + abs(y * right)
        if ahead > 0 and aside <= 2 * ahead and (distance := ahead + 2 * aside) < nearest:
            best, nearest = index, distance
    return best


class _Axis:
    """One axis of the stage, cut where a scene begins or ends, to be drawn at any scale."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        starts, stops = np.array(spans, float).T
        self._edges = np.unique([starts, stops])
        self._first = np.searchsorted(self._edges, starts)
        self._last = np.searchsorted(self._edges, stops)
        self._lengths = np.diff(self._edges)
        self._least = np.zeros(len(self._lengths))
        for first, last in zip(self._first, self._last, strict=True):
            share = self._lengths[first:last] / self._lengths[first:last].sum()
            self._least[first:last] = np.maximum(self._least[first:last], SMALLEST * share)

    def fit(self, extent: int) -> float:
        """Give the largest scale that the axis fits with, next to 0 if it does not fit at all."""
        low, high = 0.0, extent / self._lengths[self._least > 0].max()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._sizes(middle).sum() <= extent else (low, middle)
        return low

    def draw(self, scale: float) -> list[tuple[float, float]]:
        """Give start and stop of each scene."""
        places = np.concatenate([[0.0], np.cumsum(self._sizes(scale))])
        return [
            (float(places[first]), float(places[last]))
            for first, last in zip(self._first, self._last, strict=True)
        ]

    def _sizes(self, scale: float) -> NDArray[np.float64]:
        drawn = self._lengths * scale
        empty = self._least == 0
        gaps = np.clip(drawn, LEAST_GAP, GAP)
        return np.where(empty, gaps, np.maximum(drawn, self._least))


def _in_rows(rects: Sequence[Rect]) -> list[Rect]:
    width, height = max(rect.w for rect in rects), max(rect.h for rect in rects)
    columns = ceil(sqrt(len(rects) * height / width))
    columns = min(len(rects), max(columns, 3))
    step_x, step_y = width + ceil(width / 10), height + ceil(height / 10)
    return [
        Rect(i % columns * step_x, i // columns * step_y, rect.w, rect.h)
        for i, rect in enumerate(rects)
    ]
