"""Cast pixels to the type that a plan asks for, only without loss."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.patching.grid import PatchSpec


def cast_exactly(
    patches: NDArray[Any], dtype: np.dtype[Any], grid: Sequence[PatchSpec], source: object
) -> NDArray[Any]:
    """Cast patches, N, C, (Z), Y, X; those that have the type already are not copied.

    Parameters
    ----------
    grid : sequence of PatchSpec
        Where each lies, to name the one that does not fit.
    source : object
        What they were cut from, to name it.

    Raises
    ------
    ExportError
        If the type can't hold a value exactly.
    """
    if np.can_cast(patches.dtype, dtype, "safe"):
        return patches.astype(dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = patches.astype(dtype)
        kept = (cast == patches) & (cast.astype(patches.dtype) == patches)
    if patches.dtype.kind == "f" and dtype.kind == "f":
        kept |= np.isnan(patches)
    if not kept.all():
        _refuse(patches, kept, dtype, grid, source)
    return cast


def _refuse(
    patches: NDArray[Any],
    kept: NDArray[np.bool_],
    dtype: np.dtype[Any],
    grid: Sequence[PatchSpec],
    source: object,
) -> None:
    where = np.argwhere(~kept)[0]
    spec, value = grid[int(where[0])], patches[tuple(where)]
    raise ExportError(
        f"{source}: {dtype} can't hold the value {value} of the patch at {spec.start}, sample "
        f"{spec.sample}; leave dtype out, or choose one that holds {patches.dtype}."
    )
