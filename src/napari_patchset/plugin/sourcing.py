"""The source part at work: which open file and scene is shown, and which others go along."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from napari.layers import Labels
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.export.refs import SourceRef
from napari_patchset.plugin.all_scenes import common_axes, name_by_scene
from napari_patchset.plugin.asked import is_window_at_work
from napari_patchset.plugin.asking import ask_image, message, notifying
from napari_patchset.plugin.background import Background
from napari_patchset.plugin.camera import show_all, show_unseen
from napari_patchset.plugin.contrast import later_limits
from napari_patchset.plugin.form.source import MorePart, SourcePart
from napari_patchset.plugin.layer_paths import layer_at, path_of
from napari_patchset.plugin.layers import LayerTuple, scene_layers
from napari_patchset.plugin.named_layers import image_scenes
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.scenes import ScenePicker
from napari_patchset.plugin.shown import (
    Shown,
    add_beside,
    replace_layers,
    show_scene,
    shown,
    shown_files,
    shown_scenes,
)
from napari_patchset.plugin.state import describe_scene
from napari_patchset.source import SceneId
from napari_patchset.stacks.metadata import SceneSummary

_PLACING = ("scale", "translate", "rotate", "shear", "affine", "units")
"""The events of a layer that say where its pixels lie."""


class SourceControl:
    """Keep the list of open files, show the scene that is picked, and say what is chosen."""

    file_changed = Signal()
    changed = Signal()
    edited = Signal()
    """The pixels of a layer are others now."""

    def __init__(self, viewer: Viewer) -> None:
        self.part, self.more, self.picker = SourcePart(), MorePart(), ScenePicker()
        self._viewer = viewer
        self._scenes: dict[Path, list[SceneSummary]] = {}
        self._chosen: dict[Path, SceneId | None] = {}
        self._followed: SceneId | None = None
        self.part.file.changed.connect(self._on_file)
        self.part.open.changed.connect(self._open)
        self.more.add.changed.connect(self._add)
        self.more.all_scenes.changed.connect(self.changed.emit)
        self.more.files_changed.connect(self.changed.emit)
        self.picker.picked.connect(self._on_scene)
        self.opening = Background()
        self.opening.yielded.connect(lambda opened: self._show(*opened))
        self.opening.failed.connect(self._on_failed)
        self.picker.hide()

    @property
    def shown(self) -> Shown | None:
        """The layers of the chosen scene of the chosen file, None if there are none."""
        path = self.part.file.value
        return shown(self._viewer, path, self._chosen.get(path)) if path else None

    @property
    def others(self) -> list[Path]:
        """What is open beside the chosen image: other images, and labels."""
        images = [path for path in shown_files(self._viewer) if path != self.part.file.value]
        return images + [path_of(each) for each in self._viewer.layers if isinstance(each, Labels)]

    def sources(self, found: Shown) -> tuple[tuple[SourceRef, ...], int]:
        """Give what patches are cut from, and which of them is shown."""
        chosen = [s.id for s in self._scenes_of(found.path)]
        scenes = chosen if self.more.all_scenes.value else [found.scene]
        refs = [SourceRef(path=str(found.path), scene=scene) for scene in scenes]
        for path in self.more.files:
            if path != found.path:
                refs += [SourceRef(path=str(path), scene=s.id) for s in self._scenes_of(path)]
        return tuple(refs), scenes.index(found.scene)

    def refresh(self) -> None:
        """Offer what is open, and choose a file that came, or another image for one that went."""
        images, chosen = shown_files(self._viewer), self.part.file.value
        known = self.part.offered
        new = [path for path in images if path not in known and layer_at(path) is None]
        kept = [chosen] if chosen in images else images
        self.part.offer(images, next(iter(new or kept), None))
        for path in (*images, *self.others):
            if (layer := layer_at(path)) is not None:
                layer.events.data.disconnect(self.edited.emit)
                layer.events.data.connect(self.edited.emit)
        if self.part.file.value != chosen:
            self._on_file()
        else:
            self._listen()
            self._follow()

    def load(self, sources: Sequence[SourceRef]) -> None:
        """Show the first of some images, opening its file if need be, and take the others along."""
        first, path = sources[0], Path(sources[0].path)
        if shown(self._viewer, path) is None:
            self._viewer.open(first.path, plugin=PLUGIN)
            self.refresh()
        self.part.file.value = path
        self._chosen[path] = first.scene
        if (found := self.shown) is not None and found.scene != first.scene:
            show_scene(self._viewer, path, first.scene)
        self._follow()
        others = (Path(ref.path) for ref in sources if ref.path != first.path)
        self.more.set_files(tuple(others))
        self.more.all_scenes.value = sum(ref.path == first.path for ref in sources) > 1
        self.changed.emit()

    def stop(self) -> None:
        """Open nothing more."""
        self.opening.stop()
        self.picker.stop()

    def _scenes_of(self, path: Path) -> list[SceneSummary]:
        if path not in self._scenes:
            self._scenes[path] = image_scenes(path)
        return self._scenes[path]

    @notifying
    def _on_file(self) -> None:
        found = self.shown
        self.picker.setVisible(False)
        if found is not None:
            self._scenes.pop(found.path, None)
            scenes = self._scenes_of(found.path)
            self.picker.show_scenes(found.path, scenes, found.scene)
            self.more.all_scenes.visible = len(scenes) > 1
            self._followed = found.scene
            show_unseen(self._viewer, found.layers[-1])
        self._listen()
        self.file_changed.emit()

    def _listen(self) -> None:
        """Notice that the image is moved, turned or scaled."""
        found = self.shown
        for layer in found.layers if found else ():
            for name in _PLACING:
                event = getattr(layer.events, name)
                event.disconnect(self.edited.emit)
                event.connect(self.edited.emit)

    @notifying
    def _on_scene(self, scene: SceneId) -> None:
        self.opening.stop()
        found = self.shown
        if found is None or scene == found.scene:
            return
        if scene in shown_scenes(self._viewer, found.path):
            self._choose(found.path, scene)
        elif is_window_at_work():
            self.opening.start(_opened, found.path, scene, self._axes(found.path))
        else:  # a script has the scene at once
            layers = scene_layers(found.path, scene, axes=self._axes(found.path))
            self._show(found.path, scene, layers)

    def _axes(self, path: Path) -> str | None:
        """Give the axes that a scene must have beside others, None where it replaces one."""
        is_beside = len(shown_scenes(self._viewer, path)) > 1
        return common_axes(self._scenes_of(path)) if is_beside else None

    def _show(self, path: Path, scene: SceneId | None, layers: Sequence[LayerTuple]) -> None:
        """Show a scene in place of the one before; where several are shown, beside them."""
        found = shown(self._viewer, path, self._chosen.get(path))
        if found is None:
            return
        if len(shown_scenes(self._viewer, path)) > 1:
            summary = next(each for each in self._scenes_of(path) if each.id == scene)
            add_beside(self._viewer, found, name_by_scene(layers, summary))
            self._choose(path, scene)
        else:
            replace_layers(self._viewer, found, layers)
            self._follow()

    def _choose(self, path: Path, scene: SceneId | None) -> None:
        """Turn to a scene among several that are shown."""
        self._chosen[path] = scene
        if (found := shown(self._viewer, path, scene)) is not None:
            show_all(self._viewer, found.layers[-1])
        self._follow()

    def _follow(self) -> None:
        """Mark the scene that is shown, and say so if it is another one."""
        found = self.shown
        if found is not None and found.scene != self._followed:
            self._followed = found.scene
            self.picker.mark(found.scene)
            self._listen()
            self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        """Say what is wrong, and mark what is still shown."""
        show_error(message(error))
        if (found := self.shown) is not None:
            self.picker.mark(found.scene)

    @notifying
    def _open(self) -> None:
        if (path := ask_image(self.part.native)) is not None:
            self._viewer.open(str(path), plugin=PLUGIN)

    @notifying
    def _add(self) -> None:
        if (path := ask_image(self.more.native)) is not None:
            self._scenes_of(path)
            self.more.set_files((*self.more.files, path))


def _opened(
    path: Path, scene: SceneId | None, axes: str | None
) -> Iterator[tuple[Path, SceneId | None, list[LayerTuple]]]:
    """Open a scene, and describe it already: that reads from the file too."""
    layers = scene_layers(path, scene, later_limits, axes)
    describe_scene(str(path), scene)
    yield path, scene, layers
