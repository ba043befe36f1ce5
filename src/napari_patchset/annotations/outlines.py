"""Outlines that stay together: features that overlap, or that one patch touches.

A split by annotation keeps them, and the patches that touch them, on one side. Features that only
share an edge do not overlap, and a patch does not touch one whose edge it shares.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import lazy_loader
import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import Annotations
from napari_patchset.annotations.raster import count_up

shapely: Any = lazy_loader.load("shapely")

NO_OUTLINE = -1
"""The outline of a patch that touches none."""

_AT_ONCE = 2**13
"""Features that are geometries of shapely at a time; a million of them would take gigabytes."""

Integers = NDArray[np.int64]


def touched_outlines(
    annotations: Annotations,
    boxes: NDArray[np.float64],
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> NDArray[np.int32]:
    """Return the group of outlines that each box touches, as the number of its first outline.

    Outlines of all planes count: a place is in one split whatever its plane.

    Parameters
    ----------
    boxes : float64 array, (n, 4)
        Left, top, right and bottom, in full-resolution pixels.
    progress : callable
        Called with the number of outlines that are compared, and of all; an exception that it
        raises ends the search.

    Returns
    -------
    int32 array, (n,)
        An index into `annotations`, `NO_OUTLINE` for a box that touches none.
    """
    n, bounds = len(annotations), annotations.bounds
    group, touched = np.arange(n), np.full(len(boxes), NO_OUTLINE, np.int64)
    for first in range(0, n, _AT_ONCE):
        progress(first, n)
        some = np.arange(first, min(first + _AT_ONCE, n))
        outlines = _geometries(annotations, some)
        tree = shapely.STRtree(outlines)
        low, high = bounds[some, :2].min(axis=0), bounds[some, 2:].max(axis=0)
        pairs = _overlaps(tree, outlines, outlines)
        group = join_groups(group, *(some[each] for each in pairs))
        later = first + len(some)  # earlier ones have been compared with these
        for part in _parts(later + _within(bounds[later:], low, high)):
            which, other = _overlaps(tree, outlines, _geometries(annotations, part))
            group = join_groups(group, some[which], part[other])
        for part in _parts(_within(boxes, low, high)):
            which, box = _overlaps(tree, outlines, shapely.box(*boxes[part].T))
            outline, box = some[which], part[box]
            untouched = touched[box] == NO_OUTLINE
            touched[box[untouched]] = outline[untouched]
            group = join_groups(group, outline, touched[box])
    group = np.append(group, NO_OUTLINE)  # the last one, of those that touch none
    return group[touched].astype(np.int32)


def _within(
    bounds: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> Integers:
    """Return which bounds meet a box."""
    meet = (bounds[:, :2] < high).all(axis=1) & (bounds[:, 2:] > low).all(axis=1)
    return np.flatnonzero(meet)


def _parts(rows: Integers) -> list[Integers]:
    return np.array_split(rows, -(-len(rows) // _AT_ONCE)) if len(rows) else []


def _geometries(annotations: Annotations, features: Integers) -> NDArray[Any]:
    """Return features as geometries: what lies inside of an odd number of their rings."""
    first, n = annotations.first[features], (annotations.end - annotations.first)[features]
    vertex = count_up(first, n)
    ends = annotations.ends_ring[vertex]
    ring: Integers = np.cumsum(ends) - ends
    polygons = shapely.polygons(shapely.linearrings(annotations.vertices[vertex], indices=ring))
    owner = np.repeat(np.arange(len(features)), n)[ends]
    n_rings = np.bincount(owner, minlength=len(features))
    last = np.cumsum(n_rings)
    geometries: NDArray[Any] = polygons[last - n_rings]
    for i in np.flatnonzero(n_rings > 1).tolist():
        rings = polygons[last[i] - n_rings[i] : last[i]]
        geometries[i] = reduce(shapely.symmetric_difference, rings)
    return geometries


def _overlaps(
    tree: Any, outlines: NDArray[Any], others: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return pairs of an outline in a tree and another geometry that have an area in common.

    Among outlines of the tree itself each pair is compared once: whether two touch takes longest.
    """
    other, outline = tree.query(others, predicate="intersects")
    if others is outlines:
        is_first = outline < other
        other, outline = other[is_first], outline[is_first]
    is_inside = ~shapely.touches(outlines[outline], others[other])
    return outline[is_inside], other[is_inside]


def join_groups(group: Integers, first: Integers, second: Integers) -> Integers:
    """Join the groups of members that are together, in pairs.

    Parameters
    ----------
    group : int64 array
        The group of each member: the least number in it.
    first, second : int64 array
        The pairs.

    Returns
    -------
    int64 array
        The group of each member, the least number in it.
    """
    group = group.copy()
    while len(first):
        a, b = group[first], group[second]
        apart = a != b
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(group, a, b)
        np.minimum.at(group, b, a)
        while not np.array_equal(group, shorter := group[group]):
            group = shorter
    return group
