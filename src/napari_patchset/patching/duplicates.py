"""Near-duplicates: patches that look alike, found by a hash of what is coarse in them.

`image_hashes` turns each patch into 64 bits: it is averaged to 32 x 32 pixels and transformed by a
discrete cosine transform, and of the 8 x 8 lowest frequencies a bit says which are above their
median (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"). Patches
whose hashes differ in few bits look alike; brightness and contrast do not matter. All sums are of
integers, so that the hashes are the same on every machine.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.filters.pixel_metrics import Metric, Pixels

DUPLICATE = "duplicate"
"""The reason of a candidate that looks like another one."""

ALIKE = 4
"""Differing bits up to which patches look alike, if nothing else is chosen."""

MAX_DISTANCE = 10
"""Most differing bits of near-duplicates; with more, patches look alike by chance."""

NO_HASH = -1
"""Instead of the hash of a patch with a NaN or an infinity, which is like no other one."""

HASH_HALVES = "hash (upper half)", "hash (lower half)"
"""The columns of metrics that have the upper and lower 32 bits; a float can't hold all 64."""

Hashes = NDArray[np.int64]

_SIDE, _FREQUENCIES, _GREY = 32, 8, 2**16 - 1
_COSINES = np.rint(
    2**10 * np.cos(np.outer(np.arange(_FREQUENCIES), 2 * np.arange(_SIDE) + 1) * np.pi / 2 / _SIDE)
)
_PIXELS_AT_ONCE = 2**17
_ROWS_AT_ONCE = 2**9
"""Hashes that are compared each with each."""
_PAIRS_AT_ONCE = 2**21
_BITS = 63
"""Bits that differ at all: the first one, of the mean, is 0."""
_KEY_BITS = 10
"""Fewest bits by which hashes are looked up."""


def image_hashes(patches: Pixels) -> Hashes:
    """Return the hash of each patch; it depends on no other patch.

    Parameters
    ----------
    patches : ndarray, (N, C, (Z), Y, X)
        Pixels without padding; channels and planes are added up.

    Returns
    -------
    ndarray
        int64, (N,): the bits from the lowest frequency on, 0 for a patch of one value.
    """
    planes = patches.reshape(len(patches), -1, *patches.shape[-2:])
    hashes = np.empty(len(planes), np.int64)
    step = max(1, _PIXELS_AT_ONCE // max(1, planes[:1].size))
    for first in range(0, len(planes), step):
        few = slice(first, first + step)
        hashes[few] = _hash(np.abs(planes[few]) if planes.dtype.kind == "c" else planes[few])
    return hashes


def _hash(planes: Pixels) -> Hashes:
    total = np.zeros((len(planes), *planes.shape[-2:]))
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(planes.shape[1]):  # in this order, as floats depend on it
            total += planes[:, i]
        low = total.min(axis=(1, 2), keepdims=True)
        span = total.max(axis=(1, 2), keepdims=True) - low
        grey = np.floor((total - low) / np.where(span == 0, 1, span) * _GREY)
    is_known = np.isfinite(grey).all(axis=(1, 2)) & np.isfinite(span[:, 0, 0])
    grey[~is_known] = 0
    height, width = grey.shape[-2:]
    # Integers below 2^53, of which floats lose nothing.
    cells = _overlaps(height) @ grey @ _overlaps(width).T
    means = np.floor(cells * 64 / (height * width))
    waves = (_COSINES @ means @ _COSINES.T).reshape(len(planes), -1)[:, 1:]
    is_above = waves > np.partition(waves, _BITS // 2, axis=1)[:, _BITS // 2, np.newaxis]
    hashes = is_above @ (1 << np.arange(_BITS - 1, -1, -1, dtype=np.int64))
    return np.where(is_known, hashes, NO_HASH)


@cache
def _overlaps(n: int) -> NDArray[np.float64]:
    """Return how much of each of n pixels lies in each of 32 cells, in 32nds of a pixel."""
    cell, pixel = np.arange(_SIDE)[:, np.newaxis] * n, np.arange(n) * _SIDE
    overlap = np.minimum(cell + n, pixel + _SIDE) - np.maximum(cell, pixel)
    return overlap.clip(min=0).astype(np.float64)


def hash_columns(hashes: Hashes) -> dict[str, Metric]:
    """Return hashes as columns of metrics; -inf for none."""
    halves = (hashes >> 32).astype(np.float64), (hashes & (2**32 - 1)).astype(np.float64)
    return {
        name: np.where(hashes == NO_HASH, -np.inf, half)
        for name, half in zip(HASH_HALVES, halves, strict=True)
    }


def hashes_of(metrics: Mapping[str, Metric]) -> tuple[Hashes, NDArray[np.bool_]] | None:
    """Return the hashes in metrics, and which are measured; None if none are."""
    if not metrics.keys() >= {*HASH_HALVES}:
        return None
    upper, lower = (metrics[name] for name in HASH_HALVES)
    is_hash = np.isfinite(upper)
    high, low = (np.where(is_hash, half, 0).astype(np.int64) for half in (upper, lower))
    return np.where(is_hash, (high << 32) | low, NO_HASH), ~np.isnan(upper)


def without_hashes(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics that are numbers, not hashes."""
    return {name: values for name, values in metrics.items() if name not in HASH_HALVES}


def find_duplicates(
    hashes: Hashes, distance: int, preferred: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which patches look like one that is kept: of those that look alike, the first is.

    In order, a patch is kept unless its hash differs in at most `distance` bits from that of a
    patch which is kept.

    Parameters
    ----------
    preferred : bool array or None
        Patches that are kept whatever they look like, and come before the others.
    """
    is_kept: NDArray[np.bool_] = hashes == NO_HASH
    rest = np.flatnonzero(~is_kept)
    if preferred is not None:
        is_kept |= preferred
        rest = rest[~preferred[rest]]
        always = hashes[preferred & (hashes != NO_HASH)]
        rest = rest[~are_near(hashes[rest], np.unique(always), distance)]
    _, first = np.unique(hashes[rest], return_index=True)
    distinct = rest[np.sort(first)]
    is_kept[distinct[_keep_apart(hashes[distinct], distance)]] = True
    return ~is_kept


def _keep_apart(hashes: Hashes, distance: int) -> NDArray[np.bool_]:
    """Return which of different hashes are far from all before them that are kept."""
    if distance == 0:
        return np.ones(len(hashes), bool)
    if len(hashes) <= _ROWS_AT_ONCE:
        is_kept = np.ones(len(hashes), bool)
        near = np.tril(np.bitwise_count(hashes[:, np.newaxis] ^ hashes) <= distance, -1)
        for row in np.flatnonzero(near.any(axis=1)).tolist():
            is_kept[row] = not (near[row] & is_kept).any()
        return is_kept
    half = len(hashes) // 2
    is_kept = np.empty(len(hashes), bool)
    is_kept[:half] = _keep_apart(hashes[:half], distance)
    is_kept[half:] = ~are_near(hashes[half:], hashes[:half][is_kept[:half]], distance)
    rest = half + np.flatnonzero(is_kept[half:])
    is_kept[rest] = _keep_apart(hashes[rest], distance)
    return is_kept


def are_near(hashes: Hashes, others: Hashes, distance: int) -> NDArray[np.bool_]:
    """Return which hashes differ in at most `distance` bits from any of the others.

    Only hashes are compared that agree in some of the bits wholly, as near ones do somewhere.
    """
    is_near = np.zeros(len(hashes), bool)
    for key in _keys(distance):
        rows = np.flatnonzero(~is_near)
        keys, sorted_others = hashes[rows] & key, others[np.argsort(others & key, kind="stable")]
        first = np.searchsorted(sorted_others & key, keys, "left")
        counts = np.searchsorted(sorted_others & key, keys, "right") - first
        n = np.cumsum(counts)
        start = 0
        while start < len(rows):
            before = int(n[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(n, before + _PAIRS_AT_ONCE, "right")))
            part = slice(start, stop)
            which = np.repeat(np.arange(start, stop), counts[part])
            skipped = np.repeat(first[part] - n[part] + counts[part], counts[part])
            other = sorted_others[np.arange(before, before + len(which)) + skipped]
            hits = np.bitwise_count(hashes[rows[which]] ^ other) <= distance
            is_near[rows[which[hits]]] = True
            start = stop
    return is_near


def _keys(distance: int) -> Iterator[np.int64]:
    """Yield the bits to look up: hashes that are near agree in one of these at least.

    Of `distance` + n groups of bits, two hashes that differ in `distance` bits agree in n.
    """
    n = 1
    while n * _BITS // (distance + n) < _KEY_BITS:
        n += 1
    parts = np.array_split(np.arange(_BITS), distance + n)
    groups = [sum(1 << int(bit) for bit in part) for part in parts]
    yield from (np.int64(sum(chosen)) for chosen in combinations(groups, n))
