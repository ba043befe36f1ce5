"""The part "Where" at work: the layer that holds the region, and the sliders as numbers."""

from collections.abc import Callable

from magicgui.widgets import SpinBox
from napari.layers import Labels, Shapes
from napari.viewer import Viewer
from psygnal import Signal

from napari_patchset.patching.regions import MaskRegion, Masks, Region
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.plugin.form.where import WherePart
from napari_patchset.plugin.grid.drawing import (
    add_mask_layer,
    add_region_layer,
    draw_region,
    region_of,
)
from napari_patchset.plugin.layers.masks import labels_region
from napari_patchset.plugin.layers.shown import Shown, number_shown
from napari_patchset.plugin.planning.descriptions import DESCRIPTIONS
from napari_patchset.plugin.window.asking import notifying


class RegionControl:
    """Offer shapes and labels layers as regions, and give the one that is chosen.

    Parameters
    ----------
    viewer : Viewer
        Where the layers are.
    part : WherePart
        What is chosen.
    shown : callable
        Gives the layers that show the image.
    """

    changed = Signal()
    """A shape was drawn or moved."""
    painted = Signal(Labels)

    def __init__(self, viewer: Viewer, part: WherePart, shown: Callable[[], Shown | None]) -> None:
        self._viewer, self._part, self._shown = viewer, part, shown
        part.draw.changed.connect(self._draw)
        part.shown_wanted.connect(self._take_shown)

    def refresh(self) -> None:
        """Offer the layers that are there."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, (Shapes, Labels))]
        for layer in layers:
            drawn = layer.events.data if isinstance(layer, Shapes) else layer.events.paint
            drawn.disconnect(self._on_drawn)
            drawn.connect(self._on_drawn)
        self._part.offer_regions([(layer.name, layer) for layer in layers])

    def region(self, found: Shown) -> Region | None:
        """Give the region of an image, None where there is none.

        Raises
        ------
        ArgumentError
            If the layer holds what is no region.
        """
        layer = self._part.region.value
        info = DESCRIPTIONS.latest(str(found.path), found.scene)
        if layer is None or info is None:
            return None
        if isinstance(layer, Labels):
            return labels_region(layer, info)
        return region_of(layer, found.layers[-1], info)

    def load(self, strategy: PatchStrategy, masks: Masks) -> None:
        """Show the region of a strategy as a layer, and choose that."""
        found, region = self._shown(), strategy.region
        if found is None or region is None:
            self._part.region.value = None
            return
        image = found.layers[-1]
        if isinstance(region, MaskRegion):
            (mask,) = masks.values()
            layer: Labels | Shapes = add_mask_layer(self._viewer, mask, image)
        else:
            layer = add_region_layer(self._viewer, image)
            draw_region(layer, region, image)
            layer.mode = "pan_zoom"
        self.refresh()
        self._part.region.value = layer

    def _on_drawn(self, event: object) -> None:
        layer = getattr(event, "source", None)
        if isinstance(layer, Labels):
            self.painted.emit(layer)
        else:
            self.changed.emit()

    @notifying
    def _draw(self) -> None:
        if (found := self._shown()) is not None:
            layer = add_region_layer(self._viewer, found.layers[-1])
            self.refresh()
            self._part.region.value = layer

    def _take_shown(self, axis: str, field: SpinBox) -> None:
        found = self._shown()
        info = found and DESCRIPTIONS.latest(str(found.path), found.scene)
        if found and info:
            field.value = number_shown(self._viewer, found.layers[-1], info, axis)
