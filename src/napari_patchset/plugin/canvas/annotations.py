"""The outlines that belong to each scene: layers, or files, and the list of their classes.

A file is read in the background and becomes a layer over the shown scene, unless it has too many
outlines. A plan names files: that which a layer shows, or, once it was changed by hand, one that is
written with its outlines (`drawn_outlines`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Shapes
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QObject

from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import AnnotationsRef, ImageRef, SourceRef
from napari_patchset.exporting.reading.steps import Step
from napari_patchset.plugin.canvas.drawn_outlines import (
    DrawnOutlines,
    Key,
    ReadOutlines,
    is_annotation,
    list_classes,
    read_outlines,
)
from napari_patchset.plugin.dialogs import USER_ERRORS, ask_outlines, folder_of, message, notifying
from napari_patchset.plugin.form.annotations import AnnotationsSection
from napari_patchset.plugin.history import Edit
from napari_patchset.plugin.layers.layer_stack import register_layer
from napari_patchset.plugin.layers.outlines import (
    ImageSpace,
    add_class,
    classes_of,
    draw_next_with,
    draw_with,
    label_values,
    make_layer,
    remove_class,
    rename_class,
    set_classes,
)
from napari_patchset.plugin.layers.viewer_images import SceneLayers
from napari_patchset.plugin.napari_compat import drop_orphans, is_being_drawn
from napari_patchset.plugin.overrides import image_path
from napari_patchset.plugin.worker import Worker, single_shot_timer

if TYPE_CHECKING:
    from napari_patchset.annotations.features import Annotations

OUTLINES_NAME = "Outlines"
_NO_IMAGE = "Open the image that the outlines belong to first, then drop them on it."
_HOW_TO_DRAW = "Drag around a structure. The layer's controls have other tools."


class AnnotationControl:
    """Offer layers and files as annotations of the shown scene, and follow their classes.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    section : AnnotationsSection
        What is chosen.
    shown : callable
        Return the layers that show the image.
    parent : QObject
        The owner of the timer.
    """

    changed = Signal()
    """Other outlines, or other classes of them."""
    done = Signal(Edit)
    """Outlines or classes were changed by hand."""
    opened = Signal()
    """A file was read, or a layer made; its classes are listed."""
    replaced = Signal()
    """The outlines of the shown scene go, or others are taken for them."""

    def __init__(
        self,
        viewer: Viewer,
        section: AnnotationsSection,
        shown: Callable[[], SceneLayers | None],
        parent: QObject,
    ) -> None:
        self._viewer, self._section, self._shown = viewer, section, shown
        self._chosen: dict[Key, Any] = {}
        """The annotations of each scene: a layer, an `AnnotationsRef`, or None."""
        self._files: dict[Key, list[AnnotationsRef]] = {}
        self._spaces: dict[Key, ImageSpace] = {}
        self._known: dict[str, Annotations] = {}
        self._tried: set[tuple[Key, str]] = set()
        self._drawn = DrawnOutlines(viewer)
        self._key: Key | None = None
        self._away: list[Shapes] = []
        """Outlines of scenes that are not shown now."""
        self.reading = Worker()
        self.soon = single_shot_timer(parent, self._on_drawn)
        self._drawn.edited.connect(self._on_edited)
        self._drawn.mode_changed.connect(self._keep_class)
        self._drawn.redrawn.connect(self._on_redrawn)
        self._drawn.done.connect(self.done.emit)
        section.outlines.changed.connect(self._choose)
        section.drawing_wanted.connect(self._draw)
        section.file_wanted.connect(self._ask)
        section.class_chosen.connect(self._draw_with)
        section.added.connect(self._add_class)
        section.removed.connect(self._remove)
        section.renamed.connect(self._rename)
        section.recolored.connect(self._recolor)
        self.reading.yielded.connect(self._on_progress)
        self.reading.returned.connect(self._on_read)
        self.reading.failed.connect(self._on_failed)

    def open(self, path: str | Path) -> None:
        """Take a file as the annotations of the shown scene, and draw its outlines."""
        if self._key is None:
            show_error(_NO_IMAGE)
            return
        ref = AnnotationsRef(path=str(path))
        self._replace(self._key, ref)
        self._tried.discard((self._key, ref.path))
        self.refresh()

    def load(self, sources: Sequence[SourceRef]) -> None:
        """Take the annotations of a plan."""
        for source in sources:
            self._chosen[image_path(source), source.scene] = source.annotations
        self._tried.clear()
        self._section.as_labels.value = any(source.draws_labels for source in sources)
        self.refresh()

    def release(self) -> None:
        """Disconnect from the layers, and release them."""
        self.soon.stop()
        self._drawn.release()
        self._chosen, self._away = {}, []

    def refresh(self) -> None:
        """Offer the current layers for the shown scene."""
        shown = self._shown()
        if shown is None:
            self._key = None
            self._section.offer((), None)
            self._show_classes()
            return
        key = self._turn_to(shown)
        layers = [layer for layer in self._viewer.layers if is_annotation(layer)]
        for layer in layers:
            if isinstance(layer, Shapes):
                self._drawn.follow(layer)
        chosen = self._chosen.get(key)
        files = self._files.setdefault(key, [])
        if isinstance(chosen, AnnotationsRef) and chosen not in files:
            files.append(chosen)
        offered = [(layer.name, layer) for layer in layers]
        offered += [(Path(ref.path).name, ref) for ref in files if ref == chosen or not layers]
        self._section.offer(offered, chosen)
        self._show_classes()
        if isinstance(chosen, AnnotationsRef):
            self._read_file(key, chosen)

    def drop_removed(self) -> list[str]:
        """Drop outlines whose layers were removed, with the uses of their classes; return notices.

        The outlines of scenes that are not shown now are only put away.
        """
        notices = list[str]()
        for key, chosen in self._chosen.items():
            is_there = chosen in self._viewer.layers or chosen in self._away
            if isinstance(chosen, Shapes | Labels) and not is_there:
                if key == self._key:
                    self._replace(key, None)
                self._chosen[key] = None
                # Scenes of one image share the uses, which go with the last of their outlines.
                is_last = all(
                    other is None for (path, _), other in self._chosen.items() if path == key[0]
                )
                used = self._section.drop_uses(key[0]) if is_last else ()
                now = (
                    f"{format_channels(used)} no longer limits where patches lie"
                    if used
                    else "patches are exported without its classes"
                )
                notices.append(f"Annotations: layer {chosen.name!r} was removed; {now}.")
        return notices

    def paired(self, sources: Sequence[SourceRef]) -> tuple[SourceRef, ...]:
        """Return sources with their annotations, and with labels drawn of these if wanted.

        Raises
        ------
        ArgumentError
            If a source has other labels as well.
        """
        return tuple(map(self._paired, sources))

    def _paired(self, source: SourceRef) -> SourceRef:
        key = image_path(source), source.scene
        if key not in self._chosen:
            return source
        ref = self._ref(key)
        update: dict[str, Any] = {"annotations": ref}
        if ref is not None and self._section.as_labels.value:
            if source.labels is not None and source.labels.path != ref.path:
                raise ArgumentError(
                    "Labels: both the classes of the outlines and a file are chosen; take one of "
                    'them away under "Annotations", or under "Target and labels".'
                )
            update["labels"] = ImageRef(path=ref.path, scene=ref.scene)
        return source.model_copy(update=update)

    def _ref(self, key: Key) -> AnnotationsRef | None:
        """Return the file, or the layer, that a plan names as the annotations of a scene."""
        chosen, space = self._chosen[key], self._spaces.get(key)
        if isinstance(chosen, Shapes) and space is not None:
            return AnnotationsRef(path=str(self._drawn.file(chosen, space)))
        if isinstance(chosen, Labels):
            classes = tuple(label_values(chosen).items())
            return AnnotationsRef(path=str(register_layer(chosen)), classes=classes)
        return chosen if isinstance(chosen, AnnotationsRef) else None

    def put_away(self) -> None:
        """Take the outlines away with the scene that they lie on, until it is shown again."""
        layer = self._layer
        if layer is not None and layer in self._viewer.layers:
            self._away.append(layer)
            self._viewer.layers.remove(layer)

    def _turn_to(self, shown: SceneLayers) -> Key:
        """Bring back the outlines of a scene, at the place that its pixels have now."""
        key, space = (shown.path, shown.scene), ImageSpace.of(shown.layers[-1])
        before, self._spaces[key] = self._spaces.get(key), space
        if key != self._key:
            self._key = key
            self.reading.stop()
            self._section.show_note("")
        if (layer := self._layer) is not None:
            if before is not None and before.place != space.place:
                space.take_over(layer, before)
            if layer in self._away:
                self._away.remove(layer)
                active = self._viewer.layers.selection.active
                self._viewer.add_layer(layer)
                self._viewer.layers.selection.active = active
        return key

    def _on_edited(self) -> None:
        self.soon.start()

    def _on_drawn(self) -> None:
        if (layer := self._layer) is not None:
            if is_being_drawn(layer):
                return  # napari tells when it is finished, or a click is undone
            drop_orphans(layer)
        self._drawn.look_for_changes()
        if self._key is not None:
            self._show_classes()
            self.changed.emit()

    def _on_redrawn(self, layer: Shapes) -> None:
        if layer is self._layer:
            self._on_classes(layer)
            if (name := self._section.current) is not None:
                self._draw_with(name)

    @property
    def _choice(self) -> Any:
        """The annotations of the shown scene."""
        return None if self._key is None else self._chosen.get(self._key)

    @property
    def _layer(self) -> Shapes | None:
        """The layer whose shapes are the annotations of the shown scene."""
        return self._choice if isinstance(self._choice, Shapes) else None

    def _choose(self, chosen: Any) -> None:
        if self._key is not None:
            self._replace(self._key, chosen)
            self.refresh()
            self.changed.emit()

    def _replace(self, key: Key, chosen: Any) -> None:
        """Take other annotations for the shown scene, or none."""
        if self._chosen.get(key) is not None:
            self.replaced.emit()
        self._chosen[key] = chosen

    # Files

    def _ask(self) -> None:
        image = None if self._key is None else self._key[0]
        if (path := ask_outlines(self._section.native, folder_of(image))) is not None:
            self.open(path)

    def _read_file(self, key: Key, ref: AnnotationsRef) -> None:
        if is_geojson(ref.path) and (key, ref.path) not in self._tried:
            self._tried.add((key, ref.path))
            self._section.show_note(f"Reading {Path(ref.path).name}…")
            self.reading.run(read_outlines, ref.path, key, self._spaces[key])

    def _on_progress(self, step: Step) -> None:
        self._section.show_note(f"Reading the outlines… {step.done / max(1, step.total):.0%}")

    def _on_read(self, read: ReadOutlines) -> None:
        self._known[read.path] = read.annotations
        if read.layer is not None:
            self._chosen[read.key] = read.layer
            self._viewer.add_layer(read.layer)
        notes = read.notes(self._spaces[read.key])
        self._section.show_note("\n".join(f"{note[:1].upper()}{note[1:]}." for note in notes))
        self.refresh()
        self.opened.emit()
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        if not isinstance(error, USER_ERRORS):
            raise error
        self._section.show_note("")
        if self._key is not None:
            self._chosen[self._key] = None
            self.refresh()
            self.changed.emit()
        show_error(message(error))

    # Classes

    def _show_classes(self) -> None:
        chosen = self._choice
        known = self._known.get(chosen.path) if isinstance(chosen, AnnotationsRef) else None
        self._section.show_classes(list_classes(chosen, known), isinstance(chosen, Shapes))
        self._keep_class()

    def _keep_class(self) -> None:
        """Have the next outline drawn in the class that is chosen in the list."""
        if (layer := self._layer) is not None and (name := self._section.current) is not None:
            draw_next_with(layer, name)

    @notifying
    def _draw(self) -> None:
        """Have the next drag on the image draw an outline of the chosen class."""
        if self._key is None:
            return
        layer = self._layer
        if layer is None:
            layer = make_layer(OUTLINES_NAME, self._spaces[self._key])
            add_class(layer)
            self._chosen[self._key] = layer
            self._viewer.add_layer(layer)
            self.refresh()
        self._viewer.layers.selection.active = layer
        layer.visible = True
        layer.selected_data = set()
        layer.mode = "add_polygon_lasso"
        if (name := self._section.current) is not None:
            self._draw_with(name)
        self._section.show_note(_HOW_TO_DRAW)
        self.opened.emit()
        self.changed.emit()

    def _draw_with(self, name: str) -> None:
        if (layer := self._layer) is not None:
            draw_with(layer, name)
            self._show_classes()

    def _add_class(self) -> None:
        if (layer := self._layer) is not None:
            name = add_class(layer)
            self._on_classes(layer)
            self._section.choose(name)
            draw_with(layer, name)
            self._section.edit()

    def _remove(self, name: str) -> None:
        if (layer := self._layer) is not None:
            remove_class(layer, name)
            self._on_classes(layer)

    def _rename(self, old: str, new: str) -> None:
        if (layer := self._layer) is not None:
            rename_class(layer, old, new)
            draw_with(layer, new)
            self._on_classes(layer)

    def _recolor(self, name: str, color: str) -> None:
        if (layer := self._layer) is not None:
            set_classes(layer, {**classes_of(layer), name: color})
            if name == self._section.current:
                draw_with(layer, name)
            self._on_classes(layer)

    def _on_classes(self, layer: Shapes) -> None:
        """List other classes, which belong to what is written of a layer."""
        self._drawn.forget_file(layer)
        self._drawn.look_for_changes()
        self._show_classes()
        self.changed.emit()
