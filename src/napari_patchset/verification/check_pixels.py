"""Check the pixels of a set against its checksums, digests and statistics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patching.duplicates import NO_HASH, image_hashes
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, digest_checksums
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates

PERCENTILE_ERROR = 2.0**-7
"""Largest relative error of the pixels that a percentile lies between, see `Histogram`."""


class PixelCheck:
    """Read every patch of a set once, shard by shard.

    Parameters
    ----------
    candidates : RecordedCandidates or None
        The candidates in the table, None if it can't be read.
    count_read : callable
        Called with the number of patches that have been read.
    with_hashes : bool
        Whether images are hashed, to find those that look alike.

    Attributes
    ----------
    checksums : dict of str to uint32 array
        The checksum of each patch, by the name of its array.
    unreadable : dict of str to bool array
        Which patches could not be read.
    hashes : dict of str to int64 array
        The hash of each image, `NO_HASH` if it could not be read; empty if that is not wanted.
    """

    def __init__(
        self,
        patch_set: OpenedSet,
        candidates: RecordedCandidates | None,
        count_read: Callable[[int], None],
        with_hashes: bool = False,
    ) -> None:
        self._set, self._candidates, self._count_read = patch_set, candidates, count_read
        self.checksums = {a.name: np.zeros(a.n, np.uint32) for a in patch_set.arrays}
        self.unreadable = {a.name: np.zeros(a.n, bool) for a in patch_set.arrays}
        images = [a for a in patch_set.arrays if a.role == IMAGE and with_hashes]
        self.hashes = {a.name: np.full(a.n, NO_HASH, np.int64) for a in images}

    def run(self) -> Iterator[Finding]:
        """Read all arrays, and yield their faults."""
        for array in self._set.arrays:
            moments = [Moments(each) for each in self._recorded(array)]
            has_damaged_patch = False
            with closing(self._set.open(array)) as store:
                for shard in range(array.n_shards):
                    for finding in self._check_shard(array, store, shard, moments):
                        has_damaged_patch |= finding.name == "damaged patch"
                        yield finding
            if not has_damaged_patch and not self.unreadable[array.name].any():
                yield from self._check_array(array, moments)

    def _check_shard(
        self, array: ArrayLayout, store: PatchStore, shard: int, moments: Sequence["Moments"]
    ) -> Iterator[Finding]:
        rows = array.rows(shard)
        in_shard = slice(rows.start, rows.stop)
        patches = np.empty((len(rows), *array.patch_shape), array.pixel_type)
        yield from self._read(array, store, rows, patches)
        self.checksums[array.name][in_shard] = checksums(patches)
        if array.name in self.hashes:
            is_unreadable = self.unreadable[array.name][in_shard]
            hashes = np.where(is_unreadable, NO_HASH, image_hashes(patches))
            self.hashes[array.name][in_shard] = hashes
        yield from self._compare_checksums(array, shard, in_shard)
        if not self.unreadable[array.name][in_shard].any():
            for patch in patches:
                for channel, each in zip(patch, moments, strict=False):
                    each.add(channel)
        store.close()  # mapped files count as memory
        self._count_read(len(rows))

    def _read(
        self, array: ArrayLayout, store: PatchStore, rows: range, out: NDArray[Any]
    ) -> Iterator[Finding]:
        """Read patches, and yield each unreadable file once; missing files are known already."""
        messages = set()
        set_format, root = self._set.set_format, self._set.path
        for i, row in enumerate(rows):
            try:
                out[i] = store.read(row)
                if not set_format.is_as_written(root, array, row, out[i]):
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

    def _check_array(self, array: ArrayLayout, moments: Sequence["Moments"]) -> Iterator[Finding]:
        digest = digest_checksums(self.checksums[array.name])
        recorded = self._set.manifest.arrays[array.name].digest
        if digest != recorded:
            yield Finding(
                "damaged patch",
                f"{array.name} of {self._set.path}: the digest of its patches is {digest}, "
                f"the manifest says {recorded}; {REMEDY}.",
            )
            return
        for channel, each in zip(array.channels, moments, strict=False):
            for name, value in each.differences():
                yield Finding(
                    "wrong statistics",
                    f"{self._set.path}: {name} of {array.name}, channel {channel}, is {value}; "
                    f"{REMEDY}.",
                )

    def _recorded(self, array: ArrayLayout) -> tuple[ChannelStatistics, ...]:
        """Return the statistics of each channel of an array, if it has any."""
        training = next(iter(self._set.manifest.counts), None)
        if array.split != training or array.role == LABELS:
            return ()
        statistics = self._set.manifest.statistics.get(array.role, ())
        # `check_manifest` finds another number.
        return statistics if len(statistics) == len(array.channels) else ()


class Moments:
    """The statistics of one channel, computed patch by patch, and compared with the manifest's.

    This is not the code of the export, so that an error of one shows in the other: each patch is
    sorted, and count, mean and variance of patches are merged pairwise (Chan, Golub and LeVeque).
    Of a percentile it is counted how many pixels lie on either side.
    """

    def __init__(self, recorded: ChannelStatistics) -> None:
        self._recorded = recorded
        self._count, self._mean, self._squares = 0, np.longdouble(0), np.longdouble(0)
        self._rounding = 0.0
        self._low: Any = None
        self._high: Any = None
        values = np.array(list(recorded.percentiles.values()), float)
        slack = PERCENTILE_ERROR * np.abs(values) + 1e-37
        self._edges = values - slack, values + slack
        self._below, self._up_to = np.zeros(len(values), int), np.zeros(len(values), int)

    def add(self, patch: NDArray[Any]) -> None:
        """Add the pixels of one patch."""
        pixels = np.abs(patch) if patch.dtype.kind == "c" else patch
        pixels = np.sort(pixels[np.isfinite(pixels)], axis=None)
        if not len(pixels):
            return
        ends = pixels[0].item(), pixels[-1].item()
        self._low = ends[0] if self._low is None else min(self._low, ends[0])
        self._high = ends[1] if self._high is None else max(self._high, ends[1])
        wide: Any = pixels.astype(np.float64 if pixels.itemsize <= 4 else np.longdouble)
        self._rounding = float(np.finfo(wide.dtype).eps)
        mean = np.longdouble(wide.mean())
        squares = np.longdouble(np.square(wide - wide.dtype.type(mean)).sum())
        n, before = len(pixels), self._count
        distance = mean - self._mean
        self._count += n
        self._squares += squares + distance**2 * (before * n / self._count)
        self._mean += distance * (n / self._count)
        low, high = self._edges
        numbers = pixels.astype(np.float64)
        self._below += np.searchsorted(numbers, low, "left")
        self._up_to += np.searchsorted(numbers, high, "right")

    def differences(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each statistic that is wrong, with both values."""
        recorded = self._recorded
        largest = max(abs(self._low), abs(self._high)) if self._count else 0
        computed: dict[str, Any] = {
            "count": self._count,
            "mean": float(self._mean),
            "std": float(np.sqrt(self._squares / max(self._count, 1))),
            "minimum": self._low if self._count else 0,
            "maximum": self._high if self._count else 0,
        }
        for name, value in computed.items():
            has = getattr(recorded, name)
            # The squares of the largest numbers are infinite where long double is double.
            error = largest * (self._rounding if name == "std" else 1e-13)
            is_equal = np.isinf(value) or isclose(has, value, rel_tol=1e-9, abs_tol=error)
            if not (is_equal if name in ("mean", "std") else has == value):
                yield name, f"{value}, the manifest says {has}"
        ranks = np.array(list(recorded.percentiles), float) / 100 * (self._count - 1)
        wrong = (self._below > np.ceil(ranks)) | (self._up_to <= np.floor(ranks))
        for i in np.flatnonzero(wrong).tolist():
            percent, value = list(recorded.percentiles.items())[i]
            yield (
                "percentiles",
                f"{percent} % at {value} by the manifest, but {self._up_to[i]} of {self._count} "
                "pixels are up to that",
            )
