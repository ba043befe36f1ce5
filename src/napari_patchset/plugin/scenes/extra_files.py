"""Other files for the same set: which are added, and which of their scenes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from napari.utils.notifications import show_error

from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.dialogs import ask_images, message
from napari_patchset.plugin.form.source_section import ADD_FILES, ExtraFilesSection
from napari_patchset.plugin.layers.layer_stack import file_name
from napari_patchset.plugin.layers.viewer_images import SceneLayers
from napari_patchset.plugin.overrides import image_path, source_ref
from napari_patchset.plugin.scene_context import SceneContext, Scenes, read_scenes
from napari_patchset.plugin.worker import Worker
from napari_patchset.source import SceneId


class ExtraFiles:
    """Add files to the set of an image, which keeps them when another image is shown.

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
        self._image: Path | None = None
        self._added: dict[Path, tuple[Path, ...]] = {}
        """The files that were added to each image that was shown."""
        self._wanted: tuple[Path, ...] = ()
        self.note = ""
        """Which files the last image kept, "" for none."""
        self._kept_by: Path | None = None
        """That image."""
        self.section.all_scenes.changed.connect(lambda: self._loaded.clear())
        self.section.add.changed.connect(self._ask)
        self.adding.yielded.connect(self._on_progress)
        self.adding.returned.connect(lambda result: self._on_scenes(*result))
        self.adding.failed.connect(self._on_failed)

    def turn_to(self, image: Path | None, open_images: Sequence[Path]) -> None:
        """Show the files of the set of another image.

        An image of the list changes places with the one that was shown, if that is still open.
        """
        before = self._image
        if image is None or image == before:
            return
        self._image = image
        files, kept = self.section.files, tuple[Path, ...]()
        self.adding.stop()
        self._end_adding()
        if image in files:
            others = [path for path in files if path != image]
            is_open = before in open_images
            kept = (before, *others) if before is not None and is_open else tuple(others)
        else:
            kept = self._added.get(image, ())
        if before is not None:
            self._added[before] = files
        self.note = ""
        if before in open_images and before is not None and files and image not in files:
            self._kept_by = before
            self.note = f"Added to {file_name(before)}, not to this set: {_names(files)}"
        if kept != files:
            self.section.set_files(kept)

    def drop_note(self, open_images: Sequence[Path]) -> bool:
        """Drop the note on an image that is no longer open; return whether there was one."""
        if not self.note or self._kept_by in open_images:
            return False
        self.note = ""
        return True

    def learn(self, scenes: Mapping[Path, Scenes]) -> None:
        """Remember the scenes of files."""
        self._scenes.update(scenes)
        for path, of_file in scenes.items():
            DESCRIPTIONS.learn(path, of_file)

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
        self._loaded, self.note = loaded, ""
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

    def _ask(self) -> None:
        if paths := ask_images(self.section.native, self._image):
            self.add(paths)

    def add(self, paths: Sequence[Path]) -> None:
        """Add files, once their scenes are read."""
        self._wanted = (*self._wanted, *paths)
        self.section.add.enabled = False
        self.adding.run(read_scenes, self._wanted)

    def _on_progress(self, done: int) -> None:
        if done:
            self.section.add.text = f"Reading {done:,} of {len(self._wanted):,}…"

    def _on_scenes(self, scenes: Mapping[Path, Scenes], errors: Sequence[Exception]) -> None:
        self._end_adding()
        self.learn(scenes)
        self.section.set_files((*self.section.files, *scenes))
        for error in errors[:1]:
            more = f" {len(errors) - 1:,} more files can't be read." if errors[1:] else ""
            show_error(message(error) + more)

    def _on_failed(self, error: Exception) -> None:
        self._end_adding()
        raise error

    def _end_adding(self) -> None:
        self._wanted = ()
        self.section.add.text, self.section.add.enabled = ADD_FILES, True


_MOST_NAMES = 3


def _names(files: Sequence[Path]) -> str:
    more = len(files) - _MOST_NAMES
    return ", ".join(path.name for path in files[:_MOST_NAMES]) + (
        f" and {more:,} more" if more > 0 else ""
    )
