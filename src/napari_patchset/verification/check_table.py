"""Check the table: every verdict, row and count must follow from the recipe and the metrics."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.selection import Selection, select_candidates
from napari_patchset.patching.filters import metric_columns
from napari_patchset.patchset.manifest import REMEDY, digest_bytes
from napari_patchset.patchset.table import patch_tables
from napari_patchset.verification.findings import Finding
from napari_patchset.verification.opened_set import OpenedSet, RecordedCandidates


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
    columns = metric_columns(recipe.filters, patch_set.sources[0].channels)
    metrics = {c: pc.fill_null(table[c], np.nan).to_numpy().astype(np.float64) for c in columns}
    grid, is_readable = candidates.grid, candidates.is_readable
    return select_candidates(recipe, grid, patch_set.sources, metrics, is_readable)


def _check_columns(
    patch_set: OpenedSet, candidates: RecordedCandidates, selection: Selection
) -> Iterator[Finding]:
    rows = selection.row if patch_set.form.has_pixels else np.full_like(selection.row, -1)
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
