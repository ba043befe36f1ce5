"""The pixels of one scene: whole tiles through the cache, or a window at lower resolution."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.czi.check import PIXEL_TYPES
from napari_patchset.stacks.czi.decoding import SubblockDecoder
from napari_patchset.stacks.czi.geometry import Component, Plane, SceneGeometry
from napari_patchset.stacks.czi.handle import CziHandle
from napari_patchset.stacks.czi.plane_tiles import PlaneTiles, Tile
from napari_patchset.stacks.tiles import TileCache


class CziPixels:
    """Read planes of one scene; a plane is named by the index along each axis, from 0."""

    def __init__(self, path: Path, geometry: SceneGeometry, decoder: SubblockDecoder) -> None:
        self._geometry = geometry
        self._tiles = PlaneTiles(geometry)
        self._decoder = decoder
        self._handle = CziHandle(path)
        self.cache = TileCache()
        self.overviews = TileCache()

    def read(self, plane: Plane, window: Rect, out: NDArray[Any]) -> None:
        """Paste every tile of a plane that meets a window (in stage pixels) into `out`.

        Where tiles overlap the one with the higher M lies on top.
        """
        for tile in self._tiles.meeting(plane.key, window):
            pixels = _color(self._tile(plane, tile), plane.component)
            inside, outside = tile.rect.overlap(window)
            out[outside] = pixels[inside]

    def blocks(
        self, plane: Plane, window: Rect
    ) -> Iterator[tuple[Tile, Callable[[], NDArray[Any]], Callable[[NDArray[Any]], NDArray[Any]]]]:
        """Give each tile of a plane that meets a window: what decodes it, and its component."""
        for tile in self._tiles.meeting(plane.key, window):
            decode = partial(self.cache.count, partial(self._decode, plane, tile))
            yield tile, decode, partial(_color, component=plane.component)

    def read_reduced(
        self,
        plane: Plane,
        window: Rect,
        factor: int,
        out: NDArray[Any],
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor.

        The pixels are those of the file's own pyramid. Without one each tile is decoded once and
        every `factor`-th of its pixels kept.
        """
        if self._geometry.has_pyramid:
            self._read_pyramid(plane, window, factor, out)
            return
        for tile in self._tiles.meeting(plane.key, window):
            pixels, corner = self._reduced_tile(plane, tile, factor)
            y, x = (corner.y - window.y) // factor, (corner.x - window.x) // factor
            shown = Rect(x, y, pixels.shape[1], pixels.shape[0])
            inside, outside = shown.overlap(Rect(0, 0, out.shape[1], out.shape[0]))
            out[outside] = _color(pixels, plane.component)[inside]

    def _read_pyramid(
        self,
        plane: Plane,
        window: Rect,
        factor: int,
        out: NDArray[Any],
    ) -> None:
        rows = self._geometry.plane_rows(plane.key)
        if len(rows):
            name = PIXEL_TYPES[int(self._geometry.blocks.pixel_type[rows[0]])][0]
            scene = self._geometry.scene
            pixels = self._handle.read(window, self._numbers(plane), scene, name, 1 / factor)
            pixels = _color(pixels, plane.component)
            # libCZI rounds a reduced window down.
            height, width = (min(a, b) for a, b in zip(out.shape, pixels.shape, strict=True))
            out[:height, :width] = pixels[:height, :width]

    def _reduced_tile(self, plane: Plane, tile: Tile, factor: int) -> tuple[NDArray[Any], Rect]:
        """Give every `factor`-th pixel of a tile, counted from the scene's corner, and where."""
        scene = self._geometry.rect
        y, x = (scene.y - tile.rect.y) % factor, (scene.x - tile.rect.x) % factor
        corner = Rect(tile.rect.x + x, tile.rect.y + y, tile.rect.w - x, tile.rect.h - y)
        pixels = self.overviews.get(
            (tile.row, factor),
            lambda: np.ascontiguousarray(self._decode(plane, tile)[y::factor, x::factor]),
        )
        return pixels, corner

    def close(self) -> None:
        """Give back the file and the decoded tiles."""
        self._handle.close()
        self._decoder.close()
        self.cache.clear()
        self.overviews.clear()

    def _tile(self, plane: Plane, tile: Tile) -> NDArray[Any]:
        return self.cache.get(tile.row, lambda: self._decode(plane, tile))

    def _decode(self, plane: Plane, tile: Tile) -> NDArray[Any]:
        if self._decoder.can_decode(tile.row):
            return self._decoder.decode(tile.row)
        # libCZI composes all tiles that meet the rectangle.
        for neighbour in self._tiles.meeting(plane.key, tile.rect):
            self._decoder.check(neighbour.row)
        name = PIXEL_TYPES[tile.pixel_type][0]
        return self._handle.read(tile.rect, self._numbers(plane), self._geometry.scene, name)

    def _numbers(self, plane: Plane) -> dict[str, int]:
        """Name a plane in the file's own numbering."""
        return {axis: index + self._geometry.starts[axis] for axis, index in plane.indices.items()}


def _color(pixels: NDArray[Any], component: Component) -> NDArray[Any]:
    return pixels if pixels.ndim == 2 else pixels[..., component.color or 0]
