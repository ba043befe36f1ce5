"""The layer that holds the region, napari shapes or labels, and ranges from the sliders."""

from collections.abc import Callable, Mapping

import numpy as np
from napari.layers import Image, Labels, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal

from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.areas import PointXY
from napari_patchset.patching.regions import (
    FileRegion,
    Masks,
    Polygon,
    Rectangle,
    Region,
    ShapesRegion,
)
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.plugin.canvas.pointer import draw_by_drags_only
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.dialogs import notifying
from napari_patchset.plugin.form.numbers import WholeNumber
from napari_patchset.plugin.form.region import RegionSection
from napari_patchset.plugin.layers.outlines import ellipse_outline
from napari_patchset.plugin.layers.plan_layers import labels_region
from napari_patchset.plugin.layers.viewer_images import SceneLayers, number_shown, plane_space
from napari_patchset.plugin.overrides import source_ref
from napari_patchset.source import Rect, SourceInfo

REGION_NAME = "Patch region"


def add_region_layer(viewer: Viewer, image: Image) -> Shapes:
    """Add a layer in which the next drag on the image draws a rectangle."""
    layer = Shapes(
        name=REGION_NAME,
        face_color="transparent",
        edge_color="#ffffff",
        edge_width=2,
        **plane_space(image),
    )
    viewer.add_layer(layer)
    layer.mode = "add_rectangle"
    draw_by_drags_only(layer)
    return layer


def add_mask_layer(viewer: Viewer, mask: NDArray[np.bool_], image: Image) -> Labels:
    """Add a layer that shows a mask on the image."""
    layer = Labels(mask.view(np.uint8), name=REGION_NAME, **plane_space(image))
    viewer.add_layer(layer)
    return layer


def draw_region(layer: Shapes, region: Polygon | Rectangle | ShapesRegion, image: Image) -> None:
    """Draw a region of an image into a layer."""
    shapes = region.shapes if isinstance(region, ShapesRegion) else (region,)
    outer = (0.0,) * (image.ndim - 2)
    for shape in shapes:
        x, y, w, h = shape.bounds
        box = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
        corners = shape.points if isinstance(shape, Polygon) else box
        world = [image.data_to_world((*outer, y - 0.5, x - 0.5))[-2:] for x, y in corners]
        layer.add_polygons([np.array([layer.world_to_data(point) for point in world])])


def region_of(layer: Shapes, image: Image, info: SourceInfo) -> Polygon | ShapesRegion | None:
    """Return the shapes of a layer as a region of an image, None if nothing is drawn yet.

    Raises
    ------
    ArgumentError
        If a shape encloses nothing, or all lie outside of the image, like those of another scene.
    """
    drawn = zip(layer.data, layer.shape_type, strict=True)
    points = [_points(layer, corners, str(kind), image) for corners, kind in drawn]
    if not points:
        return None
    shapes = tuple(Polygon(points=each) for each in points)
    if all(_is_outside(shape.bounds, info.layout.sizes) for shape in shapes):
        raise ArgumentError(
            f"{layer.name} lies outside of this scene, as it was drawn on another; draw a region "
            'here, or choose none under "More options", "Region".'
        )
    if len(points) == 1:
        return Polygon(points=points[0], source=info.key, scene=info.scene)
    return ShapesRegion(shapes=shapes, source=info.key, scene=info.scene)


def _is_outside(shape: Rect, sizes: Mapping[str, int]) -> bool:
    """Return whether a shape contains no pixel of an image."""
    above_or_left = shape.x + shape.w <= 0 or shape.y + shape.h <= 0
    return above_or_left or shape.x >= sizes["X"] or shape.y >= sizes["Y"]


def _points(
    layer: Shapes, drawn: NDArray[np.floating], kind: str, image: Image
) -> tuple[PointXY, ...]:
    """Return the corners of a shape in pixels of an image."""
    if kind in ("line", "path"):
        raise ArgumentError(f"{layer.name} has a {kind}, which encloses nothing; draw a polygon.")
    outer = (0.0,) * (image.ndim - 2)
    outline = ellipse_outline(drawn) if kind == "ellipse" else drawn
    corners = [layer.data_to_world(corner)[-2:] for corner in outline]
    # napari measures from the centre of the first pixel, a region from its corner.
    pixels = [np.array(image.world_to_data((*outer, *corner))[-2:]) + 0.5 for corner in corners]
    return tuple((round(float(x), 3), round(float(y), 3)) for y, x in pixels)


def _mask(masks: Masks, scene: SceneLayers) -> BoolArray:
    """Return the pixels of a region that was read from a file, outlines in any plane together."""
    (mask,) = masks.values()
    if not isinstance(mask, Annotations):
        return mask
    info = DESCRIPTIONS.latest(source_ref(scene.path, scene.scene))
    x, y, w, h = mask.extent()
    sizes = {"Y": y + h, "X": x + w} if info is None else info.layout.sizes
    return mask.mask(Rect(0, 0, sizes["X"], sizes["Y"]))


class RegionControl:
    """Offer shapes and labels layers as regions, and return the one that is chosen.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    section : RegionSection
        What is chosen.
    shown : callable
        Returns the layers that show the image.
    """

    changed = Signal()
    """A shape was drawn or moved."""
    painted = Signal(Labels)

    def __init__(
        self, viewer: Viewer, section: RegionSection, shown: Callable[[], SceneLayers | None]
    ) -> None:
        self._viewer, self._section, self._shown = viewer, section, shown
        section.draw.changed.connect(self._draw)
        section.shown_wanted.connect(self._take_shown)

    def refresh(self) -> None:
        """Offer the current layers."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, (Shapes, Labels))]
        for layer in layers:
            drawn = layer.events.data if isinstance(layer, Shapes) else layer.events.paint
            drawn.disconnect(self._on_drawn)
            drawn.connect(self._on_drawn)
        self._section.offer_layers([(layer.name, layer) for layer in layers])

    def drop_removed(self) -> list[str]:
        """Choose no region if its layer was removed; return notices."""
        layer = self._section.layer.value
        if layer is None or layer in self._viewer.layers:
            return []
        self._section.layer.value = None
        return [f"Region: layer {layer.name!r} was removed; patches may lie anywhere."]

    def region(self, scene: SceneLayers) -> Region | None:
        """Return the region of an image, None if there is none.

        Raises
        ------
        ArgumentError
            If the content of the layer is not a region.
        """
        layer = self._section.layer.value
        info = DESCRIPTIONS.latest(source_ref(scene.path, scene.scene))
        if layer is None or info is None:
            return None
        if isinstance(layer, Labels):
            return labels_region(layer, info)
        return region_of(layer, scene.layers[-1], info)

    def load(self, strategy: PatchStrategy, masks: Masks) -> None:
        """Show the region of a strategy as a layer, and choose it."""
        scene, region = self._shown(), strategy.region
        if scene is None or region is None:
            self._section.layer.value = None
            return
        image = scene.layers[-1]
        if isinstance(region, FileRegion):
            layer: Labels | Shapes = add_mask_layer(self._viewer, _mask(masks, scene), image)
        else:
            layer = add_region_layer(self._viewer, image)
            draw_region(layer, region, image)
            layer.mode = "pan_zoom"
        self.refresh()
        self._section.layer.value = layer

    def _on_drawn(self, event: object) -> None:
        layer = getattr(event, "source", None)
        if isinstance(layer, Labels):
            self.painted.emit(layer)
        elif layer is self._section.layer.value:
            self.changed.emit()

    @notifying
    def _draw(self) -> None:
        if (scene := self._shown()) is not None:
            layer = add_region_layer(self._viewer, scene.layers[-1])
            self.refresh()
            self._section.layer.value = layer

    def _take_shown(self, axis: str, field: WholeNumber) -> None:
        scene = self._shown()
        info = scene and DESCRIPTIONS.latest(source_ref(scene.path, scene.scene))
        if scene and info:
            field.value = number_shown(self._viewer, scene.layers[-1], info, axis)
