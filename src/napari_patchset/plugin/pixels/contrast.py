"""The contrast that a layer begins with, at the cost of one plane."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QCoreApplication

from napari_patchset.plugin.pixels.lazy import LazyArray
from napari_patchset.plugin.pixels.limits import MIDDLE, Limits, middle_limits
from napari_patchset.plugin.window.asked import is_window_at_work


def estimated_limits(data: LazyArray) -> Limits:
    """Estimate contrast from the middle plane, at the lowest resolution.

    The window at work does not wait for it: it gets limits that are replaced when pixels come, and
    so does what is opened beside it.
    """
    if _is_beside_window():
        return _later_limits(data)
    middle = tuple(n // 2 for n in data.shape[: data.plane])
    height, width = data.shape[data.plane :]
    if not is_window_at_work():
        return middle_limits(data.read((*middle, _middle(height, 0), _middle(width, 0))))
    data.arrivals.show(data, (*middle, _middle(height), _middle(width)))
    return data.arrivals.limits or _later_limits(data)


def _later_limits(data: LazyArray) -> Limits:
    """Give limits that are replaced when the first pixels come."""
    data.arrivals.provisional = _widest(data.dtype)
    return data.arrivals.provisional


def _is_beside_window() -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return not is_main and QCoreApplication.instance() is not None


def settle(layers: Sequence[Any]) -> None:
    """Estimate limits that were put off, where pixels are there at once; in the window's thread."""
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
