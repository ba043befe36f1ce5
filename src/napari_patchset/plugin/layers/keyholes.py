"""Polygons with holes as one ring, as napari draws them: a keyhole.

From its first vertex the ring goes around a part, to the next hole or part, around that, and back
the same way. napari does not draw an edge that is there twice, and by the even-odd rule it encloses
nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vertices = NDArray[np.float64]
"""(n, 2); the last one is connected to the first."""


def join_rings(rings: Sequence[Vertices]) -> Vertices:
    """Return one ring, not closed, that encloses what lies in an odd number of closed rings."""
    if len(rings) == 1:
        return rings[0][:-1]
    first = rings[0][:1]
    parts = [part for ring in rings for part in (ring, first)]
    return np.concatenate(parts[:1] + parts[2:-1])


def split_ring(ring: Vertices) -> list[Vertices]:
    """Return the rings, closed, that a ring is made of; one that encloses nothing is left out.

    Where it comes back to a vertex, it has gone around a part of it.
    """
    if len(ring) > 1 and np.array_equal(ring[0], ring[-1]):
        ring = ring[:-1]
    points = list(map(tuple, ring.tolist()))
    if len(set(points)) == len(points):
        return [np.concatenate([ring, ring[:1]])] if len(ring) > 2 else []
    rings, way, place = list[Vertices](), list[tuple[float, ...]](), dict[tuple[float, ...], int]()
    for point in (*points, points[0]):
        if point not in place:
            place[point] = len(way)
            way.append(point)
            continue
        since = way[place[point] :]
        if len(since) > 2:
            rings.append(np.array([*since, point]))
        for passed in since[1:]:
            del place[passed]
        del way[place[point] + 1 :]
    return rings
