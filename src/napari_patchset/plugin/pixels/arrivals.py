"""Pixels that come later: what napari draws is read in threads, the newest wish first."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.plugin.pixels.indexing import Index, shape_of
from napari_patchset.plugin.pixels.limits import Limits, middle_limits
from napari_patchset.plugin.pixels.picture import Picture, Readable, enlarged
from napari_patchset.plugin.pixels.redrawing import redraw
from napari_patchset.plugin.window.asked import PATIENCE, is_beside_window

_THREADS = 2
"""Readers at once, for each layer."""

_KEPT_BYTES = 64 * 2**20
_KEPT = 2
"""Pictures that a layer keeps whatever their size: what it shows, and its thumbnail."""


class Arrivals:
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

    def __deepcopy__(self, memo: dict[int, Any]) -> "Arrivals":
        """Begin anew for a copy of the layer."""
        return Arrivals(self._shapes)

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
