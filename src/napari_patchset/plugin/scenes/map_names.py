"""Where the map of the scenes writes their names: on the thumbnails, or beside those too small."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetrics

from napari_patchset.plugin.layers.scene_layout import Cell

_PADDING = 4
_NARROWEST = 54
"""Least width, in pixels, of a thumbnail that has a name of which a part is left out."""

MOST_BESIDE = 300
"""Most scenes of which names are written beside thumbnails: each place is compared with all."""


class PlacedName(NamedTuple):
    """A name on the map, on its thumbnail or beside it; small on a small thumbnail."""

    text: str
    place: Cell
    is_beside: bool
    is_small: bool = False


def place_names(
    labels: Sequence[str],
    cells: Sequence[Cell],
    size: tuple[int, int],
    metrics: QFontMetrics,
    small: QFontMetrics,
) -> list[PlacedName]:
    """Place the names of scenes on a map of so many pixels, width and height.

    A name is written on its thumbnail; where it does not fit, beside that, if there is space and
    the scenes are few; else what fits on the thumbnail, of what differs from the other names.
    """
    height = metrics.height()
    placed: dict[int, PlacedName] = {}
    widths = [metrics.horizontalAdvance(label) + _PADDING for label in labels]
    for i, (label, cell) in enumerate(zip(labels, cells, strict=True)):
        if widths[i] <= cell.w and cell.h >= 2 * height:
            placed[i] = PlacedName(label, _foot(cell, height), is_beside=False)
    taken = np.empty((2 * len(cells), 4))
    for i, cell in enumerate(cells):
        taken[i] = _corners(cell)
    n_taken = len(cells)
    shared = _shared_beginning(labels)
    smallest_first = sorted(range(len(cells)), key=lambda i: cells[i].w * cells[i].h)
    for i in (i for i in smallest_first if i not in placed):
        label, cell = labels[i], cells[i]
        beside = None
        if len(cells) <= MOST_BESIDE:
            beside = _space_beside(cell, widths[i], height, taken[:n_taken], size)
        if beside is not None:
            placed[i] = PlacedName(label, beside, is_beside=True)
            taken[n_taken] = _corners(beside)
            n_taken += 1
        else:
            is_small = cell.w < _NARROWEST or cell.h < 2 * height
            text, font = (label[shared:], small) if is_small else (label, metrics)
            text = _fitting(text, cell.w - _PADDING / 2, font)
            placed[i] = PlacedName(text, _foot(cell, font.height()), False, is_small)
    return [placed[i] for i in range(len(cells))]


def _corners(cell: Cell) -> tuple[float, float, float, float]:
    return cell.x, cell.y, cell.x + cell.w, cell.y + cell.h


def _foot(cell: Cell, height: int) -> Cell:
    """Return the lower end of a thumbnail, of the height of a line."""
    height = min(height, int(cell.h))
    return Cell(cell.x, cell.y + cell.h - height, cell.w, height)


def _shared_beginning(labels: Sequence[str]) -> int:
    """Return the length of the words with which all names begin, but for their last ones."""
    words = [re.split(r"(?<=[ _-])", label)[:-1] for label in labels]
    same = takewhile(lambda each: len(set(each)) == 1, zip(*words, strict=False))
    return sum(len(word) for word, *_ in same)


def _space_beside(
    cell: Cell, width: int, height: int, taken: NDArray[np.float64], size: tuple[int, int]
) -> Cell | None:
    """Return free space for a name right, left, below or above of its thumbnail."""
    middle_x, middle_y = cell.center
    x, y = middle_x - width / 2, middle_y - height / 2
    columns = x, cell.x, cell.x + cell.w - width
    for left, top in (
        *((cell.x + cell.w, y), (cell.x - width, y)),
        *((column, row) for row in (cell.y + cell.h, cell.y - height) for column in columns),
    ):
        right, bottom = left + width, top + height
        if left < 0 or top < 0 or right > size[0] or bottom > size[1]:
            continue
        across = (taken[:, 0] < right) & (taken[:, 2] > left)
        if not (across & (taken[:, 1] < bottom) & (taken[:, 3] > top)).any():
            return Cell(left, top, width, height)
    return None


def _fitting(text: str, width: float, metrics: QFontMetrics) -> str:
    """Return as much of a text as fits, at least of its end: names differ there."""
    elided = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, int(width))
    if len(elided) >= len("a…b"):
        return elided
    while text and metrics.horizontalAdvance(text) > width:
        text = text[1:]
    return text
