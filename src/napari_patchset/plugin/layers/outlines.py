"""Outlines with classes as a shapes layer over an image, and back.

The class of each shape stands in the column `class` of the layer's features; the classes and their
colours, also of those that have no shape yet, in the layer's metadata. What lies on one plane only
makes a layer with all axes of the image; else it has the last two, and its shapes are on every
plane. Holes are keyholes, see `keyholes`.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import lazy_loader
import numpy as np
from napari.layers import Image, Layer, Shapes
from numpy.typing import NDArray

from napari_patchset.annotations.features import UNCLASSIFIED, Annotations, Color
from napari_patchset.annotations.geojson import format_geojson
from napari_patchset.annotations.polygons import Feature
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.plugin.layers.keyholes import join_rings, split_ring
from napari_patchset.plugin.layers.scene import METADATA_KEY, PATCH_SET
from napari_patchset.plugin.layers.viewer_images import axes_of, is_straight
from napari_patchset.plugin.lazy.array import finest
from napari_patchset.plugin.napari_compat import set_features

shapely: Any = lazy_loader.load("shapely")

CLASS = "class"
"""The column of a layer's features that has the class of each shape or value."""

CLASSES, FILE, CONTENT = "classes", "outlines_file", "outlines_content"
"""Entries of a layer's metadata: colours by class, and the file that it was made of."""

PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")
"""Colours of classes that have none; they differ for the colour-blind, too."""

_ELLIPSE_CORNERS = 128
_LEAST_WIDTH, _EXTENT_PER_LINE = 2.0, 800
"""The width of an outline in pixels: what is visible with the whole image in view, or more."""


class ImageSpace(NamedTuple):
    """Where the pixels of an image lie in the world.

    Attributes
    ----------
    axes : str
        Its axes, without channels, YX last.
    shape : tuple of int
        Its size along these.
    options : dict
        Scale, translation, units and labels of these, as options of a layer.
    """

    axes: str
    shape: tuple[int, ...]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, image: Image) -> "ImageSpace":
        """Return the space of a layer, whose pixels lie along the axes of the window."""
        axes, shape = axes_of(image), finest(image).shape[: image.ndim]
        places = ("scale", "translate", "units", "axis_labels")
        return cls(axes, tuple(shape), {name: getattr(image, name) for name in places})

    def of_last(self, n_axes: int) -> dict[str, Any]:
        """Return the options of a layer with the last axes."""
        return {name: value[-n_axes:] for name, value in self.options.items()}

    @property
    def place(self) -> tuple[object, ...]:
        """Everything that tells where its pixels lie, as one value to compare."""
        options = (tuple(map(str, value)) for value in self.options.values())
        return self.axes, self.shape, *options

    def take_over(self, layer: Shapes, before: "ImageSpace") -> None:
        """Move a layer that lies on the pixels of an image, whose place is another one now."""
        was, now = before.of_last(layer.ndim), self.of_last(layer.ndim)
        if all(np.array_equal(getattr(layer, name), value) for name, value in was.items()):
            for name, value in now.items():
                setattr(layer, name, value)

    @property
    def line_width(self) -> float:
        """The width of an outline, in pixels."""
        return max(_LEAST_WIDTH, max(self.shape[-2:]) / _EXTENT_PER_LINE)


def ellipse_outline(box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a polygon in the shape of an ellipse, from the corners of its box in order."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    along, across = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    corners: NDArray[np.floating] = (
        box.mean(axis=0) + np.cos(angles) * along + np.sin(angles) * across
    )
    return corners


# Layers


def make_layer(
    name: str, space: ImageSpace, annotations: Annotations | None = None, file: Path | None = None
) -> Shapes:
    """Return a layer with the outlines of a file, or without any; in any thread.

    The smallest lie on top.
    """
    n_axes = 2 if annotations is None or annotations.is_flat else len(space.axes)
    colors = with_colors({} if annotations is None else _stated_colors(annotations))
    options: dict[str, Any] = {
        "name": name,
        "edge_width": space.line_width,
        "face_color": "transparent",
        "opacity": 1.0,
        "metadata": {METADATA_KEY: {CLASSES: colors}},
        **space.of_last(n_axes),
    }
    if annotations is None or not len(annotations):
        layer = Shapes(ndim=n_axes, features={CLASS: np.empty(0, object)}, **options)
    else:
        order = np.argsort(annotations.rank)
        names = [annotations.class_names[i] for i in annotations.class_index[order].tolist()]
        layer = Shapes(
            [_shape(annotations, i, space.axes[:n_axes]) for i in order.tolist()],
            shape_type="polygon",
            features={CLASS: np.array(names, object)},
            edge_color=[colors[each] for each in names],
            **options,
        )
    if file is not None:
        content = digest_bytes(format_geojson(features_of(layer, space)))
        layer.metadata[METADATA_KEY] |= {FILE: str(file), CONTENT: content}
    return layer


def _stated_colors(annotations: Annotations) -> dict[str, Color | None]:
    return {each.name: each.color for each in annotations.classes}


def with_colors(stated: Mapping[str, Color | None]) -> dict[str, str]:
    """Return a colour, "#rrggbb", for each class; those that have none get one of the palette."""
    given = {name: "#{:02x}{:02x}{:02x}".format(*c) for name, c in stated.items() if c is not None}
    colors = dict[str, str]()
    for name in stated:
        colors[name] = given.get(name) or next_color([*given.values(), *colors.values()])
    return colors


def next_color(taken: Sequence[str]) -> str:
    """Return the colour of the palette that is taken least often."""
    return min(PALETTE, key=lambda color: taken.count(color))


def _shape(annotations: Annotations, index: int, axes: str) -> NDArray[np.float64]:
    """Return the vertices of a feature, in pixels from the centre of the first one."""
    first, end = int(annotations.first[index]), int(annotations.end[index])
    ends = np.flatnonzero(annotations.ends_ring[first:end]) + 1
    rings = np.split(annotations.vertices[first:end], ends[:-1])
    yx = join_rings(rings)[:, ::-1] - 0.5
    plane = {"Z": max(0, int(annotations.z[index])), "T": max(0, int(annotations.t[index]))}
    outer = [np.full((len(yx), 1), plane.get(axis, 0)) for axis in axes[:-2]]
    return np.hstack([*outer, yx])


def classes_of(layer: Layer) -> dict[str, str]:
    """Return the colour of each class of a layer, also of those that no shape or value has yet."""
    colors: dict[str, str] = dict(layer.metadata.get(METADATA_KEY, {}).get(CLASSES, {}))
    for name in dict.fromkeys(class_names(layer)):
        if name not in colors:
            colors[name] = next_color(list(colors.values()))
    return colors


def set_classes(layer: Shapes, colors: Mapping[str, str]) -> None:
    """Set the classes of a layer, and draw its shapes in their colours."""
    layer.metadata.setdefault(METADATA_KEY, {})[CLASSES] = dict(colors)
    if names := class_names(layer):
        layer.edge_color = [colors[name] for name in names]


@dataclass(frozen=True, eq=False)
class Drawing:
    """The shapes of a layer with their features and colours, and its classes, to be set again."""

    corners: Sequence[NDArray[np.floating]]
    kinds: Sequence[str]
    features: Any
    looks: Mapping[str, Any]
    classes: Mapping[str, str]

    @classmethod
    def of(cls, layer: Shapes) -> "Drawing":
        """Return what a layer has now."""
        return cls(
            [corners.copy() for corners in layer.data],
            [str(kind) for kind in layer.shape_type],
            layer.features.copy(),
            {name: copy(getattr(layer, name)) for name in ("edge_color", "edge_width", "z_index")},
            dict(layer.metadata.get(METADATA_KEY, {}).get(CLASSES, {})),
        )

    def __eq__(self, other: object) -> bool:
        """Return whether nothing differs."""
        return (
            isinstance(other, Drawing)
            and (self.kinds, self.classes) == (other.kinds, other.classes)
            and all(map(np.array_equal, self.corners, other.corners))
            and all(np.array_equal(value, other.looks[name]) for name, value in self.looks.items())
            and bool(self.features.equals(other.features))
        )

    def draw(self, layer: Shapes) -> None:
        """Have a layer show this again."""
        layer.data = list(zip(self.corners, self.kinds, strict=True))
        set_features(layer, self.features)
        if self.corners:
            for name, value in self.looks.items():
                setattr(layer, name, value)
        if self.classes:
            layer.metadata.setdefault(METADATA_KEY, {})[CLASSES] = dict(self.classes)


def class_names(layer: Any) -> list[str]:
    """Return the class of each shape, or value, of a layer."""
    features = layer.features
    stated = features[CLASS].tolist() if CLASS in features else []
    names = [str(name) if isinstance(name, str) and name else UNCLASSIFIED for name in stated]
    if isinstance(layer, Shapes):  # while one is drawn, its features may come sooner or later
        names = (names + [UNCLASSIFIED] * len(layer.data))[: len(layer.data)]
    return names


def draw_with(layer: Shapes, name: str) -> None:
    """Make a class that of the shapes to come and, where shapes can be selected, of those."""
    colors, names = classes_of(layer), class_names(layer)
    if name not in colors:
        colors[name] = next_color(list(colors.values()))
        set_classes(layer, colors)
    if CLASS not in layer.features:
        _set_names(layer, names)
    if str(layer.mode) not in ("select", "direct"):
        layer.selected_data = set()
    selected = set(layer.selected_data)
    if any(names[i] != name for i in selected):
        _set_names(layer, [name if i in selected else each for i, each in enumerate(names)])
    layer.current_face_color = "transparent"
    layer.current_edge_color = colors[name]
    draw_next_with(layer, name)


def draw_next_with(layer: Shapes, name: str) -> None:
    """Make a class that of the shapes to come.

    napari makes it that of the last shape whenever features are set, and takes the colour of what
    is selected.
    """
    color = classes_of(layer).get(name)
    if color is not None and CLASS in layer.features:
        layer.feature_defaults = {CLASS: name}
        with layer.block_update_properties():  # else what is selected is recoloured
            layer.current_face_color = "transparent"
            layer.current_edge_color = color


def add_class(layer: Shapes) -> str:
    """Add a class, and return its name: the first of "Class 1", "Class 2", ... that is free."""
    colors, number = classes_of(layer), 1
    while (name := f"Class {number}") in colors:
        number += 1
    set_classes(layer, {**colors, name: next_color(list(colors.values()))})
    return name


def rename_class(layer: Shapes, old: str, new: str) -> None:
    """Rename a class; with the name of another one, it becomes a part of that."""
    colors = classes_of(layer)
    color = colors.get(new) or colors.get(old) or next_color(list(colors.values()))
    renamed = {new if name == old else name: each for name, each in colors.items()}
    _set_names(layer, [new if name == old else name for name in class_names(layer)])
    set_classes(layer, {**renamed, new: color})


def remove_class(layer: Shapes, name: str) -> None:
    """Remove a class that no shape has."""
    set_classes(layer, {each: c for each, c in classes_of(layer).items() if each != name})


def _set_names(layer: Shapes, names: Sequence[str]) -> None:
    features = layer.features.copy()
    features[CLASS] = np.array(names, object)
    set_features(layer, features)


def label_values(layer: Any) -> dict[str, int]:
    """Return the value of each class of a labels layer, from its features; empty if it has none.

    Those of a patch set are no annotations of an image.
    """
    is_of_set = PATCH_SET in layer.metadata.get(METADATA_KEY, {})
    if is_of_set or CLASS not in layer.features or "index" not in layer.features:
        return {}
    pairs = zip(class_names(layer), layer.features["index"].tolist(), strict=True)
    return {name: int(value) for name, value in pairs if value > 0 and name != UNCLASSIFIED}


# Back to features


def outlines_text(layer: Shapes, space: ImageSpace) -> bytes:
    """Return the outlines of a layer as GeoJSON, in pixels of an image."""
    return format_geojson(features_of(layer, space))


def file_of(layer: Shapes, text: bytes) -> Path | None:
    """Return the file that a layer shows, None if it was made or changed by hand since.

    Parameters
    ----------
    text : bytes
        Its outlines, see `outlines_text`.
    """
    written = layer.metadata.get(METADATA_KEY, {})
    is_same = FILE in written and written.get(CONTENT) == digest_bytes(text)
    return Path(written[FILE]) if is_same else None


def features_of(layer: Shapes, space: ImageSpace) -> Iterator[Feature]:
    """Yield the areas of a layer in pixels of an image; lines and paths are left out."""
    colors = {name: _rgb(color) for name, color in classes_of(layer).items()}
    drawn = zip(layer.data, layer.shape_type, class_names(layer), strict=True)
    features = [
        (name, *_placed(layer, np.asarray(corners, np.float64), str(kind), space))
        for corners, kind, name in drawn
        if str(kind) not in ("line", "path")
    ]
    # A file has either planes or none.
    has_planes = any(plane for _, _, plane in features)
    sizes = dict(zip(space.axes, space.shape, strict=True))
    for number, (name, ring, plane) in enumerate(features, 1):
        polygons = _polygons(split_ring(ring))
        if not polygons:
            continue
        feature = Feature(polygons, name, colors[name], number=number)
        if not has_planes:
            yield feature
            continue
        planes = [[plane[a]] if a in plane else range(sizes.get(a, 1)) for a in "ZT"]
        for z, t in product(*planes):
            yield feature._replace(z=z, t=t)


def _rgb(color: str) -> Color:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


def _placed(
    layer: Shapes, corners: NDArray[np.float64], kind: str, space: ImageSpace
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Return a shape's outline as x, y in pixels of an image, and the plane that it is on."""
    outline = ellipse_outline(corners) if kind == "ellipse" else corners
    if is_straight(layer):
        world = outline * layer.scale + layer.translate
    else:
        world = np.array([layer.data_to_world(corner) for corner in outline])
    n_axes = min(layer.ndim, len(space.axes))
    own = space.of_last(n_axes)
    data = (world[:, -n_axes:] - own["translate"]) / own["scale"]
    # napari measures from the centre of the first pixel, outlines from its corner.
    yx = np.round(data[:, -2:] + 0.5, 3)
    sizes = space.shape[-n_axes:]
    plane = {
        axis: min(max(round(float(at)), 0), n - 1)
        for axis, at, n in zip(space.axes[-n_axes:-2], data[0], sizes, strict=False)
        if axis in "ZT"
    }
    return yx[:, ::-1], plane


def _polygons(rings: Sequence[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """Return the polygons, each a shell and its holes, that rings enclose by the even-odd rule."""
    if len(rings) < 2:
        return [[ring] for ring in rings]
    areas = [shapely.Polygon(ring) for ring in rings]
    valid = [shapely.make_valid(a, method="structure", keep_collapsed=False) for a in areas]
    inside = reduce(shapely.symmetric_difference, valid)
    parts = [part for part in shapely.get_parts(inside) if part.geom_type == "Polygon"]
    return [
        [np.asarray(ring.coords) for ring in (part.exterior, *part.interiors)] for part in parts
    ]
