"""Frames: the planes that sources share, where a place may show in several of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.source import Rect, SceneId, SourceInfo


@dataclass(frozen=True, eq=False)
class Frames:
    """Where each source lies in which plane; two sources in one frame may show the same place.

    Attributes
    ----------
    index : int64 array
        The frame of each source.
    offset : int64 array, (sources, YX)
        The source's upper left corner in its frame.
    extent : int64 array, (sources, YX)
        Height and width of the source.
    shape : int64 array, (frames, YX)
        The extent of each frame.
    names : tuple of (str, int or str or None)
        Key and scene of the first scene of each, which no order of the sources changes.
    """

    index: NDArray[np.int64]
    offset: NDArray[np.int64]
    extent: NDArray[np.int64]
    shape: NDArray[np.int64]
    names: tuple[tuple[str, SceneId | None], ...]

    def along(self, grid: PatchGrid, axis: Literal[0, 1]) -> NDArray[np.int32]:
        """Give the starts of patches along Y (0) or X (1) of their frames, as a new array.

        A patch that reaches past its source counts as the last one inside: all that it is filled
        with is from there.
        """
        start = grid.start[:, axis - 2].copy()
        last = np.maximum(self.extent[:, axis] - grid.size[axis - 2], 0).astype(np.int32)
        np.minimum(start, last[grid.stack] if np.ptp(last) else last[0], out=start)
        if self.offset[:, axis].any():
            start += self.offset[grid.stack, axis].astype(np.int32)
        return start


def find_frames(sources: Sequence[SourceInfo]) -> Frames:
    """Put scenes of one file whose rectangles overlap into one frame, and all others alone.

    A file that does not say where its scenes lie has a frame for each.
    """
    planes: defaultdict[tuple[str, SceneId | None], list[int]] = defaultdict(list)
    for i, source in enumerate(sources):
        planes[source.key, source.scene if source.rect is None else None].append(i)
    rects = np.array([_rect(source) for source in sources]).reshape(-1, 4)
    groups = [
        [members[i] for i in group]
        for members in planes.values()
        for group in _overlapping(rects[members])
    ]
    index, offset = np.empty(len(sources), np.int64), rects[:, 1::-1].copy()
    for frame, group in enumerate(groups):
        index[group] = frame
        offset[group] -= offset[group].min(axis=0)
    ends = offset + rects[:, :1:-1]
    shapes = [ends[group].max(axis=0) for group in groups]
    names = [_first([(sources[i].key, sources[i].scene) for i in group]) for group in groups]
    extent = np.array([source.spatial_shape[-2:] for source in sources], np.int64).reshape(-1, 2)
    return Frames(index, offset, extent, np.array(shapes).reshape(-1, 2), tuple(names))


def _first(names: list[tuple[str, SceneId | None]]) -> tuple[str, SceneId | None]:
    return min(names, key=repr)


def _rect(source: SourceInfo) -> Rect:
    *_, height, width = source.spatial_shape
    return source.rect or Rect(0, 0, width, height)


def _overlapping(rects: NDArray[np.int64]) -> list[list[int]]:
    """Group rectangles that overlap, directly or through others."""
    low, high = rects[:, :2], rects[:, :2] + rects[:, 2:]
    free = np.ones(len(rects), bool)
    groups = []
    while free.any():
        group = [int(free.argmax())]
        free[group] = False
        for member in group:  # which grows meanwhile
            near = ((low < high[member]) & (high > low[member])).all(axis=1) & free
            free &= ~near
            group += np.flatnonzero(near).tolist()
        groups.append(group)
    return groups
