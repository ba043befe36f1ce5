"""Indices in full form: one number or range for each axis."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

Index = tuple[int | range, ...]
"""For each axis of an array a number, which drops the axis, or a range."""


def select(index: Index, key: Any) -> Index:
    """Apply a key to the selection of an index, as NumPy would.

    Raises
    ------
    IndexError
        If a number is outside.
    """
    kept = [part for part in index if isinstance(part, range)]
    parts = iter(_expanded(key, len(kept)))
    return tuple(part if isinstance(part, int) else part[next(parts)] for part in index)


def bounding_box(key: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], Any] | None:
    """Return the box that a key of arrays selects from, and the key within it; None without arrays.

    Arrays of integers or booleans select single points, as in NumPy.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if not any(isinstance(part, list | np.ndarray) and np.ndim(part) for part in parts):
        return None
    points = np.indices(shape, sparse=True)
    rows: list[Any] = [np.broadcast_to(each, shape)[key] for each in points]
    spans = [(int(r.min()), int(r.max()) + 1) if r.size else (0, 0) for r in rows]
    box = tuple(slice(low, high) for low, high in spans)
    return box, tuple(r - low for r, (low, _) in zip(rows, spans, strict=True))


def shape_of(index: Index) -> tuple[int, ...]:
    """Return the shape of a selection."""
    return tuple(len(part) for part in index if isinstance(part, range))


def split(index: Index, block: Sequence[int]) -> Iterator[tuple[Index, tuple[slice, ...]]]:
    """Cut a selection along the borders of blocks.

    Yields
    ------
    Index
        A piece.
    tuple of slice
        Where it lies in the whole.
    """
    axes = [_pieces(part, n) for part, n in zip(index, block, strict=True)]
    for pieces in product(*axes):
        yield tuple(part for part, _ in pieces), tuple(at for _, at in pieces if at is not None)


def as_range(part: int | range) -> range:
    """Return an index as a range."""
    return range(part, part + 1) if isinstance(part, int) else part


def of_range(part: int | range) -> int | slice:
    """Return 0 to drop an int-indexed axis, slice(None) to retain a range."""
    return 0 if isinstance(part, int) else slice(None)


def as_slice(part: int | range) -> int | slice:
    """Return a range as a slice."""
    if isinstance(part, int):
        return part
    stop = part.stop if part.stop >= 0 else None
    return slice(part.start, stop, part.step)


def _expanded(key: Any, ndim: int) -> list[int | slice]:
    """Expand a key to one int or slice for each axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + 1)
    parts += [slice(None)] * (ndim - len(parts))
    return [part if isinstance(part, slice) else int(part) for part in parts]


def _pieces(part: int | range, block: int) -> list[tuple[int | range, slice | None]]:
    if isinstance(part, int):
        return [(part, None)]
    if part.step != 1:
        return [(part, slice(None))]
    borders = [part.start, *range((part.start // block + 1) * block, part.stop, block), part.stop]
    spans = pairwise(borders)
    return [(range(a, b), slice(a - part.start, b - part.start)) for a, b in spans]
