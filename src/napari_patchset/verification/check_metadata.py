"""Check manifest, table and files of a set for contradictions, apart from their pixels.

Every verdict, row and count in the table must follow from the recipe and the metrics.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.candidates import Selection, select_candidates
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patching.splits import ALL, SPLITS
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY, digest_bytes
from napari_patchset.patchset.reader import read_attributes
from napari_patchset.patchset.table import patch_tables
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates


def check_manifest(patch_set: OpenedSet) -> Iterator[Finding]:
    """Yield entries of the manifest that contradict each other."""
    try:
        recipe = patch_set.recipe
    except ValidationError as error:
        yield _edited(patch_set, f"its recipe is invalid: {user_message(error)}")
        return
    if recipe.hash != (recorded := patch_set.manifest.recipe_hash):
        yield _edited(patch_set, f"the recipe's hash is {recipe.hash}, not {recorded}")
    splits = SPLITS if recipe.split else ALL
    if tuple(patch_set.manifest.counts) != splits:
        yield _edited(patch_set, f"it counts {list(patch_set.manifest.counts)}, not {list(splits)}")
    if not patch_set.sources:
        yield _edited(patch_set, "it names no source")
        return
    for name, recorded, expected in _redundant_entries(patch_set):
        if recorded != expected:
            yield _edited(patch_set, f"{name} is {recorded}, not {expected}")


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
            yield Finding("damaged file", f"{path}: it contradicts the manifest; {REMEDY}.")
    for array in patch_set.arrays:
        files = patch_set.set_format.files(patch_set.path, array)
        exist = all(file.is_file() for file in files)
        if exist and (damage := patch_set.set_format.find_damage(patch_set.path, array)):
            yield Finding("damaged file", f"{array.name} of {patch_set.path}: {damage}; {REMEDY}.")


def _redundant_entries(patch_set: OpenedSet) -> Iterator[tuple[str, Any, Any]]:
    """Yield entries that follow from others: name, recorded and expected value."""
    manifest, first = patch_set.manifest, patch_set.sources[0]
    for name in ("depth_axis", "channels", "pixel_size"):
        yield name, getattr(manifest, name), getattr(first, name)
    has_pixels = patch_set.set_format.has_pixels
    roles = {IMAGE, *(array.role for array in patch_set.arrays)} if has_pixels else set()
    arrays = {f"{split}/{role}" for split in manifest.counts for role in roles}
    yield "the list of arrays", sorted(manifest.arrays), sorted(arrays)
    yield "the list of statistics", sorted(manifest.statistics), sorted(roles - {LABELS})
    for array in patch_set.arrays:
        yield from _redundant_array_entries(patch_set, array)


def _redundant_array_entries(
    patch_set: OpenedSet, array: ArrayLayout
) -> Iterator[tuple[str, Any, Any]]:
    recipe, counts = patch_set.recipe, patch_set.manifest.counts
    size, first = array.patch_shape[1:], patch_set.sources[0]
    planned = ArrayLayout.from_source(array.name, array.n, first, size, recipe.dtype, recipe.codec)
    yield f"the number of patches in {array.name}", array.n, counts.get(array.split)
    yield f"axes of {array.name}", array.axes, planned.axes
    yield f"codec of {array.name}", array.codec, planned.codec
    if array.role == IMAGE:
        yield f"channels of {array.name}", array.channels, planned.channels
        yield f"type of {array.name}", array.dtype, planned.dtype


def _edited(patch_set: OpenedSet, what: str) -> Finding:
    return Finding("edited manifest", f"{patch_set.path}: {what}; {REMEDY}.")


def check_table(patch_set: OpenedSet, candidates: RecordedCandidates) -> Iterator[Finding]:
    """Yield rows, counts and limits that do not follow from the recipe and the metrics."""
    digest = digest_bytes(patch_set.table_path.read_bytes())
    if digest != (recorded := patch_set.manifest.table_digest):
        yield edited_table(patch_set, f"its digest is {digest}, the manifest says {recorded}")
    try:
        selection = _select_again(patch_set, candidates)
    except (PatchsetError, KeyError, pa.ArrowException) as error:
        yield edited_table(patch_set, f"its candidates can't be judged again: {error}")
        return
    yield from _check_columns(patch_set, candidates, selection)
    yield from _check_counts(patch_set, selection)


def edited_table(patch_set: OpenedSet, what: str) -> Finding:
    """Return the finding that the table is not the one that was written."""
    return Finding("edited table", f"{patch_set.table_path}: {what}; {REMEDY}.")


def _select_again(patch_set: OpenedSet, candidates: RecordedCandidates) -> Selection:
    """Judge the candidates by the metrics in the table."""
    recipe, table = patch_set.recipe, candidates.table
    columns = metric_columns(recipe.filters, patch_set.sources)
    metrics = {c: pc.fill_null(table[c], np.nan).to_numpy().astype(np.float64) for c in columns}
    grid, is_readable = candidates.grid, candidates.is_readable
    return select_candidates(recipe, grid, patch_set.sources, metrics, is_readable)


def _check_columns(
    patch_set: OpenedSet, candidates: RecordedCandidates, selection: Selection
) -> Iterator[Finding]:
    rows = selection.row if patch_set.set_format.has_pixels else np.full_like(selection.row, -1)
    grid, verdicts = candidates.grid, selection.verdicts
    tables = patch_tables(patch_set.sources, grid, verdicts, rows, candidates.checksums)
    first, wrong = 0, set[str]()
    for expected in tables:
        recorded = candidates.table.slice(first, len(expected))
        unlike = {*recorded.schema.names} ^ {*expected.schema.names}
        if not first and unlike:
            yield edited_table(patch_set, f"its columns differ from this set's: {sorted(unlike)}")
        for name in expected.schema.names:
            is_checked = name in recorded.schema.names and name not in wrong
            if is_checked and not recorded[name].equals(expected[name]):
                wrong.add(name)
                row, value, should_be = _first_difference(recorded[name], expected[name])
                what = f"{name} of row {first + row} is {value}, not {should_be}"
                yield edited_table(patch_set, what)
        first += len(expected)


def _first_difference(recorded: pa.ChunkedArray, expected: pa.ChunkedArray) -> tuple[int, Any, Any]:
    for row, (value, should_be) in enumerate(zip(recorded, expected, strict=True)):
        if not value.equals(should_be):
            return row, value.as_py(), should_be.as_py()
    return 0, recorded.type, expected.type


def _check_counts(patch_set: OpenedSet, selection: Selection) -> Iterator[Finding]:
    manifest = patch_set.manifest
    counts: dict[str, tuple[Any, Any]] = {
        "patches": (manifest.counts, selection.counts),
        "rejected candidates": (manifest.rejected, selection.rejected),
        "limits": (manifest.limits, selection.verdicts.finite_limits),
    }
    for what, (recorded, expected) in counts.items():
        if recorded != expected:
            yield Finding(
                "wrong counts",
                f"{patch_set.path}: {what} are {recorded} by the manifest, {expected} by the "
                f"table; {REMEDY}.",
            )
