"""Annotations: the features of one image as columns, and which pixels belong to them.

A feature is an area with a class, maybe of one plane only. A million of them are a few arrays and
no objects: vertices one after the other, and for each feature where its vertices are, its class,
plane, bounds and rank. Features near each other are neighbours in these columns, so that groups of
them have small bounds, by which those in a window are found (a packed R-tree of two levels).

`raster` says which pixels belong to an outline.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from math import ceil, floor
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.annotations.raster import (
    BoolArray,
    Edges,
    Spans,
    count_up,
    fill,
    find_spans,
    paint,
)
from napari_patchset.source import Ratio, Rect, natural_key

UNCLASSIFIED = "Unclassified"
"""The class of features that have neither a class nor a name."""

EVERY_PLANE = -1
"""As z or t of a feature: it is one of every plane."""

_GROUP = 64
"""Features whose common bounds are compared first."""

_CELL = 1024
"""Pixels of a cell; features are sorted by the cell of their centre."""

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


class AnnotationClass(Frozen):
    """A class of features.

    Attributes
    ----------
    name : str
        Its name.
    color : tuple of int or None
        Red, green and blue, 0 to 255, where the file has them.
    """

    name: str
    color: Color | None = None


class ClassLabel(AnnotationClass):
    """A class, and its value in labels.

    Attributes
    ----------
    name, color : str, tuple of int or None
        See `AnnotationClass`.
    value : int
        Its value.
    """

    value: int = Field(ge=1)


def label_classes(
    classes: Iterable[AnnotationClass], values: Mapping[str, int] | None = None
) -> tuple[ClassLabel, ...]:
    """Return the classes of all sources of a set, each once, in the order of their values.

    Parameters
    ----------
    classes : iterable of AnnotationClass
        Those of each source; the first colour of a class stays.
    values : dict of str to int or None
        Values that are named; other classes get the least free ones, by their names.
    """
    colors: dict[str, Color | None] = dict.fromkeys(values or {})
    for each in classes:
        colors[each.name] = colors.get(each.name) or each.color
    by_name = dict(values or {})
    free = (value for value in count(1) if value not in by_name.values())
    for name in sorted(colors.keys() - by_name.keys(), key=natural_key):
        by_name[name] = next(free)
    names = sorted(by_name, key=lambda name: by_name[name])
    return tuple(ClassLabel(name=name, value=by_name[name], color=colors[name]) for name in names)


class ClassMasks(Protocol):
    """The classes of the pixels of a source: of its annotations, or of a labels image."""

    @property
    def class_names(self) -> Sequence[str]:
        """The classes."""

    @property
    def is_flat(self) -> bool:
        """Whether they are the same in every plane."""

    def class_bounds(self, classes: Collection[str]) -> Rect:
        """Return a rectangle that contains every pixel of some classes, in any plane."""

    def class_mask(
        self, window: Rect, classes: Collection[str], sample: int = 0, depth: int = 0
    ) -> BoolArray:
        """Return which pixels YX of a window, in pixels of the source, are of any of some classes.

        Parameters
        ----------
        sample, depth : int
            The plane: its index along S, and along the depth axis.
        """


@dataclass(frozen=True, eq=False)
class Annotations:
    """Features in full-resolution pixels from the upper left corner of the image.

    Attributes
    ----------
    classes : tuple of AnnotationClass
        In the order in which they occur.
    vertices : float64 array, (m, 2)
        Every ring of every feature, closed, as x, y.
    ends_ring : bool array, (m,)
        Whether a vertex is the last one of a ring.
    first, end : int64 array, (n,)
        Each feature's first vertex, and the one after its last.
    class_index : int32 array, (n,)
        The class of each feature, an index into `classes`.
    z, t : int32 array, (n,)
        The plane of each feature, counted from 0; `EVERY_PLANE` if it is one of all.
    bounds : float64 array, (n, 4)
        Left, top, right and bottom of each feature.
    rank : int64 array, (n,)
        Where features overlap, the one of the highest rank is on top: the smallest.
    notes : tuple of str
        What was ignored or mended, as sentences.
    key : str
        Digest of the content.
    n_moved : int
        Features without a plane that are of z 0 and t 0, as others have one.
    """

    classes: tuple[AnnotationClass, ...]
    vertices: NDArray[np.float64]
    ends_ring: BoolArray
    first: NDArray[np.int64]
    end: NDArray[np.int64]
    class_index: NDArray[np.int32]
    z: NDArray[np.int32]
    t: NDArray[np.int32]
    bounds: NDArray[np.float64]
    rank: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    key: str = ""
    n_moved: int = 0

    @classmethod
    def from_columns(
        cls,
        classes: Sequence[AnnotationClass],
        vertices: NDArray[np.float64],
        ends_ring: BoolArray,
        n_vertices: NDArray[np.int64],
        area: NDArray[np.float64],
        class_index: NDArray[np.int32],
        z: NDArray[np.int32],
        t: NDArray[np.int32],
        notes: Sequence[str],
    ) -> Self:
        """Sort features by where they lie, and rank them by their area.

        Parameters
        ----------
        n_vertices : int64 array
            Vertices of each feature; those of the first feature come first.
        area : float64 array
            Of each feature.
        """
        end = np.cumsum(n_vertices)
        first = end - n_vertices
        bounds = np.empty((len(end), 4))
        if len(end):
            low, high = (f.reduceat(vertices, first, axis=0) for f in (np.minimum, np.maximum))
            bounds = np.hstack([low, high])
        rank = np.empty(len(end), np.int64)
        # Of equal areas the later one is on top.
        rank[np.lexsort((np.arange(len(end)), -area))] = np.arange(len(end))
        cells = np.floor((bounds[:, :2] + bounds[:, 2:]) / (2 * _CELL))
        order = np.lexsort((cells[:, 0], cells[:, 1]))
        return cls(
            tuple(classes),
            vertices,
            ends_ring,
            first[order],
            end[order],
            class_index[order],
            z[order],
            t[order],
            bounds[order],
            rank[order],
            tuple(notes),
        )

    def completed(self, notes: Sequence[str], key: str, in_first_plane: bool = False) -> Self:
        """Return a copy with further notes, a key, and maybe what has no plane in z 0 and t 0."""
        z, t = (np.maximum(each, 0) if in_first_plane else each for each in (self.z, self.t))
        n_moved = int((self.z == EVERY_PLANE).sum()) if in_first_plane else 0
        return replace(self, notes=(*notes, *self.notes), key=key, z=z, t=t, n_moved=n_moved)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(each.name for each in self.classes)

    @property
    def class_counts(self) -> Mapping[str, int]:
        """The number of features of each class."""
        counts = np.bincount(self.class_index, minlength=len(self.classes)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    @cached_property
    def is_flat(self) -> bool:
        """Whether every feature is one of all planes."""
        return bool((self.z == EVERY_PLANE).all() and (self.t == EVERY_PLANE).all())

    def outside(self, width: int, height: int, n_z: int, n_t: int) -> list[str]:
        """Return a sentence each on features outside of an image, and of planes it lacks."""
        left, top, right, bottom = self.bounds.T
        is_beside = (right <= 0) | (bottom <= 0) | (left >= width) | (top >= height)
        sentences = list[str]()
        if n := int(is_beside.sum()):
            sentences.append(
                f"{n:,} of {len(self):,} features lie outside of the image, which is {width} x "
                f"{height}; coordinates are full-resolution pixels"
            )
        for axis, of_feature, size in (("Z", self.z, n_z), ("T", self.t, n_t)):
            if n := int((of_feature >= size).sum()):
                sentences.append(
                    f"{n:,} of {len(self):,} features are of planes up to {axis} "
                    f"{int(of_feature.max())}, but the image has {size}, counted from 0"
                )
        return sentences

    def extent(self, classes: Collection[str] | None = None) -> Rect:
        """Return the smallest rectangle of whole pixels around features; None for all classes."""
        bounds = self.bounds[self._is_of(classes)[self.class_index]]
        if not len(bounds):
            return Rect(0, 0, 0, 0)
        left, top = (floor(each) for each in bounds[:, :2].min(axis=0).tolist())
        right, bottom = (ceil(each) for each in bounds[:, 2:].max(axis=0).tolist())
        return Rect(left, top, right - left, bottom - top)

    def mask(
        self,
        window: Rect,
        classes: Collection[str] | None = None,
        *,
        z: int | None = None,
        t: int | None = None,
        ratio: Ratio | None = None,
    ) -> BoolArray:
        """Return which pixels YX of a window lie in a feature of some classes.

        The cost is that of the window and the features that meet it.

        Parameters
        ----------
        window : Rect
            In pixels of the image; it may reach beyond it.
        classes : collection of str or None
            None for all.
        z, t : int or None
            The plane, counted from 0; None for features of any.
        ratio : tuple of Fraction or None
            How many full-resolution pixels make one of the image's, if it is resampled.
        """
        return fill(self._spans(window, self._is_of(classes), z, t, ratio), window)

    def labels(
        self,
        window: Rect,
        values: Mapping[str, int],
        *,
        z: int | None = None,
        t: int | None = None,
        ratio: Ratio | None = None,
    ) -> NDArray[np.uint16]:
        """Return the value of the class of each pixel YX of a window, 0 where there is none.

        Where features overlap, it is that of the smallest. See `mask`.

        Parameters
        ----------
        values : dict of str to int
            By the name of the class; features of other classes are left out.
        """
        by_class = np.array([values.get(name, 0) for name in self.class_names], np.uint16)
        spans = self._spans(window, self._is_of(values), z, t, ratio)
        order = np.argsort(self.rank[spans.feature], kind="stable")
        labels = np.zeros((window.h, window.w), np.uint16)
        spans = Spans(*(each[order] for each in spans))
        paint(spans, by_class[self.class_index[spans.feature]], labels)
        return labels

    def _is_of(self, classes: Collection[str] | None) -> BoolArray:
        """Return which of the classes are meant, behind them False."""
        named = [classes is None or name in classes for name in self.class_names]
        return np.array([*named, False], bool)

    def _spans(
        self,
        window: Rect,
        is_of: BoolArray,
        z: int | None,
        t: int | None,
        ratio: Ratio | None,
    ) -> Spans:
        tall, wide = (1.0, 1.0) if ratio is None else map(float, ratio)
        left, top = window.x * wide, window.y * tall
        right, bottom = (window.x + window.w) * wide, (window.y + window.h) * tall
        found = self._meeting(left, top, right, bottom)
        found = found[is_of[self.class_index[found]]]
        for plane, of_feature in ((z, self.z), (t, self.t)):
            if plane is not None:
                own = of_feature[found]
                found = found[(own == plane) | (own == EVERY_PLANE)]
        return find_spans(self._edges(found, top, bottom), window, ratio)

    def _meeting(self, left: float, top: float, right: float, bottom: float) -> NDArray[np.int64]:
        """Return the features whose bounds meet a box."""

        def meet(bounds: NDArray[np.float64]) -> NDArray[np.intp]:
            x0, y0, x1, y1 = bounds.T
            return np.flatnonzero((x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top))

        groups = meet(self._group_bounds)
        members = (groups[:, np.newaxis] * _GROUP + np.arange(_GROUP)).ravel()
        members = members[members < len(self)]
        return members[meet(self.bounds[members])]

    @cached_property
    def _group_bounds(self) -> NDArray[np.float64]:
        if not len(self):
            return np.empty((0, 4))
        first = np.arange(0, len(self), _GROUP)
        low = np.minimum.reduceat(self.bounds[:, :2], first, axis=0)
        return np.hstack([low, np.maximum.reduceat(self.bounds[:, 2:], first, axis=0)])

    def _edges(self, features: NDArray[np.int64], top: float, bottom: float) -> Edges:
        """Return the edges of features that meet the rows from `top` to `bottom`."""
        first, n = self.first[features], (self.end - self.first)[features]
        owner, vertex = np.repeat(features, n), count_up(first, n)
        starts = ~self.ends_ring[vertex]
        vertex, owner = vertex[starts], owner[starts]
        y0, y1 = self.vertices[vertex, 1], self.vertices[vertex + 1, 1]
        meets = (np.minimum(y0, y1) < bottom) & (np.maximum(y0, y1) > top)
        vertex, owner = vertex[meets], owner[meets]
        return Edges(self.vertices[vertex], self.vertices[vertex + 1], owner)
