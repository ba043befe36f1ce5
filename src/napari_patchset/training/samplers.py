"""Samplers: the order in which a torch `DataLoader` takes patches; no torch is needed.

A shuffled batch meets as many tiles as it has patches, and each costs a decoding.
`TileAwareSampler` shuffles the tiles, and the patches within windows of as many tiles as fit into
the cache. `WeightedSampler` draws patches by a column of the table. Both are the same in every run
for one seed and epoch, and share the patches evenly between the ranks of a distributed training.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.random_streams import hash_name, hash_rows, random_stream
from napari_patchset.patchset.patches import (
    Fold,
    PatchMapping,
    PatchSequence,
    PatchSubset,
    PatchTuples,
)
from napari_patchset.training.lazy import LazyPatchArray


class _EpochSampler:
    """Indices of an epoch, of which each rank has its share."""

    def __init__(self, seed: int, epoch: int, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ArgumentError(f"There is no rank {rank} of {world_size}; ranks count from 0.")
        for name, number in {"seed": seed, "epoch": epoch}.items():
            if not isinstance(number, int | np.integer):
                raise ArgumentError(f"{name} is {number!r}; it must be an integer.")
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, whose order is its own; call it before each one."""
        self.epoch = epoch

    def _share(self, n: int) -> int:
        """Return how many of `n` indices each rank has; some twice if they can't be shared."""
        return -(-n // self.world_size)


class TileAwareSampler(_EpochSampler):
    """Shuffle patches so that few tiles are decoded: `DataLoader(patches, sampler=...)`.

    Every patch is taken once in an epoch. Each rank has a part of the shuffled tiles; some patches
    are taken by two ranks if they can't be shared evenly.

    Parameters
    ----------
    patches : LazyPatchArray, or a subset, fold or pairs of such arrays
        What the loader takes its patches from.
    epoch : int
        Each epoch has an order of its own; see `set_epoch`.
    rank, world_size : int
        The process of a distributed training, and the number of these.
    seed : int
        Another seed gives other orders.
    window : int or None
        Number of tiles whose patches are shuffled together; None for as many as half of the cache
        holds.
    """

    def __init__(
        self,
        patches: PatchSequence | PatchTuples,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        seed: int = 0,
        window: int | None = None,
    ) -> None:
        super().__init__(seed, epoch, rank, world_size)
        self._tiles, n_cached = _tiles_of(patches)
        self.window = max(1, n_cached // 2) if window is None else window
        if self.window < 1:
            raise ArgumentError(f"A window of {window} tiles holds none; choose 1 or more.")

    def __len__(self) -> int:
        return self._share(len(self._tiles))

    def __iter__(self) -> Iterator[int]:
        tiles = self._tiles
        rank_of_tile = self._ranks("tile", tiles)
        order = np.lexsort((tiles, rank_of_tile))
        n = len(self)
        # Repeated from the start, as often as it takes.
        own = np.resize(order, n * self.world_size)[self.rank * n : (self.rank + 1) * n]
        changes = np.diff(tiles[own], prepend=tiles[own[:1]]) != 0
        window = np.cumsum(changes) // self.window
        shuffled = own[np.lexsort((self._ranks("patch", own), window))]
        return iter(shuffled.tolist())

    def _ranks(self, what: str, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        name = hash_name(what, self.seed, self.epoch)
        return hash_rows(np.full(len(numbers), name, np.uint64), numbers)


def _tiles_of(patches: object) -> tuple[NDArray[np.int64], int]:
    """Return the number of the tile that each patch begins in, and how many the cache holds."""
    if isinstance(patches, PatchTuples):
        parts = [_tiles_of(array) for array in patches.arrays]
        return parts[0][0], min(n for _, n in parts) // len(parts)
    if isinstance(patches, PatchSubset):
        tiles, n = _tiles_of(patches.patches)
        return tiles[patches.indices], n
    if isinstance(patches, LazyPatchArray):
        return patches.tiles, patches.n_cached_tiles
    if isinstance(patches, PatchMapping | Fold):
        names = ", ".join(map(repr, patches))
        raise ArgumentError(f"A sampler takes the patches of one split; choose one of {names}.")
    raise ArgumentError(
        "Patches on disk are read one by one and have no tiles; shuffle them with the loader's own "
        "sampler, shuffle=True."
    )


class WeightedSampler(_EpochSampler):
    """Draw patches with probabilities in proportion to a column of the table, with replacement.

    Parameters
    ----------
    patches : PatchSet, LazyPatchSet or a Fold of one
        The set.
    split : str
        The split that is drawn from; indices are those of its arrays.
    column : str
        A column of numbers that are not negative: the `weight` of balanced patches, a metric.
    count : int or None
        Number of draws in an epoch, over all ranks; None for as many as the split has patches.
    epoch, rank, world_size, seed : int
        See `TileAwareSampler`.

    Raises
    ------
    ArgumentError
        If there is no such column, or it holds no weights.
    """

    def __init__(
        self,
        patches: PatchMapping[PatchSequence] | Fold,
        split: str = "train",
        column: str = "weight",
        count: int | None = None,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(seed, epoch, rank, world_size)
        values = patches.column(column, split)
        if values.dtype.kind not in "biuf":
            raise ArgumentError(f"The column {column!r} holds texts, not weights.")
        weights = values.astype(np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ArgumentError(
                f"The column {column!r} holds no weights: it has values from {weights.min():g} to "
                f"{weights.max():g}; a weight is 0 or more, and not all of them are 0."
            )
        self.count = len(weights) if count is None else count
        self._ends = np.cumsum(weights)

    def __len__(self) -> int:
        return self._share(self.count)

    def __iter__(self) -> Iterator[int]:
        n, stream = len(self), random_stream(int(hash_name("draw", self.seed, self.epoch)))
        words = stream.random_raw(n * self.world_size)[self.rank * n : (self.rank + 1) * n]
        drawn = (words >> np.uint64(11)).astype(np.float64) * (self._ends[-1] / 2**53)
        index = np.searchsorted(self._ends, drawn, "right")
        # A product that was rounded up to the end of the last weight.
        last = int(np.searchsorted(self._ends, self._ends[-1]))
        return iter(np.minimum(index, last).tolist())
