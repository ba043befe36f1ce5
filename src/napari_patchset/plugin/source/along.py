"""The files that go along into one export with the image that is shown."""

from collections.abc import Mapping
from pathlib import Path

from napari.utils.notifications import show_error

from napari_patchset.export.refs import SourceRef
from napari_patchset.plugin.form.source import MorePart
from napari_patchset.plugin.source.facts import Facts, Scenes, read_scenes
from napari_patchset.plugin.window.asking import ask_image, message
from napari_patchset.plugin.window.background import Background


class FilesAlong:
    """Take files along that a person asks for, one after the other, with all of their scenes."""

    def __init__(self) -> None:
        self.part, self.adding = MorePart(), Background()
        self._scenes: dict[Path, Scenes] = {}
        self.part.add.changed.connect(self._add)
        self.adding.yielded.connect(lambda found: self._take(*found))
        self.adding.failed.connect(self._on_failed)

    def know(self, scenes: Mapping[Path, Scenes]) -> None:
        """Learn the scenes of files."""
        self._scenes.update(scenes)

    def sources(self, facts: Facts) -> tuple[tuple[SourceRef, ...], int]:
        """Give what patches are cut from, and which of them is shown."""
        chosen = [scene.id for scene in facts.scenes]
        scenes = chosen if self.part.all_scenes.value else [facts.scene]
        refs = [SourceRef(path=str(facts.path), scene=scene) for scene in scenes]
        for path in self.part.files:
            if path != facts.path:
                refs += [SourceRef(path=str(path), scene=s.id) for s in self._scenes[path]]
        return tuple(refs), scenes.index(facts.scene)

    def _add(self) -> None:
        if (path := ask_image(self.part.native)) is not None:
            self.part.add.enabled = False  # until this one is read
            self.adding.begin(read_scenes, path)

    def _take(self, path: Path, scenes: Scenes) -> None:
        self.part.add.enabled = True
        self._scenes[path] = scenes
        self.part.set_files((*self.part.files, path))

    def _on_failed(self, error: Exception) -> None:
        show_error(message(error))
        self.part.add.enabled = True
