"""ClassPixels: the pixels of each class in a source, any of which is found by its number.

The pixels of each class are counted in each square block, which is the index, and the blocks in
which pixels are drawn are read once more. So memory holds a few numbers for each block, whatever
the size of the image, and one window of labels: several blocks, where the file decodes as much at
once. The numbers of the pixels do not depend on how the file is cut into tiles.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError

BACKGROUND, FOREGROUND = "background", "foreground"
"""The classes that all labels have: the value 0, and all others."""

SIDE = 1024
"""Height and width of a block in pixels; another number would give other patches."""

_MAX_WINDOW = 32
"""Most blocks in a window; each takes a few megabytes."""

_READ_FOR_MESSAGE = 5
"""Blocks whose values a message names."""

_NO_VALUE = -1
"""Of no class of labels that have names."""

Pixels = NDArray[np.int64]
"""Positions along (Z)YX, (n, 2 or 3)."""


class LabelImage(Protocol):
    """The labels of a source, of which windows are read."""

    @property
    def names(self) -> Mapping[str, int]:
        """The value of each class, empty if they have no names; 0 is none of them."""

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
    """A square of one plane, or what of it lies in the box: start and size along (Z)YX."""

    number: int
    sample: int
    start: tuple[int, ...]
    size: tuple[int, ...]


class ClassPixels:
    """The pixels of each class in a box of one source, numbered by sample, block, row and column.

    Parameters
    ----------
    classes : sequence of str
        Names, or values ("3") where there are none; "background" is 0, "foreground" all others.
    samples : int64 array
        The samples whose pixels count.
    origin, shape : tuple of int
        The box, along (Z)YX.
    allowed : PixelSet or None
        The pixels that count; None if all do.
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
        (top, left), (height, width) = self._origin[-2:], self._shape[-2:]
        ends = -(-(top + height) // SIDE), -(-(left + width) // SIDE)
        self._first = (top // SIDE, left // SIDE)
        rows, columns = (end - first for first, end in zip(self._first, ends, strict=True))
        self._grid = (len(samples), *self._shape[:-2], rows, columns)
        self._window = blocks_in_window(labels.block_shape)
        numbers, counts = array("q"), array("q")  # there may be millions of blocks
        in_plane = rows * columns
        for first in range(0, prod(self._grid), in_plane):
            for block, masks in self._masks(np.arange(first, first + in_plane)):
                in_block = [int(np.count_nonzero(mask)) for mask in masks]
                if any(in_block):
                    numbers.append(block.number)
                    counts.extend(in_block)
        order = np.argsort(np.array(numbers, np.int64))
        self._numbers = np.array(numbers, np.int64)[order]
        by_block = np.array(counts, np.int64).reshape(-1, len(classes))[order]
        self._ends = by_block.cumsum(axis=0)
        self.counts = by_block.sum(axis=0)
        """Number of pixels of each class."""

    def find(self, code: NDArray[np.integer], number: Pixels) -> tuple[NDArray[np.int64], Pixels]:
        """Return sample and position of pixels, from the index and number in its class of each."""
        sample, pixel = np.empty(len(code), np.int64), np.empty((len(code), len(self._shape)), int)
        if not len(code):
            return sample, pixel
        row = np.empty(len(code), np.int64)
        for of_class in range(len(self._values)):
            members = code == of_class
            row[members] = np.searchsorted(self._ends[:, of_class], number[members], "right")
        before = np.where(row > 0, self._ends[row - 1, code], 0)
        order = np.argsort(row, kind="stable")
        blocks, first = np.unique(self._numbers[row[order]], return_index=True)
        by_block = dict(zip(blocks.tolist(), np.split(order, first[1:]), strict=True))
        for block, masks in self._masks(blocks):
            members = by_block[block.number]
            sample[members], pixel[members] = block.sample, block.start
            for of_class in np.unique(code[members]).tolist():
                wanted = members[code[members] == of_class]
                flat = np.flatnonzero(masks[of_class])[number[wanted] - before[wanted]]
                pixel[wanted, -2:] += np.stack(np.divmod(flat, block.size[-1]), axis=1)
        return sample, pixel

    def describe_classes(self) -> str:
        """Return the names of the classes, or some of their values, for messages."""
        if names := self._labels.names:
            return f"the classes {', '.join(map(repr, names))}"
        found, n = set[float](), prod(self._grid)
        for _, labels in self._read(np.arange(0, n, max(1, n // _READ_FOR_MESSAGE))):
            found.update(np.unique(labels).tolist())
        return f"values such as {', '.join(f'{value:g}' for value in sorted(found))}"

    def _block(self, number: int) -> _Block:
        sample, *depth, row, column = map(int, np.unravel_index(number, self._grid))
        start, size = [o + z for o, z in zip(self._origin, depth, strict=False)], [1 for _ in depth]
        axes = zip((row, column), self._first, self._origin[-2:], self._shape[-2:], strict=True)
        for index, first, origin, n in axes:
            low = max((first + index) * SIDE, origin)
            start.append(low)
            size.append(min((first + index + 1) * SIDE, origin + n) - low)
        return _Block(number, int(self._samples[sample]), tuple(start), tuple(size))

    def _read(self, numbers: NDArray[np.int64]) -> Iterator[tuple[_Block, NDArray[Any]]]:
        """Yield blocks and their labels YX, window by window."""
        *planes, rows, columns = np.unravel_index(numbers, self._grid)
        pairs = zip((rows, columns), self._first, self._window, strict=True)
        keys = np.stack([*planes, *((n + first) // size for n, first, size in pairs)])
        order = np.lexsort(keys[::-1])
        borders = np.flatnonzero(np.diff(keys[:, order], axis=1).any(axis=0)) + 1
        for members in np.split(numbers[order], borders) if len(numbers) else ():
            blocks = [self._block(number) for number in members.tolist()]
            low = np.min([block.start for block in blocks], axis=0)
            high = np.max([np.add(block.start, block.size) for block in blocks], axis=0)
            box = tuple(low.tolist()), tuple((high - low).tolist())
            window = self._labels.read(blocks[0].sample, *box)
            window = window.reshape(window.shape[-2:])
            for block in blocks:
                y, x = np.subtract(block.start, low)[-2:].tolist()
                height, width = block.size[-2:]
                yield block, window[y : y + height, x : x + width]

    def _masks(self, numbers: NDArray[np.int64]) -> Iterator[tuple[_Block, list[BoolArray]]]:
        """Yield blocks, and which of their pixels are of each class, and allowed."""
        for block, labels in self._read(numbers):
            masks = [_is_of_class(labels, value) for value in self._values]
            first = np.array(block.start, np.int64)
            last = first + block.size - 1
            if self._allowed is None or self._allowed.holds_all(block.sample, first, last):
                yield block, masks
                continue
            allowed = np.logical_or.reduce(masks)
            pixels = np.argwhere(allowed)
            if len(pixels):
                whole = np.tile(first, (len(pixels), 1))
                whole[:, -2:] += pixels
                allowed[tuple(pixels.T)] = self._allowed.holds(block.sample, whole)
            yield block, [mask & allowed for mask in masks]


def blocks_in_window(block_shape: tuple[int, int] | None) -> tuple[int, int]:
    """Return how many blocks to read at once along YX: those that the file decodes at once.

    `block_shape` is their height and width in pixels, None if unknown.
    """
    rows, columns = (max(1, -(-n // SIDE)) for n in block_shape or (1, 1))
    columns = min(columns, _MAX_WINDOW)
    return min(rows, _MAX_WINDOW // columns), columns


def class_value(name: str, names: Mapping[str, int]) -> int | None:
    """Return the value of a class, None for every value but 0.

    Parameters
    ----------
    names : dict of str to int
        The value of each class, which another source may have more of; empty if they have no names:
        then ArgumentError is raised for what is no value.
    """
    if name in names:
        return names[name]
    if name in (BACKGROUND, FOREGROUND):
        return 0 if name == BACKGROUND else None
    if names:
        return _NO_VALUE
    if re.fullmatch(r"-?\d+", name):
        return int(name)
    raise ArgumentError(
        f"There is no class {name!r}: the labels have no names. Take a value, such as 3, "
        f"{BACKGROUND} for 0 or {FOREGROUND} for all others; or add the labels as annotations, "
        "whose values have names."
    )


def _is_of_class(labels: NDArray[Any], value: int | None) -> BoolArray:
    if value is not None:
        return np.asarray(labels == value)
    is_of: BoolArray = labels != 0
    if labels.dtype.kind == "f":
        is_of &= ~np.isnan(labels)
    return is_of
