"""Stitcher: takes predictions batch by batch, as a model makes them, and stitches them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.jobs.executors import DEFAULT_MEMORY, DEFAULT_WORKERS
from napari_patchset.jobs.own_files import check_apart
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.stitching.blending import Blend
from napari_patchset.stitching.full_resolution import Interpolation
from napari_patchset.stitching.predictions import Predictions, check_axes, open_predictions
from napari_patchset.stitching.stitch import (
    StitchOptions,
    StitchProgress,
    patch_size,
    plan_stitching,
    run_plan,
)
from napari_patchset.stitching.stitch_folder import PredictionFile, StitchFolder


class Stitcher:
    """Collect predictions in any order, on disk, and stitch them into an OME-Zarr.

    >>> with Stitcher("cells.patches.zarr", "cells.ome.zarr") as stitcher:  # doctest: +SKIP
    ...     for first in range(0, len(patches), 32):
    ...         stitcher.add(first, model(patches[first : first + 32]))
    ...     stitcher.finish()

    What `finish` did not stitch is removed at the end of the `with` statement.

    Parameters
    ----------
    patch_set, out, blend, fill, channel_names, argmax, full_resolution, codec, overwrite
        See `iter_stitch`.
    """

    def __init__(
        self,
        patch_set: str | Path,
        out: str | Path,
        *,
        blend: Blend = "crop",
        fill: float = 0,
        channel_names: Sequence[str] | None = None,
        argmax: bool = False,
        full_resolution: Interpolation | None = None,
        codec: CodecName = "none",
        overwrite: bool = False,
    ) -> None:
        self._options = StitchOptions(
            blend=blend,
            fill=fill,
            channel_names=channel_names,
            argmax=argmax,
            full_resolution=full_resolution,
            codec=codec,
        )
        self._overwrite = overwrite
        self._predicted: dict[str, _Spool] = {}
        with ExitStack() as exits:
            self._set = exits.enter_context(PatchSet(patch_set))
            self._folder = StitchFolder.for_name(out)
            check_apart([self._folder.out, self._folder.root], [str(self._set.path)])
            self._folder.check_free(overwrite)
            exits.enter_context(self._folder.locked())
            if not overwrite:
                self._folder.check_not_begun()
            self._folder.discard()
            exits.callback(self._folder.discard)
            self._exits = exits.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self, index: int | Sequence[int] | NDArray[Any], batch: Any, split: str | None = None
    ) -> None:
        """Take the predictions of some patches of a split.

        Parameters
        ----------
        index : int or sequence of int
            Index of the first patch, or of each, as in `patch_set[split][index]`.
        batch : ndarray, or what NumPy makes one of
            N, C, (Z), Y, X, or without C.
        split : str or None
            May be left out if there is only one.

        Raises
        ------
        ArgumentError
            If there are no such patches, or the batch does not fit the batches before.
        """
        split = self._set.named_split(split)
        pixels, size = np.asarray(batch), patch_size(self._set)
        first = np.asarray(index, np.int64)
        rows = first + np.arange(len(pixels)) if first.ndim == 0 and pixels.ndim else first
        if pixels.ndim == len(size) + 1:
            if first.ndim == 0 and len(rows) > 1:
                self._check_batch(pixels.shape, rows, size, split)
            pixels = pixels[:, np.newaxis]
        check_axes(pixels.shape, len(size) + 2, "The batch")
        n = self._set.manifest.counts[split]
        if len(rows) != len(pixels) or (len(rows) and not 0 <= rows.min() <= rows.max() < n):
            raise ArgumentError(
                f"A batch of {len(pixels)} for the patches {index!r} of {split}, which has {n}."
            )
        if split not in self._predicted:
            path, shape = self._folder.spool_path(split), (n, *pixels.shape[1:])
            self._predicted[split] = _Spool(path, shape, pixels.dtype)
        self._predicted[split].write(rows, pixels)

    def _check_batch(
        self, shape: tuple[int, ...], rows: NDArray[np.int64], size: tuple[int, ...], split: str
    ) -> None:
        """Refuse a batch without an axis C that may be one patch without N.

        It has the shape of a patch of the set, or, as the batch for patch i + 1 of such a loop, is
        for patches that have predictions.
        """
        if (before := self._predicted.get(split)) is None:
            is_doubtful = shape == (len(self._set.manifest.channels), *size)
        else:
            is_doubtful = bool(before.is_written[rows[0] : rows[-1] + 1].any())
        if is_doubtful:
            axes = "Z, Y, X" if len(size) == 3 else "Y, X"
            raise ArgumentError(
                f"A batch of shape {shape} for the patch {rows[0]} may be one patch C, {axes}, or "
                f"{len(rows)} patches of one channel; a batch has the axes N, C, {axes}: give "
                "patch[np.newaxis], or batch[:, np.newaxis]."
            )

    def finish(
        self,
        *,
        progress: Callable[[StitchProgress], object] | None = None,
        workers: int = DEFAULT_WORKERS,
        memory: int = DEFAULT_MEMORY,
    ) -> StitchProgress:
        """Stitch what was added, and return where it is and which share of it patches cover.

        Raises
        ------
        ArgumentError
            If nothing was added, or the predictions do not fit the set.
        """
        if not self._predicted:
            raise ArgumentError("No predictions were added; add those of at least one patch.")
        opened: dict[str, Predictions] = {}
        files: dict[str, PredictionFile] = {}
        ndim = len(patch_size(self._set)) + 2
        for split, spool in self._predicted.items():
            np.save(self._folder.rows_path(split), spool.is_written)
            opened[split] = open_predictions(spool.path, split, ndim)
            files[split] = PredictionFile.at(spool.path)
        plan = plan_stitching(self._set, opened, files, self._options)
        events = run_plan(self._folder, plan, None, workers, memory, self._overwrite)
        with closing(events):
            for event in events:
                if progress is not None:
                    progress(event)
        return event

    def close(self) -> None:
        """Remove what is not stitched."""
        self._exits.close()


class _Spool:
    """An .npy file that is written patch by patch."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        mapped = np.lib.format.open_memmap(path, "w+", dtype, shape)
        self.path, self.is_written = path, np.zeros(shape[0], bool)
        self._offset, self._patch, self._dtype = mapped.offset, shape[1:], dtype

    def write(self, rows: NDArray[Any], pixels: NDArray[Any]) -> None:
        """Write patches at their rows."""
        if (pixels.shape[1:], pixels.dtype) != (self._patch, self._dtype):
            raise ArgumentError(
                f"Predictions are {pixels.shape[1:]} {pixels.dtype}, those before {self._patch} "
                f"{self._dtype}; all must be alike."
            )
        with self.path.open("r+b") as file:
            for row, patch in zip(rows.tolist(), pixels, strict=True):
                file.seek(self._offset + row * patch.nbytes)
                file.write(np.ascontiguousarray(patch).data)
        self.is_written[rows] = True
