"""CziImageStack: one scene of a CZI file, or all of them, as a stack."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader, Rectangle

from napari_patchset.axes import AxisLayout, DepthAxis, require_depth_axis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.base import BoundedStack
from napari_patchset.stacks.czi.check import PIXEL_TYPES, check_structure
from napari_patchset.stacks.czi.directory import CziDirectory, read_directory
from napari_patchset.stacks.czi.geometry import SceneGeometry, Tile, scene_geometry, scene_ids
from napari_patchset.stacks.czi.handle import CziHandle
from napari_patchset.stacks.czi.metadata import image_metadata, parse_metadata
from napari_patchset.stacks.czi.tiles import DEFAULT_LIMIT, TileCache
from napari_patchset.stacks.metadata import ImageMetadata, SceneSummary
from napari_patchset.stacks.naming import split_scene


def open_directory(path: Path) -> CziDirectory:
    """Read and check a CZI's structure.

    Raises
    ------
    UnreadableFileError
        If the file is no CZI, is damaged, or is of a kind that can't be read.
    """
    directory = read_directory(path)
    check_structure(directory, path)
    return directory


class CziImageStack(BoundedStack):
    """Cut patches out of a CZI file.

    Parameters
    ----------
    data_path : str or Path
        The file; a name like "file.czi@0" holds the scene too.
    scene : int or None
        The file's own id of the scene; None for the union of all, with zeros between them.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch; the others merge into S in the order
        T, Z, R, I, H, V, B.

    Attributes
    ----------
    data_path, scene, source : Path, int or None, Path
        The file, the scene, and the two in one name, which opens the same stack again.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    data_shape : list of int
        Size along `axes`, of this scene alone.
    data_dtype : dtype
        The type that holds every channel's pixels.
    block_shape : tuple of int
        Height and width of the most frequent tile.
    metadata : ImageMetadata
        Pixel size, and the channels' names, colours and display ranges.

    Raises
    ------
    ValueError
        If the scene is given twice or does not exist.
    RuntimeError
        If the scene does not contain the depth axis.
    UnreadableFileError
        If the file is damaged or of a kind that can't be read.
    """

    def __init__(
        self,
        data_path: str | Path,
        scene: int | None = None,
        depth_axis: DepthAxis = "none",
    ) -> None:
        self.data_path, self.scene = split_scene(data_path, scene)
        directory = open_directory(self.data_path)
        self._geometry = _existing_scene(directory, self.scene, self.data_path)
        self._czi_metadata = parse_metadata(directory.xml)
        self._set_up(depth_axis)
        self._handle = CziHandle(self.data_path)
        self._cache = TileCache()

    def _set_up(self, depth_axis: DepthAxis) -> None:
        geometry = self._geometry
        require_depth_axis(geometry.sizes, depth_axis, str(self.source))
        self._layout = _layout(geometry, depth_axis)
        self.axes = self._layout.stack_axes
        self.data_shape = list(self._layout.stack_shape)
        self.data_dtype = geometry.dtype
        self.block_shape = geometry.tile_shape
        self.metadata: ImageMetadata = image_metadata(self._czi_metadata, geometry)

    @property
    def source(self) -> Path:
        """The file and, if one was chosen, the scene, as in "file.czi@0"."""
        if self.scene is None:
            return self.data_path
        return self.data_path.with_name(f"{self.data_path.name}@{self.scene}")

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""
        return self._layout.axes

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before merging into S."""
        return self._layout.shape

    @property
    def starts(self) -> dict[str, int]:
        """The file's own number of the first index along each axis."""
        return self._geometry.starts

    @property
    def covered(self) -> tuple[Rect, ...]:
        """The rectangles that tiles cover, relative to the scene's corner."""
        return self._geometry.covered

    @property
    def tiles_decoded(self) -> int:
        """How many tiles this stack has decoded so far."""
        return self._cache.decoded

    def missing(self, sample_idx: int, channel: int) -> tuple[int, ...]:
        """Give the indices along the depth axis whose plane the file does not hold.

        Without a depth axis it is (0,) for a plane that is missing. `extract_patch` gives zeros
        for such a plane.
        """
        sample = self._layout.unravel(sample_idx)
        c = self._geometry.components[channel].channel
        depth = self.data_shape[2] if len(self.axes) == 5 else 1
        keys = [self._geometry.key(self._plane(sample, c, z)) for z in range(depth)]
        return tuple(z for z, key in enumerate(keys) if not len(self._geometry.plane_rows(key)))

    @classmethod
    def get_bounding_rectangles(cls, czi: Path | str | CziReader) -> dict[int | None, Rectangle]:
        """Give the rectangle of each scene in stage pixels, as (x, y, w, h).

        Parameters
        ----------
        czi : Path, str or CziReader
            A file, or one that is open.

        Returns
        -------
        dict of int or None to Rectangle
            By scene id; the one key None in a file without scenes.
        """
        if isinstance(czi, CziReader):
            found = czi.scenes_bounding_rectangle_no_pyramid
            return dict(found) or {None: czi.total_bounding_rectangle_no_pyramid}
        blocks = open_directory(Path(czi)).subblocks
        scenes = scene_ids(blocks) or (None,)
        return {scene: Rectangle(*scene_geometry(blocks, scene).rect) for scene in scenes}

    def close(self) -> None:  # noqa: D102, said on BoundedStack
        self._handle.close()
        self._cache.clear()

    def _plane(self, sample: dict[str, int], channel: int, depth: int) -> dict[str, int]:
        """Name a plane by the index along each axis, counted from 0."""
        plane = {**sample, "C": channel}
        if self._layout.depth_axis != "none":
            plane[self._layout.depth_axis] = depth
        return plane

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        sample = self._layout.unravel(sample_idx)
        first = start[0] if len(start) == 3 else 0
        planes = out if out.ndim == 4 else out[:, np.newaxis]
        corner = self._geometry.rect
        window = Rect(corner.x + start[-1], corner.y + start[-2], out.shape[-1], out.shape[-2])
        for channel, stack in zip(channels, planes, strict=True):
            component = self._geometry.components[channel]
            for depth, target in enumerate(stack, first):
                plane = self._plane(sample, component.channel, depth)
                self._read_plane(plane, component.color, window, target)

    def _read_plane(
        self, plane: dict[str, int], color: int | None, window: Rect, target: NDArray[Any]
    ) -> None:
        """Paste what every tile shows; where tiles overlap, each holds the same composed pixels."""
        key = self._geometry.key(plane)
        for tile in self._geometry.tiles(key, window):
            pixels = self._tile(plane, key, tile)
            if pixels.ndim == 3:
                pixels = pixels[..., color or 0]
            inside, outside = _intersection(tile.rect, window)
            target[outside] = pixels[inside]

    def _tile(self, plane: dict[str, int], key: int, tile: Tile) -> NDArray[Any]:
        numbers = {axis: index + self.starts[axis] for axis, index in plane.items()}
        name = PIXEL_TYPES[tile.pixel_type][0]
        return self._cache.get(
            (key, tile.rect),
            lambda: self._handle.read(tile.rect, numbers, self.scene, name),
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_cache"] = self._cache.limit
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._cache = TileCache(state["_cache"] or DEFAULT_LIMIT)


def open_czi(path: Path, scene: SceneId | None, depth_axis: DepthAxis) -> CziImageStack:
    """Open one scene of a CZI file; the entry of the format table."""
    if isinstance(scene, str):
        raise ArgumentError(f"{path}: there is no scene {scene!r}; a CZI's scenes are numbers.")
    return CziImageStack(path, scene, depth_axis)


def czi_scenes(path: Path) -> list[SceneSummary]:
    """List the scenes of a CZI file; one without an id where it has none."""
    directory = open_directory(path)
    names = parse_metadata(directory.xml).scene_names
    return [
        _summary(scene_geometry(directory.subblocks, scene), names, path)
        for scene in scene_ids(directory.subblocks) or (None,)
    ]


def _summary(geometry: SceneGeometry, names: dict[int, str], path: Path) -> SceneSummary:
    layout = _layout(geometry, "none")
    scene = geometry.scene
    name = path.stem if scene is None else names.get(scene, f"Scene {scene}")
    return SceneSummary(scene, name, geometry.rect, layout.axes, layout.shape, geometry.dtype.name)


def _existing_scene(directory: CziDirectory, scene: int | None, path: Path) -> SceneGeometry:
    ids = scene_ids(directory.subblocks)
    if scene is not None and scene not in ids:
        has = f"its scenes are {', '.join(map(str, ids))}" if ids else "it has no scenes"
        raise ArgumentError(f"{path}: there is no scene {scene}; {has}.")
    return scene_geometry(directory.subblocks, scene)


def _layout(geometry: SceneGeometry, depth_axis: DepthAxis) -> AxisLayout:
    spatial = "" if depth_axis == "none" else depth_axis
    merged = "".join(axis for axis in geometry.sizes if axis not in f"C{spatial}")
    sizes = {
        **geometry.sizes,
        "C": len(geometry.components),
        "Y": geometry.rect.h,
        "X": geometry.rect.w,
    }
    axes = f"{merged}C{spatial}YX"
    return AxisLayout(axes, tuple(sizes[axis] for axis in axes), depth_axis)


def _intersection(tile: Rect, window: Rect) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Give the common rectangle as slices of the tile and as slices of the window."""
    left, top = max(tile.x, window.x), max(tile.y, window.y)
    right = min(tile.x + tile.w, window.x + window.w)
    bottom = min(tile.y + tile.h, window.y + window.h)
    inside = (slice(top - tile.y, bottom - tile.y), slice(left - tile.x, right - tile.x))
    outside = (slice(top - window.y, bottom - window.y), slice(left - window.x, right - window.x))
    return inside, outside
