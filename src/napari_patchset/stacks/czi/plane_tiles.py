"""Which tiles of a plane a window meets."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.czi.geometry import SceneGeometry

RECENT_PLANES = 64
"""So many planes' tiles stay looked up."""

_FEW = 24
"""Tiles of a plane up to which looking at each is quicker than a call to NumPy."""


class Tile(NamedTuple):
    """One level-0 subblock of a plane."""

    row: int
    rect: Rect
    pixel_type: int


class PlaneTiles:
    """Look up the tiles of one scene; threads may share it."""

    def __init__(self, geometry: SceneGeometry) -> None:
        self._geometry = geometry
        self._recent: dict[int, tuple[list[Tile], NDArray[np.int64]]] = {}

    def meeting(self, key: int, window: Rect) -> Iterator[Tile]:
        """Give the tiles of a plane that meet a window (in stage pixels), from bottom to top."""
        tiles, edges = self._of_plane(key)
        x, y, w, h = window
        if len(tiles) <= _FEW:
            for tile in tiles:
                left, top, width, height = tile.rect
                if left < x + w and top < y + h and left + width > x and top + height > y:
                    yield tile
            return
        # Right and bottom are kept negative, so that one comparison serves all four edges.
        hit = np.all(edges < np.array((x + w, y + h, -x, -y)), axis=1)
        for index in np.nonzero(hit)[0].tolist():
            yield tiles[index]

    def _of_plane(self, key: int) -> tuple[list[Tile], NDArray[np.int64]]:
        """Give the tiles of a plane, and their left, top, -right and -bottom; the last are kept."""
        found = self._recent.get(key)
        if found is None:
            rows = self._geometry.plane_rows(key)
            blocks = self._geometry.blocks
            rects = blocks.rect[rows]
            columns = rows.tolist(), rects.tolist(), blocks.pixel_type[rows].tolist()
            tiles = [Tile(row, Rect(*rect), kind) for row, rect, kind in zip(*columns, strict=True)]
            edges = np.concatenate([rects[:, :2], -rects[:, :2] - rects[:, 2:]], axis=1)
            if len(self._recent) >= RECENT_PLANES:
                self._recent.clear()
            found = self._recent[key] = tiles, edges
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_geometry": self._geometry, "_recent": {}}
