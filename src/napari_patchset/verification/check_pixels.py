"""Hold the pixels of a set against its checksums, digests and statistics."""

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
from napari_patchset.patchset.manifest import digest_checksums
from napari_patchset.patchset.statistics import ChannelStatistics, ChannelSums, channel_sums
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.verification.subject import REMEDY, Candidates, Finding, OpenedSet


class PixelCheck:
    """Read every patch of a set once, shard by shard.

    Parameters
    ----------
    candidates : Candidates or None
        What the table says, None where it can't be read.
    tick : callable
        Told how many patches have been read.

    Attributes
    ----------
    found : dict of str to uint32 array
        The checksum of each patch of an array, by its name, once it is read.
    unreadable : dict of str to bool array
        Which of them could not be read.
    """

    def __init__(
        self, subject: OpenedSet, candidates: Candidates | None, tick: Callable[[int], None]
    ) -> None:
        self._subject, self._candidates, self._tick = subject, candidates, tick
        self.found = {a.name: np.zeros(a.n, np.uint32) for a in subject.arrays}
        self.unreadable = {a.name: np.zeros(a.n, bool) for a in subject.arrays}

    def run(self) -> Iterator[Finding]:
        """Read all arrays, and find what is wrong with them."""
        for array in self._subject.arrays:
            sums: list[list[ChannelSums]] = []
            is_named = False
            with closing(self._subject.form.open(self._subject.path, array)) as store:
                for shard in range(array.n_shards):
                    for finding in self._check_shard(array, store, shard, sums):
                        is_named |= finding.name == "damaged patch"
                        yield finding
            if not is_named and not self.unreadable[array.name].any():
                yield from self._check_whole(array, sums)

    def _check_shard(
        self, array: ArrayLayout, store: PatchStore, shard: int, sums: list[list[ChannelSums]]
    ) -> Iterator[Finding]:
        rows = array.rows(shard)
        part = slice(rows.start, rows.stop)
        patches = np.empty((len(rows), *array.patch_shape), array.pixel_type)
        yield from self._read(array, store, rows, patches)
        self.found[array.name][part] = checksums(patches)
        yield from self._compare(array, shard, part)
        if self._has_statistics(array) and not self.unreadable[array.name][part].any():
            sums.append(channel_sums(patches))
        store.close()  # what is mapped counts as memory
        self._tick(len(rows))

    def _read(
        self, array: ArrayLayout, store: PatchStore, rows: range, out: NDArray[Any]
    ) -> Iterator[Finding]:
        """Read patches, naming each file once that can't be read; the missing ones are known."""
        said = set()
        form, root = self._subject.form, self._subject.path
        for i, row in enumerate(rows):
            try:
                out[i] = store.read(row)
                if not form.is_as_written(root, array, row, out[i]):
                    yield Finding(
                        "damaged file",
                        f"patch {row} of {array.name} of {root}: what its file says of the pixels "
                        f"(size, channels, digest) does not fit them; {REMEDY}.",
                    )
            except (UnreadableFileError, OSError) as error:
                self.unreadable[array.name][row] = True
                if not isinstance(error, FileNotFoundError):
                    said.add(str(error))
        yield from (Finding("damaged file", message) for message in sorted(said))

    def _compare(self, array: ArrayLayout, shard: int, part: slice) -> Iterator[Finding]:
        """Find images whose checksum is not that of their row."""
        candidates = self._candidates
        expected = None if candidates is None else candidates.image_checksums(array)
        if expected is None:
            return
        wrong = self.found[array.name][part] != expected[part]
        wrong &= ~self.unreadable[array.name][part]
        if wrong.any():
            first = part.start + int(wrong.argmax())
            yield Finding(
                "damaged patch",
                f"{array.name} of {self._subject.path}, shard {shard}: {wrong.sum()} of "
                f"{len(wrong)} patches do not have their checksum in the table, the first is patch "
                f"{first}; {REMEDY}.",
            )

    def _check_whole(self, array: ArrayLayout, sums: list[list[ChannelSums]]) -> Iterator[Finding]:
        digest = digest_checksums(self.found[array.name])
        said = self._subject.manifest.arrays[array.name].digest
        if digest != said:
            yield Finding(
                "damaged patch",
                f"{array.name} of {self._subject.path}: the digest of its patches is {digest}, "
                f"the manifest says {said}; {REMEDY}.",
            )
        elif self._has_statistics(array):
            yield from self._check_statistics(array, sums)

    def _has_statistics(self, array: ArrayLayout) -> bool:
        training = next(iter(self._subject.manifest.counts), None)
        return array.split == training and array.role != LABELS

    def _check_statistics(
        self, array: ArrayLayout, sums: list[list[ChannelSums]]
    ) -> Iterator[Finding]:
        said = self._subject.manifest.statistics.get(array.role, ())
        found = [ChannelStatistics.of(reduce(add, each)) for each in zip(*sums, strict=True)]
        if len(said) != len(found):
            return  # the manifest does not agree with itself
        for channel, has, wants in zip(array.channels, said, found, strict=True):
            for name in ChannelStatistics.model_fields:
                if not _is_close(getattr(has, name), getattr(wants, name)):
                    yield Finding(
                        "wrong statistics",
                        f"{self._subject.path}: {name} of {array.name}, channel {channel}, is "
                        f"{getattr(wants, name)}, the manifest says {getattr(has, name)}; "
                        f"{REMEDY}.",
                    )


def _is_close(a: Any, b: Any) -> bool:
    """Whether statistics are the same: floats are summed in another order elsewhere."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_close(a[key], b[key]) for key in a)
    return isclose(a, b, rel_tol=1e-9)
