"""Overrides: patches that are exported or rejected by hand, whatever the filters say."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_patchset._model import Frozen
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.random_streams import hash_name, hash_rows
from napari_patchset.source import SceneId, SourceInfo

BY_HAND = "by hand"
"""The reason of a candidate that is rejected by an override."""


class Override(Frozen):
    """Export or reject one patch.

    Attributes
    ----------
    keep : bool
        Whether it is exported.
    source : str
        The key of its source, see `SourceInfo`.
    scene : int, str or None
        The file's own id of the scene, None if it has none.
    sample : int
        Index along S.
    start : tuple of int
        Its first pixel along (Z)YX, in pixels of the patches.
    """

    keep: bool
    source: str
    scene: SceneId | None = None
    sample: int = 0
    start: tuple[int, ...]

    @classmethod
    def of(cls, grid: PatchGrid, row: int, sources: Sequence[SourceInfo], keep: bool) -> "Override":
        """Return the override of a candidate."""
        spec = grid[row]
        info = sources[spec.source_index]
        return cls(
            keep=keep, source=info.key, scene=info.scene, sample=spec.sample, start=spec.start
        )

    @property
    def place(self) -> tuple[str, SceneId | None, int, tuple[int, ...]]:
        """What it applies to."""
        return self.source, self.scene, self.sample, self.start


def overridden_rows(
    overrides: Sequence[Override], grid: PatchGrid, sources: Sequence[SourceInfo]
) -> NDArray[np.int64]:
    """Return the candidate that each override applies to, -1 if there is none.

    Patches of another size or overlap begin elsewhere, so that an override applies to none of them.
    """
    rows = np.full(len(overrides), -1, np.int64)
    index_of = {(info.key, info.scene): i for i, info in enumerate(sources)}
    known = [
        (i, (index_of[each.source, each.scene], each.sample, *each.start))
        for i, each in enumerate(overrides)
        if (each.source, each.scene) in index_of and len(each.start) == len(grid.size)
    ]
    if not known or not len(grid):
        return rows
    wanted = np.array([place for _, place in known], np.int64)
    name = np.array([hash_name("override")])
    hashes = hash_rows(name, grid.source_index, grid.sample, *grid.start.T)
    order = np.argsort(wanted_hashes := hash_rows(name, *wanted.T))
    near = order[np.searchsorted(wanted_hashes[order], hashes).clip(max=len(order) - 1)]
    for row in np.flatnonzero(wanted_hashes[near] == hashes).tolist():
        spec, place = grid[row], wanted[near[row]].tolist()
        if (spec.source_index, spec.sample, *spec.start) == tuple(place):
            rows[known[near[row]][0]] = row
    return rows
