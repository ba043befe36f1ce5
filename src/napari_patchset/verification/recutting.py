"""Cut patches from their source again, and compare them by their checksums."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from napari_patchset.export.cutting.batches import Batches
from napari_patchset.export.cutting.casting import cast_exactly
from napari_patchset.export.cutting.reading import BatchReader
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.sources.opened import OpenImages
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.shards import checksums
from napari_patchset.source import SourceInfo
from napari_patchset.verification.pixels import PixelCheck
from napari_patchset.verification.subject import Candidates

Rows = NDArray[np.int64]


class Recutting:
    """Cut again what the arrays of one role hold, in the order of the source's tiles.

    Images are held against the checksums in the table; targets and labels, of which it has none,
    against what lies in the set.

    Parameters
    ----------
    arrays : list of ArrayLayout
        Of one role, one for each split.
    tick : callable
        Told how many patches have been read.
    memory : int
        Bytes for decoded tiles; more where a batch of patches needs it.
    threads : int
        How many decode.
    """

    def __init__(
        self,
        candidates: Candidates,
        pixels: PixelCheck,
        arrays: list[ArrayLayout],
        tick: Callable[[int], None],
        memory: int,
        threads: int,
    ) -> None:
        self._grid, self._array = candidates.grid, arrays[0]
        self._tick, self._memory, self._threads = tick, memory, threads
        self._expected = np.zeros(len(self._grid), np.uint32)
        self._known = np.zeros(len(self._grid), bool)
        for array in arrays:
            members = candidates.members(array)
            if members is not None:  # else the table has another number of them, which is said
                said = candidates.image_checksums(array)
                self._expected[members] = pixels.found[array.name] if said is None else said
                self._known[members] = said is not None or ~pixels.unreadable[array.name]

    def differing(self, images: OpenImages, plan: ExportPlan, index: int, info: SourceInfo) -> Rows:
        """Give the candidates of one source that are not what it holds.

        Raises
        ------
        SourcesFailed, ExportError
            If the source can't be read; if its pixels do not fit the type of the set.
        """
        chosen = np.flatnonzero(self._known & (self._grid.stack == index))
        if not len(chosen):
            return chosen
        units = np.arange(len(chosen)) // self._array.capacity  # no batch is larger than a shard
        batches = Batches.of(self._grid, [info] * (index + 1), images.pad, chosen, units)
        found = self._cut(images, plan, index, batches)
        differ: Rows = chosen[found[chosen] != self._expected[chosen]]
        return differ

    def _cut(
        self, images: OpenImages, plan: ExportPlan, index: int, batches: Batches
    ) -> NDArray[np.uint32]:
        """Give the checksum of each candidate, read from its source."""
        array, found = self._array, np.zeros(len(self._grid), np.uint32)
        dtype = images[index, array.role].stack.data_dtype
        reader = BatchReader(batches, images, array.role, images.pad, self._memory, self._threads)
        with closing(reader.read()) as read:
            for batch in read:
                chosen = batches.chosen(batch.number)
                patches = np.empty((len(chosen), *array.patch_shape), dtype)
                reader.fill(batch, patches)
                cast = cast_exactly(patches, array.dtype, self._grid[chosen], plan.sources[index])
                found[chosen] = checksums(cast)
                self._tick(len(chosen))
        return found
