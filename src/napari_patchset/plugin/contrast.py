"""The contrast that a layer begins with, at the cost of one plane."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_patchset.plugin.asked import is_window_at_work
from napari_patchset.plugin.lazy import LazyArray
from napari_patchset.plugin.limits import MIDDLE, Limits, middle_limits

Contrast = Callable[[LazyArray], Limits]
"""Gives limits for a channel where nothing states any."""


def estimated_limits(data: LazyArray) -> Limits:
    """Estimate contrast from the middle plane, at the lowest resolution.

    The window at work does not wait for it: it gets limits that are replaced when pixels come.
    """
    middle = tuple(n // 2 for n in data.shape[: data.plane])
    height, width = data.shape[data.plane :]
    if not is_window_at_work():
        return middle_limits(data.read((*middle, _middle(height, 0), _middle(width, 0))))
    data.arrivals.show(data, (*middle, _middle(height), _middle(width)))
    return data.arrivals.limits or later_limits(data)


def later_limits(data: LazyArray) -> Limits:
    """Give limits that are replaced when the first pixels come."""
    data.arrivals.provisional = _widest(data.dtype)
    return data.arrivals.provisional


def settle(layers: Sequence[Any]) -> None:
    """Replace limits that were put off where pixels are there at once: in the window's thread."""
    for data, options, _ in layers:
        coarsest = data[-1] if options.get("multiscale") else data
        if options.get("contrast_limits") == coarsest.arrivals.provisional is not None:
            options["contrast_limits"] = estimated_limits(coarsest)


def _middle(n: int, whole: int = 4096) -> range:
    """Leave out the margins of a plane that is too large to be read whole."""
    return range(n) if n <= max(MIDDLE, whole) else range((n - MIDDLE) // 2, (n + MIDDLE) // 2)


def _widest(dtype: np.dtype[Any]) -> Limits:
    if dtype.kind not in "iu":
        return (0.0, 1.0)
    return (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
