"""ClassPixels: the pixels of each class in a source, any of which is found by its number.

The labels are read in blocks, twice: once to count the pixels of each class in each block, which is
the index, and once more where pixels are drawn. So memory holds one block and a few numbers for
each block, whatever the size of the image.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError

BACKGROUND, FOREGROUND = "background", "foreground"
"""The classes that labels have without names: the value 0, and all others."""

_BLOCK_PIXELS = 2**20
_MAX_BLOCK_PIXELS = 2**22

BoolArray = NDArray[np.bool_]
Pixels = NDArray[np.int64]
"""Positions along (Z)YX, (n, 2 or 3)."""


class LabelImage(Protocol):
    """The labels of a source, of which windows are read."""

    @property
    def names(self) -> Mapping[str, int]:
        """The value of each class that has a name."""

    @property
    def block_shape(self) -> tuple[int, int] | None:
        """Height and width of what is decoded at once, None if unknown."""

    def read(self, sample: int, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the labels in a box along (Z)YX of one sample."""


class PixelSet(Protocol):
    """Some of the pixels of a source."""

    def holds_all(self, sample: int, first: Pixels, last: Pixels) -> bool:
        """Return whether all of a box are among them, from its first to its last; or False."""

    def holds(self, sample: int, pixels: Pixels) -> BoolArray:
        """Return which pixels of a sample are among them."""


class _Block(NamedTuple):
    """A rectangle of one plane: sample, start and size along (Z)YX."""

    sample: int
    start: tuple[int, ...]
    size: tuple[int, ...]


class ClassPixels:
    """The pixels of each class in a box of one source, numbered by sample, block, row and column.

    Parameters
    ----------
    labels : LabelImage
        The labels.
    classes : sequence of str
        Names of the labels, values ("3"), "background" for 0 and "foreground" for all others.
    samples : int64 array
        The samples whose pixels count.
    origin, shape : tuple of int
        The box, along (Z)YX.
    allowed : PixelSet or None
        The pixels that count; None if all do.

    Attributes
    ----------
    counts : int64 array, (classes,)
        Number of pixels of each class.

    Raises
    ------
    ArgumentError
        If the labels have no such class.
    """

    def __init__(
        self,
        labels: LabelImage,
        classes: Sequence[str],
        samples: NDArray[np.int64],
        origin: Sequence[int],
        shape: Sequence[int],
        allowed: PixelSet | None = None,
    ) -> None:
        self._labels, self._samples, self._allowed = labels, samples, allowed
        self._origin, self._shape = tuple(origin), tuple(shape)
        self._values = [class_value(name, labels.names) for name in classes]
        *depth, top, left = self._origin
        height, width = shape[-2:]
        self._side = block_side(labels.block_shape, (top + height, left + width))
        # Blocks lie where those of the file do; the box cuts those at its border.
        first, last = (top, left), (top + height - 1, left + width - 1)
        self._first = [start // side for start, side in zip(first, self._side, strict=True)]
        n = [end // side for end, side in zip(last, self._side, strict=True)]
        rows, columns = (last - first + 1 for first, last in zip(self._first, n, strict=True))
        self._blocks = (len(samples), *shape[: len(depth)], rows, columns)
        numbers, counts = array("q"), array("q")  # there may be millions of blocks
        for number in range(prod(self._blocks)):
            in_block = [int(np.count_nonzero(mask)) for mask in self._masks(self._block(number))]
            if any(in_block):
                numbers.append(number)
                counts.extend(in_block)
        self._numbers = np.array(numbers, np.int64)
        by_block = np.array(counts, np.int64).reshape(-1, len(classes))
        self._ends, self.counts = by_block.cumsum(axis=0), by_block.sum(axis=0)

    def find(self, code: NDArray[np.integer], number: Pixels) -> tuple[NDArray[np.int64], Pixels]:
        """Return sample and position of pixels.

        Parameters
        ----------
        code : int array
            The class of each, as its index.
        number : int64 array
            Its number among the pixels of that class.
        """
        row = np.empty(len(code), np.int64)
        for of_class in range(len(self._values)):
            members = code == of_class
            row[members] = np.searchsorted(self._ends[:, of_class], number[members], "right")
        before = np.where(row > 0, self._ends[row - 1, code], 0)
        sample, pixel = np.empty(len(code), np.int64), np.empty((len(code), len(self._shape)), int)
        order = np.lexsort((code, row))
        borders = np.flatnonzero(np.diff(row[order])) + 1
        for members in np.split(order, borders) if len(order) else ():
            block = self._block(int(self._numbers[row[members[0]]]))
            masks = self._masks(block)
            sample[members], pixel[members] = block.sample, block.start
            for of_class in np.unique(code[members]).tolist():
                wanted = members[code[members] == of_class]
                flat = np.flatnonzero(masks[of_class])[number[wanted] - before[wanted]]
                pixel[wanted, -2:] += np.stack(np.divmod(flat, block.size[-1]), axis=1)
        return sample, pixel

    def values(self, most: int = 5) -> list[float]:
        """Return some of the values that the labels have, for messages."""
        found = set[float]()
        for number in range(0, prod(self._blocks), max(1, prod(self._blocks) // most)):
            found.update(np.unique(self._read(self._block(number))).tolist())
        return sorted(found)

    def _block(self, number: int) -> _Block:
        sample, *depth, row, column = map(int, np.unravel_index(number, self._blocks))
        start, size = [o + z for o, z in zip(self._origin, depth, strict=False)], [1 for _ in depth]
        axes = zip(
            (row, column), self._first, self._side, self._origin[-2:], self._shape[-2:], strict=True
        )
        for index, first, side, origin, n in axes:
            low = max((first + index) * side, origin)
            start.append(low)
            size.append(min((first + index + 1) * side, origin + n) - low)
        return _Block(int(self._samples[sample]), tuple(start), tuple(size))

    def _read(self, block: _Block) -> NDArray[Any]:
        labels = self._labels.read(block.sample, block.start, block.size)
        return labels.reshape(block.size[-2:])

    def _masks(self, block: _Block) -> list[BoolArray]:
        """Return which pixels of a block are of each class, and allowed."""
        labels = self._read(block)
        masks = [_is_of_class(labels, value) for value in self._values]
        first = np.array(block.start, np.int64)
        last = first + block.size - 1
        if self._allowed is None or self._allowed.holds_all(block.sample, first, last):
            return masks
        allowed = np.logical_or.reduce(masks)
        pixels = np.argwhere(allowed)
        if len(pixels):
            whole = np.tile(first, (len(pixels), 1))
            whole[:, -2:] += pixels
            allowed[tuple(pixels.T)] = self._allowed.holds(block.sample, whole)
        return [mask & allowed for mask in masks]


def block_side(block: tuple[int, int] | None, bounds: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the blocks to read: whole ones of the file, a million pixels.

    Parameters
    ----------
    block : (int, int) or None
        Height and width of what the file decodes at once, such as a strip; None if unknown.
    bounds : (int, int)
        Height and width of the image.
    """
    height, width = map(min, block or (2**10, 2**10), bounds)
    width = min(bounds[1], width * max(1, 2**10 // width))
    height = min(bounds[0], height * max(1, _BLOCK_PIXELS // (height * width)))
    width = min(width, _MAX_BLOCK_PIXELS)
    return max(1, min(height, _MAX_BLOCK_PIXELS // width)), width


def class_value(name: str, names: Mapping[str, int]) -> int | None:
    """Return the value of a class, None for every value but 0.

    Parameters
    ----------
    names : dict of str to int
        The values that have names.

    Raises
    ------
    ArgumentError
        If there is no such class.
    """
    if name in names:
        return names[name]
    if name in (BACKGROUND, FOREGROUND):
        return 0 if name == BACKGROUND else None
    if re.fullmatch(r"-?\d+", name):
        return int(name)
    named = f"the labels name {', '.join(names)}" if names else "the labels have no names"
    raise ArgumentError(
        f"There is no class {name!r}: {named}. A class is also a value, such as 3, or {BACKGROUND} "
        f"for 0, or {FOREGROUND} for all others."
    )


def _is_of_class(labels: NDArray[Any], value: int | None) -> BoolArray:
    if value is not None:
        return np.asarray(labels == value)
    is_of: BoolArray = labels != 0
    if labels.dtype.kind == "f":
        is_of &= ~np.isnan(labels)
    return is_of
