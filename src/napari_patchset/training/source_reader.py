"""SourceReader: patches cut from their sources in any order, with a cache of decoded tiles.

A batch of patches is read tile by tile, as an export reads: each tile that it needs is decoded
once, or taken from the cache, which outlasts the batch. Threads may share a reader. It pickles, and
each process, forked or not, opens the files for itself at its first patch.
"""

import os
import sys
from contextlib import closing
from itertools import product
from operator import gt
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.exporting.reading.open_images import OpenImages, PlannedFiles
from napari_patchset.exporting.reading.tile_reader import TileReader
from napari_patchset.exporting.reading.tiles import Batches
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.shard_writer import cast_exactly
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.protocol import BlockStack, has_blocks

_NO_LIMIT = sys.maxsize
"""Bytes of the tiles of one batch, none of which is decoded twice."""


class SourceReader:
    """Cut candidates of a frozen plan.

    Parameters
    ----------
    threads : int
        Number of threads that decode.
    cache : int
        Bytes of decoded tiles that stay for later batches.
    """

    def __init__(self, frozen: FrozenPlan, grid: PatchGrid, threads: int, cache: int) -> None:
        self.frozen, self.grid = frozen, grid
        self._threads, self._cache = threads, cache
        self._start()

    def _start(self) -> None:
        self._process, frozen = os.getpid(), self.frozen
        self._lock, self._tiles = Lock(), TileCache(self._cache)
        self._images = OpenImages(
            frozen.plan,
            planned=PlannedFiles(
                frozen.plan,
                frozen.images,
                frozen.file_stats,
                "this set was made",
                "make the LazyPatchSet again",
            ),
            threads=self._threads,
            classes=frozen.classes,
        )

    def __getstate__(self) -> tuple[Any, ...]:
        return self.frozen, self.grid, self._threads, self._cache

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.frozen, self.grid, self._threads, self._cache = state
        self._start()

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            self._images.close()
            self._tiles.clear()

    def read(self, layout: ArrayLayout, candidates: NDArray[np.int64]) -> NDArray[Any]:
        """Return distinct candidates as N, C, (Z), Y, X."""
        if os.getpid() != self._process:
            self._start()
        out = np.empty((len(candidates), *layout.patch_shape), layout.pixel_type)
        if not len(candidates):
            return out
        with self._lock:
            if self._paste_cached(layout, candidates, out):
                return out
            frozen, order = self.frozen, np.argsort(candidates)
            ascending = candidates[order]
            batches = Batches.from_candidates(
                self.grid,
                frozen.images[layout.role],
                frozen.plan.strategy.padding,
                ascending,
                np.zeros(len(candidates), np.int64),
            )
            tiles = self._tiles if self._cache else None
            reader = TileReader(batches, self._images, layout.role, _NO_LIMIT, tiles=tiles)
            with closing(reader.read()) as pending:
                for batch in pending:
                    rows = order[np.searchsorted(ascending, batch.candidates)]
                    patches = np.empty((len(rows), *layout.patch_shape), batch.dtype)
                    reader.fill(batch, patches)
                    source = frozen.plan.sources[batch.source_index]
                    specs = self.grid[batch.candidates]
                    out[rows] = cast_exactly(patches, layout.pixel_type, specs, source)
        return out

    def _paste_cached(
        self, layout: ArrayLayout, candidates: NDArray[np.int64], out: NDArray[Any]
    ) -> bool:
        """Fill `out` if every tile of the candidates is cached, which takes a fifth of the time."""
        if not len(self._tiles):
            return False
        patches = list[tuple[NDArray[Any], Rect, list[tuple[NDArray[Any], Rect]]]]()
        planes = out.reshape(*out.shape[:2], -1, *out.shape[-2:])
        pad, stacks = self.frozen.plan.strategy.padding, dict[int, tuple[BlockStack, list[int]]]()
        for index in np.unique(self.grid.source_index[candidates]).tolist():
            image = self._images[index, layout.role]
            if image.stack.data_dtype != out.dtype or not has_blocks(image.stack):
                return False
            stacks[index] = image.stack, image.channels
        for row, candidate in enumerate(candidates.tolist()):
            spec = self.grid[candidate]
            stack, channels = stacks[spec.source_index]
            bounds = self.frozen.images[layout.role][spec.source_index].spatial_shape
            ends = (a + n for a, n in zip(spec.start, spec.size, strict=True))
            if pad != "constant" and any(map(gt, ends, bounds)):
                return False
            *depth, y, x = spec.start
            first, (height, width) = (depth or [0])[0], spec.size[-2:]
            window = Rect(x, y, min(width, bounds[-1] - x), min(height, bounds[-2] - y))
            n_planes = min(planes.shape[2], (*bounds[:-2], 1)[0] - first)
            for c, z in product(range(len(channels)), range(n_planes)):
                tiles = []
                for block in stack.blocks(spec.sample, channels[c], first + z, window):
                    pixels = self._tiles.peek((spec.source_index, layout.role, block.key))
                    if pixels is None:
                        return False
                    tiles.append((block.plane(pixels), block.rect))
                patches.append((planes[row, c, z], window, tiles))
        out.fill(0)
        for plane, window, tiles in patches:
            for pixels, rect in tiles:
                inside, outside = rect.overlap_slices(window)
                plane[outside] = pixels[inside]
        return True

    def tiles(self, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the tile that each candidate begins in."""
        grid = self.grid[candidates]
        sources = self.frozen.sources
        blocks = np.array([each.block_shape or each.spatial_shape[-2:] for each in sources])
        *depth, y, x = grid.start.T
        height, width = blocks[grid.source_index].T
        keys = np.stack([grid.source_index, grid.sample, *depth, y // height, x // width], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def n_cached_tiles(self, layout: ArrayLayout) -> int:
        """Return about the number of tiles, each of all planes of a patch, that the cache holds."""
        sources = self.frozen.images[layout.role]
        areas = [np.prod(each.block_shape or each.spatial_shape[-2:]) for each in sources]
        planes = np.prod(layout.patch_shape[:-2], dtype=np.int64)
        nbytes = int(max(areas) * planes) * np.dtype(sources[0].dtype).itemsize
        return max(1, self._cache // nbytes)
