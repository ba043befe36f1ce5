"""The images in a viewer: file, scene and position of each layer, and zooming to a patch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.layers.layer_stack import LayerStack, layer_at, register_layer
from napari_patchset.plugin.layers.scene import (
    LABELS_OF,
    METADATA_KEY,
    OVERLAY,
    PATCH_SET,
    RESULT_OF,
)
from napari_patchset.plugin.lazy.array import finest
from napari_patchset.plugin.lazy.channel import LazyChannel
from napari_patchset.plugin.napari_compat import camera, canvas_size
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.metadata import Channel

_OFF = 0.01
"""The fraction of a pixel by which a layer on an image may be moved."""


class SceneLayers(NamedTuple):
    """The layers that show one scene of a file, the lowest first."""

    path: Path
    scene: SceneId | None
    layers: list[Image]


def shown_files(viewer: Viewer) -> list[Path]:
    """Return the shown files, the newest first; a layer of other origin counts as a file."""
    paths = [path for layer in reversed(viewer.layers) if (path := _path(layer))]
    return list(dict.fromkeys(paths))


def is_result(viewer: Viewer, path: Path) -> bool:
    """Return whether a shown file was made of another image, over which it lies."""
    return any(RESULT_OF in _written(layer) for layer in _images(viewer, path))


def find_scene_layers(
    viewer: Viewer, path: Path, scene: SceneId | None = None
) -> SceneLayers | None:
    """Return the layers that show a scene of a file, else another of its scenes.

    None if there are none.
    """
    scenes = shown_scenes(viewer, path)
    if not scenes:
        return None
    chosen = scene if scene in scenes else scenes[0]
    return SceneLayers(
        path, chosen, [each for each in _images(viewer, path) if _scene(each) == chosen]
    )


def shown_scenes(viewer: Viewer, path: Path) -> list[SceneId | None]:
    """Return the shown scenes of a file, the lowest first."""
    return list(dict.fromkeys(map(_scene, _images(viewer, path))))


def layers_of(viewer: Viewer, scene: SceneLayers) -> list[Layer]:
    """Return the layers of a scene, images and labels."""
    return [
        layer
        for layer in viewer.layers
        if scene.path in (_path(layer), _labels_of(layer)) and _scene(layer) == scene.scene
    ]


def overlays_of(viewer: Viewer) -> list[Layer]:
    """Return the layers that the plugin draws on an image."""
    return [layer for layer in viewer.layers if OVERLAY in _written(layer)]


def plane_of(viewer: Viewer, image: Image, info: SourceInfo) -> tuple[int, int]:
    """Return the sample and the depth that an image layer shows, as patches count them."""
    indices = _indices(viewer, image)
    return info.layout.ravel(indices), indices.get(info.depth_axis, 0)


def show_plane(viewer: Viewer, image: Image, info: SourceInfo, sample: int, depth: int) -> None:
    """Move the sliders to a plane of an image layer, as patches count them."""
    indices = {**_indices(viewer, image), **dict(info.layout.unravel(sample))}
    indices[info.depth_axis] = depth
    axes = axes_of(image)[:-2]
    world = image.data_to_world([*(indices[axis] for axis in axes), 0, 0])
    first = viewer.dims.ndim - image.ndim
    for i in range(len(axes)):
        viewer.dims.set_point(first + i, float(world[i]))


def is_straight(layer: Layer) -> bool:
    """Return whether the pixels of a layer lie along the axes of the window."""
    matrices = (layer.rotate, layer.affine.affine_matrix)
    straight = all(np.allclose(each, np.eye(len(each))) for each in matrices)
    return straight and not np.any(layer.shear)


def check_straight(image: Image) -> None:
    """Refuse a layer whose pixels do not lie along the axes of the window.

    Raises
    ------
    ArgumentError
        If it is rotated, sheared or transformed otherwise.
    """
    if not is_straight(image):
        raise ArgumentError(
            f"{image.name} is rotated, sheared or transformed in napari, but patches follow the "
            "image's own pixels; reset it (Alt + click on the transform button), or open a copy "
            "that is straight."
        )


def lie_elsewhere(viewer: Viewer, paths: Iterable[Path], image: Image) -> list[str]:
    """Return the names of those shown files, or layers, whose pixels do not lie on an image's."""
    names = []
    for path in paths:
        scene, layer = find_scene_layers(viewer, path), layer_at(path)
        if layer is None and scene is not None:
            layer = scene.layers[-1]
        if layer is not None and not _lies_on(layer, image):
            names.append(layer.name)
    return names


def _lies_on(layer: Layer, image: Image) -> bool:
    scale, moved = image.scale[-2:], layer.translate[-2:] - image.translate[-2:]
    is_in_place = np.all(np.abs(moved) < _OFF * np.abs(scale))
    return bool(is_in_place and np.allclose(layer.scale[-2:], scale)) and is_straight(layer)


def plane_space(image: Image, n_axes: int = 2) -> dict[str, Any]:
    """Return the position of an image's planes, or volumes, as options of a layer on it."""
    places = ("scale", "translate", "units", "axis_labels")
    return {name: getattr(image, name)[-n_axes:] for name in places}


def view_of(viewer: Viewer, image: Image) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the visible part of the plane, as YX corners in pixels of an image."""
    eye, size = camera(viewer), np.array(canvas_size(viewer))
    centre, half = np.array(eye.center[-2:]), size / eye.zoom / 2
    outer = viewer.dims.point[: viewer.dims.ndim - 2]
    corners = [(*outer, *corner)[-image.ndim :] for corner in (centre - half, centre + half)]
    low, high = (np.array(image.world_to_data(corner)[-2:]) + 0.5 for corner in corners)
    return (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))


def point_on(image: Image, position: Sequence[float]) -> tuple[float, float]:
    """Convert a point of the world to pixels YX from an image's corner."""
    y, x = np.array(image.world_to_data(position[-image.ndim :])[-2:]) + 0.5
    return float(y), float(x)


def number_shown(viewer: Viewer, image: Image, info: SourceInfo, axis: str) -> int:
    """Return the number along an axis that the sliders show, as the file counts."""
    return info.starts.get(axis, 0) + _indices(viewer, image).get(axis, 0)


def channels_of(scene: SceneLayers, info: SourceInfo) -> list[Channel]:
    """Return the channels of a scene with their colour and contrast on the screen.

    Of several RGB layers, those that are hidden are black.
    """
    if layer_at(scene.path) is not None and not scene.layers[0].rgb:
        return list(LayerStack(scene.layers[0]).metadata.channels)
    limits = (0.0, float(np.iinfo(info.dtype).max)) if info.dtype.startswith("u") else (0, 1)
    looks: dict[int, tuple[str, tuple[float, float]]] = {}
    for layer in scene.layers:
        first = _tag(layer).get("channel") or 0
        if layer.rgb:
            is_shown = layer.visible or len(scene.layers) == 1
            colors = ("#ff0000", "#00ff00", "#0000ff") if is_shown else ("#000000",) * 3
            looks |= {first + i: (color, limits) for i, color in enumerate(colors)}
        else:
            looks[first] = _color(layer), tuple(layer.contrast_limits)
    return [Channel(name, *looks.get(i, ())) for i, name in enumerate(info.channels)]


def _color(layer: Image) -> str:
    red, green, blue = (round(255 * float(v)) for v in layer.colormap.colors[-1][:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _indices(viewer: Viewer, image: Image) -> dict[str, int]:
    """Return the index along each axis that an image layer shows."""
    point = image.world_to_data(viewer.dims.point[-image.ndim :])
    steps = zip(axes_of(image), point, finest(image).shape, strict=False)
    return {axis: min(max(round(float(p)), 0), n - 1) for axis, p, n in steps}


def axes_of(image: Image) -> str:
    """Return the axes of an image layer, without that of the colours of RGB."""
    data = finest(image)
    axes = data.axes if isinstance(data, LazyChannel) else LayerStack(image).original_axes
    return axes.replace("C", "") if image.rgb else axes


def _tag(layer: Layer) -> dict[str, Any]:
    """Return the plugin's metadata of a layer; empty for the layers of others."""
    tag = _written(layer)
    is_ours = isinstance(layer, Image) and isinstance(finest(layer), LazyChannel)
    return tag if "path" in tag and is_ours else {}


def _images(viewer: Viewer, path: Path) -> list[Image]:
    return [layer for layer in viewer.layers if _path(layer) == path]


def _scene(layer: Layer) -> SceneId | None:
    scene: SceneId | None = _written(layer).get("scene")
    return scene


def _path(layer: Layer) -> Path | None:
    """Return the file that a layer shows, or the path that stands for it; None for no image."""
    if tag := _tag(layer):
        return Path(tag["path"])
    is_other = isinstance(layer, Image) and not {OVERLAY, PATCH_SET} & _written(layer).keys()
    return register_layer(layer) if is_other else None


def _labels_of(layer: Layer) -> Path | None:
    """Return the file whose labels a layer shows; None for a copy that is painted."""
    path = _written(layer).get(LABELS_OF) if isinstance(finest(layer), LazyChannel) else None
    return Path(path) if path else None


def _written(layer: Layer) -> dict[str, Any]:
    written: dict[str, Any] = layer.metadata.get(METADATA_KEY, {})
    return written


_PATCH, _ALL = 0.4, 0.95
"""Fractions of the view that a patch, and an image, take when zoomed to."""

_WELL_SEEN = 0.5
"""The fraction of the view that an image takes along its longer side, or it looks tiny."""

_MAX_CROP = 2.5
"""An image that is larger than the view by less than this was fitted before there were docks."""

YX = tuple[int, int]
"""Start or size along Y and X, in pixels of an image."""


def bring_into_view(viewer: Viewer, image: Image, start: YX, size: YX) -> None:
    """Move the view to a part of an image, YX in its pixels, unless all of it is visible."""
    low, high = view_of(viewer, image)
    stop = np.add(start, size)
    if np.any(np.less(start, low)) or np.any(np.greater(stop, high)):
        _centre(viewer, image, start, size)


def zoom_to(viewer: Viewer, image: Image, start: YX, size: YX) -> None:
    """Fill much of the view with a patch of an image."""
    _zoom(viewer, image, start, size, _PATCH)


def show_all(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image."""
    _zoom(viewer, image, (0, 0), _extent(image), _ALL)


def fit_cropped(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image that is somewhat too large for it.

    napari fits an image before sliders and docks take their part of the window. What is much larger
    than the view was zoomed into.
    """
    low, high = (np.array(corner) for corner in view_of(viewer, image))
    extent = np.array(_extent(image))
    is_cropped = bool(np.any(low > 0) or np.any(high < extent))
    if viewer.dims.ndisplay == 2 and is_cropped and np.all(high - low > extent / _MAX_CROP):
        show_all(viewer, image)


def show_unseen(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image of which no part is visible."""
    low, high = view_of(viewer, image)
    if np.any(np.less_equal(high, 0)) or np.any(np.greater_equal(low, _extent(image))):
        show_all(viewer, image)


def show_opened(viewer: Viewer, image: Image) -> None:
    """Fill the view with an image that was opened beside others, unless it is seen well already."""
    low, high = (np.array(corner) for corner in view_of(viewer, image))
    extent = np.array(_extent(image))
    is_whole = bool(np.all(low <= 0) and np.all(high >= extent))
    if not is_whole or np.all(extent < _WELL_SEEN * (high - low)):
        show_all(viewer, image)


def _extent(image: Image) -> YX:
    shape = image.level_shapes[0] if image.multiscale else image.data.shape
    height, width = shape[image.ndim - 2 : image.ndim]
    return int(height), int(width)


def _zoom(viewer: Viewer, image: Image, start: YX, size: YX, share: float) -> None:
    extent = np.multiply(size, image.scale[-2:])
    camera(viewer).zoom = float(share * min(np.divide(canvas_size(viewer), extent)))
    _centre(viewer, image, start, size)


def _centre(viewer: Viewer, image: Image, start: YX, size: YX) -> None:
    # napari measures from the centre of the first pixel, a patch from its corner.
    middle = np.add(start, np.divide(size, 2)) - 0.5
    outer = (0.0,) * (image.ndim - 2)
    world = image.data_to_world((*outer, *middle))[-2:]
    eye = camera(viewer)
    eye.center = (*eye.center[:-2], *world)
