"""The blocks in which an array is decoded: a chunk, or several small ones."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

SMALL = 64 * 1024
"""Bytes below which a chunk is decoded with its neighbours: a call to zarr costs as much."""


def block_shape(
    shape: Sequence[int],
    chunks: Sequence[int],
    shards: Sequence[int] | None,
    plane: Sequence[int],
    itemsize: int,
) -> tuple[int, ...]:
    """Choose the block: one chunk, or as many of a plane's as make it no longer small.

    It holds whole chunks and does not cross a shard.
    """
    block = [min(chunk, n) for chunk, n in zip(chunks, shape, strict=True)]
    growing = {axis for axis in plane if block[axis] < shape[axis]}
    while growing and prod(block) * itemsize < SMALL:
        axis = min(growing, key=lambda a: block[a])
        shard = shards[axis] if shards else None
        grown = _grown(block[axis], chunks[axis], shard)
        if grown is None or grown >= shape[axis]:
            growing.remove(axis)
        block[axis] = min(grown or block[axis], shape[axis])
    return tuple(block)


def _grown(size: int, chunk: int, shard: int | None) -> int | None:
    """Give at least twice as many chunks, None if no whole number of such fits the shard."""
    if shard is None:
        return 2 * size
    wider = range(2 * size, min(shard, 4 * size) + 1, chunk)
    return next((n for n in wider if shard % n == 0), None)


def overlapping(
    start: Sequence[int], stop: Sequence[int], block: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """Give each block that a window touches: its index, the slices of it, and of the window."""
    ranges = [
        range(low // size, -(-high // size))
        for low, high, size in zip(start, stop, block, strict=True)
    ]
    for index in product(*ranges):
        corner = [i * size for i, size in zip(index, block, strict=True)]
        low = [max(a, b) for a, b in zip(start, corner, strict=True)]
        high = [min(a, b + size) for a, b, size in zip(stop, corner, block, strict=True)]
        inside = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
        outside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        yield index, inside, outside
