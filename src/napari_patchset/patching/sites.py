"""Sites: which sources show the same place, and where each lies there.

Scenes of one file whose rectangles overlap on the stage form one site, and so do equal files.
Pixels of two sources at the same position of a site may show the same place of the specimen, so
they must not be in two splits.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.source import Rect, SceneId, SourceInfo


@dataclass(frozen=True, eq=False)
class Sites:
    """The site of each source, and its position there.

    Attributes
    ----------
    index : int64 array
        The site of each source.
    offset : int64 array, (sources, YX)
        The source's upper left corner in its site.
    extent : int64 array, (sources, YX)
        Height and width of the source.
    shape : int64 array, (sites, YX)
        Height and width of each site.
    names : tuple of (str, int or str or None)
        Key and scene of one source of each site, whatever the order of the sources.
    """

    index: NDArray[np.int64]
    offset: NDArray[np.int64]
    extent: NDArray[np.int64]
    shape: NDArray[np.int64]
    names: tuple[tuple[str, SceneId | None], ...]

    def starts(self, grid: PatchGrid, axis: Literal[0, 1]) -> NDArray[np.int32]:
        """Return the starts of patches along Y (0) or X (1) of their sites, as a new array.

        A patch that reaches past its source counts as the last one inside: its padding shows
        pixels from there.
        """
        start = grid.start[:, axis - 2].copy()
        last = np.maximum(self.extent[:, axis] - grid.size[axis - 2], 0).astype(np.int32)
        np.minimum(start, last[grid.source_index] if np.ptp(last) else last[0], out=start)
        if self.offset[:, axis].any():
            start += self.offset[grid.source_index, axis].astype(np.int32)
        return start


def find_sites(sources: Sequence[SourceInfo]) -> Sites:
    """Group sources by site.

    Scenes without a rectangle on the stage are a site each.
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
    for site, group in enumerate(groups):
        index[group] = site
        offset[group] -= offset[group].min(axis=0)
    ends = offset + rects[:, :1:-1]
    shapes = [ends[group].max(axis=0) for group in groups]
    names = [min(((sources[i].key, sources[i].scene) for i in group), key=repr) for group in groups]
    extent = np.array([source.spatial_shape[-2:] for source in sources], np.int64).reshape(-1, 2)
    return Sites(index, offset, extent, np.array(shapes).reshape(-1, 2), tuple(names))


def _rect(source: SourceInfo) -> Rect:
    *_, height, width = source.spatial_shape
    return source.rect or Rect(0, 0, width, height)


def _overlapping(rects: NDArray[np.int64]) -> list[list[int]]:
    """Group rectangles that overlap, directly or through others."""
    low, high = rects[:, :2], rects[:, :2] + rects[:, 2:]
    remaining = np.ones(len(rects), bool)
    groups = []
    while remaining.any():
        group = [int(remaining.argmax())]
        remaining[group] = False
        for member in group:  # grows during the loop
            near = ((low < high[member]) & (high > low[member])).all(axis=1) & remaining
            remaining &= ~near
            group += np.flatnonzero(near).tolist()
        groups.append(group)
    return groups
