"""Random integers that stay the same: for every path, order of files, machine and NumPy."""

import json
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import SourceInfo


def stream(seed: int, source: SourceInfo, sample: int) -> np.random.Philox:
    """Give the stream of random words that belongs to one sample of one source.

    Philox (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") is a keyed
    bijection of a counter, so streams of different keys are independent. The key is a digest of
    seed, source key, scene and sample. NumPy promises that the raw words never change, which it
    does not promise of `Generator`'s methods.
    """
    return np.random.Philox(key=_digest(seed, source.key, source.scene, int(sample)))


def hash_of(*name: int | str | None) -> np.uint64:
    """Hash a name, such as a seed, a source's key and a scene."""
    return np.uint64(_digest(*name)[0])


def hashes(
    names: NDArray[np.uint64], *columns: NDArray[np.integer] | NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Hash rows of integers, each under a name, to 64 bits that look drawn by chance.

    Each column is mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
    doi:10.1145/2660193.2660195).
    """
    found = names
    for column in columns:
        found = found + (column.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return found


def integers(words: np.random.Philox, below: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Draw one integer for each n of `below`, uniform over 0 to n - 1.

    Unbiased: of the 2^64 words the first 2^64 mod n are drawn again, which leaves a multiple of
    n, and the rest is taken modulo n.

    Returns
    -------
    ndarray
        int64, of the shape of `below`.
    """
    drawn = words.random_raw(below.size).reshape(below.shape)
    # -n wraps to 2^64 - n, which leaves the same remainder as 2^64.
    surplus = np.negative(below) % below
    while (again := drawn < surplus).any():
        drawn[again] = words.random_raw(int(again.sum()))
    return (drawn % below).astype(np.int64)


def distinct(words: np.random.Philox, count: int, total: int) -> NDArray[np.int64]:
    """Draw `count` different integers of 0 to `total` - 1, every such set equally likely.

    Draws that repeat an earlier one are drawn again; where more than half of all are asked for,
    those that are left out are drawn instead. Ascending; all of them if `count` exceeds `total`.
    """
    if 2 * count > total:
        kept = np.ones(total, bool)
        kept[_distinct_few(words, max(0, total - count), total)] = False
        return np.flatnonzero(kept).astype(np.int64)
    return _distinct_few(words, count, total)


def _digest(*name: int | str | None) -> NDArray[np.uint64]:
    """Digest a name to two words."""
    digest = blake2b(json.dumps(name).encode(), digest_size=16).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


def _distinct_few(words: np.random.Philox, count: int, total: int) -> NDArray[np.int64]:
    found = np.empty(0, np.int64)
    while len(found) < count:
        more = integers(words, np.full(count - len(found), total, np.uint64))
        # Stable sorting merges two ascending runs in one pass; np.unique would be ten times slower.
        found = np.sort(np.concatenate([found, np.sort(more)]), kind="stable")
        found = found[np.diff(found, prepend=-1) > 0]
    return found
