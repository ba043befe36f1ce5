"""All scenes of a file beside each other, each where it lies on the stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_patchset.axes import AxisLayout
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.layers.scene_layout import apart, hide_each_other
from napari_patchset.plugin.pixels.lazy import visible_axes
from napari_patchset.plugin.window.asking import MENDABLE, message
from napari_patchset.source import Rect
from napari_patchset.stacks.metadata import SceneSummary

MOST_SCENES = 32
"""How many are opened at once: with hundreds of layers napari is slow."""


def all_scene_layers(path: Path, scenes: Sequence[SceneSummary]) -> tuple[list[LayerTuple], str]:
    """Open all scenes of a file, their layers named by scene.

    All have the axes that any of them has: napari puts the last axes of layers together, so that T
    of one would else be Z of another. Scenes that would hide each other, as those of files without
    positions do, stand as they do on the map of the scenes.

    Returns
    -------
    list of layer tuple
        Of those that can be opened.
    str
        What is wrong with the others, "" if nothing.

    Raises
    ------
    PatchsetError, OSError
        If none can be opened.
    """
    opened: list[tuple[SceneSummary, list[LayerTuple]]] = []
    errors: list[Exception] = []
    axes = common_axes(scenes)
    for scene in scenes:
        try:
            opened.append((scene, scene_layers(path, scene.id, axes)))
        except MENDABLE as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    _place([scene for scene, _ in opened], [layers for _, layers in opened])
    named = [each for scene, layers in opened for each in name_by_scene(layers, scene)]
    return named, _left_out(path, len(scenes), errors)


def common_axes(scenes: Sequence[SceneSummary]) -> str:
    """Give the axes of which any scene has more than one index, then Y and X."""
    visible = "".join(visible_axes(AxisLayout(s.axes, s.shape))[:-2] for s in scenes)
    ordered = max((scene.axes for scene in scenes), key=len) + visible
    return "".join(dict.fromkeys(axis for axis in ordered if axis in visible)) + "YX"


def name_by_scene(layers: Sequence[LayerTuple], scene: SceneSummary) -> list[LayerTuple]:
    """Put the name of a scene before those of its layers."""
    return [
        (data, {**options, "name": f"{scene.label}: {options['name']}"}, kind)
        for data, options, kind in layers
    ]


def _left_out(path: Path, count: int, errors: Sequence[Exception]) -> str:
    if not errors:
        return ""
    are = "is" if len(errors) == 1 else "are"
    return f"{path.name}: {len(errors)} of {count} scenes {are} left out: {message(errors[0])}"


def _place(scenes: Sequence[SceneSummary], opened: Sequence[Sequence[LayerTuple]]) -> None:
    """Move the layers of scenes that hide each other to where the map shows them."""
    if not hide_each_other(
        [_rect(layers[0][1], s) for s, layers in zip(scenes, opened, strict=True)]
    ):
        return
    rects = apart([scene.rect for scene in scenes])
    for rect, layers in zip(rects, opened, strict=True):
        for _, options, _ in layers:
            y, x = options["scale"][-2:]
            options["translate"][-2:] = rect.y * y, rect.x * x


def _rect(options: dict[str, Any], scene: SceneSummary) -> Rect:
    """Give where a layer lies, in pixels."""
    (top, left), (y, x) = options["translate"][-2:], options["scale"][-2:]
    return Rect(round(left / x), round(top / y), scene.rect.w, scene.rect.h)
