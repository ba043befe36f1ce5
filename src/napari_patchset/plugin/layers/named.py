"""Layers among the files: opened like them, and written to files for an export."""

import re
from collections.abc import Callable
from pathlib import Path

from napari_patchset.axes import DepthAxis
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import Ref
from napari_patchset.patchset.layout import stem_of
from napari_patchset.plugin.layers.masks import region_layer, with_mask_file
from napari_patchset.plugin.layers.paths import layer_at
from napari_patchset.plugin.layers.stack import LayerStack
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.spooling import spool


def file_name(path: Path) -> str:
    """Give the name of a file, or a file's name for a layer."""
    layer = layer_at(path)
    return path.name if layer is None else re.sub(r"[^\w-]+", "_", layer.name).strip("_") or "layer"


def open_image(
    path: str | Path, scene: SceneId | None = None, depth_axis: DepthAxis = "none"
) -> ClosableStack:
    """Open a layer or a file; see `open_stack`."""
    layer = layer_at(path)
    return open_stack(path, scene, depth_axis) if layer is None else LayerStack(layer, depth_axis)


def image_scenes(path: Path) -> list[SceneSummary]:
    """List the scenes of a file; a layer is one."""
    if (layer := layer_at(path)) is None:
        return list_scenes(path)
    stack = LayerStack(layer)
    height, width = stack.data_shape[-2:]
    axes, shape, dtype = stack.original_axes, stack.original_data_shape, stack.data_dtype
    return [SceneSummary(None, layer.name, Rect(0, 0, width, height), axes, shape, dtype.name)]


def has_layers(plan: ExportPlan) -> bool:
    """Whether a plan names layers."""
    refs = [ref for source in plan.sources for ref in source.images.values()]
    return any(layer_at(ref.path) for ref in refs) or region_layer(plan.strategy) is not None


def spooled(plan: ExportPlan, proceed: Callable[[], None] = lambda: None) -> ExportPlan:
    """Write the layers that a plan names into files beside its patch set, and name those.

    Parameters
    ----------
    proceed : callable
        Asked before each read; what it raises ends the writing.
    """
    out = Path(plan.out).absolute()
    folder = out.with_name(f"{stem_of(out)}.layers")

    def named(ref: Ref) -> Ref:
        if (layer := layer_at(ref.path)) is None:
            return ref
        return ref.model_copy(update={"path": str(spool(LayerStack(layer), folder, proceed))})

    sources = tuple(named(ref).with_beside(named) for ref in plan.sources)
    strategy = with_mask_file(plan.strategy, folder, proceed)
    return plan.model_copy(update={"sources": sources, "strategy": strategy})
