"""What is known of the scenes of files and layers: each is described once, whatever asks for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from napari_patchset.axes import DepthAxis
from napari_patchset.exporting.plans.image_refs import (
    ImageRef,
    SourceRef,
)
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.open_images import open_source
from napari_patchset.plugin.layers.layer_stack import image_scenes, open_image
from napari_patchset.plugin.overrides import image_path, source_ref
from napari_patchset.source import PixelSize, SceneId, SourceInfo
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.fingerprint import (
    Advance,
    file_key,
    has_own_key,
    part_digests,
)
from napari_patchset.stacks.metadata import SceneSummary, describe, find_well, image_metadata
from napari_patchset.stacks.resampled import ResampledStack

_KEYS: FileCache[str] = FileCache(256)
"""Fingerprints of files, valid until the file changes, even after `forget`."""


class Descriptions:
    """Describe scenes of files and layers, each of them once; threads may share it."""

    def __init__(self) -> None:
        self._lock, self._times_forgotten = Lock(), 0
        self._infos: dict[tuple[ImageRef, DepthAxis, PixelSize | None], SourceInfo] = {}
        self._pairs: dict[tuple[SourceRef, str, DepthAxis, PixelSize | None], SourceInfo] = {}
        self._latest: dict[ImageRef, SourceInfo] = {}
        self._parts: dict[ImageRef, Sequence[str]] = {}
        self._scenes: dict[ImageRef, Sequence[SceneSummary]] = {}
        self._digests: dict[ImageRef, Sequence[str]] = {}
        self._unitless: dict[ImageRef, Mapping[str, float]] = {}
        self._labels: dict[tuple[Path, SceneId | None], str] = {}
        self._wells: dict[tuple[Path, SceneId | None], str] = {}

    def describe(
        self, ref: ImageRef, depth_axis: DepthAxis = "none", pixel_size: PixelSize | None = None
    ) -> SourceInfo:
        """Describe one scene, all of its channels; reads the file only if it is not cached.

        `pixel_size` is the one that it is resampled to, if any.
        """
        key = _alone(ref), depth_axis, pixel_size
        with self._lock:
            info, times = self._infos.get(key), self._times_forgotten
        if info is None:
            info = self._describe(*key)
            with self._lock:
                if times == self._times_forgotten:
                    self._infos[key] = info
        return info

    def describe_pair(self, plan: ExportPlan, source: SourceRef, role: str) -> SourceInfo:
        """Describe an image that is paired with a source of a plan, but for its content."""
        key = (source, role, plan.depth_axis, plan.pixel_size)
        with self._lock:
            info, times = self._pairs.get(key), self._times_forgotten
        if info is None:
            paired = source.with_pair_scenes(lambda path: image_scenes(source_ref(path)))
            with open_source(plan, paired, role, open_image) as stack:
                info = describe(stack, "unread")
            with self._lock:
                if times == self._times_forgotten:
                    self._pairs[key] = info
        return info

    def well(self, ref: ImageRef) -> str | None:
        """Return the well of a scene, None if its file names none; lists each file once."""
        file = _alone(ref).model_copy(update={"scene": None})
        with self._lock:
            scenes, times = self._scenes.get(file), self._times_forgotten
        if scenes is None:
            scenes = image_scenes(file)
            with self._lock:
                if times == self._times_forgotten:
                    self._scenes[file] = scenes
        return find_well(scenes, ref.scene)

    def learn(self, path: Path, scenes: Sequence[SceneSummary]) -> None:
        """Remember what the scenes of a file are called, and their wells."""
        times = Counter(scene.label for scene in scenes)
        for scene in scenes:
            is_alone = times[scene.label] == 1
            label = scene.label if is_alone else f"{scene.label} (scene {scene.id})"
            self._labels[path, scene.id] = label
            if scene.well:
                self._wells[path, scene.id] = scene.well

    def known_well(self, ref: ImageRef) -> str | None:
        """Return the well of a scene as far as it is known; reads no file."""
        return self._wells.get((image_path(ref), ref.scene))

    def label(self, ref: ImageRef) -> str:
        """Return what a scene is called in the window, its id if that is not known yet."""
        return self._labels.get((image_path(ref), ref.scene), f"scene {ref.scene}")

    def latest(self, ref: ImageRef) -> SourceInfo | None:
        """Return the cached metadata of a scene, None if there is none; reads no file."""
        return self._latest.get(_alone(ref))

    def parts(self, ref: ImageRef) -> Sequence[str]:
        """Return the keys of the files that a scene is in; describe it again if it is forgotten."""
        ref = _alone(ref)
        while (parts := self._parts.get(ref)) is None:
            self.describe(ref)
        return parts

    def digests(self, ref: ImageRef, advance: Advance) -> Sequence[str]:
        """Return `part_digests` of a scene."""
        ref = _alone(ref)
        with self._lock:
            digests, times = self._digests.get(ref), self._times_forgotten
        if digests is None:
            with open_image(ref.path, ref.scene, **ref.overrides) as stack:
                digests = part_digests(stack, advance)
            with self._lock:
                if times == self._times_forgotten:
                    self._digests[ref] = digests
        return digests

    def unitless(self, ref: ImageRef) -> Mapping[str, float]:
        """Return the pixel sizes of a described scene whose unit the file does not name."""
        return self._unitless[_alone(ref)]

    def forget(self) -> None:
        """Describe every scene again: files and layers may have changed."""
        with self._lock:
            self._times_forgotten += 1
            self._infos, self._pairs, self._parts = {}, {}, {}
            self._scenes, self._digests = {}, {}

    def _describe(
        self, ref: ImageRef, depth_axis: DepthAxis, pixel_size: PixelSize | None
    ) -> SourceInfo:
        if pixel_size is not None:
            content_key = self.describe(ref, depth_axis).key
            with open_image(ref.path, ref.scene, depth_axis, **ref.overrides) as stack:
                return describe(ResampledStack(stack, pixel_size), content_key)
        if depth_axis != "none":
            return self.describe(ref).with_depth_axis(depth_axis)
        with open_image(ref.path, ref.scene, **ref.overrides) as stack:
            parts = getattr(stack, "file_keys", ())
            whole = not parts and Path(ref.path).is_file() and not has_own_key(stack)
            info = describe(stack, _KEYS.get(Path(ref.path), file_key) if whole else None)
            self._parts[ref] = parts or (info.key,)
            self._unitless[ref] = image_metadata(stack).unitless
            self._latest[ref] = info
        return info


def _alone(ref: ImageRef) -> ImageRef:
    """Return a reference to an image without the images that are paired with it."""
    return ImageRef(path=ref.path, scene=ref.scene, **ref.overrides)


DESCRIPTIONS = Descriptions()
"""The cached metadata of files and layers."""
