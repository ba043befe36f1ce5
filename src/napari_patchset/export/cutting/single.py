"""Cut one patch at a time, through the stack's own cache."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchSpec
from napari_patchset.patching.padding import PadMode, fold, folded_indices
from napari_patchset.stacks.base import ImageStack


def read_patch(
    stack: ImageStack, channels: Sequence[int], spec: PatchSpec, pad: PadMode
) -> NDArray[Any]:
    """Read a patch C(Z)YX, filling what lies beyond the image as `pad` says."""
    bounds = stack.data_shape[2:]
    inside = all(s + n <= b for s, n, b in zip(spec.start, spec.size, bounds, strict=True))
    if inside or pad == "constant":
        return stack.extract_patch(spec.sample, channels, spec.start, spec.size)
    shown = folded_indices(spec.start, spec.size, bounds, pad)
    low = [int(index.min()) for index in shown]
    extent = [int(index.max()) + 1 - first for index, first in zip(shown, low, strict=True)]
    return fold(stack.extract_patch(spec.sample, channels, low, extent), shown)
