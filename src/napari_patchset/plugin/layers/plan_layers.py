"""The layers that a plan names: read as masks, and written into files for an export.

Outlines that are drawn are in a temporary file from the start, named by their content, so that
planning reads them as any other; an export copies it next to the patch set.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.plans.region_files import file_region, read_region
from napari_patchset.patching.regions import MaskRegion, Masks
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patchset.layout import stem_of
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.plugin.layers.layer_stack import LayerStack, layer_at, register_layer
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.protocol import ImageStack

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
    return read_region(strategy) if layer is None else {str(register_layer(layer)): _mask(layer)}


def spool_region_mask(
    strategy: _Strategy, folder: Path, check_cancelled: Callable[[], None]
) -> _Strategy:
    """Write the layer that is the region into a file; return the strategy with that file."""
    layer, region = region_layer(strategy), strategy.region
    if layer is None or region is None:
        return strategy
    stack = InMemoryImageStack(Path(layer.name), _mask(layer)[None, None].view(np.uint8))
    mask = file_region(str(_spool(stack, folder, check_cancelled)))
    named = region.model_copy(update={"path": mask.path, "digest": mask.digest})
    return strategy.model_copy(update={"region": named})


def _spool(stack: ImageStack, folder: Path, check_cancelled: Callable[[], None]) -> Path:
    """Write a layer into a file; zarr is imported for that, and not to show the widget."""
    from napari_patchset.stacks.zarr.spool import spool

    return spool(stack, folder, check_cancelled)


def _mask(layer: Labels) -> NDArray[np.bool_]:
    data = layer.data[0] if layer.multiscale else layer.data
    mask = np.zeros(data.shape[-2:], bool)
    for index in np.ndindex(data.shape[:-2]):
        mask |= np.asarray(data[index]) != 0
    return mask


@cache
def _drawn() -> TemporaryDirectory[str]:
    """Return the folder of the outlines that are drawn, which lasts as long as napari runs."""
    return TemporaryDirectory(prefix="patchset-outlines-")


def write_outlines(name: str, text: bytes) -> Path:
    """Write the outlines of a layer into a temporary file; the same ones have the same file."""
    folder = Path(_drawn().name, digest_bytes(text)[:_DIGITS])
    stem = re.sub(r"[^\w-]+", "_", name.removesuffix(".geojson")).strip("_") or "layer"
    path = folder / f"{stem}.geojson"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        path.write_bytes(text)
    return path


_DIGITS = 16


def _is_drawn(path: str) -> bool:
    is_any = _drawn.cache_info().currsize > 0  # else the folder need not be there
    return is_any and Path(path).parent.parent == Path(_drawn().name)


def _spool_outlines(path: Path, folder: Path) -> Path:
    """Copy drawn outlines next to the patch set."""
    copy = folder / f"{path.stem}-{path.parent.name}{path.suffix}"
    folder.mkdir(exist_ok=True)
    copyfile(path, copy)
    return copy


def has_layers(plan: ExportPlan) -> bool:
    """Return whether a plan names layers."""
    refs = [ref for source in plan.sources for ref in source.images.values()]
    is_layer = any(layer_at(ref.path) or _is_drawn(ref.path) for ref in refs)
    return is_layer or region_layer(plan.strategy) is not None


def layers_folder(plan: ExportPlan) -> Path:
    """Return the folder of the files that layers are written into, next to the patch set."""
    out = Path(plan.out).absolute()
    return out.with_name(f"{stem_of(out)}.layers")


def spool_layers(
    plan: ExportPlan, check_cancelled: Callable[[], None] = lambda: None
) -> ExportPlan:
    """Write the layers of a plan into files next to its patch set; return the plan with these.

    Parameters
    ----------
    check_cancelled : callable
        Called before each read; an exception that it raises ends the writing.
    """
    folder = layers_folder(plan)

    def named(ref: _Ref) -> _Ref:
        if _is_drawn(ref.path):
            return ref.model_copy(update={"path": str(_spool_outlines(Path(ref.path), folder))})
        if (layer := layer_at(ref.path)) is None:
            return ref
        return ref.model_copy(
            update={"path": str(_spool(LayerStack(layer), folder, check_cancelled))}
        )

    sources = tuple(named(ref).with_pairs(named) for ref in plan.sources)
    strategy = spool_region_mask(plan.strategy, folder, check_cancelled)
    return plan.model_copy(update={"sources": sources, "strategy": strategy})
