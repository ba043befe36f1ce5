"""Random integers that are the same in every run, on every machine and with every NumPy.

Each stream and hash is keyed by content (seed, source key, scene, sample), never by a path or by
the order of the sources.
"""

import json
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import SourceInfo


def random_stream(seed: int, source: SourceInfo | None = None, sample: int = 0) -> np.random.Philox:
    """Return the stream of random words of one sample of one source, or of a seed alone.

    Philox (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") is a keyed
    bijection of a counter, so streams of different keys are independent. The key is a digest of
    seed, source key, scene and sample. NumPy guarantees that the raw words never change, which it
    does not guarantee for `Generator`'s methods.
    """
    name = (seed,) if source is None else (seed, source.key, source.scene, int(sample))
    return np.random.Philox(key=_digest(*name))


def class_stream(seed: int, name: str) -> np.random.Philox:
    """Return the stream of random words of one class, see `random_stream`."""
    return np.random.Philox(key=_digest(seed, "class", name))


def hash_name(*name: int | str | None) -> np.uint64:
    """Hash a name, such as a seed, a source's key and a scene."""
    return np.uint64(_digest(*name)[0])


def hash_rows(
    names: NDArray[np.uint64], *columns: NDArray[np.integer] | NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Hash rows of integers, each with the hash of a name, to 64 evenly distributed bits.

    Each column is mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
    doi:10.1145/2660193.2660195).
    """
    hashes = names
    for column in columns:
        hashes = hashes + (column.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    return hashes


def draw_integers(stream: np.random.Philox, below: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Draw one integer for each n of `below`, uniform over 0 to n - 1.

    Unbiased: of the 2^64 words the first 2^64 mod n are drawn again, which leaves a multiple of
    n, and the rest is taken modulo n.
    """
    drawn = stream.random_raw(below.size).reshape(below.shape)
    # -n wraps to 2^64 - n, which leaves the same remainder as 2^64.
    surplus = np.negative(below) % below
    while (again := drawn < surplus).any():
        drawn[again] = stream.random_raw(int(again.sum()))
    return (drawn % below).astype(np.int64)


def draw_distinct(stream: np.random.Philox, count: int, total: int) -> NDArray[np.int64]:
    """Draw `count` different integers of 0 to `total` - 1, every such set equally likely.

    Ascending; all of them if `count` exceeds `total`. Draws that repeat an earlier one are drawn
    again; if more than half are wanted, the unwanted ones are drawn instead.
    """
    if 2 * count > total:
        wanted = np.ones(total, bool)
        wanted[_draw_distinct_few(stream, max(0, total - count), total)] = False
        return np.flatnonzero(wanted).astype(np.int64)
    return _draw_distinct_few(stream, count, total)


def _draw_distinct_few(stream: np.random.Philox, count: int, total: int) -> NDArray[np.int64]:
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        more = draw_integers(stream, np.full(count - len(drawn), total, np.uint64))
        # Stable sorting merges two ascending runs in one pass; np.unique would be ten times slower.
        drawn = np.sort(np.concatenate([drawn, np.sort(more)]), kind="stable")
        drawn = drawn[np.diff(drawn, prepend=-1) > 0]
    return drawn


def _digest(*name: int | str | None) -> NDArray[np.uint64]:
    """Digest a name to two words."""
    digest = blake2b(json.dumps(name).encode(), digest_size=16).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)
