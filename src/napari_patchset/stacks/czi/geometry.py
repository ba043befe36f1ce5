"""From subblocks to scenes: where each lies, which planes and tiles it has, of which type."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Rect
from napari_patchset.stacks.czi.directory import PIXEL_TYPES, PLANE_AXES, Subblocks, distinct

_BGR48, _BGR96_FLOAT, _ZSTD1 = 4, 8, 6

ALWAYS_PRESENT = "TZ"
"""Axes that an image has even where no subblock names them, with size 1."""


class Component(NamedTuple):
    """One channel of a stack: a channel of the file, and which of its colour components."""

    channel: int
    """Counted from 0, whatever number the file starts with."""
    color: int | None
    """0, 1, 2 for R, G, B; None for a grey channel."""
    dtype: np.dtype[np.generic]
    """The channel's own type, which may be narrower than the stack's."""


class Plane(NamedTuple):
    """One channel's plane."""

    indices: dict[str, int]
    """Along each axis, counted from 0."""
    key: int
    """The plane, raveled over the scene's sizes."""
    component: Component


@dataclass(frozen=True)
class SceneGeometry:
    """One scene's true extent; `scene` None is the union of all of them.

    `starts` and `sizes` are by axis: T, Z, R, I, H, V, B, the order of merging into S, then C.
    """

    scene: int | None
    rect: Rect
    starts: dict[str, int]
    sizes: dict[str, int]
    blocks: Subblocks
    rows: NDArray[np.int64]
    """Rows in `blocks` of this scene's tiles, ordered by plane, then from bottom to top."""
    keys: NDArray[np.int64]
    """The plane of each of `rows`, raveled over `sizes`."""
    has_pyramid: bool
    """Whether the file holds this scene at lower resolutions too."""

    def key(self, plane: Mapping[str, int]) -> int:
        """Ravel a plane given by the index along each axis, counted from 0."""
        indices = [plane.get(axis, 0) for axis in self.sizes]
        return int(np.ravel_multi_index(indices, tuple(self.sizes.values())))

    def plane_rows(self, key: int) -> NDArray[np.int64]:
        """Give the rows of a plane's tiles, none if the file has no such plane."""
        first, last = np.searchsorted(self.keys, [key, key + 1])
        return self.rows[first:last]

    @cached_property
    def is_complete(self) -> bool:
        """Whether the file holds every plane of the scene's extent."""
        return len(np.unique(self.keys)) == prod(self.sizes.values())

    def has(self, plane: Mapping[str, int]) -> bool:
        """Whether the file holds a plane, given by the index along each axis."""
        return len(self.plane_rows(self.key(plane))) > 0

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The channels of the stack: one for a grey channel, R, G and B for a colour one."""
        c = self.blocks.plane[self.rows, PLANE_AXES.index("C")] - self.starts["C"]
        found: list[Component] = []
        for channel in range(self.sizes["C"]):
            types = distinct(self.blocks.pixel_type[self.rows[c == channel]]).tolist()
            colors = max((PIXEL_TYPES[kind][2] for kind in types), default=1)
            of = (None,) if colors == 1 else range(colors)
            dtype = np.result_type(*(PIXEL_TYPES[kind][1] for kind in types or self._types))
            found += [Component(channel, color, dtype) for color in of]
        return tuple(found)

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """The one type that holds every channel's pixels."""
        return np.result_type(*(PIXEL_TYPES[kind][1] for kind in self._types))

    @cached_property
    def _types(self) -> list[int]:
        types: list[int] = distinct(self.blocks.pixel_type[self.rows]).tolist()
        return types

    @cached_property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of the most frequent tile."""
        # As one number each: rows of two are sorted many times slower.
        packed = self.blocks.rect[self.rows, 2] << 32 | self.blocks.rect[self.rows, 3]
        sizes, counts = np.unique(packed, return_counts=True)
        width, height = divmod(int(sizes[np.argmax(counts)]), 2**32)
        return height, width

    @cached_property
    def covered(self) -> tuple[Rect, ...]:
        """Every different tile rectangle, relative to the scene's corner."""
        rects = np.unique(self.blocks.rect[self.rows], axis=0) - (self.rect.x, self.rect.y, 0, 0)
        return tuple(Rect(*rect) for rect in rects.tolist())


def scene_ids(blocks: Subblocks) -> tuple[int, ...]:
    """Give the file's own ids of its scenes, in order; none where no subblock names one."""
    return tuple(distinct(blocks.scene[_level0(blocks) & (blocks.scene >= 0)]).tolist())


def scene_geometry(blocks: Subblocks, scene: int | None) -> SceneGeometry:
    """Find the true extent of one scene, or of all of them together, in one pass.

    Pyramid subblocks do not count: their rectangles are rounded up to their own pixels.
    """
    in_scene = blocks.scene == scene if scene is not None else np.ones(len(blocks), bool)
    rows = np.flatnonzero(in_scene & _level0(blocks))
    axes = [axis for axis in PLANE_AXES if axis in f"{ALWAYS_PRESENT}C{blocks.axes}"]
    planes = blocks.plane[rows][:, [PLANE_AXES.index(axis) for axis in axes]]
    low, high = planes.min(axis=0), planes.max(axis=0)
    shape = tuple((high - low + 1).tolist())
    keys = np.ravel_multi_index(tuple((planes - low).T), shape)
    order = np.lexsort([blocks.m_index[rows], keys])
    return SceneGeometry(
        scene=scene,
        rect=bounds(blocks.rect[rows]),
        starts=dict(zip(axes, low.tolist(), strict=True)),
        sizes=dict(zip(axes, shape, strict=True)),
        blocks=blocks,
        rows=rows[order],
        keys=keys[order],
        has_pyramid=_has_pyramid(blocks, in_scene),
    )


def _has_pyramid(blocks: Subblocks, in_scene: NDArray[np.bool_]) -> bool:
    """Whether the scene has a pyramid that libCZI reads right."""
    if not np.any(in_scene & ~_level0(blocks)):
        return False
    # It has no decoder for float colour, and leaves bytes of zstd1 colour of 16 bits undefined.
    kinds, compressions = blocks.pixel_type[in_scene], blocks.compression[in_scene]
    wrong = (kinds == _BGR96_FLOAT) | ((kinds == _BGR48) & (compressions == _ZSTD1))
    return not np.any(wrong)


def _level0(blocks: Subblocks) -> NDArray[np.bool_]:
    width, height = blocks.rect[:, 2:].T
    mask: NDArray[np.bool_] = (width == blocks.stored[:, 0]) & (height == blocks.stored[:, 1])
    return mask


def bounds(rects: NDArray[np.int64]) -> Rect:
    """Give the smallest rectangle around rectangles given as rows x, y, w, h."""
    x, y = rects[:, :2].min(axis=0).tolist()
    right, bottom = (rects[:, :2] + rects[:, 2:]).max(axis=0).tolist()
    return Rect(x, y, right - x, bottom - y)
