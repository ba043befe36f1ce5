"""verify: hold a patch set against itself and against its sources.

Hold the manifest against itself, and against the files that repeat it.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.run import DEFAULT_WORKERS
from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY
from napari_patchset.patching.splits import ALL, SPLITS
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.reader import read_attributes
from napari_patchset.verification.check_pixels import PixelCheck
from napari_patchset.verification.check_sources import SourceCheck
from napari_patchset.verification.check_table import (
    check_split,
    check_table,
    edited,
    read_candidates,
)
from napari_patchset.verification.subject import REMEDY, Finding, OpenedSet


def check_files(subject: OpenedSet) -> Iterator[Finding]:
    """Find files that are missing, or wrong beside their pixels."""
    for file in subject.missing:
        yield Finding("missing file", f"{subject.path / file}: {REMEDY}.")
    attributes = read_attributes(subject.path) or {}
    described = subject.form.metadata_files(subject.path, subject.arrays, attributes)
    for path, content in described.items():
        if not path.is_file():
            yield Finding("missing file", f"{path}: {REMEDY}.")
        elif read_json(path) != content:
            yield Finding("damaged file", f"{path}: not what the manifest says; {REMEDY}.")
    for array in subject.arrays:
        files = subject.form.files(subject.path, array)
        is_there = all(file.is_file() for file in files)
        if is_there and (damage := subject.form.find_damage(subject.path, array)):
            yield Finding("damaged file", f"{array.name} of {subject.path}: {damage}; {REMEDY}.")


def check_manifest(subject: OpenedSet) -> Iterator[Finding]:
    """Find entries of the manifest that do not agree with each other."""
    try:
        recipe = subject.recipe
    except ValidationError as error:
        yield _edited(subject, f"its recipe can't be understood: {user_message(error)}")
        return
    if recipe.hash != (said := subject.manifest.recipe_hash):
        yield _edited(subject, f"the recipe's hash is {recipe.hash}, not {said}")
    splits = SPLITS if recipe.split else ALL
    if tuple(subject.manifest.counts) != splits:
        yield _edited(subject, f"it counts {list(subject.manifest.counts)}, not {list(splits)}")
    if not subject.sources:
        yield _edited(subject, "it names no source")
        return
    for what, said, expected in _repeated(subject):
        if said != expected:
            yield _edited(subject, f"{what} is {said}, not {expected}")


def _repeated(subject: OpenedSet) -> Iterator[tuple[str, Any, Any]]:
    """Give what the manifest says twice: what it is, and both."""
    manifest, first = subject.manifest, subject.sources[0]
    for name in ("depth_axis", "channels", "pixel_size"):
        yield name, getattr(manifest, name), getattr(first, name)
    roles = {IMAGE, *(array.role for array in subject.arrays)} if subject.form.has_pixels else set()
    arrays = {f"{split}/{role}" for split in manifest.counts for role in roles}
    yield "the arrays", sorted(manifest.arrays), sorted(arrays)
    yield "what has statistics", sorted(manifest.statistics), sorted(roles - {LABELS})
    for array in subject.arrays:
        yield from _of_array(subject, array)


def _of_array(subject: OpenedSet, array: ArrayLayout) -> Iterator[tuple[str, Any, Any]]:
    recipe, counts = subject.recipe, subject.manifest.counts
    size = array.patch_shape[1:]
    planned = ArrayLayout.of(
        array.name, array.n, subject.sources[0], size, recipe.dtype, recipe.codec
    )
    yield f"the number of patches in {array.name}", array.n, counts.get(array.split)
    yield f"axes of {array.name}", array.axes, planned.axes
    yield f"codec of {array.name}", array.codec, planned.codec
    if array.role == IMAGE:
        yield f"channels of {array.name}", array.channels, planned.channels
        yield f"type of {array.name}", array.dtype, planned.dtype


def _edited(subject: OpenedSet, what: str) -> Finding:
    return Finding("edited manifest", f"{subject.path}: {what}; {REMEDY}.")


def verify(
    path: str | Path,
    *,
    sources: bool = True,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """Find every difference between a patch set and what it should be; none if it is sound.

    Every file, digest, count and statistic is held against the patches, the verdicts in the table
    against the recipe, the split is proved again, and each patch is cut again from its source. What
    can't be looked at, because something before it is wrong, is left out.

    Parameters
    ----------
    path : str or Path
        The set.
    sources : bool
        Whether to read the sources again, from where they were when the set was made.
    workers : int
        Number of threads that decode sources.
    memory : int
        Bytes for decoded tiles.
    progress : callable
        Told how many patches have been read, of how many.

    Yields
    ------
    Finding
        As soon as it is found.

    Raises
    ------
    FileNotFoundError, IncompleteSetError
        If there is no such set, or one that was not completed.
    """
    subject = OpenedSet(Path(os.path.abspath(path)))
    yield from check_manifest(subject)
    yield from check_files(subject)
    candidates = None
    if subject.is_understood and subject.table_path.is_file():
        try:
            candidates = read_candidates(subject)
        except UnreadableFileError as error:
            yield edited(subject, f"it can't be read: {error}")
        else:
            yield from check_table(subject, candidates)
            yield from check_split(subject, candidates)
    tick = _counting(progress, (1 + sources) * sum(array.n for array in subject.arrays))
    pixels = PixelCheck(subject, candidates, tick)
    yield from pixels.run()
    if sources and candidates:
        yield from SourceCheck(subject, candidates, pixels, tick, memory, workers).run()


def _counting(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(done, total)

    progress(0, total)
    return tick
