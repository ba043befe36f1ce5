"""The sources of a plan: described without reading pixels, and checked against each other.

A set has one number of channels, pixel type, depth axis and pixel size, so all sources must agree
on these; target, labels and mask must have the geometry of their source.
"""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari_patchset.annotations.features import AnnotationClass
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import DifferingSourcesError, ExportError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan, Recipe
from napari_patchset.exporting.reading.open_images import files_of, open_source
from napari_patchset.patching.splits.sheet_columns import WELL
from napari_patchset.patching.verdicts import Override
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import digest_file
from napari_patchset.source import SceneId, SourceInfo, is_remote, local_path
from napari_patchset.stacks.fingerprint import (
    Advance,
    content_key,
    detailed_key,
    fingerprint_of,
    has_own_key,
    is_detailed,
    part_digests,
)
from napari_patchset.stacks.metadata import SceneSummary, describe, find_well
from napari_patchset.stacks.opening import list_scenes
from napari_patchset.stacks.protocol import ClosableStack
from napari_patchset.stacks.retrying import call_with_retries

PIXEL_SIZE_TOLERANCE = 0.01
"""Relative difference up to which pixel sizes are equal."""

_MAX_NAMED = 3
"""Sources that an error names of those that differ."""


def describe_sources(plan: ExportPlan) -> list[SourceInfo]:
    """Describe the image of every source, with the plan's channels only; see `check_agreement`."""
    describe_image = SourceDescriber(plan)
    infos = [describe_image(ref) for ref in plan.sources]
    check_agreement(plan.sources, infos, plan.dtype)
    return infos


def find_lookalikes(refs: Sequence[SourceRef], parts: Sequence[Sequence[str]]) -> list[int]:
    """Return the sources of which another file has the key: copies, or files that look like one.

    `parts` are the keys of the files that each of them is in.
    """
    files: defaultdict[str, set[Hashable]] = defaultdict(set)
    for ref, keys in zip(refs, parts, strict=True):
        path = ref.path if is_remote(ref.path) else os.path.realpath(local_path(ref.path))
        for key in keys:
            files[key].add((path, ref.sequence, ref.files))
    return [i for i, keys in enumerate(parts) if any(len(files[key]) > 1 for key in keys)]


def tell_apart(
    infos: Sequence[SourceInfo],
    parts: Sequence[Sequence[str]],
    digests: Mapping[int, Sequence[str]],
) -> tuple[list[SourceInfo], list[Sequence[str]]]:
    """Return descriptions and keys of files, detailed where files with one key differ.

    A key is detailed by the content alone, so that it does not depend on the order of the sources,
    and copies still have the same.

    Parameters
    ----------
    infos : sequence of SourceInfo
        Descriptions of all sources.
    parts : sequence of sequence of str
        The keys of the files that each of them is in.
    digests : dict of int to sequence of str
        `part_digests` of those that `find_lookalikes` returns.
    """
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for i, of_parts in digests.items():
        for key, digest in zip(parts[i], of_parts, strict=True):
            contents[key].add(digest)
    told, told_parts = list(infos), list(parts)
    for i, of_parts in digests.items():
        keys = zip(parts[i], of_parts, strict=True)
        told_parts[i] = tuple(
            detailed_key(key, [digest]) if len(contents[key]) > 1 else key for key, digest in keys
        )
        if told_parts[i] != tuple(parts[i]):
            key = detailed_key(infos[i].key, of_parts)
            told[i] = infos[i].model_copy(update={"key": key})
    return told, told_parts


def check_overrides(
    overrides: Sequence[Override], names: Sequence[object], infos: Sequence[SourceInfo]
) -> None:
    """Raise ExportError if a patch was chosen by hand before its source was told apart."""
    chosen = {each.source for each in overrides}
    for name, info in zip(names, infos, strict=True):
        if is_detailed(info.key) and fingerprint_of(info.key) in chosen:
            raise ExportError(
                f"{name} has the fingerprint of another image of the plan, so that patches chosen "
                "by hand while only one of them was there may be of either; choose them again."
            )


def find_repeats(
    refs: Sequence[SourceRef],
    infos: Sequence[SourceInfo],
    parts: Sequence[Sequence[str]],
) -> dict[int, int]:
    """Find sources all of whose pixels are in another one: copies, links, members of a set.

    A file of a set, opened without the others, has one scene, without an id. `parts` are the keys
    of the files that each image is in; those of other files differ, see `tell_apart`. Raise
    ExportError if two sources have some pixels in common, but neither has all of the other's.

    Returns
    -------
    dict of int to int
        The index of each such source, and of the other one: the first of equal ones, else the one
        with more files.
    """
    files = list(map(frozenset, parts))
    in_file: dict[str, dict[SceneId | None, list[int]]] = {}
    for index, (keys, info) in enumerate(zip(files, infos, strict=True)):
        for key in keys:
            in_file.setdefault(key, {}).setdefault(info.scene, []).append(index)
    repeats = dict[int, int]()
    for index, (keys, info) in enumerate(zip(files, infos, strict=True)):
        others = list[int]()
        for key in sorted(keys):  # without an id, it may be any scene
            scenes = in_file[key] if info.scene is None else (info.scene, None)
            others += [i for scene in scenes for i in in_file[key].get(scene, ())]
        for other in dict.fromkeys(others):
            if keys < files[other] or (keys == files[other] and other < index):
                repeats[index] = other
                break
            if not files[other] <= keys:
                raise ExportError(
                    f"{refs[index]} and {refs[other]} have files in common, but neither has all "
                    "of the other's; put all files of the set into one folder, and name it once."
                )
    return repeats


def repeats_notice(names: Sequence[object], repeats: Mapping[int, int]) -> str:
    """Return a sentence that names a source that is left out, and how many more there are."""
    index, other = next(iter(repeats.items()))
    more = f", and {len(repeats) - 1} more" if len(repeats) > 1 else ""
    return f"{names[index]} holds pixels of {names[other]}{more}; the same pixels are cut once."


class SourceDescriber:
    """Describe images, computing the key of a file once for all of its scenes."""

    def __init__(
        self, plan: ExportPlan, check_cancelled: Callable[[], None] = lambda: None
    ) -> None:
        self.files: set[str] = set()
        """Every file that holds pixels of a described image, as far as its stack lists them."""
        self.classes = list[AnnotationClass]()
        """The classes of all annotations that were described."""
        self._plan, self._check_cancelled = plan, check_cancelled
        self._keys: dict[str, str] = {}
        self._parts: dict[ImageRef, Sequence[str]] = {}
        self._scenes: dict[str, Sequence[SceneSummary]] = {}
        self._noted: set[tuple[str, str]] = set()

    def parts(self, ref: ImageRef) -> Sequence[str]:
        """Return the keys of the files that a described image is in."""
        return self._parts[ref]

    def digests(self, ref: ImageRef, advance: Advance | None = None) -> tuple[str, ...]:
        """Return `part_digests` of an image; `advance` is called with the bytes that were read."""

        def check(nbytes: int) -> None:
            self._check_cancelled()
            if advance is not None:
                advance(nbytes)

        with call_with_retries(str(ref), ref.open) as stack:
            return part_digests(stack, check)

    def __call__(
        self, source: SourceRef, role: str = IMAGE, before: SourceInfo | None = None
    ) -> SourceInfo:
        """Describe a source, with the plan's channels only, or an image paired with it.

        The key is detailed if it was in the description from `before`.
        """
        ref = source.images[role]
        check = self._check_cancelled
        with open_source(self._plan, source, role, check_cancelled=check) as stack:
            info = describe(stack, self._keys.get(ref.path))
            self.classes += getattr(stack, "classes", ())
            for note in getattr(stack, "notes", ()):
                if (ref.path, note) not in self._noted:
                    self._noted.add((ref.path, note))
                    warnings.warn(f"{ref.path}: {note}.", stacklevel=3)
            self._store_key(ref, stack, info.key)
            self.files.update(files_of(stack))
            self._parts[ref] = getattr(stack, "file_keys", None) or (info.key,)
        if role != IMAGE:
            return info
        if before is not None:
            info = info.model_copy(update={"key": self._like(before, ref, info.key)})
        of_sheet = {"columns": dict(source.columns), "well": self._well(source)}
        return select_channels(info, self._plan).model_copy(update=of_sheet)

    def _well(self, source: SourceRef) -> str | None:
        """Return the well that the file names, if the split reads it."""
        split = self._plan.split
        if split is None or WELL not in split.columns:
            return None
        if source.path not in self._scenes:
            self._scenes[source.path] = list_scenes(source.path)
        return find_well(self._scenes[source.path], source.scene)

    def has_changed(self, source: SourceRef, role: str, before: SourceInfo) -> bool:
        """Return whether an image differs from its description, opening each file once.

        Of a remote image only the metadata are read, as its key costs some hundred requests.
        """
        ref = source.images[role]
        if is_remote(ref.path):
            self._keys[ref.path] = before.key
            return self(source, role).model_dump() != before.model_dump()
        if is_geojson(ref.path):
            return digest_file(Path(local_path(ref.path))) != before.key
        if ref.path in self._keys:
            return self._keys[ref.path] != before.key
        with call_with_retries(str(ref), partial(ref.open, self._plan.depth_axis)) as stack:
            key = self._like(before, ref, content_key(stack))
            self._store_key(ref, stack, key)
        return key != before.key

    def _like(self, before: SourceInfo, ref: ImageRef, key: str) -> str:
        """Return a key with the details of an earlier one."""
        return detailed_key(key, self.digests(ref)) if is_detailed(before.key) else key

    def _store_key(self, ref: ImageRef, stack: ClosableStack, key: str) -> None:
        if not has_own_key(stack):
            self._keys[ref.path] = key


def select_channels(info: SourceInfo, recipe: Recipe) -> SourceInfo:
    """Return the description of a source with only the channels that a recipe reads."""
    if recipe.channels is None:
        return info
    exported, others = recipe.read_channels(info.channels)
    read, shape = [*exported, *others], list(info.shape)
    if "C" in info.axes:
        shape[info.axes.index("C")] = len(exported)
    return info.with_fields(
        channels=tuple(info.channels[c] for c in exported),
        filter_channels=tuple(info.channels[c] for c in others),
        shape=tuple(shape),
    ).with_planes(
        lambda plane: (plane[0], read.index(plane[1]), plane[2]) if plane[1] in read else None
    )


def check_agreement(
    refs: Sequence[object], infos: Sequence[SourceInfo], dtype: str | None = None
) -> None:
    """Raise DifferingSourcesError, naming some of them, if sources differ from each other.

    The pixel size along Z concerns only patches that have this axis.

    Parameters
    ----------
    refs : sequence of object
        The names of the sources.
    dtype : str or None
        The pixel type that all of them are cast to, if any.
    """
    compared: dict[str, Callable[[SourceInfo], Any]] = {
        "channels": lambda info: len(info.channels),
        "channels for filters": lambda info: len(info.filter_channels),
        "pixel type": lambda info: dtype or info.dtype,
        "depth axis": lambda info: info.depth_axis,
    }
    for what, value in compared.items():
        values = [(value(info), ref) for ref, info in zip(refs, infos, strict=True)]
        _check_equal(what, values, lambda a, b: bool(a == b), str)
    is_deep = any(info.depth_axis == "Z" for info in infos)
    for axis in ("z", "y", "x") if is_deep else ("y", "x"):
        sizes = [getattr(info.pixel_size, axis) for info in infos]
        known = [(size, ref) for size, ref in zip(sizes, refs, strict=True) if size]
        coarsest = max((size for size, _ in known), default=0.0)
        resample = f"Resample all to one pixel size, {coarsest:g} um or more, or export"
        _check_equal(
            f"pixel size along {axis.upper()}",
            known,
            lambda a, b: abs(a - b) <= PIXEL_SIZE_TOLERANCE * b,
            lambda size: f"{size:g} um",
            note=" (1 % is allowed)",
            remedy="Export" if axis == "z" else resample,
        )


def _check_equal(
    what: str,
    values: Sequence[tuple[Any, object]],
    is_equal: Callable[[Any, Any], bool],
    text: Callable[[Any], str],
    note: str = "",
    remedy: str = "Export",
) -> None:
    """Raise DifferingSourcesError if a value differs from the first one; the commonest is right."""
    if all(is_equal(value, values[0][0]) for value, _ in values):
        return
    (common, _), *_ = Counter(value for value, _ in values).most_common(1)
    name = next(ref for value, ref in values if value == common)
    differing = [(value, ref) for value, ref in values if not is_equal(value, common)]
    if not differing:  # each is near the commonest one, but not near the first one
        common, name = values[0]
        differing = [(value, ref) for value, ref in values if not is_equal(value, common)]
    n_alike = len(values) - len(differing) - 1
    alike = f", like {n_alike:,} more" if n_alike else ""
    named = "; ".join(f"{ref} has {text(value)}" for value, ref in differing[:_MAX_NAMED])
    n_more = len(differing) - _MAX_NAMED
    more = f"; and {n_more:,} more differ" if n_more > 0 else ""
    raise DifferingSourcesError(
        f"The sources differ in {what}: {name} has {text(common)}{alike}, but {named}{more}{note}. "
        f"{remedy} them as separate sets.",
        what,
    )


def check_geometry(
    role: str,
    refs: Sequence[SourceRef],
    infos: Sequence[SourceInfo],
    images: Sequence[SourceInfo],
    name: Callable[[str], str] = str,
) -> None:
    """Raise ExportError, naming each target, labels or mask with another geometry than its image.

    Files may name an axis of S differently, but not swap two of them. `name`: see `check_images`.
    """
    differing = [
        f"{name(str(ref.images[role]))}, the {role} of {name(str(ref))}, is {_shape_text(info)}, "
        f"not {_shape_text(image)}"
        for ref, info, image in zip(refs, infos, images, strict=True)
        if info.spatial_shape != image.spatial_shape
        or not _is_alike(_sample_sizes(info), _sample_sizes(image))
    ]
    if differing:
        raise ExportError(
            f"What is cut at the same places differs in shape: {'; '.join(differing)}."
        )


def _is_alike(sizes: dict[str, int], expected: dict[str, int]) -> bool:
    is_swapped = sizes.keys() == expected.keys() and list(sizes) != list(expected)
    return list(sizes.values()) == list(expected.values()) and not is_swapped


def _sample_sizes(info: SourceInfo) -> dict[str, int]:
    """Return the size of each axis merged into S, without those of size 1."""
    sizes = zip(info.layout.sample_axes, info.layout.sample_shape, strict=True)
    return {axis: n for axis, n in sizes if n > 1}


def _shape_text(info: SourceInfo) -> str:
    sizes = [*_sample_sizes(info).items()]
    sizes += zip(info.layout.spatial_axes, info.spatial_shape, strict=True)
    return ", ".join(f"{axis} {n}" for axis, n in sizes)
