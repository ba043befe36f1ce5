"""Other files for the same set: which are added, and which of their scenes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from napari.utils.notifications import show_error

from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.plugin.dialogs import ask_image, message
from napari_patchset.plugin.form.source_section import ExtraFilesSection
from napari_patchset.plugin.layers.viewer_images import SceneLayers
from napari_patchset.plugin.overrides import image_path, source_ref
from napari_patchset.plugin.scene_context import SceneContext, Scenes, read_scenes
from napari_patchset.plugin.worker import Worker
from napari_patchset.source import SceneId


class ExtraFiles:
    """Add files to the set one after the other.

    Parameters
    ----------
    shown_scene : callable
        Return the scene of a file that is shown, None if the file is not.
    """

    def __init__(self, shown_scene: Callable[[Path], SceneLayers | None]) -> None:
        self.section, self.adding = ExtraFilesSection(), Worker()
        self._shown_scene = shown_scene
        self._scenes: dict[Path, Scenes] = {}
        self._loaded: dict[Path, list[SceneId | None]] = {}
        self.section.all_scenes.changed.connect(lambda: self._loaded.clear())
        self.section.add.changed.connect(self._add)
        self.adding.returned.connect(lambda result: self._on_scenes(*result))
        self.adding.failed.connect(self._on_failed)

    def learn(self, scenes: Mapping[Path, Scenes]) -> None:
        """Remember the scenes of files."""
        self._scenes.update(scenes)

    def sources(self, context: SceneContext) -> tuple[tuple[SourceRef, ...], int]:
        """Return the sources to cut patches from, and the index of the one that is shown."""
        all_scenes = [scene.id for scene in context.scenes]
        scenes = self.scenes_of_plan(context) or [context.scene]
        if self.section.all_scenes.value:
            scenes = all_scenes
        refs = [source_ref(context.path, scene) for scene in scenes]
        for path in self.section.files:
            if path != context.path:
                refs += [source_ref(path, scene) for scene in self._scenes_of(path)]
        return tuple(refs), scenes.index(context.scene)

    def scenes_of_plan(self, context: SceneContext) -> list[SceneId | None]:
        """Return the scenes of the shown file that a loaded plan chose, if this is one of them."""
        scenes = self._loaded.get(context.path, [])
        return scenes if context.scene in scenes else []

    def load(self, sources: Sequence[SourceRef], first: Path) -> None:
        """Set the files of a plan, and which scenes of each."""
        loaded: dict[Path, list[SceneId | None]] = {}
        for ref in sources:
            loaded.setdefault(image_path(ref), []).append(ref.scene)
        are_all = all(len(scenes) == len(self._scenes[path]) for path, scenes in loaded.items())
        self.section.all_scenes.value = are_all and len(loaded[first]) > 1
        self._loaded = loaded
        self.section.set_files(tuple(path for path in loaded if path != first))

    @property
    def has_scenes(self) -> bool:
        """Whether one of the files has several scenes."""
        return any(len(self._scenes[path]) > 1 for path in self.section.files)

    def _scenes_of(self, path: Path) -> list[SceneId | None]:
        """Return the scene of a file that is shown, else its first one; or all of them."""
        scenes = [scene.id for scene in self._scenes[path]]
        if self.section.all_scenes.value:
            return scenes
        shown = self._shown_scene(path)
        return self._loaded.get(path) or ([shown.scene] if shown else scenes[:1])

    def _add(self) -> None:
        if (path := ask_image(self.section.native)) is not None:
            self.section.add.enabled = False  # until this one is read
            self.adding.run(read_scenes, path)

    def _on_scenes(self, path: Path, scenes: Scenes) -> None:
        self.section.add.enabled = True
        self._scenes[path] = scenes
        self.section.set_files((*self.section.files, path))

    def _on_failed(self, error: Exception) -> None:
        show_error(message(error))
        self.section.add.enabled = True
