"""Outlines on the image: read from a file, changed by hand, and written to one for a plan.

`list_classes` lists their classes, and those of labels and of files without a layer.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from napari.layers import Labels, Layer, Shapes
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.annotations.features import Annotations
from napari_patchset.exporting.plans.image_refs import AnnotationsRef
from napari_patchset.exporting.reading.class_images import annotations_in_steps
from napari_patchset.exporting.reading.steps import Step
from napari_patchset.plugin.canvas.pointer import draw_by_drags_only
from napari_patchset.plugin.form.annotations import ClassInfo
from napari_patchset.plugin.history import GONE, Edit
from napari_patchset.plugin.layers.outlines import (
    Drawing,
    ImageSpace,
    class_names,
    classes_of,
    file_of,
    label_values,
    make_layer,
    outlines_text,
    with_colors,
)
from napari_patchset.plugin.layers.plan_layers import write_outlines
from napari_patchset.plugin.napari_compat import is_being_drawn
from napari_patchset.source import SceneId

MAX_SHAPES = 2000
"""Most outlines that are drawn: napari takes about a millisecond for each."""

Key = tuple[Path, SceneId | None]
"""An image in the window, and a scene of it."""


class ReadOutlines(NamedTuple):
    """A file that was read, and a layer of its outlines, None for too many."""

    key: Key
    path: str
    annotations: Annotations
    layer: Shapes | None

    def notes(self, space: ImageSpace) -> list[str]:
        """Return what a person should know of the file, on an image of this size."""
        sizes = dict(zip(space.axes, space.shape, strict=True))
        extent = sizes["X"], sizes["Y"], sizes.get("Z", 1), sizes.get("T", 1)
        n, too_many = len(self.annotations), "outlines are too many to draw; they are used"
        undrawn = [] if self.layer is not None else [f"{n:,} {too_many}"]
        return [*undrawn, *self.annotations.notes, *self.annotations.outside(*extent)]


def is_annotation(layer: Layer) -> bool:
    """Return whether a layer has outlines, or labels with classes."""
    return isinstance(layer, Shapes) or (isinstance(layer, Labels) and bool(label_values(layer)))


def list_classes(
    chosen: Shapes | Labels | AnnotationsRef | None, read: Annotations | None
) -> list[ClassInfo]:
    """Return the classes of the annotations of a scene.

    Parameters
    ----------
    read : Annotations or None
        What was read of a file that has no layer.
    """
    if isinstance(chosen, Shapes):
        counts: Mapping[str, int] = Counter(class_names(chosen))
        return [ClassInfo(name, color, counts[name]) for name, color in classes_of(chosen).items()]
    if read is not None:
        counts = read.class_counts
        colors = with_colors({each.name: each.color for each in read.classes})
        return [ClassInfo(name, color, counts[name]) for name, color in colors.items()]
    if isinstance(chosen, Labels):
        names = [*label_values(chosen)]
    else:
        names = [] if chosen is None else [name for name, _ in chosen.classes]
    return [ClassInfo(name, color) for name, color in with_colors(dict.fromkeys(names)).items()]


def read_outlines(path: str, key: Key, space: ImageSpace) -> Generator[Step, None, ReadOutlines]:
    """Read a file of outlines, and yield how many bytes of it are read, and of all."""
    annotations = yield from annotations_in_steps(path, lambda: None)
    layer = None
    if len(annotations) <= MAX_SHAPES:
        layer = make_layer(Path(path).name, space, annotations, Path(path))
    return ReadOutlines(key, path, annotations, layer)


class DrawnOutlines:
    """Follow layers of outlines.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    """

    edited = Signal()
    """A layer has other outlines, or another name; napari reports a shape before its features."""
    mode_changed = Signal()
    """Another tool of a layer was chosen."""
    done = Signal(Edit)
    """Outlines or classes were changed by hand."""
    redrawn = Signal(Shapes)
    """A change by hand was undone or made again in a layer."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._drawings: WeakKeyDictionary[Shapes, Drawing] = WeakKeyDictionary()
        """What was drawn in each layer when it was last looked at."""
        self._files: WeakKeyDictionary[Shapes, tuple[Path, object]] = WeakKeyDictionary()
        """The file that holds the outlines of a layer, until these change, and their place."""

    def follow(self, layer: Shapes) -> None:
        """Notice shapes that are drawn, and classes that are changed; once for each layer."""
        if layer not in self._drawings:
            self._drawings[layer] = Drawing.of(layer)
            for event in _events(layer):
                event.connect(self._on_edited)
            layer.events.mode.connect(self._on_mode)
            draw_by_drags_only(layer)

    def release(self) -> None:
        """Disconnect from the layers."""
        for layer in list(self._drawings):
            for event in _events(layer):
                event.disconnect(self._on_edited)
            layer.events.mode.disconnect(self._on_mode)

    def file(self, layer: Shapes, space: ImageSpace) -> Path:
        """Return the file that a plan names for the outlines of a layer; write it if needed."""
        path, place = self._files.get(layer, (None, None))
        if path is None or place != space.place:
            text = outlines_text(layer, space)
            path = file_of(layer, text) or write_outlines(layer.name, text)
            self._files[layer] = path, space.place
        return path

    def forget_file(self, layer: Shapes) -> None:
        """Have the file of a layer written anew, as its outlines or classes are others."""
        self._files.pop(layer, None)

    def look_for_changes(self) -> None:
        """Emit an edit for each layer that was changed by hand since the last call."""
        for layer, before in list(self._drawings.items()):
            if not is_being_drawn(layer) and (now := Drawing.of(layer)) != before:
                self._drawings[layer] = now
                self.done.emit(self._edit_of(ref(layer), before))

    def _on_edited(self, event: Any) -> None:
        self.forget_file(event.source)
        self.edited.emit()

    def _on_mode(self) -> None:
        self.mode_changed.emit()

    def _edit_of(self, known: "ref[Shapes]", before: Drawing) -> Edit:
        """Return the edit that has changed what a layer showed before."""

        def get() -> Drawing | None:
            layer = known()
            return GONE if layer is None or layer not in self._viewer.layers else Drawing.of(layer)

        def draw(drawing: Drawing) -> None:
            if (layer := known()) is not None:
                drawing.draw(layer)
                self._drawings[layer] = Drawing.of(layer)  # no change by hand
                self.redrawn.emit(layer)

        return Edit("what was drawn", get, draw, before)


def _events(layer: Shapes) -> Iterator[Any]:
    """Yield the events after which a layer has other outlines, or another name."""
    yield from (layer.events.data, layer.events.features, layer.events.name)
