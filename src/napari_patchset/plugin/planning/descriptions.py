"""What is known of scenes, so that no file is opened again to know it."""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from napari_patchset.axes import DepthAxis
from napari_patchset.plugin.layers.named import open_image
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.fingerprint import file_key
from napari_patchset.stacks.kept import Kept

Scene = tuple[str, SceneId | None]
"""A path, and a scene of it."""


_KEYS: Kept[str] = Kept(256)
"""Fingerprints of files: they hold until a file changes, also of what is described anew."""


class Descriptions:
    """Describe scenes of files and layers, each of them once; threads may share it."""

    def __init__(self) -> None:
        self._lock, self._times_forgotten = Lock(), 0
        self._known: dict[tuple[Scene, DepthAxis], SourceInfo] = {}
        self._keys: dict[str, str] = {}
        self._latest: dict[Scene, SourceInfo] = {}

    def of(self, path: str, scene: SceneId | None, depth_axis: DepthAxis = "none") -> SourceInfo:
        """Describe one scene, all of its channels; only what is not known yet is read."""
        which = path, scene
        with self._lock:
            found, flat = (self._known.get((which, axis)) for axis in (depth_axis, "none"))
            times = self._times_forgotten
        if found is None:
            flat = flat or self._read(path, scene)
            found = flat.along(depth_axis)
            with self._lock:
                self._latest[which] = flat
                if times == self._times_forgotten:
                    self._known |= {(which, "none"): flat, (which, depth_axis): found}
        return found

    def latest(self, path: str, scene: SceneId | None) -> SourceInfo | None:
        """Give what was last known of a scene, without reading anything; None if nothing was."""
        return self._latest.get((path, scene))

    def has(self, scenes: Iterable[Scene]) -> bool:
        """Whether describing these scenes reads nothing."""
        with self._lock:
            return all((scene, "none") in self._known for scene in scenes)

    def forget(self) -> None:
        """Describe every scene anew: files and layers may have changed."""
        with self._lock:
            self._times_forgotten += 1
            self._known, self._keys = {}, {}

    def _read(self, path: str, scene: SceneId | None) -> SourceInfo:
        with open_image(path, scene) as stack:
            whole = not hasattr(stack, "fingerprint") and Path(path).is_file()
            return describe(stack, self._key_of(path) if whole else None)

    def _key_of(self, path: str) -> str:
        """Fingerprint a file once for all of its scenes."""
        keys = self._keys
        if path not in keys:
            keys[path] = _KEYS.get(Path(path), file_key)
        return keys[path]


DESCRIPTIONS = Descriptions()
"""What the window knows."""
