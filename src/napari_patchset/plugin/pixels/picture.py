"""A picture that becomes whole block by block, and what stands in for what is missing."""

from threading import Event
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.plugin.pixels.indexing import Index, shape_of, split


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
