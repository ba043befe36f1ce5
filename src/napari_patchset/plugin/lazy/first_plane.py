"""The plane that a layer shows first: read before the layer is there, with its contrast."""

from typing import Any

import numpy as np

from napari_patchset.plugin.lazy.array import LazyArray
from napari_patchset.preview.image import display_limits

Limits = tuple[float, float]

_MIDDLE = 1024
"""Side in pixels of the part that contrast is estimated from, where a plane is larger."""

_WHOLE = 4096
"""Side in pixels of a plane up to which it is read before it is first shown."""


def read_first_plane(array: LazyArray) -> Limits:
    """Read the first plane of a layer, and return suitable contrast limits.

    That is the plane where napari's sliders begin, which is then drawn as soon as the layer is
    added; of a plane that is too large, only the middle is read. If it can't be read, the limits
    are those of its dtype; the layer will report the error.

    Parameters
    ----------
    array : LazyArray
        The lowest resolution of the layer.
    """
    y = array.y_axis
    begin = tuple((n - 1) // 2 for n in array.shape[:y])
    rows, columns, *colors = map(range, array.shape[y:])
    is_small = max(len(rows), len(columns)) <= _WHOLE
    index: tuple[int | range, ...] = (
        *begin,
        *((rows, columns) if is_small else map(_middle, (rows, columns))),
        *colors,
    )
    try:
        pixels = array.read(index)
    except Exception:
        return _widest(array.dtype)
    if is_small:
        array.slicer.store(array, index, pixels)
        middle = map(_middle, (rows, columns))
        pixels = pixels[tuple(slice(part.start, part.stop) for part in middle)]
    return display_limits(pixels)


def _middle(n: range) -> range:
    return n[max(0, (len(n) - _MIDDLE) // 2) : (len(n) + _MIDDLE) // 2]


def _widest(dtype: np.dtype[Any]) -> Limits:
    if dtype.kind not in "iu":
        return (0.0, 1.0)
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
