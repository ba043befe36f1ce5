"""Arrays that napari slices and that never make its window wait.

Indexed by napari to draw a layer, a `LazyArray` answers at once with an array that an `AsyncSlicer`
fills: block by block, in threads, from the middle of the view. What is missing is shown as the
enlarged overview of the plane, or as the plane before, and the layer is drawn again as blocks
arrive. For every other caller (an export, a script, another plugin), it reads and returns pixels.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from math import prod
from threading import Event, Lock, main_thread
from time import monotonic
from typing import Any, Self

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.plugin.dialogs import message, show_error_once
from napari_patchset.plugin.lazy.indexing import Index, bounding_box, select, shape_of, split
from napari_patchset.plugin.napari_compat import is_slicing_to_draw, open_viewers
from napari_patchset.plugin.worker import Worker

_MAX_COPY_BYTES = 2 * 2**30
"""Bytes of memory that a copy of a layer may take."""

BLOCK = 512
"""Approximate side in pixels of a block that is read at once; a larger tile is one block."""

_THREADS = 2
"""Readers at once, for each layer."""

_MAX_CACHE_BYTES, _MIN_CACHED = 64 * 2**20, 2
"""What a layer caches; two slices whatever their size: the shown one, and its thumbnail."""

_REDRAW_SECONDS = 0.06
"""Shortest time between redraws of a layer while its blocks arrive."""

_WAIT_SECONDS, _REST_SECONDS = 0.02, 0.03
"""Max wait per draw, and pause before waiting again."""


class LazyArray(ABC):
    """An array that reads its pixels when it is indexed.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    dtype : dtype
        Of the array.
    block : sequence of int
        Size of the blocks that are read at once, along each axis.
    y_axis : int
        Which axis is Y; X comes after it.
    is_labels : bool
        Whether the pixels are labels: a copy of them lies in memory, so that it can be painted.

    Attributes
    ----------
    slicer : AsyncSlicer
        Reads for napari; one for all resolutions of an image.
    level : int
        The resolution, 0 for the finest.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        block: Sequence[int],
        y_axis: int,
        is_labels: bool = False,
    ) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.ndim, self.size = len(self.shape), prod(self.shape)
        self.block, self.y_axis, self.is_labels = tuple(block), y_axis, is_labels
        self.slicer, self.level = AsyncSlicer([self.shape]), 0

    @property
    def whole(self) -> Index:
        """The index of everything."""
        return tuple(map(range, self.shape))

    @property
    def chunks(self) -> tuple[int, ...]:
        """Block size by which napari extends its view, so that small moves need no new pixels."""
        y, block = self.y_axis, self.block
        parts = (-(-n // max(1, n // BLOCK)) for n in block[y : y + 2])  # of large tiles
        return (*block[:y], *parts, *block[y + 2 :])

    @abstractmethod
    def read(self, index: Index) -> NDArray[Any]:
        """Read the selection of an index."""

    def __getitem__(self, key: Any) -> Any:
        if (found := bounding_box(key, self.shape)) is not None:
            box, points = found
            return self.read(select(self.whole, box))[points]
        index = select(self.whole, key)
        return LazyView(self, index) if is_slicing_to_draw() else self.read(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        is_drawn = is_slicing_to_draw()
        pixels = self.slicer.show(self, self.whole) if is_drawn else self.read(self.whole)
        return np.asarray(pixels, dtype=dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Refuse to change the pixels of a file, and make the layers read-only.

        Raises
        ------
        ArgumentError
            Always, with the remedy.
        """
        layers = self.slicer.layers
        for layer in layers:
            layer.editable = False
        name = layers[0].name if layers else "this array"
        raise ArgumentError(
            f"{name} shows the content of its file, which is never changed; right-click the layer, "
            "Duplicate, and paint on the copy."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Self | NDArray[Any]":
        """Read the same pixels, for a copy of the layer; labels are read into memory.

        Raises
        ------
        ArgumentError
            If they take too much memory.
        """
        if self.is_labels and self.slicer.levels == 1:  # napari paints no pyramid
            if (nbytes := self.size * self.dtype.itemsize) > _MAX_COPY_BYTES:
                raise ArgumentError(
                    f"A copy takes {nbytes / 2**30:.1f} GB of memory, more than the "
                    f"{_MAX_COPY_BYTES / 2**30:.0f} GB that a layer may; crop the image first."
                )
            return self.read(self.whole)
        other = copy(self)
        other.slicer = deepcopy(self.slicer, memo)
        return other


class LazyView:
    """A slice of an array for napari: it can be indexed further, and is not read yet."""

    def __init__(self, array: LazyArray, index: Index) -> None:
        self._array, self._index = array, index
        self.shape, self.dtype = shape_of(index), array.dtype
        self.ndim, self.size = len(self.shape), prod(self.shape)

    def __getitem__(self, key: Any) -> "LazyView":
        return LazyView(self._array, select(self._index, key))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array.slicer.show(self._array, self._index), dtype=dtype)


class SliceBuffer:
    """The pixels of one slice: a substitute until the blocks are read, from the middle outwards.

    Attributes
    ----------
    pixels : ndarray
        The array that napari draws; it changes in place until it is complete.
    missing : dict
        The blocks that are not read yet, and the position of each in `pixels`.
    todo : list
        The missing blocks that no thread reads yet, the next one last.
    done : Event
        Set when the slice is complete.
    guess : str
        The substitute for missing pixels: the "overview", the plane "before", or "" for none.
    """

    def __init__(self, array: LazyArray, index: Index) -> None:
        self.pixels = np.zeros(shape_of(index), array.dtype)
        self.missing = dict(split(index, array.block))
        self.todo = sorted(self.missing, key=lambda block: -_distance(block, index, array.y_axis))
        self.done = Event()
        self.guess = ""

    def place(self, block: Index, pixels: NDArray[Any]) -> None:
        """Insert a block that was read."""
        self.pixels[self.missing.pop(block)] = pixels

    def fill(self, guess: NDArray[Any]) -> None:
        """Show a substitute where pixels are missing."""
        for where in self.missing.values():
            self.pixels[where] = guess[where]


def _distance(block: Index, index: Index, y: int) -> float:
    """Return how far a block lies from the middle of a slice, in pixels."""
    pairs = zip(block[y : y + 2], index[y : y + 2], strict=True)
    return sum(abs(_centre(a) - _centre(b)) for a, b in pairs)


def _centre(part: int | range) -> float:
    return part if isinstance(part, int) else (part.start + part.stop) / 2


class AsyncSlicer:
    """The slices of one layer at all of its resolutions, filled by threads, the newest first.

    Use it in the GUI thread; only `store` and `_read_blocks` run in others.

    Parameters
    ----------
    shapes : sequence of tuple of int
        The shape of each resolution, the finest first.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes, self._lock = shapes, Lock()
        self._slices: OrderedDict[tuple[int, Index], SliceBuffer] = OrderedDict()
        self._wanted: dict[bool, tuple[LazyArray, SliceBuffer]] = {}
        """The slices to read: the overview (True) before the view, for which it is a substitute."""
        self._readers = [Worker() for _ in range(_THREADS)]
        for reader in self._readers:
            reader.yielded.connect(self._on_read)
            reader.returned.connect(self._start_readers)

    def __deepcopy__(self, memo: dict[int, Any]) -> "AsyncSlicer":
        """Start over for a copy of the layer."""
        return AsyncSlicer(self._shapes)

    @property
    def levels(self) -> int:
        """The number of resolutions."""
        return len(self._shapes)

    @property
    def is_reading(self) -> bool:
        """Whether more pixels are to come."""
        return any(reader.running for reader in self._readers)

    @property
    def layers(self) -> list[Layer]:
        """The layers that show these pixels, in any window that is open."""
        return [
            layer
            for viewer in open_viewers()
            for layer in viewer.layers
            if getattr(finest(layer), "slicer", None) is self
        ]

    def store(self, array: LazyArray, index: Index, pixels: NDArray[Any]) -> None:
        """Store a slice that was read already, so that it is drawn at once."""
        buffer = SliceBuffer(array, index)
        buffer.pixels, buffer.missing, buffer.todo = pixels, {}, []
        buffer.done.set()
        with self._lock:
            self._slices[array.level, index] = buffer

    def show(self, array: LazyArray, index: Index) -> NDArray[Any]:
        """Return a slice: its pixels, or those that are available without waiting."""
        buffer = self._request(array, index)
        if not buffer.done.is_set() and not buffer.done.wait(_PATIENCE.left()):
            self._guess(buffer, array, index)
        return buffer.pixels

    def _request(self, array: LazyArray, index: Index) -> SliceBuffer:
        """Return a slice that is read or being read."""
        with self._lock:
            buffer = self._slices.get((array.level, index)) or SliceBuffer(array, index)
            self._slices[array.level, index] = buffer
            self._slices.move_to_end((array.level, index))
            self._forget_oldest()
            if buffer.todo:
                is_overview = (array.level, index) == self._overview_of(array, index)
                self._wanted[is_overview and self.levels > 1] = array, buffer
        self._start_readers()
        return buffer

    def _start_readers(self, _: object = None) -> None:
        """Start readers, at most one per block; also if one has just ended."""
        with self._lock:
            count = sum(len(buffer.todo) for _, buffer in self._wanted.values())
        for reader in self._readers[:count]:
            if not reader.running:
                reader.run(self._read_blocks)

    def _read_blocks(self) -> Iterator[Exception | None]:
        """Read requested blocks; yield when there is something to draw, or an error."""
        drawn = monotonic()
        while (job := self._next_block()) is not None:
            array, buffer, block = job
            error = None
            try:
                pixels = array.read(block)
            except Exception as reason:  # any error is shown, and the rest is read
                error, pixels = reason, np.zeros(shape_of(block), array.dtype)
            with self._lock:
                buffer.place(block, pixels)
                is_whole = not buffer.missing
            if is_whole:
                buffer.done.set()
            if is_whole or error is not None or monotonic() - drawn > _REDRAW_SECONDS:
                yield error
                drawn = monotonic()

    def _next_block(self) -> tuple[LazyArray, SliceBuffer, Index] | None:
        with self._lock:
            for is_overview in sorted(self._wanted, reverse=True):
                array, buffer = self._wanted[is_overview]
                if buffer.todo and main_thread().is_alive():  # it is not when Python exits
                    return array, buffer, buffer.todo.pop()
            self._wanted.clear()
            return None

    def _on_read(self, error: Exception | None) -> None:
        """Redraw the layers; if none is left, stop reading."""
        layers = self.layers
        if not layers:
            with self._lock:
                self._wanted.clear()
        elif error is not None:
            show_error_once(message(error))
        for layer in layers:
            layer.refresh(extent=False, highlight=False)

    def _overview_of(self, array: LazyArray, index: Index) -> tuple[int, Index]:
        """Return level and index of a whole plane at the lowest resolution."""
        y, shape = array.y_axis, self._shapes[-1]
        whole = map(range, shape[y : y + 2])
        return self.levels - 1, (*index[:y], *whole, *index[y + 2 :])

    def _guess(self, buffer: SliceBuffer, array: LazyArray, index: Index) -> None:
        """Fill in a substitute: the plane at the lowest resolution, else the previous plane."""
        with self._lock:
            overview = self._slices.get(self._overview_of(array, index))
            if overview in (None, buffer) or not overview.done.is_set():
                before = self._plane_before(buffer, array, index)
                if not buffer.guess and before is not None:
                    buffer.fill(before.pixels)
                buffer.guess = buffer.guess or "before"
            elif buffer.guess != "overview":
                shapes = self._shapes[-1], self._shapes[array.level]
                buffer.fill(_enlarged(overview.pixels, index, array.y_axis, *shapes))
                buffer.guess = "overview"

    def _plane_before(
        self, buffer: SliceBuffer, array: LazyArray, index: Index
    ) -> SliceBuffer | None:
        """Return the slice of another plane that was shown last at the same place."""
        y = array.y_axis
        for (level, other), before in reversed(self._slices.items()):
            is_same = level == array.level and other[y:] == index[y:] and before is not buffer
            if is_same and before.pixels.shape == buffer.pixels.shape and before.done.is_set():
                return before
        return None

    def _forget_oldest(self) -> None:
        size = sum(buffer.pixels.nbytes for buffer in self._slices.values())
        while len(self._slices) > _MIN_CACHED and size > _MAX_CACHE_BYTES:
            size -= self._slices.popitem(last=False)[1].pixels.nbytes


def _enlarged(
    overview: NDArray[Any],
    index: Index,
    y: int,
    small: tuple[int, ...],
    large: tuple[int, ...],
) -> NDArray[Any]:
    """Enlarge the overview of a plane, of shape `small`, to a part of a resolution `large`."""
    first = len(shape_of(index[:y]))
    for axis, position in enumerate((y, y + 1), first):
        ratio = small[position] / large[position]
        nearest = ((np.asarray(index[position]) + 0.5) * ratio).astype(int)
        overview = overview.take(np.minimum(nearest, small[position] - 1), axis)
    return overview


def finest(layer: Layer) -> Any:
    """Return the array of a layer, of several resolutions the finest."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


class _Patience:
    """The time that the window may still wait for pixels, shared by all layers."""

    def __init__(self) -> None:
        self._end = 0.0

    def left(self) -> float:
        """Return the seconds that are left."""
        now = monotonic()
        if now - self._end > _REST_SECONDS:
            self._end = now + _WAIT_SECONDS
        return max(0.0, self._end - now)


_PATIENCE = _Patience()
