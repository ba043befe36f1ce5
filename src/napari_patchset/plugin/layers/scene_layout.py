"""The arrangement of a file's scenes by stage position, on the map and as layers side by side."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.plugin.dialogs import USER_ERRORS, message
from napari_patchset.plugin.layers.scene import METADATA_KEY, LayerTuple, scene_layers
from napari_patchset.plugin.layers.viewer_images import shown_files
from napari_patchset.plugin.lazy.channel import visible_axes
from napari_patchset.plugin.overrides import image_path
from napari_patchset.source import Rect
from napari_patchset.stacks.metadata import SceneSummary

MIN_SIDE = 22
"""Least size of a scene on the screen, in pixels."""

GAP, MIN_GAP = 4, 2
"""Most and least size of empty space on the screen, in pixels."""

_HALVINGS = 40


class Cell(NamedTuple):
    """The rectangle in which a scene is drawn, in pixels of the screen."""

    x: float
    y: float
    w: float
    h: float

    @property
    def center(self) -> tuple[float, float]:
        """The middle, x and y."""
        return self.x + self.w / 2, self.y + self.h / 2


def lay_out(rects: Sequence[Rect], width: int, height: int) -> list[Cell]:
    """Draw scenes as they lie on the stage, as large as the map allows.

    Order and overlap along X and Y stay, empty space shrinks to `GAP`, and a scene much smaller
    than the others grows to `MIN_SIDE`. Scenes that hide each other, as those of files without
    positions do, are drawn in rows instead.

    Parameters
    ----------
    rects : sequence of Rect
        The scenes on the stage.
    width, height : int
        Of the map; too many scenes reach past it.
    """
    if not rects:
        return []
    rects = apart(rects)
    columns = _Axis([(rect.x, rect.x + rect.w) for rect in rects])
    rows = _Axis([(rect.y, rect.y + rect.h) for rect in rects])
    scale = min(columns.fit(width), rows.fit(height))
    return [
        Cell(left, top, right - left, bottom - top)
        for (left, right), (top, bottom) in zip(columns.draw(scale), rows.draw(scale), strict=True)
    ]


def apart(rects: Sequence[Rect]) -> Sequence[Rect]:
    """Return the positions of scenes, or rows if they would hide each other."""
    return _in_rows(rects) if hide_each_other(rects) else rects


def hide_each_other(rects: Sequence[Rect]) -> bool:
    """Return whether the middle of a scene lies within another one."""
    x, y, w, h = np.array(rects, float).T
    middle_x, middle_y = x + w / 2, y + h / 2
    for left, top, width, height in rects:
        inside = (np.abs(middle_x - left - width / 2) < width / 2) & (
            np.abs(middle_y - top - height / 2) < height / 2
        )
        if inside.sum() > 1:
            return True
    return False


class _Axis:
    """One axis of the stage, cut where a scene begins or ends, to be drawn at any scale."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        starts, stops = np.array(spans, float).T
        self._edges = np.unique([starts, stops])
        self._first = np.searchsorted(self._edges, starts)
        self._last = np.searchsorted(self._edges, stops)
        self._lengths = np.diff(self._edges)
        self._least = np.zeros(len(self._lengths))
        for first, last in zip(self._first, self._last, strict=True):
            share = self._lengths[first:last] / self._lengths[first:last].sum()
            self._least[first:last] = np.maximum(self._least[first:last], MIN_SIDE * share)

    def fit(self, extent: int) -> float:
        """Return the largest scale at which the axis fits, nearly 0 if it can't fit."""
        low, high = 0.0, extent / self._lengths[self._least > 0].max()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._sizes(middle).sum() <= extent else (low, middle)
        return low

    def draw(self, scale: float) -> list[tuple[float, float]]:
        """Return start and stop of each scene."""
        places = np.concatenate([[0.0], np.cumsum(self._sizes(scale))])
        return [
            (float(places[first]), float(places[last]))
            for first, last in zip(self._first, self._last, strict=True)
        ]

    def _sizes(self, scale: float) -> NDArray[np.float64]:
        drawn = self._lengths * scale
        empty = self._least == 0
        gaps = np.clip(drawn, MIN_GAP, GAP)
        return np.where(empty, gaps, np.maximum(drawn, self._least))


def _in_rows(rects: Sequence[Rect]) -> list[Rect]:
    width, height = max(rect.w for rect in rects), max(rect.h for rect in rects)
    columns = ceil(sqrt(len(rects) * height / width))
    columns = min(len(rects), max(columns, 3))
    step_x, step_y = width + ceil(width / 10), height + ceil(height / 10)
    return [
        Rect(i % columns * step_x, i // columns * step_y, rect.w, rect.h)
        for i, rect in enumerate(rects)
    ]


MAX_SCENES = 32
"""Most scenes that are opened: with hundreds of layers napari is slow."""


def all_scene_layers(ref: ImageRef, scenes: Sequence[SceneSummary]) -> tuple[list[LayerTuple], str]:
    """Open several scenes of a file, their layers named by scene.

    All have the axes that any of them has: napari puts the last axes of layers together, so that T
    of one would else be Z of another. Scenes that would hide each other, as those of files without
    positions do, are arranged as on the map of the scenes.

    Returns
    -------
    list of layer tuple
        Of those that can be opened.
    str
        The problems of the others, "" if none.

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
            of_scene = ref.model_copy(update={"scene": scene.id})
            opened.append((scene, scene_layers(of_scene, axes)))
        except USER_ERRORS as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    _place([scene for scene, _ in opened], [layers for _, layers in opened])
    named = [each for scene, layers in opened for each in name_by_scene(layers, scene)]
    return named, _left_out(image_path(ref), len(scenes), errors)


def common_axes(scenes: Sequence[SceneSummary]) -> str:
    """Return the axes of which any scene has more than one index, then Y and X."""
    visible = "".join(visible_axes(AxisLayout(s.axes, s.shape))[:-2] for s in scenes)
    ordered = max((scene.axes for scene in scenes), key=len) + visible
    return "".join(dict.fromkeys(axis for axis in ordered if axis in visible)) + "YX"


def name_by_scene(layers: Sequence[LayerTuple], scene: SceneSummary) -> list[LayerTuple]:
    """Put the name of a scene before those of its layers."""
    return [
        (data, {**options, "name": f"{scene.label}: {options['name']}"}, kind)
        for data, options, kind in layers
    ]


def name_by_file(viewer: Viewer, layers: Sequence[LayerTuple]) -> list[LayerTuple]:
    """Put the name of their file before those of layers, if the viewer shows other files."""
    named = list[LayerTuple]()
    others = set(shown_files(viewer))
    for data, options, kind in layers:
        path = options["metadata"].get(METADATA_KEY, {}).get("path")
        stem, name = "" if path is None else Path(path).stem, options["name"]
        if stem and name != stem and others - {Path(path)}:
            name = f"{stem}: {name}"
        named.append((data, {**options, "name": name}, kind))
    return named


def _left_out(path: Path, count: int, errors: Sequence[Exception]) -> str:
    if not errors:
        return ""
    are = "is" if len(errors) == 1 else "are"
    return f"{path.name}: {len(errors)} of {count} scenes {are} skipped: {message(errors[0])}"


def _place(scenes: Sequence[SceneSummary], opened: Sequence[Sequence[LayerTuple]]) -> None:
    """Move the layers of scenes that hide each other as on the map."""
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
    """Return the position of a layer, in pixels."""
    (top, left), (y, x) = options["translate"][-2:], options["scale"][-2:]
    return Rect(round(left / x), round(top / y), scene.rect.w, scene.rect.h)
