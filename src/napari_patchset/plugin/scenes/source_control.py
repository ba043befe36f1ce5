"""The choice of the image and scene to cut patches from.

`SourceControl` follows the viewer's layers: it offers the images that are open, shows the scene
that is picked, and reads its metadata (`SceneContext`) in a background thread.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from napari.layers import Labels, Layer
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_image, message
from napari_patchset.plugin.form.fields import Fold
from napari_patchset.plugin.form.metadata import MetadataSection
from napari_patchset.plugin.form.source_section import SourceSection
from napari_patchset.plugin.layers.layer_stack import layer_at, register_layer
from napari_patchset.plugin.layers.replacing import add_above, replace_layers
from napari_patchset.plugin.layers.scene import METADATA_KEY, LayerTuple
from napari_patchset.plugin.layers.scene_layout import common_axes, name_by_scene
from napari_patchset.plugin.layers.viewer_images import (
    SceneLayers,
    find_scene_layers,
    is_result,
    show_all,
    show_opened,
    show_unseen,
    shown_files,
    shown_scenes,
)
from napari_patchset.plugin.overrides import remember
from napari_patchset.plugin.reader import FileOpener
from napari_patchset.plugin.scene_context import (
    LoadedPlan,
    SceneContext,
    read_scene,
    read_scene_context,
    read_with_overrides,
)
from napari_patchset.plugin.scenes.extra_files import ExtraFiles
from napari_patchset.plugin.scenes.picker import ScenePicker
from napari_patchset.plugin.worker import Worker
from napari_patchset.source import SceneId

_PLACING = ("scale", "translate", "rotate", "shear", "affine", "units")
"""The events of a layer whose pixels move."""


class LayerEdits:
    """Report edits of layers; each event is connected once, as napari takes a millisecond."""

    made = Signal()
    """The pixels of a layer have changed, or moved."""

    def __init__(self) -> None:
        self._connected: WeakKeyDictionary[Layer, set[str]] = WeakKeyDictionary()

    def follow(self, layer: Layer, *events: str) -> None:
        """Report these events of a layer from now on."""
        connected = self._connected.setdefault(layer, set())
        for name in set(events) - connected:
            getattr(layer.events, name).connect(self.made.emit)
        connected.update(events)


class SourceControl:
    """Offer the open images, show the scene that is picked, and return the chosen sources.

    Parameters
    ----------
    viewer : Viewer
        Where the images are.
    suffix : callable
        Return the suffix of the patch set, for which a name is proposed.

    Attributes
    ----------
    context : SceneContext or None
        The metadata of the shown scene; None while it is read.
    edits : LayerEdits
        Edits of the layers by the user or other plugins.
    visibility : LayerEdits
        Layers of the shown image that are hidden or shown.
    """

    file_changed = Signal()
    """Another image is chosen, or none; nothing is known of it yet."""
    known = Signal(SceneContext, bool)
    """The shown scene is read; the flag is set if another image was chosen."""
    failed = Signal(Exception)
    changed = Signal()
    """Other scenes or files go into the set."""
    replaced = Signal()
    """The layers are about to show another scene, on which nothing is drawn yet."""

    def __init__(self, viewer: Viewer, suffix: Callable[[], str]) -> None:
        self.section, self.picker = SourceSection(), ScenePicker()
        self.edits, self._extra = LayerEdits(), ExtraFiles(self._shown_scene_of)
        self.visibility = LayerEdits()
        self.extra_files, self.adding = self._extra.section, self._extra.adding
        self.metadata, self.overriding = MetadataSection(), Worker()
        self.fold = Fold("Metadata", self.metadata.native, "Set what the file does not say right.")
        self.fold.put_button(self.extra_files.row.native)
        self.file_opener, self.opening, self.reading = FileOpener(viewer), Worker(), Worker()
        self.context: SceneContext | None = None
        self._viewer, self._suffix = viewer, suffix
        self._chosen: dict[Path, SceneId | None] = {}
        self._followed: SceneId | None = None
        self._is_new = False
        self.section.file.changed.connect(self._on_file)
        self.section.open.changed.connect(self._open)
        self.extra_files.all_scenes.changed.connect(self._on_extra_files)
        self.extra_files.files_changed.connect(self._on_extra_files)
        self.metadata.edited.connect(self._on_metadata)
        self.overriding.returned.connect(lambda result: self._show_with_overrides(*result))
        self.overriding.failed.connect(self._refuse_metadata)
        self.picker.picked.connect(self._on_scene)
        self.opening.returned.connect(lambda result: self._show(*result))
        self.opening.failed.connect(self._on_failed)
        self.reading.returned.connect(self._on_known)
        self.reading.failed.connect(self._on_unreadable)
        self.picker.hide()

    @property
    def shown_scene(self) -> SceneLayers | None:
        """The layers of the chosen scene of the chosen file, None if there are none."""
        path = self.section.file.value
        return self._shown_scene_of(path) if path else None

    def _shown_scene_of(self, path: Path) -> SceneLayers | None:
        return find_scene_layers(self._viewer, path, self._chosen.get(path))

    @property
    def hidden_channels(self) -> set[int]:
        """The channels of the shown scene whose layers are hidden or removed, unless all are."""
        shown, context = self.shown_scene, self.context
        if shown is None or context is None or shown.layers[0].rgb or layer_at(shown.path):
            return set()
        layers = [layer for layer in shown.layers if layer.visible]
        visible = {layer.metadata[METADATA_KEY]["channel"] for layer in layers}
        return set(range(len(context.info.channels))) - visible if visible else set()

    @property
    def scenes_shown(self) -> dict[Path, list[SceneId | None]]:
        """Each image that is shown, and its shown scenes."""
        return {path: shown_scenes(self._viewer, path) for path in shown_files(self._viewer)}

    @property
    def others(self) -> list[Path]:
        """The other open images, and labels."""
        images = [path for path in shown_files(self._viewer) if path != self.section.file.value]
        return images + [
            register_layer(each) for each in self._viewer.layers if isinstance(each, Labels)
        ]

    def sources(self, context: SceneContext) -> tuple[tuple[SourceRef, ...], int]:
        """Return the sources to cut patches from, and the index of the one that is shown.

        Raises
        ------
        ArgumentError
            If the metadata that are typed do not fit the image.
        """
        if self.metadata.problem:
            raise ArgumentError(f"Metadata: {self.metadata.problem}")
        return self._extra.sources(context)

    def add_files(self, paths: Sequence[Path]) -> None:
        """Add files to the set of the shown image."""
        self._extra.add(paths)

    def refresh(self) -> None:
        """Offer the open images; choose a new one, or another image for one that is gone.

        A result that lies over its image is offered, but not chosen.
        """
        images, chosen = shown_files(self._viewer), self.section.file.value
        offered = self.section.offered
        added = [path for path in images if path not in offered and layer_at(path) is None]
        new = [path for path in added if not is_result(self._viewer, path)]
        remaining = [chosen] if chosen in images else images
        self.section.offer(images, next(iter(new or remaining), None))
        for path in (*images, *self.others):
            if (layer := layer_at(path)) is not None:
                self.edits.follow(layer, "data")
        if self.section.file.value != chosen:
            self._on_file()
            if new and chosen is not None and (scene := self.shown_scene) is not None:
                show_opened(self._viewer, scene.layers[-1])
        else:
            if self._extra.drop_note(images) and self.context is not None:
                self._show_notes(self.context)
            self._follow_moves()
            self._follow_scene()

    def _show_notes(self, context: SceneContext) -> None:
        self.section.show_notes((*context.notes, *filter(None, [self._extra.note])))

    def read(self) -> None:
        """Read the metadata of the shown scene again; until then the old one is used."""
        scene, known = self.shown_scene, self.context
        if known is not None and (scene is None or scene[:2] != (known.path, known.scene)):
            self.context = None
        self.reading.stop()
        if scene is not None:
            self.reading.run(read_scene_context, scene.path, scene.scene, self._suffix())

    def load(self, loaded: LoadedPlan) -> None:
        """Show the first image of a plan, and add the others."""
        plan, context = loaded.plan, loaded.context
        self._stop_opening()
        self.reading.stop()
        if loaded.layers is not None:
            before = find_scene_layers(self._viewer, context.path, self._chosen.get(context.path))
            self._replace(before, loaded.layers)
        self.section.offer(shown_files(self._viewer), context.path)
        self._extra.turn_to(context.path, ())
        self._extra.learn(loaded.scenes)
        self._chosen[context.path] = self._followed = context.scene
        self._is_new = True
        self._on_known(context)
        self._follow_moves()
        self._extra.load(plan.sources, context.path)
        self.changed.emit()

    def _on_file(self) -> None:
        self._stop_opening()
        self.picker.wait(has_image=self.section.file.value is not None)
        self.section.show_notes(())
        self.fold.button.setVisible(False)
        self.fold.open(False)
        self.context, self._is_new = None, True
        self._extra.turn_to(self.section.file.value, self.section.offered)
        if (scene := self.shown_scene) is not None:
            self._followed = scene.scene
            show_unseen(self._viewer, scene.layers[-1])
        self._follow_moves()
        self.file_changed.emit()
        self.read()

    def _on_known(self, context: SceneContext) -> None:
        """Mark the scene whose metadata is read; of a newly chosen image, show all scenes."""
        self.context = context
        self._show_notes(context)
        self.metadata.offer(context.ref, context.own, context.takes_axes)
        self.fold.sum_up(self.metadata.summary)
        self.fold.button.setVisible(layer_at(context.path) is None)
        self._extra.learn({context.path: context.scenes})
        is_new, self._is_new = self._is_new, False
        if is_new:
            self.picker.show_scenes(context.path, context.scenes, context.scene)
        else:
            self.picker.mark(context.scene)
        self._offer_all_scenes()
        self.known.emit(context, is_new)

    def _on_extra_files(self) -> None:
        self._offer_all_scenes()
        self.changed.emit()

    def _offer_all_scenes(self) -> None:
        context, box = self.context, self.extra_files.all_scenes
        scenes, of_plan = () if context is None else context.scenes, list[SceneId | None]()
        box.visible = len(scenes) > 1 or self._extra.has_scenes
        if context is not None:
            of_plan = [] if box.value else self._extra.scenes_of_plan(context)
            all_scenes = [scene.id for scene in scenes] if box.value else [context.scene]
            self.picker.mark_chosen(of_plan or all_scenes)
        few = len(of_plan) > 1
        box.text = f"All scenes (now {', '.join(map(str, of_plan))})" if few else "All scenes"

    def _follow_moves(self) -> None:
        """Notice when the image is moved, turned or scaled, and when a channel is hidden."""
        for layer in self.shown_scene.layers if self.shown_scene else ():
            self.edits.follow(layer, *_PLACING)
            self.visibility.follow(layer, "visible")

    def _on_metadata(self) -> None:
        """Open the image with the metadata that are typed."""
        self._stop_opening()
        try:
            ref = self.metadata.value
        except ArgumentError as error:
            self._refuse_metadata(error)
            return
        context = self.context
        if ref is None or context is None:
            return
        if ref == context.ref:
            self.metadata.problem = ""
            self.changed.emit()
        else:
            shown = shown_scenes(self._viewer, context.path)
            self.overriding.run(read_with_overrides, ref, shown, self._suffix())

    def _show_with_overrides(self, layers: Sequence[LayerTuple], context: SceneContext) -> None:
        """Replace all shown scenes of a file by the same ones with other metadata."""
        self.reading.stop()
        remember(context.ref)
        for scene in shown_scenes(self._viewer, context.path):
            own = [each for each in layers if each[1]["metadata"][METADATA_KEY]["scene"] == scene]
            if own:
                self._replace(find_scene_layers(self._viewer, context.path, scene), own)
        self._follow_moves()
        self._on_known(context)

    def _refuse_metadata(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self.metadata.problem = message(error)
        self.changed.emit()

    def _stop_opening(self) -> None:
        self.opening.stop()
        self.overriding.stop()

    def _on_scene(self, scene: SceneId | None) -> None:
        self._stop_opening()
        context = self.context
        if context is None or scene == context.scene:
            return
        if scene in shown_scenes(self._viewer, context.path):
            self._turn_to(context.path, scene)
            self._follow_scene()
        else:
            is_one_of_several = len(shown_scenes(self._viewer, context.path)) > 1
            axes = common_axes(context.scenes) if is_one_of_several else None
            self.opening.run(read_scene, context, scene, self._suffix(), axes)

    def _show(self, layers: Sequence[LayerTuple], context: SceneContext) -> None:
        """Show a scene, replacing the previous one; where several are shown, next to them."""
        before = find_scene_layers(self._viewer, context.path, self._chosen.get(context.path))
        if before is None:
            return
        self.reading.stop()
        if len(shown_scenes(self._viewer, context.path)) > 1:
            summary = next(each for each in context.scenes if each.id == context.scene)
            add_above(self._viewer, before, name_by_scene(layers, summary))
            self._turn_to(context.path, context.scene)
        else:
            self._replace(before, layers)
        self._followed = context.scene
        self._follow_moves()
        self._on_known(context)

    def _replace(self, before: SceneLayers | None, layers: Sequence[LayerTuple]) -> None:
        """Replace a scene by another one, without reporting an edit of a layer."""
        self.replaced.emit()
        with self.edits.made.blocked():
            replace_layers(self._viewer, before, layers)

    def _turn_to(self, path: Path, scene: SceneId | None) -> None:
        """Choose a scene among several that are shown, and bring it into view."""
        self._chosen[path] = scene
        if (layers := find_scene_layers(self._viewer, path, scene)) is not None:
            show_all(self._viewer, layers.layers[-1])

    def _follow_scene(self) -> None:
        """Read the metadata of the shown scene, if it is another one."""
        scene = self.shown_scene
        if scene is not None and scene.scene != self._followed:
            self._followed = scene.scene
            self._follow_moves()
            self.read()

    def _on_failed(self, error: Exception) -> None:
        """Notify of the error, and mark the scene that is still shown."""
        show_error(message(error))
        if self.context is not None:
            self.picker.mark(self.context.scene)

    def _on_unreadable(self, error: Exception) -> None:
        if self.context is None:
            self.picker.hide()
        show_error(message(error))
        self.failed.emit(error)

    def _open(self) -> None:
        if (path := ask_image(self.section.native, self.section.file.value)) is not None:
            self.file_opener.open(path)
