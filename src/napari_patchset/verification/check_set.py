"""Check a set by itself: manifest, files and table for contradictions, and its pixels.

Every verdict, row and count in the table must follow from the recipe and the metrics, every pixel
from the checksums, digests and statistics.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.exporting.writing.selection import Selection, select_candidates
from napari_patchset.patching.duplicates import NO_HASH, hashes_of, image_hashes
from napari_patchset.patching.splits.split import ALL
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, digest_checksums, digest_file, read_attributes
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.table import patch_table
from napari_patchset.patchset.writers.base import PatchStore
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates
from napari_patchset.verification.recomputed import Moments


def check_manifest(patch_set: OpenedSet) -> Iterator[Finding]:
    """Yield entries of the manifest that contradict each other."""
    for contradiction in _contradictions(patch_set):
        yield patch_set.finding("edited manifest", contradiction)


def _contradictions(patch_set: OpenedSet) -> Iterator[str]:
    manifest, sources = patch_set.manifest, patch_set.sources
    try:
        recipe = patch_set.recipe
    except ValidationError as error:
        yield f"its recipe is invalid: {user_message(error)}"
        return
    if recipe.hash != manifest.recipe_hash:
        yield f"the recipe's hash is {recipe.hash}, not {manifest.recipe_hash}"
    splits = recipe.split.names_in(sources) if recipe.split else ALL
    if tuple(manifest.counts) != splits:
        yield f"it counts {list(manifest.counts)}, not {list(splits)}"
    if not sources:
        yield "it names no source"
        return
    for name, recorded, expected in _redundant_entries(patch_set):
        if recorded != expected:
            yield f"{name} is {recorded}, not {expected}"


def _redundant_entries(patch_set: OpenedSet) -> Iterator[tuple[str, Any, Any]]:
    """Yield entries that follow from others: name, recorded and expected value."""
    manifest, recipe, first = patch_set.manifest, patch_set.recipe, patch_set.sources[0]
    for name in ("depth_axis", "channels", "pixel_size"):
        yield name, getattr(manifest, name), getattr(first, name)
    has_pixels = patch_set.set_format.has_pixels
    roles = {IMAGE, *(array.role for array in patch_set.arrays)} if has_pixels else set()
    arrays = {f"{split}/{role}" for split in manifest.counts for role in roles}
    yield "the list of arrays", sorted(manifest.arrays), sorted(arrays)
    yield "the list of statistics", sorted(manifest.statistics), sorted(roles - {LABELS})
    for array in patch_set.arrays:
        size, name = array.patch_shape[1:], array.name
        planned = ArrayLayout.from_source(name, array.n, first, size, recipe.dtype, recipe.codec)
        yield f"the number of patches in {name}", array.n, manifest.counts.get(array.split)
        yield f"axes of {name}", array.axes, planned.axes
        yield f"codec of {name}", array.codec, planned.codec
        if array.role == IMAGE:
            yield f"channels of {name}", array.channels, planned.channels
            yield f"type of {name}", array.dtype, planned.dtype


def check_files(patch_set: OpenedSet) -> Iterator[Finding]:
    """Yield files that are missing, or damaged elsewhere than in their pixels."""
    for file in patch_set.missing:
        yield Finding("missing file", f"{patch_set.path / file}: {REMEDY}.")
    attributes = read_attributes(patch_set.path) or {}
    expected = patch_set.set_format.metadata_files(patch_set.path, patch_set.arrays, attributes)
    for path, content in expected.items():
        if not path.is_file():
            yield Finding("missing file", f"{path}: {REMEDY}.")
        elif read_json(path) != content:
            yield patch_set.finding("damaged file", "it contradicts the manifest", path)
    for array in patch_set.arrays:
        files = patch_set.set_format.files(patch_set.path, array)
        exist = all(file.is_file() for file in files)
        if exist and (damage := patch_set.set_format.find_damage(patch_set.path, array)):
            yield Finding("damaged file", f"{array.name} of {patch_set.path}: {damage}; {REMEDY}.")


def check_table(patch_set: OpenedSet, candidates: RecordedCandidates) -> Iterator[Finding]:
    """Yield rows, counts and limits that do not follow from the recipe and the metrics."""
    digest = digest_file(patch_set.table_path)
    if digest != (recorded := patch_set.manifest.table_digest):
        yield patch_set.edited_table(f"its digest is {digest}, the manifest says {recorded}")
    recipe, sources = patch_set.recipe, patch_set.sources
    try:  # to judge the candidates again, by the metrics in the table
        names = recipe.metric_columns(sources, patch_set.class_names)
        metrics = {name: candidates.metrics[name] for name in names}
        grid, is_readable = candidates.grid, candidates.is_readable
        selection = select_candidates(recipe, grid, sources, metrics, is_readable)
    except (PatchsetError, KeyError, pa.ArrowException) as error:
        yield patch_set.edited_table(f"its candidates can't be judged again: {error}")
        return
    try:
        yield from _check_columns(patch_set, candidates, selection)
    except UnreadableFileError as error:  # of a column that is not read before
        yield patch_set.edited_table(f"it can't be read: {error}")
    yield from _check_counts(patch_set, selection)


def _check_columns(
    patch_set: OpenedSet, candidates: RecordedCandidates, selection: Selection
) -> Iterator[Finding]:
    rows = selection.row if patch_set.set_format.has_pixels else np.full_like(selection.row, -1)
    grid, verdicts = candidates.grid, selection.verdicts
    checksums = candidates.checksums
    first, wrong = 0, set[str]()
    for recorded in candidates.file.parts():
        part = slice(first, first + len(recorded))
        columns = verdicts[part], rows[part], checksums[part]
        expected = patch_table(patch_set.sources, grid[part], *columns, first)
        unlike = {*recorded.schema.names} ^ {*expected.schema.names}
        if not first and unlike:
            yield patch_set.edited_table(f"its columns differ from this set's: {sorted(unlike)}")
        for name in expected.schema.names:
            is_checked = name in recorded.schema.names and name not in wrong
            if is_checked and not recorded[name].equals(expected[name]):
                wrong.add(name)
                pairs = enumerate(zip(recorded[name], expected[name], strict=True))
                unequal = ((i, a.as_py(), b.as_py()) for i, (a, b) in pairs if not a.equals(b))
                types = 0, recorded[name].type, expected[name].type
                row, value, should_be = next(unequal, types)
                what = f"{name} of row {first + row} is {value}, not {should_be}"
                yield patch_set.edited_table(what)
        first += len(expected)


def _check_counts(patch_set: OpenedSet, selection: Selection) -> Iterator[Finding]:
    manifest = patch_set.manifest
    counts: dict[str, tuple[Any, Any]] = {
        "patches": (manifest.counts, selection.counts),
        "patches of the folds": (manifest.folds, selection.folds),
        "rejected candidates": (manifest.rejected, selection.rejected),
        "limits": (manifest.limits, selection.verdicts.finite_limits),
    }
    for what, (recorded, expected) in counts.items():
        if recorded != expected:
            difference = f"{what} are {recorded} by the manifest, {expected} by the table"
            yield patch_set.finding("wrong counts", difference)


class PixelCheck:
    """Read every patch of a set once, shard by shard.

    `candidates` are those in the table, None if it can't be read; `count_read` is called with the
    number of patches that have been read; `with_hashes` asks for hashes of the images, to find
    those that look alike, and hashes in the table that are not theirs.

    Attributes
    ----------
    checksums, unreadable : dict of str to uint32 array, dict of str to bool array
        The checksum of each patch and whether it could not be read, by the name of its array.
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
        measured = None if candidates is None else hashes_of(candidates.metrics)
        self._recorded_hashes = None if measured is None else measured[0]
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
        self, array: ArrayLayout, store: PatchStore, shard: int, moments: Sequence[Moments]
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
            yield from self._compare_hashes(array, in_shard)
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

    def _compare_hashes(self, array: ArrayLayout, in_shard: slice) -> Iterator[Finding]:
        """Yield images whose hash is not the one in the table, which is without the padding."""
        candidates, recorded = self._candidates, self._recorded_hashes
        if candidates is None or recorded is None:
            return
        if (of_array := candidates.of_array(array)) is None:
            return
        rows, grid = of_array[in_shard], candidates.grid
        bounds = np.array([source.spatial_shape for source in self._set.sources])
        ends = grid.start[rows].astype(np.int64) + grid.size
        is_whole = (ends <= bounds[grid.source_index[rows]]).all(axis=1)
        of_pixels = self.hashes[array.name][in_shard]
        wrong = is_whole & ~self.unreadable[array.name][in_shard] & (of_pixels != recorded[rows])
        if wrong.any():
            row, should_be = int(rows[wrong][0]), int(of_pixels[wrong][0])
            value = int(recorded[row])
            yield self._set.edited_table(f"hash of row {row} is {value}, not {should_be}")

    def _check_array(self, array: ArrayLayout, moments: Sequence[Moments]) -> Iterator[Finding]:
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
