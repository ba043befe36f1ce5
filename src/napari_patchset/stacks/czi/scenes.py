"""The scenes of a CZI: position, planes, tiles and pixel types, found from the subblocks.

Not from libCZI's bounding boxes and pixel types: these are wrong, or fail, in real files (axes that
do not start at 0, sparse scene ids).
"""

import logging
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import lazy_loader
import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.czi.compression import JPEG, LZW, ZSTD1
from napari_patchset.stacks.czi.directory import (
    BGR48,
    BGR96_FLOAT,
    GRAY32,
    GRAY64_FLOAT,
    PIXEL_TYPES,
    PLANE_AXES,
    Subblocks,
    distinct,
)
from napari_patchset.stacks.czi.metadata import CziChannel, CziScene, parse_metadata
from napari_patchset.stacks.czi.parts import read_parts
from napari_patchset.stacks.czi.subblocks import SubblockDecoder, check_all, check_structure
from napari_patchset.stacks.metadata import (
    Channel,
    ImageMetadata,
    SceneSummary,
    absent_files,
    sample_channel,
)

logger = logging.getLogger(__name__)
shapely: Any = lazy_loader.load("shapely")

_ALWAYS_PRESENT = "TZ"
"""Axes that an image has even if no subblock names them, with size 1."""

_CHECKED_AT_OPENING = 2000
"""Up to this many headers of subblocks are checked at opening; of more, each when it is decoded."""

_NOT_OF_LIBCZI = BGR96_FLOAT, GRAY32, GRAY64_FLOAT
"""Pixel types that libCZI can't decode."""

_MAX_CACHED_SUBBLOCKS = 200_000
"""Of all files, about 150 bytes each; the last file is cached in any case."""


_FEW_TILES = 64
"""Up to this many tiles, a loop over them is faster than a search tree."""


class StackChannel(NamedTuple):
    """A channel of a stack: a channel of the file, and which of its colour components."""

    channel: int
    """Counted from 0, whatever number the file starts with."""
    color: int | None
    """0, 1, 2 for R, G, B; None for a grey channel."""
    dtype: np.dtype[np.generic]
    """The channel's own type, which may be narrower than the stack's."""


@dataclass(frozen=True)
class SceneGeometry:
    """The true extent of one scene, or of all scenes together."""

    scene: int | None
    """The file's own id; None for the union of all."""
    rect: Rect
    """Its position on the stage, in pixels."""
    starts: dict[str, int]
    sizes: dict[str, int]
    """First number and extent along each axis: T, Z, R, I, H, V, B, the order of merging into S,
    then C."""
    blocks: Subblocks
    """All subblocks of the file."""
    rows: NDArray[np.int64]
    """Rows of `blocks` that are this scene's tiles, ordered by plane, then from bottom to top."""
    keys: NDArray[np.int64]
    """The plane of each of `rows`, raveled over `sizes`."""
    known_rows: NDArray[np.int64]
    """The same in any order, and those in absent parts of a CZI in several files."""
    has_pyramid: bool
    """Whether the file also has lower resolutions of this scene that libCZI can read."""

    def plane_rows(self, plane: Mapping[str, int]) -> NDArray[np.int64]:
        """Return the rows of the tiles of the plane at the indices along each axis, if any."""
        indices = [plane.get(axis, 0) for axis in self.sizes]
        key = int(np.ravel_multi_index(indices, tuple(self.sizes.values())))
        first, last = np.searchsorted(self.keys, [key, key + 1])
        return self.rows[first:last]

    @cached_property
    def is_complete(self) -> bool:
        """Whether the file has every plane of the scene's extent."""
        return len(np.unique(self.keys)) == prod(self.sizes.values())

    @cached_property
    def channels(self) -> tuple[StackChannel, ...]:
        """The channels of the stack: one for a grey channel, R, G and B for a colour one."""
        c = self.blocks.plane[self.known_rows, PLANE_AXES.index("C")] - self.starts["C"]
        channels: list[StackChannel] = []
        for channel in range(self.sizes["C"]):
            types = distinct(self.blocks.pixel_type[self.known_rows[c == channel]]).tolist()
            n_colors = max((PIXEL_TYPES[kind].components for kind in types), default=1)
            colors = (None,) if n_colors == 1 else range(n_colors)
            dtypes = [PIXEL_TYPES[kind].dtype for kind in types] or [self.dtype]
            dtype = np.result_type(*dtypes)
            channels += [StackChannel(channel, color, dtype) for color in colors]
        return tuple(channels)

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """The type that holds every channel's pixels."""
        types = distinct(self.blocks.pixel_type[self.known_rows]).tolist()
        return np.result_type(*(PIXEL_TYPES[kind].dtype for kind in types))

    @cached_property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of the most frequent tile."""
        # Packed into one number each: rows of two are sorted many times slower.
        sizes = self.blocks.rect[self.known_rows, 2:]
        packed = sizes[:, 0] << 32 | sizes[:, 1]
        values, counts = np.unique(packed, return_counts=True)
        width, height = divmod(int(values[np.argmax(counts)]), 2**32)
        return height, width

    @cached_property
    def tile_rects(self) -> tuple[tuple[Rect, ...], NDArray[np.int64]]:
        """The distinct rectangles of the tiles, in the scene, and the index of that of each row."""
        rects, index = np.unique(self.blocks.rect[self.rows], axis=0, return_inverse=True)
        rects -= (self.rect.x, self.rect.y, 0, 0)
        return tuple(Rect(*rect) for rect in rects.tolist()), index.reshape(-1).astype(np.int64)

    @cached_property
    def partial_planes(self) -> tuple[tuple[NDArray[np.int64], tuple[Rect, ...]], ...]:
        """The keys of planes that have only some of these rectangles, with those that they have."""
        rects, index = self.tile_rects
        keys, indices = np.divmod(np.unique(self.keys * len(rects) + index), len(rects))
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(first, append=len(keys))
        groups: defaultdict[bytes, list[int]] = defaultdict(list)
        for plane in np.flatnonzero(counts < len(rects)).tolist():
            start = int(first[plane])
            groups[indices[start : start + counts[plane]].tobytes()].append(int(keys[start]))
        return tuple(
            (np.array(planes), tuple(rects[i] for i in np.frombuffer(of_plane, np.int64).tolist()))
            for of_plane, planes in groups.items()
        )

    def layout(self, depth_axis: DepthAxis) -> AxisLayout:
        """Lay the scene out as a stack."""
        depth = "" if depth_axis == "none" else depth_axis
        merged = "".join(axis for axis in self.sizes if axis not in f"C{depth}")
        plane = {"C": len(self.channels), "Y": self.rect.h, "X": self.rect.w}
        sizes, axes = {**self.sizes, **plane}, f"{merged}C{depth}YX"
        return AxisLayout(axes, tuple(sizes[axis] for axis in axes), depth_axis)

    def __getstate__(self) -> dict[str, Any]:  # without the cached properties
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Tile(NamedTuple):
    """One full-resolution subblock of a plane."""

    row: int
    rect: Rect
    pixel_type: int


class PlaneTiles:
    """The tiles of one plane, given by its index along each axis, looked up by window."""

    def __init__(self, geometry: SceneGeometry, indices: Mapping[str, int]) -> None:
        self.numbers = {axis: i + geometry.starts[axis] for axis, i in indices.items()}
        """The plane in the file's own numbering."""
        rows, blocks = geometry.plane_rows(indices), geometry.blocks
        rects = blocks.rect[rows]
        columns = rows.tolist(), rects.tolist(), blocks.pixel_type[rows].tolist()
        self.tiles = [Tile(row, Rect(*rect), t) for row, rect, t in zip(*columns, strict=True)]
        self._rects = rects

    @cached_property
    def _tree(self) -> Any:
        left, top, width, height = self._rects.T
        return shapely.STRtree(shapely.box(left, top, left + width, top + height))

    def meeting(self, window: Rect) -> list[Tile]:
        """Return the tiles that meet a window (in stage pixels), from bottom to top."""
        left, top, width, height = window
        right, bottom = left + width, top + height
        if len(self.tiles) > _FEW_TILES:
            # The tree returns what only touches a box, too: half a pixel is taken off each side.
            box = shapely.box(left + 0.5, top + 0.5, right - 0.5, bottom - 0.5)
            found = self._tree.query(box)
            return [self.tiles[index] for index in sorted(found.tolist())]
        return [
            tile
            for tile in self.tiles
            for x, y, w, h in (tile.rect,)
            if x < right and y < bottom and x + w > left and y + h > top
        ]


def scene_geometry(blocks: Subblocks, scene: int | None) -> SceneGeometry:
    """Find the true extent of one scene, or of all of them together."""
    in_scene = blocks.scene == scene if scene is not None else np.ones(len(blocks), bool)
    # The rectangles of a pyramid's subblocks are rounded up to their own pixels.
    rows = np.flatnonzero(in_scene & blocks.at_full_resolution())
    axes = [axis for axis in PLANE_AXES if axis in f"{_ALWAYS_PRESENT}C{blocks.axes}"]
    planes = blocks.plane[rows][:, [PLANE_AXES.index(axis) for axis in axes]]
    low, high = planes.min(axis=0), planes.max(axis=0)
    shape = tuple((high - low + 1).tolist())
    keys = np.ravel_multi_index(tuple((planes - low).T), shape)
    order = np.lexsort([blocks.m_index[rows], keys])
    order = order[blocks.part[rows[order]] >= 0]
    return SceneGeometry(
        scene=scene,
        rect=bounds(blocks.rect[rows]),
        starts=dict(zip(axes, low.tolist(), strict=True)),
        sizes=dict(zip(axes, shape, strict=True)),
        blocks=blocks,
        rows=rows[order],
        keys=keys[order],
        known_rows=rows,
        has_pyramid=_has_readable_pyramid(blocks, in_scene),
    )


def _has_readable_pyramid(blocks: Subblocks, in_scene: NDArray[np.bool_]) -> bool:
    if not np.any(in_scene & ~blocks.at_full_resolution()):
        return False
    types, compressions = blocks.pixel_type[in_scene], blocks.compression[in_scene]
    unreadable = np.isin(types, _NOT_OF_LIBCZI) | np.isin(compressions, (JPEG, LZW))
    unreadable |= blocks.part[in_scene] != 0
    # libCZI leaves bytes of 16-bit zstd1 colour undefined.
    return not np.any(unreadable | ((types == BGR48) & (compressions == ZSTD1)))


def bounds(rects: NDArray[np.int64]) -> Rect:
    """Return the bounding box of rectangles in rows x, y, w, h."""
    x, y = rects[:, :2].min(axis=0).tolist()
    right, bottom = (rects[:, :2] + rects[:, 2:]).max(axis=0).tolist()
    return Rect(x, y, right - x, bottom - y)


class CziScenes:
    """The scenes of a CZI, each computed when first needed; threads may share it."""

    def __init__(self, path: Path) -> None:
        self.blocks, xml, self._files, self.absent = read_parts(path)
        check_structure(self.blocks, self._files, path)
        self._metadata = parse_metadata(xml)
        self._path = path
        self.files = tuple(self._files[number].path for number in sorted(self._files))
        """The files that the subblocks are in, the master first."""
        self._spans = np.zeros((len(self.blocks), 2), np.int64)
        self._geometries: dict[int | None, SceneGeometry] = {}
        if len(self.blocks) <= _CHECKED_AT_OPENING:
            check_all(self._files, self.blocks, self._spans)

    def decoder(self) -> SubblockDecoder:
        """Return a new decoder, which the caller closes."""
        return SubblockDecoder(self._files, self.blocks, self._spans)

    def warn(self) -> None:
        """Warn of absent files, and log that metadata can't be read: all pixels are there."""
        if problem := absent_files(self.absent, "this CZI"):
            warnings.warn(f"{self._path.absolute()}: {problem}.", UserWarning, stacklevel=1)
        if problem := self._metadata.problem:
            logger.warning("%s: %s.", self._path.absolute(), problem)

    def cache_size(self) -> int | None:
        """Return the size in a cache by the path of one file, None if there are more files."""
        return None if self.absent or len(self.files) > 1 else len(self.blocks)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The file's own ids of its scenes, in order; empty if no subblock names one."""
        named = self.blocks.at_full_resolution() & (self.blocks.scene >= 0)
        return tuple(distinct(self.blocks.scene[named]).tolist())

    def geometry(self, scene: SceneId | None) -> SceneGeometry:
        """Return one scene, or the union of all for None."""
        if scene is not None and (isinstance(scene, str) or scene not in self.ids):
            ids = self.ids
            has = f"its scenes are {', '.join(map(str, ids))}" if ids else "it has no scenes"
            raise ArgumentError(f"{self._path}: there is no scene {scene}; {has}.")
        if scene not in self._geometries:
            self._geometries[scene] = scene_geometry(self.blocks, scene)
        return self._geometries[scene]

    def all(self) -> list[SceneGeometry]:
        """Return every scene; in a file that names none, the union of all subblocks."""
        return [self.geometry(scene) for scene in self.ids or (None,)]

    def summaries(self) -> list[SceneSummary]:
        """Describe every scene for a list."""
        self.warn()
        return [self._summary(geometry) for geometry in self.all()]

    def _summary(self, geometry: SceneGeometry) -> SceneSummary:
        layout, scene = geometry.layout("none"), geometry.scene
        described, name = CziScene(), self._path.stem
        if scene is not None:
            described = self._metadata.scenes.get(scene, described)
            name = described.name or f"Scene {scene}"
        return SceneSummary(
            id=scene,
            name=name,
            rect=geometry.rect,
            axes=layout.axes,
            shape=layout.shape,
            dtype=geometry.dtype.name,
            well=described.well,
            center=described.center,
        )

    def image_metadata(self, geometry: SceneGeometry) -> ImageMetadata:
        """Describe the channels and the pixel size of a scene's stack."""
        start, n_channels = geometry.starts["C"], geometry.sizes["C"]
        described = self._metadata.channels_by_number(range(start, start + n_channels))
        channels = [
            _describe_channel(
                each, start + each.channel, described[each.channel], is_only=n_channels == 1
            )
            for each in geometry.channels
        ]
        return ImageMetadata(tuple(channels), self._metadata.pixel_size, self._metadata.time_step)


def _describe_channel(
    stack_channel: StackChannel, number: int, described: CziChannel | None, *, is_only: bool
) -> Channel:
    described = described or CziChannel(None, None, None, None)
    dtype, span = stack_channel.dtype, described.display_range
    limits = None
    if span and dtype.kind == "u":
        white = float(np.iinfo(dtype.name).max)
        limits = span[0] * white, span[1] * white
    name = described.name or f"Channel {number}"
    if stack_channel.color is None:
        return Channel(name, described.color, limits)
    sample = sample_channel(name, "RGB"[stack_channel.color], is_only)
    return replace(sample, contrast_limits=limits)


_SCENES_OF_FILE: FileCache[CziScenes] = FileCache(_MAX_CACHED_SUBBLOCKS, CziScenes.cache_size)


def read_scenes(path: Path) -> CziScenes:
    """Read and check a CZI's structure, once until the file changes."""
    return _SCENES_OF_FILE.get(path, CziScenes)
