"""The mask that limits where patches lie: named by its content, read when the plan is made."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.describe import content_key
from napari_patchset.stacks.opening import open_stack

_ROWS = 1024
"""Rows that are read at once."""


def mask_region(path: str, of: SourceInfo | None = None) -> MaskRegion:
    """Name the mask in a file, for one source or for every one."""
    with open_stack(path) as stack:
        where = {} if of is None else {"source": of.key, "scene": of.scene}
        return MaskRegion(path=path, digest=content_key(stack), **where)


def read_masks(strategy: PatchStrategy) -> Mapping[str, NDArray[np.bool_]]:
    """Read the mask that is the region of a strategy, if it is one, by its digest.

    Raises
    ------
    ExportError
        If the plan does not say where it lies, or it has changed.
    """
    region = strategy.region
    if not isinstance(region, MaskRegion):
        return {}
    if region.path is None:
        raise ExportError("The plan does not say where the mask of its region lies; name the file.")
    with open_stack(region.path) as stack:
        if content_key(stack) != region.digest:
            raise ExportError(f"{region.path} has changed since the plan was made; name it again.")
        return {region.digest: _pixels(stack)}


def _pixels(stack: ImageStack) -> NDArray[np.bool_]:
    """Say where the first channel of the first sample is not zero."""
    *_, height, width = stack.data_shape
    pixels = np.empty((height, width), bool)
    for y in range(0, height, _ROWS):
        rows = min(_ROWS, height - y)
        pixels[y : y + rows] = stack.extract_patch(0, [0], (y, 0), (rows, width))[0] != 0
    return pixels
