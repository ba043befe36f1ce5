"""The pixels of one scene: whole tiles through the cache, or a window at lower resolution.

Which tiles of a plane a window meets.

A CZI at lower resolution, through the pyramid that is in the file.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.czi.decoding import CziHandle, SubblockDecoder
from napari_patchset.stacks.czi.directory import PIXEL_TYPES
from napari_patchset.stacks.czi.geometry import Component, Plane, SceneGeometry
from napari_patchset.stacks.metadata import ImageMetadata
from napari_patchset.stacks.protocol import BoundedStack, ImageStack

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
            decode = partial(self.decode_tile, plane, tile)
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
            lambda: np.ascontiguousarray(self.decode_tile(plane, tile)[y::factor, x::factor]),
        )
        return pixels, corner

    def close(self) -> None:
        """Give back the file and the decoded tiles."""
        self._handle.close()
        self._decoder.close()
        self.cache.clear()
        self.overviews.clear()

    def _tile(self, plane: Plane, tile: Tile) -> NDArray[Any]:
        return self.cache.get(tile.row, lambda: self.decode_tile(plane, tile))

    def decode_tile(self, plane: Plane, tile: Tile) -> NDArray[Any]:
        """Decode a tile without caching it."""
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


COARSEST = 512
"""Halving stops when the longer side of a plane is no longer than this."""

PYRAMID_BLOCK = (COARSEST, COARSEST)
"""So the coarsest plane is one read: libCZI looks through all subblocks for each."""


class FullStack(ImageStack, Protocol):
    """What a level needs of the stack at full resolution."""

    axes: str
    rect: Rect
    metadata: ImageMetadata

    def read_reduced(
        self,
        sample_idx: int,
        channel: int,
        depth: int,
        window: Rect,
        factor: int,
        out: NDArray[Any],
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor."""


class CziLevel(BoundedStack):
    """A CZI stack reduced `factor` times along Y and X; it is open as long as the full one is.

    Parameters
    ----------
    full : FullStack
        The stack at full resolution.
    factor : int
        A power of two.
    block_shape : tuple of int or None
        What is best read at once, height and width, where the file has a pyramid.
    """

    def __init__(
        self, full: FullStack, factor: int, block_shape: tuple[int, int] | None = None
    ) -> None:
        self._full = full
        self.factor = factor
        *outer, height, width = full.data_shape
        self.data_shape = [*outer, -(-height // factor), -(-width // factor)]
        self.block_shape = block_shape
        self.data_dtype = full.data_dtype
        self.source = full.source
        self.axes = full.axes
        self.original_axes = full.original_axes
        self.original_data_shape = (*full.original_data_shape[:-2], *self.data_shape[-2:])
        self.metadata = full.metadata

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        f, corner = self.factor, self._full.rect
        y, x = start[-2:]
        window = Rect(corner.x + x * f, corner.y + y * f, out.shape[-1] * f, out.shape[-2] * f)
        planes = out if out.ndim == 4 else out[:, np.newaxis]
        first = start[0] if len(start) == 3 else 0
        for channel, stack in zip(channels, planes, strict=True):
            for depth, target in enumerate(stack, first):
                self._full.read_reduced(sample_idx, channel, depth, window, f, target)


def level_factors(height: int, width: int, coarsest: int = COARSEST) -> list[int]:
    """Give the factors 1, 2, 4, ... down to a plane of at most `coarsest` pixels a side."""
    factors = [1]
    while max(height, width) > coarsest * factors[-1]:
        factors.append(2 * factors[-1])
    return factors
