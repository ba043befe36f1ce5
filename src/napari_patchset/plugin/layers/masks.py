"""A labels layer as the region of an image: where it is not zero, in any of its planes."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_patchset.export.sources.masks import mask_region, read_masks
from napari_patchset.patching.regions import MaskRegion, Masks
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.plugin.layers.paths import layer_at, path_of
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.spooling import spool

_Strategy = TypeVar("_Strategy", bound=PatchStrategy)


def labels_region(layer: Labels, of: SourceInfo) -> MaskRegion:
    """Name a layer as the region of an image; its path stands for its content too."""
    path = str(path_of(layer))
    return MaskRegion(path=path, digest=path, source=of.key, scene=of.scene)


def region_layer(strategy: PatchStrategy) -> Labels | None:
    """Give the layer that is the region of a strategy, if one is."""
    region = strategy.region
    layer = layer_at(region.path or "") if isinstance(region, MaskRegion) else None
    return layer if isinstance(layer, Labels) else None


def masks_of(strategy: PatchStrategy) -> Masks:
    """Read the mask that is the region of a strategy, in a layer or in a file."""
    layer = region_layer(strategy)
    return read_masks(strategy) if layer is None else {str(path_of(layer)): _mask(layer)}


def with_mask_file(strategy: _Strategy, folder: Path, proceed: Callable[[], None]) -> _Strategy:
    """Write the layer that is the region of a strategy into a file, and name that."""
    layer, region = region_layer(strategy), strategy.region
    if layer is None or region is None:
        return strategy
    stack = InMemoryImageStack(Path(layer.name), _mask(layer)[None, None].view(np.uint8))
    found = mask_region(str(spool(stack, folder, proceed)))
    named = region.model_copy(update={"path": found.path, "digest": found.digest})
    return strategy.model_copy(update={"region": named})


def _mask(layer: Labels) -> NDArray[np.bool_]:
    data = layer.data[0] if layer.multiscale else layer.data
    mask = np.zeros(data.shape[-2:], bool)
    for index in np.ndindex(data.shape[:-2]):
        mask |= np.asarray(data[index]) != 0
    return mask
