"""Layers as sources: opened like files, used as masks, and written to files for an export."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_patchset.axes import DepthAxis
from napari_patchset.exporting.plan import ExportPlan, ImageRef
from napari_patchset.exporting.sources import mask_region, read_masks
from napari_patchset.patching.regions import MaskRegion, Masks
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import stem_of
from napari_patchset.plugin.layers.layer_stack import LayerStack, layer_at, register_layer
from napari_patchset.source import Rect, SceneId, SourceInfo
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.protocol import ClosableStack
from napari_patchset.stacks.zarr.spool import spool

_Ref = TypeVar("_Ref", bound=ImageRef)
_Strategy = TypeVar("_Strategy", bound=PatchStrategy)


def labels_region(layer: Labels, of: SourceInfo) -> MaskRegion:
    """Name a layer as the region of an image; its path stands for its content too."""
    path = str(register_layer(layer))
    return MaskRegion(path=path, digest=path, source=of.key, scene=of.scene)


def region_layer(strategy: PatchStrategy) -> Labels | None:
    """Return the layer that is the region of a strategy, None if there is none."""
    region = strategy.region
    layer = layer_at(region.path or "") if isinstance(region, MaskRegion) else None
    return layer if isinstance(layer, Labels) else None


def masks_of(strategy: PatchStrategy) -> Masks:
    """Read the mask that is the region of a strategy, in a layer or in a file."""
    layer = region_layer(strategy)
    return read_masks(strategy) if layer is None else {str(register_layer(layer)): _mask(layer)}


def spool_region_mask(
    strategy: _Strategy, folder: Path, check_cancelled: Callable[[], None]
) -> _Strategy:
    """Write the layer that is the region into a file; return the strategy with that file."""
    layer, region = region_layer(strategy), strategy.region
    if layer is None or region is None:
        return strategy
    stack = InMemoryImageStack(Path(layer.name), _mask(layer)[None, None].view(np.uint8))
    found = mask_region(str(spool(stack, folder, check_cancelled)))
    named = region.model_copy(update={"path": found.path, "digest": found.digest})
    return strategy.model_copy(update={"region": named})


def _mask(layer: Labels) -> NDArray[np.bool_]:
    data = layer.data[0] if layer.multiscale else layer.data
    mask = np.zeros(data.shape[-2:], bool)
    for index in np.ndindex(data.shape[:-2]):
        mask |= np.asarray(data[index]) != 0
    return mask


def file_name(path: Path) -> str:
    """Return the name of a file or a layer."""
    layer = layer_at(path)
    return path.name if layer is None else re.sub(r"[^\w-]+", "_", layer.name).strip("_") or "layer"


def open_image(
    path: str | Path,
    scene: SceneId | None = None,
    depth_axis: DepthAxis = "none",
    **overrides: Any,
) -> ClosableStack:
    """Open a layer or a file; see `open_stack`."""
    if (layer := layer_at(path)) is not None:
        return LayerStack(layer, depth_axis)
    return open_stack(path, scene, depth_axis, **overrides)


def image_scenes(ref: ImageRef) -> list[SceneSummary]:
    """List the scenes of an image's file, with the axes that are stated; a layer is one."""
    if (layer := layer_at(ref.path)) is None:
        return [_with_overrides(summary, ref) for summary in list_scenes(ref.path)]
    stack = LayerStack(layer)
    height, width = stack.data_shape[-2:]
    axes, shape = stack.original_axes, stack.original_data_shape
    dtype = np.dtype(stack.data_dtype).name
    return [SceneSummary(None, layer.name, Rect(0, 0, width, height), axes, shape, dtype)]


def _with_overrides(summary: SceneSummary, ref: ImageRef) -> SceneSummary:
    """Return a scene with the axes that are stated, where they fit it, and that of a sequence."""
    sizes = list(zip(summary.axes, summary.shape, strict=True))
    for dimensions in (sizes, [(axis, n) for axis, n in sizes if n > 1 or axis in "YX"]):
        if ref.axes and len(ref.axes) == len(dimensions):
            sizes = [(axis, n) for axis, (_, n) in zip(ref.axes, dimensions, strict=True)]
            break
    if ref.sequence and ref.files:
        sizes.insert(0, (ref.sequence, len(ref.files)))
    axes, shape = "".join(axis for axis, _ in sizes), tuple(n for _, n in sizes)
    return replace(summary, axes=axes, shape=shape)


def has_layers(plan: ExportPlan) -> bool:
    """Return whether a plan names layers."""
    refs = [ref for source in plan.sources for ref in source.images.values()]
    return any(layer_at(ref.path) for ref in refs) or region_layer(plan.strategy) is not None


def spool_layers(
    plan: ExportPlan, check_cancelled: Callable[[], None] = lambda: None
) -> ExportPlan:
    """Write the layers of a plan into files next to its patch set; return the plan with these.

    Parameters
    ----------
    check_cancelled : callable Called before each read; an exception that it raises ends the
    writing.
    """
    out = Path(plan.out).absolute()
    folder = out.with_name(f"{stem_of(out)}.layers")

    def named(ref: _Ref) -> _Ref:
        if (layer := layer_at(ref.path)) is None:
            return ref
        return ref.model_copy(
            update={"path": str(spool(LayerStack(layer), folder, check_cancelled))}
        )

    sources = tuple(named(ref).with_pairs(named) for ref in plan.sources)
    strategy = spool_region_mask(plan.strategy, folder, check_cancelled)
    return plan.model_copy(update={"sources": sources, "strategy": strategy})
