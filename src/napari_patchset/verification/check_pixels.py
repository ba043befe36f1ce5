"""Check the pixels of a set against its checksums, digests and statistics."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import reduce
from math import isclose
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.layout import LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, digest_checksums
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums, channel_sums
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates


class PixelCheck:
    """Read every patch of a set once, shard by shard.

    Parameters
    ----------
    candidates : RecordedCandidates or None
        The candidates in the table, None if it can't be read.
    count_read : callable
        Called with the number of patches that have been read.

    Attributes
    ----------
    checksums : dict of str to uint32 array
        The checksum of each patch, by the name of its array.
    unreadable : dict of str to bool array
        Which patches could not be read.
    """

    def __init__(
        self,
        patch_set: OpenedSet,
        candidates: RecordedCandidates | None,
        count_read: Callable[[int], None],
    ) -> None:
        self._set, self._candidates, self._count_read = patch_set, candidates, count_read
        self.checksums = {a.name: np.zeros(a.n, np.uint32) for a in patch_set.arrays}
        self.unreadable = {a.name: np.zeros(a.n, bool) for a in patch_set.arrays}

    def run(self) -> Iterator[Finding]:
        """Read all arrays, and yield what is wrong with them."""
        for array in self._set.arrays:
            sums: list[list[ChannelSums]] = []
            has_damaged_patch = False
            with closing(self._set.form.open(self._set.path, array)) as store:
                for shard in range(array.n_shards):
                    for finding in self._check_shard(array, store, shard, sums):
                        has_damaged_patch |= finding.name == "damaged patch"
                        yield finding
            if not has_damaged_patch and not self.unreadable[array.name].any():
                yield from self._check_array(array, sums)

    def _check_shard(
        self, array: ArrayLayout, store: PatchStore, shard: int, sums: list[list[ChannelSums]]
    ) -> Iterator[Finding]:
        rows = array.rows(shard)
        in_shard = slice(rows.start, rows.stop)
        patches = np.empty((len(rows), *array.patch_shape), array.pixel_type)
        yield from self._read(array, store, rows, patches)
        self.checksums[array.name][in_shard] = checksums(patches)
        yield from self._compare_checksums(array, shard, in_shard)
        if self._has_statistics(array) and not self.unreadable[array.name][in_shard].any():
            sums.append(channel_sums(patches))
        store.close()  # mapped files count as memory
        self._count_read(len(rows))

    def _read(
        self, array: ArrayLayout, store: PatchStore, rows: range, out: NDArray[Any]
    ) -> Iterator[Finding]:
        """Read patches, and yield each unreadable file once; missing files are known already."""
        messages = set()
        form, root = self._set.form, self._set.path
        for i, row in enumerate(rows):
            try:
                out[i] = store.read(row)
                if not form.is_as_written(root, array, row, out[i]):
                    yield Finding(
                        "damaged file",
                        f"patch {row} of {array.name} of {root}: the size, channels or digest in "
                        f"its file do not fit its pixels; {REMEDY}.",
                    )
            except (UnreadableFileError, OSError) as error:
                self.unreadable[array.name][row] = True
                if not isinstance(error, FileNotFoundError):
                    messages.add(str(error))
        yield from (Finding("damaged file", message) for message in sorted(messages))

    def _compare_checksums(
        self, array: ArrayLayout, shard: int, in_shard: slice
    ) -> Iterator[Finding]:
        """Yield images whose checksum is not the one in the table."""
        candidates = self._candidates
        recorded = None if candidates is None else candidates.image_checksums(array)
        if recorded is None:
            return
        wrong = self.checksums[array.name][in_shard] != recorded[in_shard]
        wrong &= ~self.unreadable[array.name][in_shard]
        if wrong.any():
            first = in_shard.start + int(wrong.argmax())
            yield Finding(
                "damaged patch",
                f"{array.name} of {self._set.path}, shard {shard}: {wrong.sum()} of "
                f"{len(wrong)} patches do not have their checksum in the table, the first is patch "
                f"{first}; {REMEDY}.",
            )

    def _check_array(self, array: ArrayLayout, sums: list[list[ChannelSums]]) -> Iterator[Finding]:
        digest = digest_checksums(self.checksums[array.name])
        recorded = self._set.manifest.arrays[array.name].digest
        if digest != recorded:
            yield Finding(
                "damaged patch",
                f"{array.name} of {self._set.path}: the digest of its patches is {digest}, "
                f"the manifest says {recorded}; {REMEDY}.",
            )
        elif self._has_statistics(array):
            yield from self._check_statistics(array, sums)

    def _has_statistics(self, array: ArrayLayout) -> bool:
        training = next(iter(self._set.manifest.counts), None)
        return array.split == training and array.role != LABELS

    def _check_statistics(
        self, array: ArrayLayout, sums: list[list[ChannelSums]]
    ) -> Iterator[Finding]:
        recorded = self._set.manifest.statistics.get(array.role, ())
        expected = [ChannelStatistics.of(reduce(add, each)) for each in zip(*sums, strict=True)]
        if len(recorded) != len(expected):
            return  # `check_manifest` has found that
        for channel, has, should_have in zip(array.channels, recorded, expected, strict=True):
            for name in ChannelStatistics.model_fields:
                if not _is_close(getattr(has, name), getattr(should_have, name)):
                    yield Finding(
                        "wrong statistics",
                        f"{self._set.path}: {name} of {array.name}, channel {channel}, is "
                        f"{getattr(should_have, name)}, the manifest says {getattr(has, name)}; "
                        f"{REMEDY}.",
                    )


def _is_close(a: Any, b: Any) -> bool:
    """Whether statistics are equal, except that floats may have been summed in another order."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_close(a[key], b[key]) for key in a)
    return isclose(a, b, rel_tol=1e-9)
