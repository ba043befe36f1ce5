"""The pixels of one CZI scene: whole tiles through a cache, or a window at lower resolution.

Lower resolutions are composed by libCZI from the pyramid in the file. It runs in helper processes
(see `stacks.isolated`), as damaged data can crash it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.czi.directory import PIXEL_TYPES
from napari_patchset.stacks.czi.scenes import SceneGeometry
from napari_patchset.stacks.czi.subblocks import SubblockDecoder
from napari_patchset.stacks.isolated import POOL, ReaderError

_FEW_TILES = 24
"""Up to this many tiles, a loop over them is faster than a call to NumPy."""


class Tile(NamedTuple):
    """One full-resolution subblock of a plane."""

    row: int
    rect: Rect
    pixel_type: int


class PlaneTiles:
    """The tiles of one plane, given by its index along each axis, looked up by window."""

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


_MAX_PIXEL_BYTES = 12
"""Of three float32."""


class LibCziFile:
    """Reader of rectangles of planes; threads may share it.

    Each helper process opens the file when it first reads from it. An unpickled copy opens it
    again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._pool = POOL  # `__del__` may run when the module's names are gone
        self._handle = POOL.new_handle()
        self._is_closed = False

    def read(
        self, window: Rect, plane: dict[str, int], scene: int | None, pixel_type: str, zoom: float
    ) -> NDArray[Any]:
        """Read a window (in stage pixels) of a plane (in the file's numbering).

        It is YX, or for colour YXC with C in the order R, G, B, and zero where the file has no
        pixels.
        """
        if self._is_closed:
            raise ValueError(f"{self.path}: the stack is closed; open the file again.")
        options = {"plane": plane, "scene": scene, "zoom": zoom, "pixel_type": pixel_type}
        nbytes = round(window.w * window.h * zoom**2) * _MAX_PIXEL_BYTES
        try:
            pixels = self._pool.read(self._handle, self.path, nbytes, window=window, **options)
        except ReaderError as error:
            indices = " ".join(f"{axis}={index}" for axis, index in plane.items())
            raise UnreadableFileError(
                f"{self.path}: libCZI can't decode {indices}, x={window.x}, y={window.y}, "
                f"{window.w} x {window.h} px: {error}"
            ) from error
        return pixels[..., 0] if pixels.shape[2] == 1 else np.flip(pixels, axis=2)

    def close(self) -> None:
        """Close the file in every helper process."""
        self._is_closed = True
        self._pool.close(self._handle)

    def __del__(self) -> None:
        self._pool.close(self._handle)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "closed": self._is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # a fresh handle is what it needs
        self._is_closed = state["closed"]


_UNKNOWN_COLOUR = "Unsupported pixel format"
"""libCZI's error for a JPEG XR whose colour is in the order R, G, B."""


class CziPixels:
    """Reader of the planes of one scene; threads may share it."""

    def __init__(self, path: Path, geometry: SceneGeometry, decoder: SubblockDecoder) -> None:
        self._geometry = geometry
        self.decoder = decoder
        self._libczi = LibCziFile(path)
        self.cache = TileCache()
        self.reduced = TileCache()
        """Reduced tiles of a file without a pyramid."""

    def read(
        self, plane: PlaneTiles, color: int | None, window: Rect, factor: int, out: NDArray[Any]
    ) -> None:
        """Fill `out` with a window (in stage pixels) of a plane, reduced by a factor.

        Where tiles overlap, the one with the highest M lies on top. Reduced pixels are those of the
        pyramid in the file; without one that libCZI can read, every `factor`-th pixel of each tile.
        """
        if factor == 1:
            for tile in plane.meeting(window):
                pixels = self.cache.get(tile.row, partial(self.decoder.decode, tile.row))
                inside, outside = tile.rect.overlap_slices(window)
                out[outside] = color_plane(pixels, color)[inside]
            return
        if self._geometry.has_pyramid and plane.tiles:
            try:
                kind = PIXEL_TYPES[plane.tiles[0].pixel_type].name
                scene, numbers = self._geometry.scene, plane.numbers
                pixels = self._libczi.read(window, numbers, scene, kind, 1 / factor)
                pixels = color_plane(pixels, color)
                # libCZI rounds the size of a reduced window down.
                height, width = (min(a, b) for a, b in zip(out.shape, pixels.shape, strict=True))
                out[:height, :width] = pixels[:height, :width]
                return
            except UnreadableFileError as error:
                if _UNKNOWN_COLOUR not in str(error):
                    raise
        for tile in plane.meeting(window):
            pixels, corner = self._reduced_tile(tile, factor)
            y, x = (corner.y - window.y) // factor, (corner.x - window.x) // factor
            rect = Rect(x, y, pixels.shape[1], pixels.shape[0])
            inside, outside = rect.overlap_slices(Rect(0, 0, out.shape[1], out.shape[0]))
            out[outside] = color_plane(pixels, color)[inside]

    def close(self) -> None:
        """Close the file and drop the decoded tiles."""
        self._libczi.close()
        self.decoder.close()
        self.cache.clear()
        self.reduced.clear()

    def _reduced_tile(self, tile: Tile, factor: int) -> tuple[NDArray[Any], Rect]:
        """Return every `factor`-th pixel of a tile, counted from the scene's corner, and where."""
        scene = self._geometry.rect
        y, x = (scene.y - tile.rect.y) % factor, (scene.x - tile.rect.x) % factor
        corner = Rect(tile.rect.x + x, tile.rect.y + y, tile.rect.w - x, tile.rect.h - y)
        pixels = self.reduced.get(
            (tile.row, factor),
            lambda: np.ascontiguousarray(self.decoder.decode(tile.row)[y::factor, x::factor]),
        )
        return pixels, corner


def color_plane(pixels: NDArray[Any], color: int | None) -> NDArray[Any]:
    """Return a component, YX, of decoded pixels YX or YXC."""
    return pixels if pixels.ndim == 2 else pixels[..., color or 0]
