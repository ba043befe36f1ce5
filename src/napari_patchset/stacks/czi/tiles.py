"""The pixels of one CZI scene: whole tiles through a cache, or a window at lower resolution."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.czi.directory import PIXEL_TYPES
from napari_patchset.stacks.czi.libczi import LibCziFile
from napari_patchset.stacks.czi.scenes import SceneGeometry
from napari_patchset.stacks.czi.subblocks import SubblockDecoder

_FEW_TILES = 24
"""Up to so many, a loop over the tiles of a plane is faster than a call to NumPy."""


class Tile(NamedTuple):
    """One full-resolution subblock of a plane."""

    row: int
    rect: Rect
    pixel_type: int


class PlaneTiles:
    """The tiles of one plane, looked up by window.

    Parameters
    ----------
    geometry : SceneGeometry
        The scene.
    indices : mapping of str to int
        The plane, by the index along each axis, counted from 0.
    """

    def __init__(self, geometry: SceneGeometry, indices: Mapping[str, int]) -> None:
        self.numbers = {axis: i + geometry.starts[axis] for axis, i in indices.items()}
        """The plane in the file's own numbering, as libCZI takes it."""
        rows, blocks = geometry.plane_rows(indices), geometry.blocks
        rects = blocks.rect[rows]
        columns = rows.tolist(), rects.tolist(), blocks.pixel_type[rows].tolist()
        self.tiles = [Tile(row, Rect(*rect), t) for row, rect, t in zip(*columns, strict=True)]
        # Right and bottom are negated, so that one comparison tests all four edges.
        self._edges = np.concatenate([rects[:, :2], -rects[:, :2] - rects[:, 2:]], axis=1)

    def meeting(self, window: Rect) -> list[Tile]:
        """Return the tiles that meet a window (in stage pixels), from bottom to top."""
        left, top, width, height = window
        right, bottom = left + width, top + height
        if len(self.tiles) > _FEW_TILES:
            meets = np.all(self._edges < np.array((right, bottom, -left, -top)), axis=1)
            return [self.tiles[index] for index in np.nonzero(meets)[0].tolist()]
        return [
            tile
            for tile in self.tiles
            for x, y, w, h in (tile.rect,)
            if x < right and y < bottom and x + w > left and y + h > top
        ]


class CziPixels:
    """Reads planes of one scene; threads may share it."""

    def __init__(self, path: Path, geometry: SceneGeometry, decoder: SubblockDecoder) -> None:
        self._geometry = geometry
        self._decoder = decoder
        self._libczi = LibCziFile(path)
        self.cache = TileCache()
        self.reduced = TileCache()
        """Reduced tiles of a file without a pyramid."""

    def read(
        self, plane: PlaneTiles, color: int | None, window: Rect, factor: int, out: NDArray[Any]
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor.

        Where tiles overlap, the one with the highest M lies on top. Reduced pixels are those of the
        pyramid in the file; without one, every `factor`-th pixel of each tile.

        Parameters
        ----------
        color : int or None
            0, 1, 2 for R, G, B; None for a grey plane.
        """
        if factor == 1:
            for tile in plane.meeting(window):
                pixels = self.cache.get(tile.row, partial(self.decode_tile, plane, tile))
                inside, outside = tile.rect.overlap(window)
                out[outside] = color_plane(pixels, color)[inside]
        elif self._geometry.has_pyramid:
            self._read_pyramid(plane, color, window, factor, out)
        else:
            reduced_window = Rect(0, 0, out.shape[1], out.shape[0])
            for tile in plane.meeting(window):
                pixels, corner = self._reduced_tile(plane, tile, factor)
                y, x = (corner.y - window.y) // factor, (corner.x - window.x) // factor
                rect = Rect(x, y, pixels.shape[1], pixels.shape[0])
                inside, outside = rect.overlap(reduced_window)
                out[outside] = color_plane(pixels, color)[inside]

    def decode_tile(self, plane: PlaneTiles, tile: Tile) -> NDArray[Any]:
        """Decode a tile without caching it."""
        if self._decoder.can_decode(tile.row):
            return self._decoder.decode(tile.row)
        # libCZI composes all tiles that meet the rectangle.
        for neighbour in plane.meeting(tile.rect):
            self._decoder.check(neighbour.row)
        return self._read_libczi(plane, tile.pixel_type, tile.rect)

    def close(self) -> None:
        """Close the file and drop the decoded tiles."""
        self._libczi.close()
        self._decoder.close()
        self.cache.clear()
        self.reduced.clear()

    def _read_pyramid(
        self, plane: PlaneTiles, color: int | None, window: Rect, factor: int, out: NDArray[Any]
    ) -> None:
        if plane.tiles:
            pixels = self._read_libczi(plane, plane.tiles[0].pixel_type, window, 1 / factor)
            pixels = color_plane(pixels, color)
            # libCZI rounds the size of a reduced window down.
            height, width = (min(a, b) for a, b in zip(out.shape, pixels.shape, strict=True))
            out[:height, :width] = pixels[:height, :width]

    def _read_libczi(
        self, plane: PlaneTiles, pixel_type: int, window: Rect, zoom: float = 1.0
    ) -> NDArray[Any]:
        name = PIXEL_TYPES[pixel_type].name
        return self._libczi.read(window, plane.numbers, self._geometry.scene, name, zoom)

    def _reduced_tile(
        self, plane: PlaneTiles, tile: Tile, factor: int
    ) -> tuple[NDArray[Any], Rect]:
        """Return every `factor`-th pixel of a tile, counted from the scene's corner, and where."""
        scene = self._geometry.rect
        y, x = (scene.y - tile.rect.y) % factor, (scene.x - tile.rect.x) % factor
        corner = Rect(tile.rect.x + x, tile.rect.y + y, tile.rect.w - x, tile.rect.h - y)
        pixels = self.reduced.get(
            (tile.row, factor),
            lambda: np.ascontiguousarray(self.decode_tile(plane, tile)[y::factor, x::factor]),
        )
        return pixels, corner


def color_plane(pixels: NDArray[Any], color: int | None) -> NDArray[Any]:
    """Return a component, YX, of decoded pixels YX or YXC."""
    return pixels if pixels.ndim == 2 else pixels[..., color or 0]
