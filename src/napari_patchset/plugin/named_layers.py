"""Layers among the files: a path that stands for one, what is open at it, and a file in the end."""

import re
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from napari.layers import Image, Labels

from napari_patchset.axes import DepthAxis
from napari_patchset.export.plan import ExportPlan, Ref
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.plugin.layer_stack import LayerStack
from napari_patchset.source import Rect, SceneId
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.spooling import spool

_LAYERS: WeakValueDictionary[str, Image | Labels] = WeakValueDictionary()
"""By the path that stands for each; a layer that is gone is not kept."""


def path_of(layer: Image | Labels) -> Path:
    """Give the path that stands for a layer while it is there."""
    path = f"layer:{layer.unique_id}"
    _LAYERS[path] = layer
    return Path(path)


def layer_at(path: str | Path) -> Image | Labels | None:
    """Give the layer that a path stands for, None if it is a file's."""
    return _LAYERS.get(str(path))


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
    return any(layer_at(ref.path) for source in plan.sources for ref in source.images.values())


def spooled(plan: ExportPlan, proceed: Callable[[], None] = lambda: None) -> ExportPlan:
    """Write the layers that a plan names into files beside its patch set, and name those.

    Parameters
    ----------
    proceed : callable
        Asked before each read; what it raises ends the writing.
    """
    folder = Path(f"{plan.out.removesuffix(SUFFIX)}.layers").absolute()

    def named(ref: Ref) -> Ref:
        if (layer := layer_at(ref.path)) is None:
            return ref
        return ref.model_copy(update={"path": str(spool(LayerStack(layer), folder, proceed))})

    sources = tuple(named(ref).with_beside(named) for ref in plan.sources)
    return plan.model_copy(update={"sources": sources})
