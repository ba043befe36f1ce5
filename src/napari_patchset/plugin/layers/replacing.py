"""Replacement of a scene by another one, reusing layers and their appearance."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_patchset.plugin.layers.scene import LABELS_OF, METADATA_KEY, LayerTuple
from napari_patchset.plugin.layers.scene_layout import name_by_file
from napari_patchset.plugin.layers.viewer_images import (
    SceneLayers,
    find_scene_layers,
    is_straight,
    layers_of,
    overlays_of,
    show_all,
)
from napari_patchset.plugin.lazy.channel import LazyChannel
from napari_patchset.plugin.napari_compat import CAN_CHANGE_AXES, drawn_once, slice_in_new_units

_LOOK = (
    "visible",
    "opacity",
    "gamma",
    "colormap",
    "contrast_limits",
    "blending",
    "interpolation2d",
)

_Pair = tuple[Layer | None, LayerTuple]

_PLACE = ("scale", "translate", "units", "axis_labels")


def replace_layers(viewer: Viewer, scene: SceneLayers | None, new: Sequence[LayerTuple]) -> None:
    """Replace a shown scene by another one, with the same appearance.

    Reuse matching layers, since adding one costs 0.1 s. If none matches, add before removing, so
    that napari need not rebuild its sliders.
    """
    old, axes = layers_of(viewer, scene) if scene else [], viewer.dims.axis_labels
    if scene and any(layer.name.startswith(f"{scene.path.stem}: ") for layer in old):
        new = name_by_file(viewer, new)
    likes = _likes(old, new)
    taking = [(like, each) for like, each in likes if like is not None and _can_take(like, each)]
    taken = [layer for layer, _ in taking]
    leaving = [layer for layer in old if layer not in taken]
    at = viewer.layers.index(old[0]) if old else len(viewer.layers)
    last = leaving if not taken and _have_same_axes(old, new) else []
    _remove(viewer, [] if last else leaving)
    _reuse_layers(viewer, taking)
    _insert(viewer, at + len(taken or last), [pair for pair in likes if pair[0] not in taken])
    _remove(viewer, last)
    if viewer.dims.axis_labels != axes:
        viewer.dims.current_step = tuple((n - 1) // 2 for n in viewer.dims.nsteps)
    if not viewer.layers.selection:
        viewer.layers.selection.active = viewer.layers[at + len(new) - 1]
    tag = new[0][1]["metadata"][METADATA_KEY]
    shown = find_scene_layers(viewer, Path(tag["path"]), tag["scene"])
    if shown is None or viewer.dims.ndisplay == 3:
        viewer.reset_view()
    else:  # napari's own also fits the outlines and the images beside it
        show_all(viewer, shown.layers[-1])


def add_above(viewer: Viewer, scene: SceneLayers, new: Sequence[LayerTuple]) -> None:
    """Add the layers of another scene above a scene's, with the same appearance."""
    old = layers_of(viewer, scene)
    _insert(viewer, viewer.layers.index(old[-1]) + 1, _likes(old, new))


def _likes(old: Sequence[Layer], new: Sequence[LayerTuple]) -> list[_Pair]:
    """Return each new layer with the one that shows the same part of another scene."""
    by_part = {_part(layer.metadata, layer.name): layer for layer in old}
    return [(by_part.get(_part(each[1]["metadata"], each[1]["name"])), each) for each in new]


def _insert(viewer: Viewer, at: int, pairs: Sequence[_Pair]) -> None:
    for offset, (like, (data, options, kind)) in enumerate(pairs):
        layer = Layer.create(data, options, kind)
        if like is not None:
            _copy_look(like, layer)
        viewer.layers.insert(at + offset, layer)


def _remove(viewer: Viewer, layers: Sequence[Layer]) -> None:
    for layer in layers:
        viewer.layers.remove(layer)


def _have_same_axes(old: Sequence[Layer], new: Sequence[LayerTuple]) -> bool:
    """Return whether layers agree in units: napari would put axes of other units on one slider."""
    return {layer.axis_labels for layer in old} == {tuple(each[1]["axis_labels"]) for each in new}


def _part(metadata: dict[str, Any], name: str) -> int | str | None:
    """Return a key of a layer in its scene: the channel of an image, the name of labels."""
    tag = metadata[METADATA_KEY]
    return name.rpartition(": ")[2] if LABELS_OF in tag else tag["channel"]


def _can_take(layer: Layer, new: LayerTuple) -> bool:
    """Return whether a layer can show other pixels; RGB or pyramid can't change in napari.

    A layer that the user rotated can't: another scene has the position in its file.
    """
    data, options, kind = new
    return (
        isinstance(layer, Image)
        and kind == "image"
        and (layer.rgb, layer.multiscale) == (options["rgb"], options["multiscale"])
        and layer.dtype == _finest(data).dtype
        and is_straight(layer)
        and (CAN_CHANGE_AXES or layer.ndim == len(options["axis_labels"]))
    )


def _reuse_layers(viewer: Viewer, taking: Sequence[tuple[Any, LayerTuple]]) -> None:
    """Replace layers' pixels; events are emitted once all are set, so that each is drawn once.

    Layers drawn on the image move with it: napari warns of layers whose units differ.
    """
    overlays = overlays_of(viewer) if taking else []
    units = {layer: layer.units for layer, _ in taking}
    with ExitStack() as changes:
        for layer in (*overlays, *(layer for layer, _ in taking)):
            changes.enter_context(drawn_once(layer))
            changes.enter_context(_deferred_events(layer))
        for layer, new in taking:
            _take(layer, new)
        for layer in overlays:
            _place(layer, taking[-1][1][1])
    for layer, _ in taking:
        if layer.units != units[layer]:
            slice_in_new_units(layer)


def _take(layer: Any, new: LayerTuple) -> None:
    data, options, _ = new
    layer.data = data
    _place(layer, options)
    if layer.multiscale:
        # napari keeps the corners of the view, which may lie outside of what is shown now.
        layer.locked_data_level = len(layer.data) - 1
        layer.locked_data_level = None
    layer.metadata = {**layer.metadata, **options["metadata"]}
    if layer.name != options["name"]:
        layer.name = options["name"]


def _place(layer: Layer, options: dict[str, Any]) -> None:
    for name in _PLACE:
        setattr(layer, name, options[name][-layer.ndim :])


@contextmanager
def _deferred_events(layer: Layer) -> Iterator[None]:
    """Set data and position of a layer. Emit the events only after all values are set."""
    data, before = layer.data, {name: getattr(layer, name) for name in _PLACE}
    with ExitStack() as silence:
        for name in ("data", *_PLACE):
            silence.enter_context(getattr(layer.events, name).blocker())
        yield
    for name, value in before.items():
        if not np.array_equal(getattr(layer, name), value):
            getattr(layer.events, name)()
    if layer.data is not data:
        layer.events.data(value=layer.data)


def _finest(data: Any) -> LazyChannel:
    finest: LazyChannel = data if isinstance(data, LazyChannel) else data[0]
    return finest


def _copy_look(before: Layer, after: Layer) -> None:
    is_grey = isinstance(after, Image) and not after.rgb
    for name in _LOOK:
        if hasattr(before, name) and (is_grey or name not in ("colormap", "contrast_limits")):
            setattr(after, name, getattr(before, name))
