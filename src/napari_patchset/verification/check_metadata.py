"""Check manifest, table and files of a set for contradictions, apart from their pixels.

Every verdict, row and count in the table must follow from the recipe and the metrics.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.exporting.writing.selection import Selection, select_candidates
from napari_patchset.patching.splits import ALL
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, digest_file, read_attributes
from napari_patchset.patchset.table import patch_table
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates


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
