"""Pixels that come later: what napari draws is read in threads, the newest wish first.

A picture that becomes whole block by block, and what stands in for what is missing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.plugin.lazy.indexing import Index, shape_of, split
from napari_patchset.plugin.lazy.redraw import Limits, middle_limits, redraw
from napari_patchset.plugin.napari_compat import PATIENCE, is_beside_window


class Readable(Protocol):
    """What is read: see `lazy.LazyArray`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""

    @property
    def block(self) -> tuple[int, ...]:
        """What is read at once, along each axis."""

    @property
    def plane(self) -> int:
        """The axis Y; X comes after it."""

    @property
    def level(self) -> int:
        """Which of the resolutions, 0 for the finest."""

    def read(self, index: Index) -> NDArray[Any]:
        """Read a part."""


class Picture:
    """A part of an array: first a guess, then, block by block from its middle, the pixels.

    Attributes
    ----------
    pixels : ndarray
        What napari draws; it changes in place until all is there.
    missing : dict
        What is not there yet, and where in the picture it belongs.
    todo : list
        What of that is not being read yet, the next one last.
    done : Event
        Whether all is there.
    guess : str
        What is shown in place of what is missing: the "overview", the plane "before", or nothing.
    """

    def __init__(self, array: Readable, index: Index) -> None:
        self.pixels = np.zeros(shape_of(index), array.dtype)
        self.missing = dict(split(index, array.block))
        self.todo = sorted(self.missing, key=lambda piece: -_apart(piece, index, array.plane))
        self.done = Event()
        self.guess = ""

    def place(self, piece: Index, pixels: NDArray[Any]) -> None:
        """Take in what was read."""
        self.pixels[self.missing.pop(piece)] = pixels

    def fill(self, guess: NDArray[Any]) -> None:
        """Show something else where pixels are missing."""
        for where in self.missing.values():
            self.pixels[where] = guess[where]


def enlarged(
    overview: NDArray[Any],
    index: Index,
    plane: int,
    small: tuple[int, ...],
    large: tuple[int, ...],
) -> NDArray[Any]:
    """Enlarge the overview of a plane to the resolution of a part of it."""
    first = len(shape_of(index[:plane]))
    enlarged = overview
    for axis, position in enumerate((plane, plane + 1), first):
        part, n = index[position], small[position]
        ratio = n / large[position]
        nearest = ((np.asarray(part) + 0.5) * ratio).astype(int)
        enlarged = enlarged.take(np.minimum(nearest, n - 1), axis)
    return enlarged


def _apart(piece: Index, index: Index, plane: int) -> float:
    """Tell how far a piece lies from the middle of the plane."""
    pairs = zip(piece[plane : plane + 2], index[plane : plane + 2], strict=True)
    return sum(abs(_middle(a) - _middle(b)) for a, b in pairs)


def _middle(part: int | range) -> float:
    return part if isinstance(part, int) else (part.start + part.stop) / 2


_THREADS = 2
"""Readers at once, for each layer."""

_KEPT_BYTES = 64 * 2**20
_KEPT = 2
"""Pictures that a layer keeps whatever their size: what it shows, and its thumbnail."""


class AsyncSlicer:
    """What one layer shows, at all of its resolutions.

    Parameters
    ----------
    shapes : sequence of tuple of int
        The shape of each resolution, the finest first.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._pictures: OrderedDict[tuple[int, Index], Picture] = OrderedDict()
        self._wanted: dict[bool, tuple[Readable, Picture]] = {}
        self._lock, self._threads = Lock(), 0
        self._came, self._errors = False, list[Exception]()
        self.provisional: Limits | None = None
        """Contrast limits to be replaced as soon as there are pixels."""
        self.limits: Limits | None = None
        """Contrast limits by the first pixels at the lowest resolution."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "AsyncSlicer":
        """Begin anew for a copy of the layer."""
        return AsyncSlicer(self._shapes)

    @property
    def levels(self) -> int:
        """How many resolutions there are."""
        return len(self._shapes)

    def show(self, array: Readable, index: Index) -> NDArray[Any]:
        """Give a part of an array: its pixels, or what can be had of them without waiting."""
        picture = self.picture(array, index)
        if not picture.done.wait(PATIENCE.left() if not picture.done.is_set() else 0):
            self._guess(picture, array, index)
        return picture.pixels

    def picture(self, array: Readable, index: Index) -> Picture:
        """Give a part of an array that is there or on its way."""
        with self._lock:
            picture = self._pictures.get((array.level, index)) or Picture(array, index)
            self._pictures[array.level, index] = picture
            self._pictures.move_to_end((array.level, index))
            self._forget_oldest()
            if picture.todo:
                self._wanted[self._is_overview(array, index)] = array, picture
                self._start_threads()
        if (self._errors or not picture.done.is_set()) and not is_beside_window():
            redraw().watch(self)
        return picture

    @property
    def is_reading(self) -> bool:
        """Whether more pixels are to come."""
        return self._threads > 0

    def news(self) -> tuple[bool, list[Exception], bool]:
        """Tell whether pixels came, what went wrong, and whether there is more to come."""
        with self._lock:
            found = self._came, self._errors, self._threads > 0
            self._came, self._errors = False, []
        return found

    def give_up(self) -> None:
        """Read nothing more of what is not asked for again."""
        with self._lock:
            self._wanted.clear()

    def _is_overview(self, array: Readable, index: Index) -> bool:
        """Whether a part is the whole plane at the lowest of several resolutions."""
        is_coarsest = array.level == len(self._shapes) - 1 > 0
        return is_coarsest and self._overview_of(array, index)[1] == index

    def _overview_of(self, array: Readable, index: Index) -> tuple[int, Index]:
        y, shape = array.plane, self._shapes[-1]
        whole = (range(n) for n in shape[y : y + 2])
        return len(self._shapes) - 1, (*index[:y], *whole, *index[y + 2 :])

    def _guess(self, picture: Picture, array: Readable, index: Index) -> None:
        """Fill in what is known: the plane at the lowest resolution, else the plane before."""
        with self._lock:
            overview = self._pictures.get(self._overview_of(array, index))
            if overview in (None, picture) or not overview.done.is_set():
                before = self._plane_before(picture, array, index)
                if not picture.guess and before is not None:
                    picture.fill(before.pixels)
                picture.guess = picture.guess or "before"
            elif picture.guess != "overview":
                ratio = self._shapes[-1], self._shapes[array.level]
                picture.fill(enlarged(overview.pixels, index, array.plane, *ratio))
                picture.guess = "overview"

    def _plane_before(self, picture: Picture, array: Readable, index: Index) -> Picture | None:
        """Find what was shown last of another plane at the same place."""
        y = array.plane
        for (level, other), found in reversed(self._pictures.items()):
            is_same = level == array.level and other[y:] == index[y:] and found is not picture
            if is_same and found.pixels.shape == picture.pixels.shape and found.done.is_set():
                return found
        return None

    def _forget_oldest(self) -> None:
        size = sum(picture.pixels.nbytes for picture in self._pictures.values())
        while len(self._pictures) > _KEPT and size > _KEPT_BYTES:
            size -= self._pictures.popitem(last=False)[1].pixels.nbytes

    def _start_threads(self) -> None:
        jobs = sum(len(picture.todo) for _, picture in self._wanted.values())
        for _ in range(min(_THREADS - self._threads, jobs)):
            self._threads += 1
            Thread(target=self._work, name="patchset-pixels").start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            array, picture, piece = job
            try:
                pixels = array.read(piece)
            except Exception as error:  # whatever it is, a person is told, and the rest goes on
                self._errors.append(error)
                pixels = np.zeros(shape_of(piece), array.dtype)
            with self._lock:
                picture.place(piece, pixels)
                is_whole = not picture.missing
            if is_whole:
                self._finish(array, picture)
            self._came = True

    def _finish(self, array: Readable, picture: Picture) -> None:
        if self.limits is None and array.level == len(self._shapes) - 1:
            self.limits = middle_limits(picture.pixels)
        picture.done.set()

    def _next(self) -> tuple[Readable, Picture, Index] | None:
        """Give what to read next: the overview first, as it stands in for all the rest."""
        with self._lock:
            for key in sorted(self._wanted, reverse=True):
                array, picture = self._wanted[key]
                if picture.todo:
                    return array, picture, picture.todo.pop()
            self._threads -= 1
            self._wanted.clear()
            return None
