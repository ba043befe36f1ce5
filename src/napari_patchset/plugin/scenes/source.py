"""The source part at work: which open file and scene is shown, and which others go along.

The files that go along into one export with the image that is shown.

What is done to layers beside the plugin: painted, moved, turned or scaled.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from napari.layers import Labels, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.exporting.plan import SourceRef
from napari_patchset.plugin.dialogs import ask_image, message, notifying
from napari_patchset.plugin.form.source import ExtraFilesSection, SourceSection
from napari_patchset.plugin.layers.layer_stack import layer_at, path_of
from napari_patchset.plugin.layers.replacing import add_beside, replace_layers
from napari_patchset.plugin.layers.scene import LayerTuple
from napari_patchset.plugin.layers.shown import (
    Shown,
    show_all,
    show_unseen,
    shown,
    shown_files,
    shown_scenes,
)
from napari_patchset.plugin.layers.stage import common_axes, name_by_scene
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.scene_context import (
    LoadedPlan,
    SceneContext,
    Scenes,
    read_scene,
    read_scene_context,
    read_scenes,
)
from napari_patchset.plugin.scenes.picker import ScenePicker
from napari_patchset.plugin.worker import Background
from napari_patchset.source import SceneId


class ExtraFiles:
    """Take files along that a person asks for, one after the other, with all of their scenes."""

    def __init__(self) -> None:
        self.part, self.adding = ExtraFilesSection(), Background()
        self._scenes: dict[Path, Scenes] = {}
        self.part.add.changed.connect(self._add)
        self.adding.yielded.connect(lambda found: self._take(*found))
        self.adding.failed.connect(self._on_failed)

    def know(self, scenes: Mapping[Path, Scenes]) -> None:
        """Learn the scenes of files."""
        self._scenes.update(scenes)

    def sources(self, facts: SceneContext) -> tuple[tuple[SourceRef, ...], int]:
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


_PLACING = ("scale", "translate", "rotate", "shear", "affine", "units")
"""The events of a layer that say where its pixels lie."""


class LayerEdits:
    """Tell of edits; each event of a layer is connected once, as napari takes a millisecond."""

    made = Signal()
    """The pixels of a layer are others now, or lie elsewhere."""

    def __init__(self) -> None:
        self._heard: WeakKeyDictionary[Layer, set[str]] = WeakKeyDictionary()

    def hear_painted(self, layer: Layer) -> None:
        """Tell when the pixels of a layer become others."""
        self._hear(layer, "data")

    def hear_moved(self, layer: Layer) -> None:
        """Tell when the pixels of a layer come to lie elsewhere."""
        self._hear(layer, *_PLACING)

    def _hear(self, layer: Layer, *names: str) -> None:
        heard = self._heard.setdefault(layer, set())
        for name in names:
            if name not in heard:
                getattr(layer.events, name).connect(self.made.emit)
        heard.update(names)


class SourceControl:
    """Keep the list of open files, show the scene that is picked, and say what is chosen.

    Parameters
    ----------
    viewer : Viewer
        Where the images are.
    suffix : callable
        Gives the suffix of the patch set, for which a name is proposed.

    Attributes
    ----------
    facts : Facts or None
        What is known of the shown scene; None while that is read.
    edits : LayerEdits
        What others do to the layers.
    """

    file_changed = Signal()
    """Another image is chosen, or none; nothing is known of it yet."""
    known = Signal(SceneContext, bool)
    """The facts of the shown scene are read; the flag says that its image was chosen anew."""
    failed = Signal(Exception)
    changed = Signal()
    """Other files go along."""
    replaced = Signal()
    """The layers are about to show another scene, of which nothing is drawn yet."""

    def __init__(self, viewer: Viewer, suffix: Callable[[], str]) -> None:
        self.part, self.picker = SourceSection(), ScenePicker()
        self.edits, self._along = LayerEdits(), ExtraFiles()
        self.more, self.adding = self._along.part, self._along.adding
        self.facts: SceneContext | None = None
        self._viewer, self._suffix = viewer, suffix
        self._chosen: dict[Path, SceneId | None] = {}
        self._followed: SceneId | None = None
        self._is_new = False
        self.part.file.changed.connect(self._on_file)
        self.part.open.changed.connect(self._open)
        self.more.all_scenes.changed.connect(self.changed.emit)
        self.more.files_changed.connect(self.changed.emit)
        self.picker.picked.connect(self._on_scene)
        self.opening, self.reading = Background(), Background()
        self.opening.yielded.connect(lambda opened: self._show(*opened))
        self.opening.failed.connect(self._on_failed)
        self.reading.yielded.connect(self._on_facts)
        self.reading.failed.connect(self._on_unreadable)
        self.picker.hide()

    @property
    def shown(self) -> Shown | None:
        """The layers of the chosen scene of the chosen file, None if there are none."""
        path = self.part.file.value
        return shown(self._viewer, path, self._chosen.get(path)) if path else None

    @property
    def scenes_shown(self) -> dict[Path, list[SceneId | None]]:
        """Each image that is shown, and which scenes of it."""
        return {path: shown_scenes(self._viewer, path) for path in shown_files(self._viewer)}

    @property
    def others(self) -> list[Path]:
        """What is open beside the chosen image: other images, and labels."""
        images = [path for path in shown_files(self._viewer) if path != self.part.file.value]
        return images + [path_of(each) for each in self._viewer.layers if isinstance(each, Labels)]

    def sources(self, facts: SceneContext) -> tuple[tuple[SourceRef, ...], int]:
        """Give what patches are cut from, and which of them is shown."""
        return self._along.sources(facts)

    def refresh(self) -> None:
        """Offer what is open, and choose a file that came, or another image for one that went."""
        images, chosen = shown_files(self._viewer), self.part.file.value
        known = self.part.offered
        new = [path for path in images if path not in known and layer_at(path) is None]
        kept = [chosen] if chosen in images else images
        self.part.offer(images, next(iter(new or kept), None))
        for path in (*images, *self.others):
            if (layer := layer_at(path)) is not None:
                self.edits.hear_painted(layer)
        if self.part.file.value != chosen:
            self._on_file()
        else:
            self._listen()
            self._follow()

    def read(self) -> None:
        """Read what is to be known of the shown scene; what was known of it holds until then."""
        found, known = self.shown, self.facts
        if known is not None and (found is None or found[:2] != (known.path, known.scene)):
            self.facts = None
        self.reading.stop()
        if found is not None:
            self.reading.begin(read_scene_context, found.path, found.scene, self._suffix())

    def load(self, loaded: LoadedPlan) -> None:
        """Show the first image of a plan, and take the others along."""
        plan, facts = loaded.plan, loaded.facts
        self.opening.stop()
        self.reading.stop()
        if loaded.layers is not None:
            before = shown(self._viewer, facts.path, self._chosen.get(facts.path))
            self._replace(before, loaded.layers)
        self.part.offer(shown_files(self._viewer), facts.path)
        self._along.know(loaded.scenes)
        self._chosen[facts.path] = self._followed = facts.scene
        self._is_new = True
        self._on_facts(facts)
        self._listen()
        refs = [(Path(ref.path), ref) for ref in plan.sources]
        self.more.set_files(tuple(path for path, _ in refs if path != facts.path))
        self.more.all_scenes.value = sum(path == facts.path for path, _ in refs) > 1
        self.changed.emit()

    def stop(self) -> None:
        """Open nothing more."""
        for work in (self.opening, self.reading, self.adding):
            work.stop()
        self.picker.stop()

    def _on_file(self) -> None:
        self.opening.stop()
        self.picker.setVisible(False)
        self.facts, self._is_new = None, True
        if (found := self.shown) is not None:
            self._followed = found.scene
            show_unseen(self._viewer, found.layers[-1])
        self._listen()
        self.file_changed.emit()
        self.read()

    def _on_facts(self, facts: SceneContext) -> None:
        """Show what is known; of an image that was chosen anew, its scenes too."""
        self.facts = facts
        self._along.know({facts.path: facts.scenes})
        is_new, self._is_new = self._is_new, False
        if is_new:
            self.picker.show_scenes(facts.path, facts.scenes, facts.scene)
            self.more.all_scenes.visible = len(facts.scenes) > 1
        else:
            self.picker.mark(facts.scene)
        self.known.emit(facts, is_new)

    def _listen(self) -> None:
        """Notice that the image is moved, turned or scaled."""
        for layer in self.shown.layers if self.shown else ():
            self.edits.hear_moved(layer)

    def _on_scene(self, scene: SceneId | None) -> None:
        self.opening.stop()
        facts = self.facts
        if facts is None or scene == facts.scene:
            return
        if scene in shown_scenes(self._viewer, facts.path):
            self._turn_to(facts.path, scene)
            self._follow()
        else:
            is_beside = len(shown_scenes(self._viewer, facts.path)) > 1
            axes = common_axes(facts.scenes) if is_beside else None
            self.opening.begin(read_scene, facts, scene, self._suffix(), axes)

    def _show(self, layers: Sequence[LayerTuple], facts: SceneContext) -> None:
        """Show a scene in place of the one before; where several are shown, beside them."""
        found = shown(self._viewer, facts.path, self._chosen.get(facts.path))
        if found is None:
            return
        self.reading.stop()
        if len(shown_scenes(self._viewer, facts.path)) > 1:
            summary = next(each for each in facts.scenes if each.id == facts.scene)
            add_beside(self._viewer, found, name_by_scene(layers, summary))
            self._turn_to(facts.path, facts.scene)
        else:
            self._replace(found, layers)
        self._followed = facts.scene
        self._listen()
        self._on_facts(facts)

    def _replace(self, found: Shown | None, layers: Sequence[LayerTuple]) -> None:
        """Show another scene in place of one; nobody but this changes its layers by that."""
        self.replaced.emit()
        with self.edits.made.blocked():
            replace_layers(self._viewer, found, layers)

    def _turn_to(self, path: Path, scene: SceneId | None) -> None:
        """Turn to a scene among several that are shown."""
        self._chosen[path] = scene
        if (found := shown(self._viewer, path, scene)) is not None:
            show_all(self._viewer, found.layers[-1])

    def _follow(self) -> None:
        """Read what is to be known of the scene that is shown, if it is another one."""
        found = self.shown
        if found is not None and found.scene != self._followed:
            self._followed = found.scene
            self._listen()
            self.read()

    def _on_failed(self, error: Exception) -> None:
        """Say what is wrong, and mark what is still shown."""
        show_error(message(error))
        if self.facts is not None:
            self.picker.mark(self.facts.scene)

    def _on_unreadable(self, error: Exception) -> None:
        show_error(message(error))
        self.failed.emit(error)

    @notifying
    def _open(self) -> None:
        if (path := ask_image(self.part.native)) is not None:
            self._viewer.open(str(path), plugin=PLUGIN)
