"""Check a manifest for contradictions, and the files of its set, apart from their pixels."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from napari_patchset._model import user_message
from napari_patchset.patching.splits import ALL, SPLITS
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import IMAGE, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import REMEDY
from napari_patchset.patchset.reader import read_attributes
from napari_patchset.verification.findings import Finding
from napari_patchset.verification.opened_set import OpenedSet


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
    expected = patch_set.form.metadata_files(patch_set.path, patch_set.arrays, attributes)
    for path, content in expected.items():
        if not path.is_file():
            yield Finding("missing file", f"{path}: {REMEDY}.")
        elif read_json(path) != content:
            yield Finding("damaged file", f"{path}: it contradicts the manifest; {REMEDY}.")
    for array in patch_set.arrays:
        files = patch_set.form.files(patch_set.path, array)
        exist = all(file.is_file() for file in files)
        if exist and (damage := patch_set.form.find_damage(patch_set.path, array)):
            yield Finding("damaged file", f"{array.name} of {patch_set.path}: {damage}; {REMEDY}.")


def _redundant_entries(patch_set: OpenedSet) -> Iterator[tuple[str, Any, Any]]:
    """Yield what follows from other entries: its name, the recorded and the expected value."""
    manifest, first = patch_set.manifest, patch_set.sources[0]
    for name in ("depth_axis", "channels", "pixel_size"):
        yield name, getattr(manifest, name), getattr(first, name)
    has_pixels = patch_set.form.has_pixels
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
    planned = ArrayLayout.of(array.name, array.n, first, size, recipe.dtype, recipe.codec)
    yield f"the number of patches in {array.name}", array.n, counts.get(array.split)
    yield f"axes of {array.name}", array.axes, planned.axes
    yield f"codec of {array.name}", array.codec, planned.codec
    if array.role == IMAGE:
        yield f"channels of {array.name}", array.channels, planned.channels
        yield f"type of {array.name}", array.dtype, planned.dtype


def _edited(patch_set: OpenedSet, what: str) -> Finding:
    return Finding("edited manifest", f"{patch_set.path}: {what}; {REMEDY}.")
