"""The contrast that a layer begins with, at the cost of one plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_patchset.plugin.lazy.array import LazyArray
from napari_patchset.plugin.lazy.redraw import MIDDLE, Limits, middle_limits
from napari_patchset.plugin.napari_compat import is_beside_window, is_window_at_work

_PATIENCE = 0.02
"""Seconds that a layer is opened later if its first pixels come by then."""


def estimated_limits(data: LazyArray) -> Limits:
    """Estimate contrast from the middle plane, at the lowest resolution.

    The window does not wait for it, nor does for long what is opened beside it: it gets limits that
    are replaced when pixels come.
    """
    middle = tuple((n - 1) // 2 for n in data.shape[: data.plane])  # where napari's sliders begin
    height, width = data.shape[data.plane :]
    if not is_beside_window() and not is_window_at_work():
        return middle_limits(data.read((*middle, _middle(height, 0), _middle(width, 0))))
    picture = data.arrivals.picture(data, (*middle, _middle(height), _middle(width)))
    if is_beside_window():
        picture.done.wait(_PATIENCE)
    return data.arrivals.limits or _later_limits(data)


def _later_limits(data: LazyArray) -> Limits:
    """Give limits that are replaced when the first pixels come."""
    data.arrivals.provisional = _widest(data.dtype)
    return data.arrivals.provisional


def settle(layers: Sequence[Any]) -> None:
    """Take the limits that came since a file was opened; in the window's thread."""
    for data, options, _ in layers:
        coarsest = data[-1] if options.get("multiscale") else data
        limits, provisional = coarsest.arrivals.limits, coarsest.arrivals.provisional
        if limits is not None and options.get("contrast_limits") == provisional is not None:
            options["contrast_limits"], coarsest.arrivals.provisional = limits, None


def _middle(n: int, whole: int = 4096) -> range:
    """Leave out the margins of a plane that is too large to be read whole."""
    return range(n) if n <= max(MIDDLE, whole) else range((n - MIDDLE) // 2, (n + MIDDLE) // 2)


def _widest(dtype: np.dtype[Any]) -> Limits:
    if dtype.kind not in "iu":
        return (0.0, 1.0)
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
