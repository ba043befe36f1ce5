"""CziImageStack: one scene of a CZI file, or all of them, as a stack; and its lower resolutions."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import DepthAxis, check_depth_axis
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import PartialPlanes, Rect, SceneId, join_scene, split_scene
from napari_patchset.stacks.cache import SharedCache, TileCache
from napari_patchset.stacks.czi.directory import PIXEL_TYPES
from napari_patchset.stacks.czi.scenes import PlaneTiles, Tile, bounds, read_scenes
from napari_patchset.stacks.fingerprint import file_key
from napari_patchset.stacks.isolated import POOL, ReaderError
from napari_patchset.stacks.protocol import Block, BoundedStack, FileStack

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader, Rectangle

LARGE_PLANE = 4096
"""A plane with a longer side has lower resolutions even if the file has no pyramid."""

_COARSEST = 512
"""Halving stops when the longer side of a plane is no longer than this."""

_PYRAMID_BLOCK = (_COARSEST, _COARSEST)
"""Thus the coarsest plane is one read: libCZI searches all subblocks for each."""

_MAX_CACHED_PLANES = 64
"""Random patches use few planes often."""

_MAX_PIXEL_BYTES = 12
"""Of three float32."""

_UNKNOWN_COLOUR = "Unsupported pixel format"
"""libCZI's error for a JPEG XR whose colour is in the order R, G, B."""


class CziImageStack(FileStack):
    """Cut patches out of a CZI file.

    Parameters
    ----------
    data_path : str or Path
        The file; a name like "file.czi@0" includes the scene.
    scene : int or None
        The file's own id of the scene; None for the union of all, with zeros between them.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch; the others merge into S.

    Attributes
    ----------
    data_path, scene : Path, int or None
        The file and the scene; for what every stack has see `FileStack`.
    block_shape : tuple of int
        Height and width of the most frequent tile.
    rect : Rect
        Position of the scene on the stage, in pixels.
    starts : dict of str to int
        The file's own number of the first index along each axis.

    Raises
    ------
    ValueError
        If the scene is named twice or does not exist.
    RuntimeError
        If the scene does not contain the depth axis.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """

    def __init__(
        self, data_path: str | Path, scene: int | None = None, depth_axis: DepthAxis = "none"
    ) -> None:
        self.data_path, self.scene = split_scene(data_path, scene)
        self.source = join_scene(self.data_path, self.scene)
        scenes = read_scenes(self.data_path)
        scenes.warn()
        self.files = scenes.files
        self._geometry = geometry = scenes.geometry(self.scene)
        check_depth_axis(geometry.sizes, depth_axis, str(self.source))
        self._layout = geometry.layout(depth_axis)
        self._decoder = scenes.decoder()
        self._pyramid = LibCziFile(self.files[0])
        self._tiles = TileCache()
        self._reduced_tiles = TileCache()
        self._planes: SharedCache[tuple[int, int, int], PlaneTiles] = SharedCache(
            _MAX_CACHED_PLANES
        )
        self.axes = self._layout.stack_axes
        self.data_shape = list(self._layout.stack_shape)
        self.data_dtype = geometry.dtype
        self.block_shape = geometry.tile_shape
        self.rect = geometry.rect
        self.starts = geometry.starts
        self.metadata = scenes.image_metadata(geometry)

    @cached_property
    def file_keys(self) -> tuple[str, ...]:
        """The key of each of `files`, if there are more than one."""
        return tuple(map(file_key, self.files)) if len(self.files) > 1 else ()

    @property
    def covered(self) -> tuple[Rect, ...]:
        """The rectangles that tiles cover, relative to the scene's corner."""
        return self._geometry.tile_rects[0]

    @property
    def partial_planes(self) -> tuple[PartialPlanes, ...]:
        """The planes that lack some of the scene's tiles, such as those of an aborted run."""
        groups = []
        for keys, covered in self._geometry.partial_planes:
            shape = tuple(self._geometry.sizes.values())
            columns = [column.tolist() for column in np.unravel_index(keys, shape)]
            planes = [
                (self._layout.ravel(indices), channel, indices.get(self._layout.depth_axis, 0))
                for row in zip(*columns, strict=True)
                for indices in [dict(zip(self._geometry.sizes, row, strict=True))]
                for channel, each in enumerate(self._geometry.channels)
                if each.channel == indices["C"]
            ]
            groups.append(PartialPlanes(planes=frozenset(planes), covered=covered))
        return tuple(groups)

    @property
    def levels(self) -> "Sequence[CziImageStack | CziLevel]":
        """The stack itself, then lower resolutions if it has a pyramid or is large."""
        *_, height, width = self.data_shape
        block = _PYRAMID_BLOCK if self._geometry.has_pyramid else None
        if block is None and max(height, width) <= LARGE_PLANE:
            return (self,)
        factors = [1]
        while max(height, width) > _COARSEST * factors[-1]:
            factors.append(2 * factors[-1])
        return (self, *(CziLevel(self, factor, block) for factor in factors[1:]))

    @property
    def missing_planes(self) -> frozenset[tuple[int, int, int]]:
        """Every plane that the file does not have, as (sample, channel, depth); read as zeros."""
        if self._geometry.is_complete:
            return frozenset()
        n_samples, n_channels, *deep, _, _ = self.data_shape
        planes = product(range(n_samples), range(n_channels), range(*deep or (1,)))
        rows, indices = self._geometry.plane_rows, self._plane_indices
        return frozenset(plane for plane in planes if not len(rows(indices(*plane))))

    @classmethod
    def get_bounding_rectangles(
        cls, czi: "Path | str | CziReader"
    ) -> "dict[int | None, Rectangle]":
        """Return the rectangle of each scene, by its id, in stage pixels as (x, y, w, h).

        A file without scenes has one, of the id None.
        """
        # Imported for this alone: pixels are read with it in helper processes.
        from pylibCZIrw.czi import CziReader, Rectangle

        if isinstance(czi, CziReader):
            return {scene: Rectangle(*rect) for scene, rect in _rectangles(czi).items()}
        return {scene.scene: Rectangle(*scene.rect) for scene in read_scenes(Path(czi)).all()}

    def blocks(self, sample_idx: int, channel: int, depth: int, window: Rect) -> Iterator[Block]:
        """Yield the tiles of a plane that meet a window; see `BlockStack`."""
        plane = self._plane(sample_idx, channel, depth)
        view = partial(_color_plane, color=self._geometry.channels[channel].color)
        left, top = self.rect.x, self.rect.y
        depths = range(depth, depth + 1)
        for tile in plane.meeting(window.moved(left, top)):
            rect = tile.rect.moved(-left, -top)
            decode = partial(self._decoder.decode, tile.row)
            yield Block(tile.row, rect, (sample_idx,), depths, (0, 1), decode, view)

    def close(self) -> None:  # noqa: D102, documented on BoundedStack
        self._pyramid.close()
        self._decoder.close()
        self._tiles.clear()
        self._reduced_tiles.clear()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        self.read_reduced(1, sample_idx, channels, start, out)

    def read_reduced(
        self,
        factor: int,
        sample_idx: int,
        channels: Sequence[int],
        start: Sequence[int],
        out: NDArray[Any],
    ) -> None:
        """Fill `out`, C(Z)YX, with the image reduced by a factor along Y and X, from `start`.

        Where tiles overlap, the one with the highest M lies on top. Reduced pixels are those of the
        pyramid in the file; without one that libCZI can read, every `factor`-th pixel of each tile.
        """
        y, x = start[-2:]
        left, top, _, _ = self.rect
        height, width = out.shape[-2:]
        window = Rect(left + x * factor, top + y * factor, width * factor, height * factor)
        first = start[0] if len(start) == 3 else 0
        planes = out if out.ndim == 4 else out[:, np.newaxis]
        for channel, stack in zip(channels, planes, strict=True):
            color = self._geometry.channels[channel].color
            for depth, target in enumerate(stack, first):
                plane = self._plane(sample_idx, channel, depth)
                self._read_plane(plane, color, window, factor, target)

    def _read_plane(
        self, plane: PlaneTiles, color: int | None, window: Rect, factor: int, out: NDArray[Any]
    ) -> None:
        """Fill `out`, YX, with a window (in stage pixels) of a plane."""
        if factor == 1:
            for tile in plane.meeting(window):
                pixels = self._tiles.get(tile.row, partial(self._decoder.decode, tile.row))
                inside, outside = tile.rect.overlap_slices(window)
                out[outside] = _color_plane(pixels, color)[inside]
            return
        if self._geometry.has_pyramid and plane.tiles:
            try:
                kind = PIXEL_TYPES[plane.tiles[0].pixel_type].name
                scene, numbers = self._geometry.scene, plane.numbers
                pixels = self._pyramid.read(window, numbers, scene, kind, 1 / factor)
                pixels = _color_plane(pixels, color)
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
            out[outside] = _color_plane(pixels, color)[inside]

    def _reduced_tile(self, tile: Tile, factor: int) -> tuple[NDArray[Any], Rect]:
        """Return every `factor`-th pixel of a tile, counted from the scene's corner, and where."""
        y, x = (self.rect.y - tile.rect.y) % factor, (self.rect.x - tile.rect.x) % factor
        corner = Rect(tile.rect.x + x, tile.rect.y + y, tile.rect.w - x, tile.rect.h - y)
        pixels = self._reduced_tiles.get(
            (tile.row, factor),
            lambda: np.ascontiguousarray(self._decoder.decode(tile.row)[y::factor, x::factor]),
        )
        return pixels, corner

    def _plane(self, sample_idx: int, channel: int, depth: int) -> PlaneTiles:
        key = sample_idx, self._geometry.channels[channel].channel, depth
        return self._planes.get(
            key, lambda: PlaneTiles(self._geometry, self._plane_indices(sample_idx, channel, depth))
        )

    def _plane_indices(self, sample_idx: int, channel: int, depth: int) -> dict[str, int]:
        """Return the index along each axis of the file, counted from 0."""
        file_channel = self._geometry.channels[channel].channel
        indices = {**self._layout.unravel(sample_idx), "C": file_channel}
        if self._layout.depth_axis != "none":
            indices[self._layout.depth_axis] = depth
        return indices


class CziLevel(BoundedStack):
    """A CZI stack reduced along Y and X by a power of two; open as long as the full one is."""

    def __init__(
        self, full: CziImageStack, factor: int, block_shape: tuple[int, int] | None
    ) -> None:
        self._full, self.factor = full, factor
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
        self._full.read_reduced(self.factor, sample_idx, channels, start, out)


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


def _color_plane(pixels: NDArray[Any], color: int | None) -> NDArray[Any]:
    """Return a component, YX, of decoded pixels YX or YXC."""
    return pixels if pixels.ndim == 2 else pixels[..., color or 0]


def _rectangles(reader: "CziReader") -> dict[int | None, Rect]:
    """Find the scenes in an open file; libCZI's list fails if their ids are not consecutive."""
    rects: dict[int | None, list[tuple[int, int, int, int]]] = {}

    def add(_: int, block: Any) -> bool:
        rect, stored = block.logicalRect, block.physicalSize
        if (rect.w, rect.h) == (stored.w, stored.h):
            scene = block.coordinate.to_dict().get("S")
            rects.setdefault(scene, []).append((rect.x, rect.y, rect.w, rect.h))
        return True

    reader.enumerate_subblocks(add)
    numbered = sorted(scene for scene in rects if scene is not None)
    return {scene: bounds(np.array(rects[scene])) for scene in numbered or (None,)}


def open_czi(path: Path, scene: SceneId | None, depth_axis: DepthAxis) -> CziImageStack:
    """Open one scene of a CZI file."""
    if isinstance(scene, str):  # as a scene of a zarr is named
        raise ArgumentError(f"{path}: there is no scene {scene!r}; a CZI's scenes are numbers.")
    return CziImageStack(path, scene, depth_axis)
