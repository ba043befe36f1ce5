"""Look at every source of a plan once: what can be opened, and what is known without its pixels.

Describe the sources of a plan: as it sees them, with the chosen channels only.

What the sources of one set must have in common, and the images beside them with them.

Images beside a source, cut at the same places: target, labels, and the mask of a filter.

The mask that limits where patches lie: named by its content, read when the plan is made.

The sources of a plan: opened, described, and held to what one set must agree in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.open_sources import find_stamp
from napari_patchset.exporting.plan import (
    MASK,
    SOURCE_ERRORS,
    ExportPlan,
    Failure,
    ImageRef,
    SourceRef,
)
from napari_patchset.patching.filters import Mask
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import IMAGE, LABELS, TARGET
from napari_patchset.source import ChannelId, SceneId, SourceInfo, channel_indices
from napari_patchset.stacks.cache import FileStat
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.protocol import ClosableStack, ImageStack

PIXEL_SIZE_TOLERANCE = 0.01


def check_agreement(
    refs: Sequence[ImageRef], infos: Sequence[SourceInfo], dtype: str | None = None
) -> None:
    """Refuse sources that differ from the first one in what a set has only one of.

    Parameters
    ----------
    dtype : str or None
        What all of them are cast to.

    Raises
    ------
    ExportError
        Naming each that differs.
    """
    compared: dict[str, Callable[[SourceInfo], Any]] = {
        "channels": lambda info: len(info.channels),
        "pixel type": lambda info: dtype or info.dtype,
        "depth axis": lambda info: info.depth_axis,
    }
    for what, value in compared.items():
        others = [
            f"{ref} has {value(info)}"
            for ref, info in zip(refs, infos, strict=True)
            if value(info) != value(infos[0])
        ]
        if others:
            raise ExportError(
                f"The sources differ in {what}: {refs[0]} has {value(infos[0])}, but "
                f"{'; '.join(others)}. Export them as sets of their own."
            )
    _check_pixel_sizes(refs, infos)


def check_geometry(
    role: str,
    refs: Sequence[SourceRef],
    infos: Sequence[SourceInfo],
    images: Sequence[SourceInfo],
) -> None:
    """Refuse targets, labels or masks whose samples or planes are not those of their images.

    Raises
    ------
    ExportError
        Naming each that differs.
    """
    differ = [
        f"{ref.images[role]}, the {role} of {ref}, is {_describe_agreement(info)}, "
        f"not {_describe_agreement(image)}"
        for ref, info, image in zip(refs, infos, images, strict=True)
        if not _match(info, image)
    ]
    if differ:
        raise ExportError(f"What is cut at the same places differs in shape: {'; '.join(differ)}.")


def _match(info: SourceInfo, image: SourceInfo) -> bool:
    """Whether samples and planes agree; files may name an axis differently, but not swap two."""
    own, other = _samples(info), _samples(image)
    swapped = own.keys() == other.keys() and list(own) != list(other)
    same = list(own.values()) == list(other.values()) and info.spatial_shape == image.spatial_shape
    return same and not swapped


def _samples(info: SourceInfo) -> dict[str, int]:
    """Give the size along each axis of S; an axis of size 1 says nothing."""
    sizes = zip(info.layout.sample_axes, info.layout.sample_shape, strict=True)
    return {axis: n for axis, n in sizes if n > 1}


def _describe_agreement(info: SourceInfo) -> str:
    sizes = [*_samples(info).items()]
    sizes += zip(info.layout.spatial_axes, info.spatial_shape, strict=True)
    return ", ".join(f"{axis} {n}" for axis, n in sizes)


def _check_pixel_sizes(refs: Sequence[ImageRef], infos: Sequence[SourceInfo]) -> None:
    """Refuse sizes that differ from the first one that is known."""
    for axis in ("z", "y", "x"):
        sizes = [getattr(info.pixel_size, axis) for info in infos]
        known = [(size, ref) for size, ref in zip(sizes, refs, strict=True) if size]
        first, named = known[0] if known else (0.0, None)
        others = [
            f"{ref} has {size:g}"
            for size, ref in known
            if abs(size - first) > PIXEL_SIZE_TOLERANCE * first
        ]
        if others:
            raise ExportError(
                f"The sources differ in pixel size along {axis}: {named} has {first:g} um, but "
                f"{'; '.join(others)} (1 % is allowed). Export them as sets of their own."
            )


def open_source(plan: ExportPlan, ref: ImageRef) -> ClosableStack:
    """Open one image of a plan."""
    return open_stack(ref.path, ref.scene, plan.depth_axis)


def describe_sources(plan: ExportPlan) -> list[SourceInfo]:
    """Describe every source as the plan sees it: with the chosen channels only.

    Raises
    ------
    ExportError
        If the sources do not agree in what a patch set has one of.
    """
    describe_one = SourceDescriber(plan)
    infos = [describe_one(ref, IMAGE) for ref in plan.sources]
    check_agreement(plan.sources, infos, plan.dtype)
    return infos


class SourceDescriber:
    """Describe images, reading the key of a file once for all of its scenes."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan
        self._keys: dict[str, str] = {}

    def __call__(self, ref: ImageRef, role: str) -> SourceInfo:
        """Describe one image; what lies beside the sources keeps all of its channels."""
        with open_source(self._plan, ref) as stack:
            info = describe(stack, self._keys.get(ref.path))
            self._keep(ref, stack, info.key)
        return select_channels(info, self._plan.channels if role == IMAGE else None)

    def key(self, ref: ImageRef) -> str:
        """Give the key of an image, opening each file once."""
        if ref.path in self._keys:
            return self._keys[ref.path]
        with open_source(self._plan, ref) as stack:
            key = content_key(stack)
            self._keep(ref, stack, key)
        return key

    def _keep(self, ref: ImageRef, stack: ClosableStack, key: str) -> None:
        if not hasattr(stack, "fingerprint"):  # one key for all scenes of the file
            self._keys[ref.path] = key


def select_channels(info: SourceInfo, channels: Sequence[ChannelId] | None) -> SourceInfo:
    """Describe a source as if it had only some of its channels."""
    if channels is None:
        return info
    chosen = channel_indices(info.channels, channels)
    shape = list(info.shape)
    if "C" in info.axes:
        shape[info.axes.index("C")] = len(chosen)
    missing = {(s, chosen.index(c), z) for s, c, z in info.missing if c in chosen}
    update = {
        "channels": tuple(info.channels[c] for c in chosen),
        "shape": tuple(shape),
        "missing": frozenset(missing),
    }
    return SourceInfo(**{name: getattr(info, name) for name in SourceInfo.model_fields} | update)


def roles_of(plan: ExportPlan) -> list[str]:
    """Give the roles that have an image, in every source.

    Raises
    ------
    ArgumentError
        Naming the sources that lack an image which others have, or which a filter looks at.
    """
    roles = [IMAGE]
    for role in (TARGET, LABELS):
        if any(role in ref.images for ref in plan.sources):
            _require(plan, role, f"Either every source has a {role} beside it, or none")
            roles.append(role)
    if any(isinstance(found, Mask) for found in plan.filters):
        _require(plan, MASK, "The filter mask needs a mask, or labels, beside every source")
        roles.append(MASK)
    return roles


def with_scenes(ref: SourceRef) -> SourceRef:
    """Choose the scene of each image beside a source: the source's, where there are several.

    Raises
    ------
    ArgumentError
        If its file has several scenes, none of which is the source's.
    """
    return ref.with_beside(lambda image: _with_scene(image, ref.scene))


def _with_scene(ref: ImageRef, scene: SceneId | None) -> ImageRef:
    if ref.scene is not None:
        return ref
    ids = [found.id for found in list_scenes(ref.path)]
    if len(ids) > 1 and scene not in ids:
        listed = ", ".join(map(str, ids))
        raise ArgumentError(f"{ref.path} has no scene {scene}, as its image; it has {listed}.")
    return ref.model_copy(update={"scene": scene if len(ids) > 1 else ids[0]})


def _require(plan: ExportPlan, role: str, rule: str) -> None:
    lacking = [str(ref) for ref in plan.sources if role not in ref.images]
    if lacking:
        raise ArgumentError(f"{rule}; {lacking[0]} has none ({len(lacking)} in all lack one).")


Images = dict[str, tuple[SourceInfo, ...]]


@dataclass(frozen=True)
class Survey:
    """What was found; see `FrozenPlan` for its attributes."""

    asked: tuple[SourceRef, ...]
    plan: ExportPlan
    images: Images
    stamps: dict[str, FileStat]
    failures: tuple[Failure, ...]


def survey(plan: ExportPlan, check_cancelled: Callable[[], None] = lambda: None) -> Survey:
    """Open and describe every source; those that are broken are left out, unless all are.

    Parameters
    ----------
    proceed : callable
        Asked before each source is opened; what it raises ends the survey.

    Raises
    ------
    PatchsetError, OSError
        If sources do not agree with each other or with the images beside them; if none can be
        read.
    """
    plan = plan.resolved()
    found, failures = _describe(plan, check_cancelled)
    readable = plan.model_copy(update={"sources": tuple(ref for ref, _ in found)})
    images: Images = {role: tuple(each[role] for _, each in found) for role in found[0][1]}
    _check(readable, images)
    paths = {image.path for ref in readable.sources for image in ref.images.values()}
    stamps = {path: stamp for path in sorted(paths) if (stamp := find_stamp(path))}
    return Survey(plan.sources, readable, images, stamps, tuple(failures))


Described = tuple[SourceRef, dict[str, SourceInfo]]


def _describe(
    plan: ExportPlan, check_cancelled: Callable[[], None]
) -> tuple[list[Described], list[Failure]]:
    roles, describe_one = roles_of(plan), SourceDescriber(plan)
    found: list[Described] = []
    failures = []
    for asked in plan.sources:
        check_cancelled()
        try:
            ref = with_scenes(asked)
            found.append((ref, {role: describe_one(ref.images[role], role) for role in roles}))
        except SOURCE_ERRORS as error:
            if asked is plan.sources[-1] and not found:
                raise
            failures.append(Failure(source=str(asked), message=str(error)))
    return found, failures


def _check(plan: ExportPlan, images: Images) -> None:
    for role, infos in images.items():
        if role != MASK:
            refs = [ref.images[role] for ref in plan.sources]
            check_agreement(refs, infos, None if role == LABELS else plan.dtype)
        check_geometry(role, plan.sources, infos, images[IMAGE])


_ROWS = 1024
"""Rows that are read at once."""


def mask_region(path: str, of: SourceInfo | None = None) -> MaskRegion:
    """Name the mask in a file, for one source or for every one."""
    with open_stack(path) as stack:
        where = {} if of is None else {"source": of.key, "scene": of.scene}
        return MaskRegion(path=path, digest=content_key(stack), **where)


def read_masks(strategy: PatchStrategy) -> Mapping[str, NDArray[np.bool_]]:
    """Read the mask that is the region of a strategy, if it is one, by its digest.

    Raises
    ------
    ExportError
        If the plan does not say where it lies, or it has changed.
    """
    region = strategy.region
    if not isinstance(region, MaskRegion):
        return {}
    if region.path is None:
        raise ExportError("The plan does not say where the mask of its region lies; name the file.")
    with open_stack(region.path) as stack:
        if content_key(stack) != region.digest:
            raise ExportError(f"{region.path} has changed since the plan was made; name it again.")
        return {region.digest: _pixels(stack)}


def _pixels(stack: ImageStack) -> NDArray[np.bool_]:
    """Say where the first channel of the first sample is not zero."""
    *_, height, width = stack.data_shape
    pixels = np.empty((height, width), bool)
    for y in range(0, height, _ROWS):
        rows = min(_ROWS, height - y)
        pixels[y : y + rows] = stack.extract_patch(0, [0], (y, 0), (rows, width))[0] != 0
    return pixels
