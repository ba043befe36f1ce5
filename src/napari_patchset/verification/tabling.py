"""Hold the table against the manifest, and prove the split."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from napari_patchset.errors import PatchsetError, UnreadableFileError
from napari_patchset.export.keeping.selection import Selection
from napari_patchset.export.selecting import judged
from napari_patchset.patching.filters import score_columns
from napari_patchset.patching.splits.disjoint import find_leak
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.table import patch_tables
from napari_patchset.verification.finding import REMEDY, Finding
from napari_patchset.verification.subject import Candidates, Subject


def read_candidates(subject: Subject) -> Candidates:
    """Read the table.

    Raises
    ------
    UnreadableFileError
        If that is not possible.
    """
    try:
        with pq.ParquetFile(subject.table_path) as file:
            return Candidates.of(file.read(), subject)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFileError(str(error)) from error


def check_table(subject: Subject, candidates: Candidates) -> Iterator[Finding]:
    """Find rows, counts and limits that do not follow from the recipe and the metrics."""
    digest, said = digest_bytes(subject.table_path.read_bytes()), subject.manifest.table_digest
    if digest != said:
        yield edited(subject, f"its digest is {digest}, the manifest says {said}")
    try:
        selection = _judged(subject, candidates)
    except (PatchsetError, KeyError, pa.ArrowException) as error:
        yield edited(subject, f"its candidates can't be judged again: {error}")
        return
    yield from _check_columns(subject, candidates, selection)
    yield from _check_counts(subject, selection)


def check_split(subject: Subject, candidates: Candidates) -> Iterator[Finding]:
    """Find a training and a validation patch that share a place."""
    if len(candidates.splits) < 2:
        return
    leak = find_leak(candidates.grid, candidates.split, subject.sources)
    if leak:
        train, val = leak
        source = subject.sources[int(candidates.grid.stack[val])]
        yield Finding(
            "overlapping split",
            f"{subject.table_path}: the training patch in row {train} and the validation patch in "
            f"row {val} share pixels, of source {source.key}, scene {source.scene}; export again.",
        )


def edited(subject: Subject, what: str) -> Finding:
    """Say that the table is not what was written."""
    return Finding("edited table", f"{subject.table_path}: {what}; {REMEDY}.")


def _judged(subject: Subject, candidates: Candidates) -> Selection:
    """Judge the candidates again, by the metrics in the table."""
    recipe, table = subject.recipe, candidates.table
    columns = score_columns(recipe.filters, subject.sources[0].channels)
    metrics = {c: pc.fill_null(table[c], np.nan).to_numpy().astype(np.float64) for c in columns}
    return judged(recipe, candidates.grid, subject.sources, metrics, candidates.is_readable)


def _check_columns(
    subject: Subject, candidates: Candidates, selection: Selection
) -> Iterator[Finding]:
    rows = selection.row if subject.form.has_pixels else np.full_like(selection.row, -1)
    grid, verdicts = candidates.grid, selection.verdicts
    parts = patch_tables(subject.sources, grid, verdicts, rows, candidates.checksums)
    first, wrong = 0, set[str]()
    for expected in parts:
        found = candidates.table.slice(first, len(expected))
        if not first and (unlike := {*found.schema.names} ^ {*expected.schema.names}):
            yield edited(subject, f"its columns are not those of this set: {sorted(unlike)}")
        for name in expected.schema.names:
            held = name in found.schema.names and name not in wrong
            if held and not found[name].equals(expected[name]):
                wrong.add(name)
                row, has, wants = _first_difference(found[name], expected[name])
                yield edited(subject, f"{name} of row {first + row} is {has}, not {wants}")
        first += len(expected)


def _first_difference(found: pa.ChunkedArray, expected: pa.ChunkedArray) -> tuple[int, Any, Any]:
    for row, (has, wants) in enumerate(zip(found, expected, strict=True)):
        if not has.equals(wants):
            return row, has.as_py(), wants.as_py()
    return 0, found.type, expected.type


def _check_counts(subject: Subject, selection: Selection) -> Iterator[Finding]:
    manifest = subject.manifest
    counted: dict[str, tuple[Any, Any]] = {
        "patches": (manifest.counts, selection.counts),
        "rejected candidates": (manifest.rejected, selection.rejected),
        "limits": (manifest.limits, selection.verdicts.known_limits),
    }
    for what, (said, found) in counted.items():
        if said != found:
            yield Finding(
                "wrong counts",
                f"{subject.path}: {what} by the manifest: {said}, by the table: {found}; {REMEDY}.",
            )
