"""Polygons of files and layers, checked and mended by shapely, as `Annotations`.

An invalid polygon, one that crosses or touches itself, is mended by GEOS' GeometryFixer: shells are
merged, and holes are cut out of them. QuPath mends with the same algorithm, of JTS.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import lazy_loader
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_patchset.annotations.features import (
    EVERY_PLANE,
    UNCLASSIFIED,
    AnnotationClass,
    Annotations,
    Color,
)
from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError

shapely: Any = lazy_loader.load("shapely")
"""Imported when it is first used: that takes longer than all of the command without it."""

MAX_CLASSES = 255
"""Most classes of one image: each has a column in the table, and a value in labels."""

_AT_ONCE = 1024
"""Features that are geometries of shapely at a time; a million of them would take gigabytes.

Of four times as many, the garbage collector walks through the lists of numbers again and again.
"""


class Feature(NamedTuple):
    """An area with a class.

    Attributes
    ----------
    polygons : sequence of polygons
        Each is a sequence of rings, the shell and then its holes; a ring is (k, 2) numbers, x and y
        in full-resolution pixels, the last vertex connected to the first.
    class_name, color : str, tuple of int or None
        Its class.
    z, t : int
        Its plane, counted from 0; `EVERY_PLANE` if it is one of all.
    number : int
        By which notes name it, counted from 1.
    """

    polygons: Sequence[Sequence[ArrayLike]]
    class_name: str = UNCLASSIFIED
    color: Color | None = None
    z: int = EVERY_PLANE
    t: int = EVERY_PLANE
    number: int = 1


def make_annotations(features: Iterable[Feature]) -> Annotations:
    """Return features as columns; they are taken from the iterable a few at a time.

    Notes say how many were mended, and how many have no area.

    Raises
    ------
    ArgumentError
        If there are more than `MAX_CLASSES` classes.
    """
    columns, iterator = _Columns(), iter(features)
    while some := list(islice(iterator, _AT_ONCE)):
        columns.add(some)
    return columns.annotations()


class _Columns:
    """The columns of `Annotations`, as they grow; bytes grow in place."""

    def __init__(self) -> None:
        self._colors: dict[str, Color | None] = {}
        self._vertices, self._ends_ring, self._areas = bytearray(), bytearray(), bytearray()
        self._numbers = bytearray()
        self._mended: list[Feature] = []
        self._empty: list[Feature] = []
        self._n_mended = self._n_empty = 0

    def add(self, features: Sequence[Feature]) -> None:
        geometries = _geometries(features)
        is_invalid = np.flatnonzero(~shapely.is_valid(geometries))
        geometries[is_invalid] = shapely.make_valid(
            geometries[is_invalid], method="structure", keep_collapsed=False
        )
        area = shapely.area(geometries)
        n_vertices, vertices, ends_ring = _rings(geometries)
        has_area = (n_vertices > 0) & (area > 0)
        mended = is_invalid[has_area[is_invalid]].tolist()
        empty = np.flatnonzero(~has_area).tolist()
        self._n_mended += len(mended)
        self._n_empty += len(empty)
        self._mended += [features[i] for i in mended[:1]]
        self._empty += [features[i] for i in empty[:1]]
        of_area = np.repeat(has_area, n_vertices)
        self._vertices += vertices[of_area].tobytes()
        self._ends_ring += ends_ring[of_area].tobytes()
        self._areas += area[has_area].tobytes()
        index, planes = self._class_index(features, has_area), [(f.z, f.t) for f in features]
        self._numbers += np.column_stack([n_vertices, index, planes])[has_area].tobytes()

    def _class_index(self, features: Sequence[Feature], has_area: BoolArray) -> list[int]:
        for feature, is_area in zip(features, has_area.tolist(), strict=True):
            if is_area and self._colors.get(feature.class_name) is None:
                self._colors[feature.class_name] = feature.color
        if len(self._colors) > MAX_CLASSES:
            raise ArgumentError(
                f"there are more than {MAX_CLASSES} classes, {', '.join(list(self._colors)[:3])} "
                "and others; a feature without a classification has its name as its class, so set "
                "classifications instead"
            )
        index = {name: i for i, name in enumerate(self._colors)}
        return [index.get(feature.class_name, -1) for feature in features]

    def annotations(self) -> Annotations:
        n_vertices, class_index, z, t = np.frombuffer(self._numbers, np.int64).reshape(-1, 4).T
        notes = []
        if self._n_mended:
            was = "crosses or touches itself and was" if self._n_mended == 1 else "were invalid and"
            notes.append(f"{_count(self._n_mended)} {was} repaired, {_first(self._mended)}")
        if self._n_empty:
            has = "has no area and is" if self._n_empty == 1 else "have no area and are"
            notes.append(f"{_count(self._n_empty)} {has} ignored, {_first(self._empty)}")
        return Annotations.from_columns(
            [AnnotationClass(name=name, color=color) for name, color in self._colors.items()],
            np.frombuffer(self._vertices, np.float64).reshape(-1, 2),
            np.frombuffer(self._ends_ring, bool),
            n_vertices,
            np.frombuffer(self._areas, np.float64),
            class_index.astype(np.int32),
            z.astype(np.int32),
            t.astype(np.int32),
            notes,
        )


def _count(n: int) -> str:
    return "1 feature" if n == 1 else f"{n:,} features"


def _first(features: Sequence[Feature]) -> str:
    first = features[0]
    return f"the first is number {first.number} ({first.class_name})"


def _geometries(features: Sequence[Feature]) -> NDArray[Any]:
    """Return the multipolygon of each feature, without rings that enclose nothing."""
    rings, of_polygon, of_feature = list[NDArray[np.float64]](), list[int](), list[int]()
    for i, feature in enumerate(features):
        for polygon in feature.polygons:
            shell, *holes = map(_ring, polygon) if len(polygon) else (None,)
            if shell is None:
                continue
            kept = [shell, *(hole for hole in holes if hole is not None)]
            of_polygon += [len(of_feature)] * len(kept)
            of_feature.append(i)
            rings += kept
    geometries: NDArray[Any] = np.full(len(features), shapely.MultiPolygon())
    if rings:
        n = [len(ring) for ring in rings]
        linear = shapely.linearrings(np.concatenate(rings), indices=np.repeat(np.arange(len(n)), n))
        polygons = shapely.polygons(linear, indices=of_polygon)
        shapely.multipolygons(polygons, indices=of_feature, out=geometries)
    return geometries


def _ring(vertices: ArrayLike) -> NDArray[np.float64] | None:
    """Return a ring, None if it is no list of finite points or encloses nothing."""
    try:
        ring = np.asarray(vertices, np.float64)
    except (TypeError, ValueError):
        return None
    if ring.ndim != 2 or len(ring) < 3 or ring.shape[1] < 2 or not np.isfinite(ring).all():
        return None
    return ring[:, :2]


def _rings(
    geometries: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.float64], BoolArray]:
    """Return the number of vertices of each geometry's rings, all vertices, and which end a ring.

    Lines and points, which may be left of a geometry that is mended, have no rings.
    """
    parts, of_geometry = shapely.get_parts(geometries, return_index=True)
    # What is mended may be a collection of collections.
    inner, of_part = shapely.get_parts(parts, return_index=True)
    rings, of_polygon = shapely.get_rings(inner, return_index=True)
    vertices, of_ring = shapely.get_coordinates(rings, return_index=True)
    owner = of_geometry[of_part[of_polygon[of_ring]]]
    n_vertices = np.bincount(owner, minlength=len(geometries))
    ends_ring = np.diff(of_ring, append=-1) != 0
    return n_vertices, vertices, ends_ring
