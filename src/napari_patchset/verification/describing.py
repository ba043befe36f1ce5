"""Hold the manifest against itself, and against the files that repeat it."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from napari_patchset.export.keeping.frozen import ArrayKind
from napari_patchset.model import user_message
from napari_patchset.patching.splits.split import ALL, SPLITS
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout, read_attributes, read_json
from napari_patchset.verification.finding import REMEDY, Finding
from napari_patchset.verification.subject import Subject


def check_files(subject: Subject) -> Iterator[Finding]:
    """Find files that are missing, or wrong beside their pixels."""
    for file in subject.missing:
        yield Finding("missing file", f"{subject.path / file}: {REMEDY}.")
    attributes = read_attributes(subject.path) or {}
    described = subject.form.descriptions(subject.path, subject.arrays, attributes)
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


def check_manifest(subject: Subject) -> Iterator[Finding]:
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


def _repeated(subject: Subject) -> Iterator[tuple[str, Any, Any]]:
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


def _of_array(subject: Subject, array: ArrayLayout) -> Iterator[tuple[str, Any, Any]]:
    recipe, counts = subject.recipe, subject.manifest.counts
    kind = ArrayKind.of(
        IMAGE, subject.sources[0], array.patch_shape[1:], recipe.dtype, recipe.codec
    )
    yield f"the number of patches in {array.name}", array.n, counts.get(array.split)
    yield f"axes of {array.name}", array.axes, kind.axes
    yield f"codec of {array.name}", array.codec, kind.codec
    if array.role == IMAGE:
        yield f"channels of {array.name}", array.channels, kind.channels
        yield f"type of {array.name}", array.dtype.name, kind.dtype


def _edited(subject: Subject, what: str) -> Finding:
    return Finding("edited manifest", f"{subject.path}: {what}; {REMEDY}.")
